() => {
  // The depth map: notes coloured by the tapped layers that their predictions drew on, or by how surprising they were,
  // and a strip of both along time. Attention, not cause.
  const { figures } = window;
  const STRIP = { shares: 44, nats: 30, gap: 4 }; // heights, in pixels
  const MOST_NATS = 6; // where the scale of surprise ends
  const COLOURS = 5; // --tap0 to --tap4 of page.css, light to dark
  figures.taps = Array.from({ length: COLOURS });
  let shown = "loudness";

  // The colour of the k-th of n taps, from the first colour to the last.
  const shade = (colour, k, n) => colour[`tap${n > 1 ? Math.round((k * (COLOURS - 1)) / (n - 1)) : 0}`];
  const named = (taps) => taps.map((tap) => filled(words.depth.block, { tap }));
  const largest = (values) => values.indexOf(Math.max(...values));
  const percent = (share) => `${Math.round(100 * share)}%`;

  const entropy = (shares) => -shares.reduce((sum, share) => sum + (share > 0 ? share * Math.log(share) : 0), 0);
  const mean = (rows) => {
    const there = rows.filter(Boolean);
    if (!there.length) return null;
    const shares = there[0].shares.map((_, k) => there.reduce((sum, row) => sum + row.shares[k], 0) / there.length);
    return { shares, nats: there.reduce((sum, row) => sum + row.nats, 0) / there.length };
  };

  const shows = (roll) => {
    const { taps } = roll.figure;
    if (!taps) return "loudness";
    if (taps.length && shown === "unusual" && roll.matches(".sound")) return "layers"; // sound has no notes to colour
    return taps.length || shown === "surprise" ? shown : "loudness";
  };

  // What colours the notes of a roll: a function from a note to [colour, opacity], or null for loudness.
  const fill = (roll, scene, colour) => {
    const { taps } = roll.figure;
    if (scene.shows === "loudness") return null;
    const pale = [colour.unused, 0.55]; // what the model did not draw
    if (scene.shows === "surprise") {
      return ({ drew }) => (drew ? [colour.new, 0.12 + 0.88 * Math.min(drew.nats / MOST_NATS, 1)] : pale);
    }
    const usual = scene.shows === "unusual" ? mean(scene.notes.map(({ drew }) => drew)) : null;
    return ({ drew }) => {
      if (!drew) return pale;
      const k = largest(usual ? drew.shares.map((share, tap) => share - usual.shares[tap]) : drew.shares);
      return [shade(colour, k, taps.length), 0.95];
    };
  };

  // Shares stacked from the first tap at the bottom, their entropy as a line over them; under that the surprise.
  const paintStrip = (pen, figure, seconds, width, colour) => {
    const { taps, bins, seam } = figure;
    const step = figure.width;
    const x = (k) => ((seam + k * step) / seconds) * width;
    const top = STRIP.shares;
    const below = taps.length ? top + STRIP.gap : 0;
    const lines = [];
    bins.forEach((bin, k) => {
      if (!bin) return;
      let y = top;
      bin.shares.forEach((share, tap) => {
        pen.rect(x(k), y - share * top, x(k + 1) - x(k) + 0.3, share * top, shade(colour, tap, taps.length));
        y -= share * top;
      });
      const high = Math.min(bin.nats / MOST_NATS, 1) * STRIP.nats;
      pen.rect(x(k), below + STRIP.nats - high, Math.max(x(k + 1) - x(k) - 0.3, 0.3), high, colour.new);
      if (taps.length > 1) lines.push(x(k + 0.5), top - (entropy(bin.shares) / Math.log(taps.length)) * top);
    });
    if (lines.length > 2) {
      pen.line(lines, colour.sheet, 3);
      pen.line(lines, colour.ink, 1.25);
    }
    pen.line([0, below + STRIP.nats - 0.5, width, below + STRIP.nats - 0.5], colour.rule);
  };
  const stripHeight = (taps) => (taps.length ? STRIP.shares + STRIP.gap : 0) + STRIP.nats;

  const shared = (taps, shares) =>
    taps.map((tap, k) => filled(words.depth.share, { tap, share: percent(shares[k]) })).join(", ");

  const summary = (figure) => {
    const all = mean(figure.bins);
    if (!all) return words.depth.nothing;
    const given = { shares: shared(figure.taps, all.shares), nats: all.nats.toFixed(1) };
    const said = filled(figure.taps.length ? words.depth.summary : words.depth.summaryPlain, given);
    return `${said} ${words.depth.caution}`;
  };

  const stripOf = (roll, make) => {
    let strip = roll.querySelector(":scope > .strip");
    if (strip || !make) return strip;
    strip = document.createElement("div");
    strip.className = "strip";
    strip.setAttribute("role", "img");
    strip.append(document.createElement("canvas"));
    const sides = document.createElement("div");
    sides.className = "strip-names";
    for (const name of [words.depth.taps, words.depth.nats]) {
      const side = document.createElement("span");
      side.textContent = name;
      sides.append(side);
    }
    roll.append(sides, strip);
    return strip;
  };

  const drawStrip = (roll, scene, colour) => {
    const wanted = scene.shows !== "loudness";
    const strip = stripOf(roll, wanted);
    roll.classList.toggle("deep", wanted);
    if (!wanted) return;
    const height = stripHeight(roll.figure.taps);
    strip.style.height = `${height}px`;
    const pen = new figures.CanvasPen(strip.firstChild, strip.clientWidth, height, window.devicePixelRatio || 1);
    paintStrip(pen, roll.figure, scene.seconds, strip.clientWidth, colour);
    strip.setAttribute("aria-label", summary(roll.figure));
    roll.classList.toggle("no-taps", !roll.figure.taps.length);
  };

  // The choice, and what its colours mean.
  const tend = (box, roll) => {
    const { taps } = roll.figure;
    box.hidden = false;
    const now = shows(roll);
    for (const radio of box.querySelectorAll("input")) {
      radio.name = `views-${box.parentElement.closest("[id]").id}`; // arrow keys go through one name
      const notes = radio.value === "unusual" && roll.matches(".sound");
      radio.closest("label").hidden = notes || (!taps.length && ["layers", "unusual"].includes(radio.value));
      radio.checked = radio.value === now;
    }
    const key = box.querySelector(".key");
    const said = `${now} ${taps}`;
    if (key.dataset.said === said) return;
    key.dataset.said = said;
    key.replaceChildren(...legend(box, now, taps));
  };
  const chip = (style) => {
    const made = document.createElement("span");
    made.className = "chip";
    Object.assign(made.style, style);
    return made;
  };
  const legend = (box, now, taps) => {
    if (now === "loudness") return [];
    const parts = [];
    if (taps.length) {
      named(taps).forEach((name, k) => {
        parts.push(chip({ background: `var(--tap${taps.length > 1 ? Math.round((k * (COLOURS - 1)) / (taps.length - 1)) : 0})` }), name);
      });
    }
    const sound = box.closest(".outcome").querySelector(".roll.sound");
    const strip = taps.length ? words.depth.strip : words.depth.stripPlain;
    const said = [...(sound ? [] : [filled(words.depth[now], { nats: MOST_NATS })]), strip, words.depth.caution];
    const told = document.createElement("span");
    told.className = "told";
    told.textContent = said.join(" ");
    return [...parts, told];
  };

  document.addEventListener("change", (event) => {
    if (!event.target.matches || !event.target.matches(".views input")) return;
    shown = event.target.value;
    figures.redraw();
  });

  // A note under the pointer, in words.
  const saidOf = (note, taps) => {
    const at = { note: figures.pitchName(note.pitch), seconds: note.start.toFixed(1) };
    if (!note.drew) return filled(words.depth.ofPrompt, at);
    const { nats, shares } = note.drew;
    const said = filled(words.depth.note, { ...at, nats: nats.toFixed(1), chance: percent(Math.exp(-nats)) });
    return taps.length ? `${said}, ${shared(taps, shares)}` : said;
  };
  const noteSaid = (note) =>
    filled(words.depth.at, { note: figures.pitchName(note.pitch), seconds: note.start.toFixed(1) });
  const noteAt = (roll, event) => {
    const field = roll.querySelector(".field");
    const box = field.getBoundingClientRect();
    const scene = figures.scene(roll);
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    for (const note of scene.notes) {
      const [x, y, w, h] = figures.place(note, scene, box.width, box.height);
      const away = Math.hypot(Math.max(x - px, 0, px - x - w), Math.max(y - py, 0, py - y - h));
      if (away < 7 && (!best || away < best.away)) best = { note, away };
    }
    return best && best.note;
  };
  document.addEventListener("pointermove", (event) => {
    const roll = event.target.closest && event.target.closest(".roll.deep.notes");
    if (!roll || !event.target.closest(".field")) return;
    const note = noteAt(roll, event);
    roll.querySelector(".field").title = note ? saidOf(note, roll.figure.taps) : "";
  });

  const drawn = (roll, scene, colour) => {
    const { taps } = roll.figure;
    const box = roll.closest(".outcome") && roll.closest(".outcome").querySelector(".views");
    if (box && taps) tend(box, roll);
    drawStrip(roll, scene, colour);
    figures.offer(roll);
    if (roll.matches(".notes")) figures.explainable(roll, scene);
    figures.tellHeads(roll, scene);
  };

  Object.assign(figures, { shows, fill, drawn, paintStrip, stripHeight, summary, shade, noteAt, noteSaid, saidOf });
}
