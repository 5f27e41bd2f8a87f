() => {
  // Head by head: how the attention of each head of the last block was shared among the taps; of the note that was
  // chosen, or of all that is new. A table, so that its numbers can be read aloud; in a picture it is drawn. Below it a
  // strip for each head along time (`ui.depth.head_strips`).
  const { figures } = window;
  const CELL = 16; // height, in a picture
  const NAMES = 14; // of the line that numbers the heads
  const ROW = 18; // height of a head's strip
  const SPACE = 3; // between two
  const FIRST = 35; // "#" is a share of 0
  const LEVELS = 56; // and so much above it of 1
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
      row.append(element("th", filled(words.depth.layer, { tap: taps[k] }), { scope: "row" }));
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
    box.append(element("summary", words.heads.title), element("div"), element("p", words.heads.key, { class: "faint" }));
    box.append(element("p", words.heads.alongKey), element("div", "", { class: "along" }));
    box.addEventListener("toggle", () => {
      open = box.open;
      figures.draw(roll);
    });
    const panel = take.querySelector(".why") || roll;
    panel.after(box);
    return box;
  };

  // The strips, one under another, as high as they are together.
  const strips = ({ heads, headStrips }) => headStrips && heads.length * (ROW + SPACE) - SPACE;
  const paintAlong = (pen, figure, seconds, width, colour) => {
    const { heads, taps, headStrips } = figure;
    const x = figures.along(figure, seconds, width);
    const size = heads.length * taps.length;
    for (let k = 0; k * size < headStrips.length; k++) {
      if (headStrips[k * size] === " ") continue; // no id begins there
      heads.forEach((_, head) => {
        const at = k * size + head * taps.length;
        const shares = taps.map((_, tap) => (headStrips.charCodeAt(at + tap) - FIRST) / LEVELS);
        const low = head * (ROW + SPACE) + ROW;
        figures.stack(pen, shares, x(k), x(k + 1) - x(k) + 0.3, low, ROW, colour);
      });
    }
  };
  const middle = (head) => head * (ROW + SPACE) + ROW / 2;
  const drawAlong = (box, roll, scene) => {
    const along = box.querySelector(".along");
    const high = strips(roll.figure);
    along.hidden = along.previousElementSibling.hidden = !high;
    if (!high || !box.open) return;
    if (!along.childElementCount) {
      along.append(element("div", "", { class: "numbers" }), element("div", "", { class: "ink", role: "img" }));
    }
    const [numbers, ink] = along.children;
    const { heads, taps } = roll.figure;
    numbers.replaceChildren(...heads.map((_, head) => element("span", head + 1, { style: `top:${middle(head)}px` })));
    ink.style.height = `${high}px`;
    ink.setAttribute("aria-label", filled(words.heads.along, { heads: heads.length, layers: taps.length }));
    const [scale, colour] = [window.devicePixelRatio || 1, figures.colours(roll)];
    const pen = new figures.CanvasPen(figures.canvasOf(ink), ink.clientWidth, high, scale);
    paintAlong(pen, roll.figure, scene.seconds, ink.clientWidth, colour);
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
    drawAlong(box, roll, scene);
    const said = JSON.stringify(found);
    if (box.dataset.said === said) return;
    box.dataset.said = said;
    const [heads, of] = found;
    box.querySelector("div").replaceChildren(...tableOf(heads, roll.figure.taps, of));
  };

  // The same in a picture, if it is shown: how high it is. say: writes text.
  figures.paintHeads = (pen, roll, left, top, width, colour, say, scene) => {
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
      say(left - 8, y + CELL / 2, filled(words.depth.layer, { tap: taps[k] }), { align: "right" });
      heads.forEach((shares, head) => {
        pen.rect(left + head * wide, y, wide - 1, CELL - 1, colour.row);
        pen.rect(left + head * wide, y, wide - 1, CELL - 1, colour.ink, shares[k] / 1000);
      });
      y += CELL;
    }
    const high = strips(roll.figure);
    if (!high) return y - top + CELL;
    y += CELL;
    say(left, y, words.heads.alongKey, { size: 12 });
    y += NAMES;
    heads.forEach((_, head) => say(left - 8, y + middle(head), head + 1, { align: "right" }));
    pen.within(left, y, width, high, () => paintAlong(pen, roll.figure, scene.seconds, width, colour));
    return y + high - top + CELL;
  };
}
