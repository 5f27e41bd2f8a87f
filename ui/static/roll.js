() => {
  // Draws the piano rolls: the frame comes from the server (ui/piano_figures.py), the notes from static/notes.js.
  // Looks after the drawings of sound too (static/sound.js): when there is a new one, or more to draw in it.
  const { figures } = window;
  const LOWEST = 36; // C2 to B6 are always shown; the drawing reaches further by octaves where the notes do
  const HIGHEST = 95;
  const BLACK = new Set([1, 3, 6, 8, 10]);
  const THICK = 0.85; // of a row
  const RESTRUCK = 0.05; // seconds: a key struck again so soon after it fell silent gets a hairline
  const KEYS = 16; // width of the keyboard

  const pitchName = (pitch) => `${words.page.pitches[pitch % 12]}${Math.floor(pitch / 12) - 1}`;

  const colours = (element) => {
    const style = getComputedStyle(element);
    const names = ["old", "new", "unused", "row", "rule", "sheet", "ink", "faint", ...figures.taps.map((_, k) => `tap${k}`)];
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  };

  // All that a drawing needs to know of a roll.
  const scene = (roll) => {
    const { over, open } = roll.figure;
    const notes = [...over, ...open].sort((a, b) => a.start - b.start || a.pitch - b.pitch);
    let [low, high] = [LOWEST, HIGHEST];
    for (const { pitch } of notes) [low, high] = [Math.min(low, pitch), Math.max(high, pitch)];
    const data = roll.dataset;
    return {
      notes,
      low: Math.floor(low / 12) * 12,
      high: Math.floor(high / 12) * 12 + 11,
      seconds: Number(data.seconds),
      seam: Number(data.seam),
      rate: Number(data.rate), // columns a second, of sound
      begin: Number(data.begin || 0),
      origin: Number(data.origin),
      step: Number(data.step),
      later: "unused" in data ? "unused" : "new",
      thin: roll.matches(".overview"),
      shows: figures.shows(roll),
    };
  };

  // Where a note lies in a drawing of that width and height: [x, y, width, height].
  const place = (note, scene, width, height) => {
    const row = height / (scene.high - scene.low + 1);
    const thick = row * (scene.thin ? 1.5 : THICK);
    const x = (note.start / scene.seconds) * width;
    const long = ((note.end - note.start) / scene.seconds) * width;
    return [x, (scene.high - note.pitch + 0.5) * row - thick / 2, Math.max(long, 0.6), thick];
  };

  const crisp = (at) => Math.floor(at) + 0.5; // a line of one pixel lies on one row of pixels

  const isOld = (note, scene) => note.start >= scene.begin && note.start < scene.seam;

  const paintField = (pen, scene, width, height, colour, fill) => {
    const row = height / (scene.high - scene.low + 1);
    for (let pitch = scene.low; pitch <= scene.high; pitch++) {
      const y = (scene.high - pitch) * row;
      if (BLACK.has(pitch % 12)) pen.rect(0, y, width, row, colour.row);
      if (pitch % 12 === 0) pen.line([0, crisp(y + row), width, crisp(y + row)], colour.rule);
    }
    const first = Math.ceil(scene.origin / scene.step);
    for (let k = first; k * scene.step <= scene.origin + scene.seconds; k++) {
      const x = ((k * scene.step - scene.origin) / scene.seconds) * width;
      if (x > 0) pen.line([crisp(x), 0, crisp(x), height], colour.rule, 1, [1, 4]);
    }
    const ends = new Map();
    for (const note of scene.notes) {
      const [x, y, w, h] = place(note, scene, width, height);
      const [shade, alpha] = (fill && fill(note)) || [
        colour[isOld(note, scene) ? "old" : scene.later],
        0.4 + (0.6 * note.velocity) / 127,
      ];
      pen.rect(x, y, w, h, shade, alpha);
    }
    for (const note of scene.notes) {
      const [x, y, , h] = place(note, scene, width, height);
      if (note.start - (ends.has(note.pitch) ? ends.get(note.pitch) : -1) < RESTRUCK) {
        pen.rect(x - 0.75, y, 1.5, h, colour.sheet);
      }
      ends.set(note.pitch, note.end);
    }
  };

  // The keyboard on its side, KEYS wide.
  const paintKeys = (pen, scene, height) => {
    const row = height / (scene.high - scene.low + 1);
    pen.rect(0, 0, KEYS, height, "#fdfcf9");
    for (let pitch = scene.low; pitch <= scene.high; pitch++) {
      const y = (scene.high - pitch) * row;
      // White keys meet at the lower edge of C and of F.
      if (pitch % 12 === 0 || pitch % 12 === 5) pen.line([0, y + row, KEYS, y + row], "#b9b3a6");
      if (BLACK.has(pitch % 12)) pen.rect(0, y + row / 8, KEYS * 0.6, row * 0.75, "#35322d");
    }
  };

  const canvasOf = (box) => {
    const known = box.querySelector(":scope > canvas");
    if (known) return known;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    box.prepend(canvas);
    return canvas;
  };

  const nameOctaves = (keys, scene) => {
    const said = `${scene.low} ${scene.high}`;
    if (keys.dataset.octaves === said) return;
    keys.dataset.octaves = said;
    keys.querySelectorAll("span").forEach((old) => old.remove());
    for (let pitch = scene.low; pitch <= scene.high; pitch += 12) {
      const name = document.createElement("span");
      name.textContent = pitchName(pitch);
      name.style.top = `${(100 * (scene.high - pitch + 0.5)) / (scene.high - scene.low + 1)}%`;
      keys.append(name);
    }
  };

  const tell = (roll) => {
    const { said, facts } = roll.figure;
    const field = roll.querySelector(".field");
    if (said && field.getAttribute("aria-label") !== said) field.setAttribute("aria-label", said);
    const line = facts && roll.closest(".take") && roll.closest(".take").querySelector("h2 .facts");
    if (line && line.textContent !== facts) line.textContent = facts;
  };

  const draw = (roll) => {
    const field = roll.querySelector(".field");
    const [width, height] = [field.clientWidth, field.clientHeight];
    if (!width || !height || !roll.isConnected) return; // in a tab that is not open
    roll.figure = figures.notesOf(roll, changed);
    const [now, colour] = [scene(roll), colours(roll)];
    (roll.matches(".notes") ? drawNotes : figures.drawSound)(roll, now, colour, width, height);
    tell(roll);
    figures.drawn(roll, now, colour);
  };

  const drawNotes = (roll, now, colour, width, height) => {
    const scale = window.devicePixelRatio || 1;
    const pen = new figures.CanvasPen(canvasOf(roll.querySelector(".field")), width, height, scale);
    paintField(pen, now, width, height, colour, figures.fill(roll, now, colour));
    figures.mark(pen, roll, now, width, height, colour);
    const keys = roll.querySelector(".keys");
    if (!keys) return;
    const canvas = canvasOf(keys);
    if (canvas.offsetParent) paintKeys(new figures.CanvasPen(canvas, KEYS, height, scale), now, height);
    nameOctaves(keys, now);
  };

  const all = () => document.querySelectorAll(".roll.notes, .roll.sound");
  const changed = (address) => {
    for (const roll of all()) if ((roll.dataset.from || "").split("#")[0] === address) draw(roll);
  };
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) draw(target.closest(".roll"));
  });
  // Gradio puts a new run's frame into the elements of the one before: what was drawn is gone, the element is not.
  const CHANGES = ["data-from", "data-notes", "data-packed", "data-seconds", "data-seam", "data-begin"];
  const stands = (roll, field) =>
    roll.figure &&
    roll.field === field &&
    CHANGES.every((name) => roll.frame[name] === roll.getAttribute(name)) &&
    field.querySelector(":scope > canvas");
  const look = () => {
    for (const roll of all()) {
      const field = roll.querySelector(".field");
      if (!field || stands(roll, field)) continue;
      if (roll.field !== field) {
        if (roll.field) sizes.unobserve(roll.field);
        sizes.observe(field); // a new one is told of once, before it is painted
      }
      if (roll.frame && roll.frame["data-from"] !== roll.getAttribute("data-from")) figures.forget(roll);
      roll.field = field;
      roll.frame = Object.fromEntries(CHANGES.map((name) => [name, roll.getAttribute(name)]));
      roll.figure = roll.figure || figures.empty();
      draw(roll);
    }
  };
  new MutationObserver(look).observe(document.body, {
    childList: true,
    subtree: true,
    attributes: true,
    attributeFilter: CHANGES,
  });
  look();
  // The colours are the scheme's.
  const redraw = () => all().forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new MutationObserver(redraw).observe(document.body, { attributes: true, attributeFilter: ["class"] });

  Object.assign(figures, { scene, place, isOld, canvasOf, paintField, paintKeys, colours, pitchName, draw, redraw, KEYS });
}
