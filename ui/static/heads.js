() => {
  // Head by head: how the attention of each head of the last block was shared among the taps; of the note that was
  // chosen, or of all that is new. A table, so that its numbers can be read aloud; in a picture it is drawn.
  const { figures } = window;
  const CELL = 16; // height, in a picture
  const NAMES = 14; // of the line that numbers the heads
  let open = false; // one choice for all

  const percent = (share) => `${Math.round(share / 10)}%`;
  // What is shown of a drawing: [shares of each head, whose they are], or null.
  const what = (roll) => {
    const { chosen, figure } = roll;
    const of = roll.matches(".sound") ? words.heads.frames : words.heads.notes;
    if (chosen && chosen.heads) return [chosen.heads, filled(words.heads.of, { what: figures.noteSaid(chosen.note) })];
    return figure.heads && figure.heads.length ? [figure.heads, of] : null;
  };

  const element = (name, text = "", about = {}) => {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(about)) made.setAttribute(key, value);
    return made;
  };

  // The deepest tap is on top, as in the strip.
  const tableOf = (heads, taps, of) => {
    const table = element("table");
    const first = element("tr");
    first.append(element("th", words.heads.head, { scope: "row" }), ...heads.map((_, head) => element("th", head + 1, { scope: "col" })));
    const rows = [...taps.keys()].reverse().map((k) => {
      const row = element("tr");
      row.append(element("th", filled(words.depth.block, { tap: taps[k] }), { scope: "row" }));
      heads.forEach((shares, head) => {
        const share = percent(shares[k]);
        const cell = element("td", "", { title: filled(words.heads.cell, { head: head + 1, tap: taps[k], share }) });
        const ink = element("i");
        ink.style.opacity = shares[k] / 1000;
        cell.append(ink, element("span", share, { class: "hidden" }));
        row.append(cell);
      });
      return row;
    });
    const about = filled(words.heads.table, { of });
    table.setAttribute("aria-label", about);
    table.append(first, ...rows);
    return [element("p", about, { "aria-hidden": "true" }), table];
  };

  const boxOf = (roll) => {
    const take = roll.closest(".take");
    const known = take.querySelector(".heads");
    if (known) return known;
    const box = element("details", "", { class: "heads" });
    box.open = open;
    box.append(element("summary", words.heads.title), element("div"), element("p", "", { class: "faint" }));
    box.lastChild.textContent = words.heads.key;
    box.addEventListener("toggle", () => { open = box.open; });
    const panel = take.querySelector(".why") || roll;
    panel.after(box);
    return box;
  };

  figures.tellHeads = (roll, scene) => {
    const take = roll.closest(".take");
    const found = take && scene.shows !== "loudness" && roll.figure.taps && what(roll);
    if (!found) {
      const box = take && take.querySelector(".heads");
      if (box) box.hidden = true;
      return;
    }
    const box = boxOf(roll);
    box.hidden = false;
    const said = JSON.stringify(found);
    if (box.dataset.said === said) return;
    box.dataset.said = said;
    const [heads, of] = found;
    box.querySelector("div").replaceChildren(...tableOf(heads, roll.figure.taps, of));
  };

  // The same in a picture, if it is shown: how high it is. say: writes text.
  figures.paintHeads = (pen, roll, left, top, width, colour, say) => {
    const box = roll.closest(".take").querySelector(".heads:not([hidden])[open]");
    const found = box && what(roll);
    if (!found) return 0;
    const [[heads, of], { taps }] = [found, roll.figure];
    const wide = Math.min(width / heads.length, 2.5 * CELL);
    say(left, top + NAMES / 2, filled(words.heads.picture, { of }), { size: 12 });
    let y = top + NAMES + CELL / 2;
    heads.forEach((_, head) => say(left + (head + 0.5) * wide, y + NAMES / 2, head + 1, { align: "center" }));
    y += NAMES + 2;
    for (const k of [...taps.keys()].reverse()) {
      say(left - 8, y + CELL / 2, filled(words.depth.block, { tap: taps[k] }), { align: "right" });
      heads.forEach((shares, head) => {
        pen.rect(left + head * wide, y, wide - 1, CELL - 1, colour.row);
        pen.rect(left + head * wide, y, wide - 1, CELL - 1, colour.ink, shares[k] / 1000);
      });
      y += CELL;
    }
    return y - top + CELL;
  };
}
