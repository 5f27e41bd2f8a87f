() => {
  // Continue and Stop by a key from anywhere on the page; focus stays where it was.
  const KEYS = { go: "Control+Enter Meta+Enter", halt: "Escape" };

  const shown = (name) => [...document.querySelectorAll(`.${name}`)].find((button) => button.offsetParent);
  const press = (name) => {
    const button = shown(name);
    if (!button || button.disabled) return false;
    button.click();
    return true;
  };
  // A dialog, an open list or a recording has its own use for these keys.
  const taken = (event) =>
    event.defaultPrevented ||
    event.isComposing ||
    document.querySelector("dialog[open], #play-record.on") !== null ||
    (event.target.closest && event.target.closest("[aria-expanded=true]") !== null);

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.shiftKey) return;
    const held = event.ctrlKey || event.metaKey;
    const name = event.key === "Enter" && held ? "go" : event.key === "Escape" && !held ? "halt" : "";
    if (!name || taken(event)) return;
    if (!press(name)) {
      if (name === "halt") document.dispatchEvent(new Event("silence")); // what is heard may outlast the run
      return;
    }
    event.preventDefault(); // or Enter would press the button that has the focus, too
    event.stopPropagation();
  }, true);

  // A button that is switched off loses the focus; it has it again when it is back, unless something else was chosen.
  let last = null;
  document.addEventListener("focusin", ({ target }) => { last = target; });
  const tend = () => {
    for (const [name, keys] of Object.entries(KEYS)) {
      const title = words.keys[name];
      for (const button of document.querySelectorAll(`.${name}`)) {
        if (button.title !== title) button.title = title;
        if (button.getAttribute("aria-keyshortcuts") !== keys) button.setAttribute("aria-keyshortcuts", keys);
        if (button === last && !button.disabled && document.activeElement === document.body) button.focus();
      }
    }
  };
  new MutationObserver(tend).observe(document.body, {
    attributes: true, attributeFilter: ["disabled"], childList: true, subtree: true,
  });
  document.addEventListener("pointerdown", () => { last = null; }, true); // focusin comes after it
  tend();
}
