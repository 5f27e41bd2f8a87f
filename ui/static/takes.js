() => {
  // The buttons within the variations and the tree: Gradio does not know them. Each writes what it stands for into a
  // hidden field of its tab and presses the hidden button that acts on it.
  const press = (inside, what, button) => {
    const tab = inside.closest(".tabitem");
    const field = tab.querySelector(".where input, .where textarea");
    const set = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set;
    set.call(field, what);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    // Gradio takes the value up before it looks at the click.
    setTimeout(() => tab.querySelector(button).click(), 30);
  };

  // Pages that are not at https, nor at localhost, have no clipboard: there the link is shown to be copied by hand.
  const copy = async (button) => {
    const address = `${location.origin}${location.pathname}${button.dataset.link}`;
    try {
      await navigator.clipboard.writeText(address);
      button.textContent = words.takes.copied;
      setTimeout(() => (button.textContent = words.takes.copy), 2000);
    } catch {
      window.prompt(words.takes.link, address);
    }
  };

  document.addEventListener("input", (event) => {
    const range = event.target.closest && event.target.closest(".onward input[type=range]");
    if (range) range.nextElementSibling.textContent = filled(words.page.seconds, { seconds: Number(range.value).toFixed(1) });
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest) return;
    const onward = event.target.closest(".onward button");
    if (onward) {
      const box = onward.closest(".onward");
      const range = box.querySelector("input");
      const at = range.value === range.max ? "" : `@${Number(range.value).toFixed(1)}`;
      press(box, box.dataset.where + at, ".onward-go");
    }
    const again = event.target.closest(".together [data-where]");
    if (again) press(again, again.dataset.where, ".onward-go");
    const link = event.target.closest("[data-link]");
    if (link) copy(link);
    const node = event.target.closest(".tree [data-show]");
    if (node) press(node, node.dataset.show, ".show-step");
  });
}
