() => {
  // The depth map: notes coloured by the tapped layers that their predictions drew on, or by how surprising they were,
  // and a strip of both along time. Attention, not cause.
  const { figures } = window;
  const STRIP = { shares: 44, nats: 30, gap: 4 }; // heights, in pixels
  const MOST_NATS = 6; // where the scale of surprise ends
  const MOST_BEYOND = 0.2; // of a share beyond the usual, where its scale ends in the strip
  const STRONG = 0.12; // and where a note has its colour in full
  const COLOURS = 5; // --tap0 to --tap4 of page.css, light to dark
  figures.taps = Array.from({ length: COLOURS });
  let inside = false; // whether the fold is open: one choice for all, as which view is shown in it
  let shown = "layers";

  // The colour of the k-th of n taps, from the first colour to the last.
  const shade = (colour, k, n) => colour[`tap${n > 1 ? Math.round((k * (COLOURS - 1)) / (n - 1)) : 0}`];
  const named = (taps) => taps.map((tap) => filled(words.depth.layer, { tap }));
  const largest = (values) => values.indexOf(Math.max(...values));
  const percent = (share) => `${Math.round(100 * share)}%`;

  const entropy = (shares) => -shares.reduce((sum, share) => sum + (share > 0 ? share * Math.log(share) : 0), 0);
  const mean = (rows) => {
    const there = rows.filter(Boolean);
    if (!there.length) return null;
    const shares = there[0].shares.map((_, k) => there.reduce((sum, row) => sum + row.shares[k], 0) / there.length);
    return { shares, nats: there.reduce((sum, row) => sum + row.nats, 0) / there.length };
  };

  const beyond = (row, usual) => row.shares.map((share, tap) => share - usual.shares[tap]);

  const shows = (roll) => {
    const { taps } = roll.figure;
    if (!taps || !inside) return "loudness";
    return taps.length || shown === "loudness" ? shown : "surprise";
  };

  // What colours the notes of a roll: a function from a note to [colour, opacity], or null for loudness.
  const fill = (roll, scene, colour) => {
    const { taps } = roll.figure;
    if (scene.shows === "loudness") return null;
    const pale = [colour.unused, 0.55]; // what the model did not draw
    if (scene.shows === "surprise") {
      return ({ drew }) => (drew ? [colour.new, 0.12 + 0.88 * Math.min(drew.nats / MOST_NATS, 1)] : pale);
    }
    const usual = scene.shows === "layers" ? mean(scene.notes.map(({ drew }) => drew)) : null;
    return ({ drew }) => {
      if (!drew) return pale;
      const found = usual ? beyond(drew, usual) : drew.shares;
      const k = largest(found);
      return [shade(colour, k, taps.length), usual ? 0.3 + 0.7 * Math.min(found[k] / STRONG, 1) : 0.95];
    };
  };

  // Where the k-th bin of a strip begins.
  const along = ({ seam, width: step }, seconds, width) => (k) => ((seam + k * step) / seconds) * width;
  // Shares stacked from the first tap at the bottom of a place that is so high.
  const stack = (pen, shares, x, wide, low, high, colour) => {
    let y = low;
    shares.forEach((share, tap) => {
      pen.rect(x, y - share * high, wide, share * high, shade(colour, tap, shares.length));
      y -= share * high;
    });
  };
  // What is beyond the usual is stacked over the middle, what is below it under the middle.
  const stackBeyond = (pen, found, x, wide, top, colour) => {
    let [up, down] = [top / 2, top / 2];
    found.forEach((more, tap) => {
      const wanted = (Math.abs(more) / MOST_BEYOND) * (top / 2);
      const high = Math.min(wanted, more > 0 ? up : top - down);
      pen.rect(x, more > 0 ? up - high : down, wide, high, shade(colour, tap, found.length));
      if (more > 0) up -= high;
      else down += high;
    });
  };

  // Shares along time, their entropy as a line over them, or what of them is beyond the usual; under that the surprise.
  const paintStrip = (pen, figure, seconds, width, colour, view) => {
    const { taps, bins } = figure;
    const x = along(figure, seconds, width);
    const top = STRIP.shares;
    const below = taps.length ? top + STRIP.gap : 0;
    const usual = view === "layers" && mean(bins);
    const lines = [];
    bins.forEach((bin, k) => {
      if (!bin) return;
      if (usual) stackBeyond(pen, beyond(bin, usual), x(k), x(k + 1) - x(k) + 0.3, top, colour);
      else stack(pen, bin.shares, x(k), x(k + 1) - x(k) + 0.3, top, top, colour);
      const high = Math.min(bin.nats / MOST_NATS, 1) * STRIP.nats;
      pen.rect(x(k), below + STRIP.nats - high, Math.max(x(k + 1) - x(k) - 0.3, 0.3), high, colour.new);
      if (taps.length > 1) lines.push(x(k + 0.5), top - (entropy(bin.shares) / Math.log(taps.length)) * top);
    });
    if (usual) pen.line([x(0), top / 2, x(bins.length), top / 2], colour.ink);
    else if (lines.length > 2) {
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
    return `${said} ${figure.taps.length ? words.depth.caution : words.depth.untapped}`;
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
    for (const [name, about] of [[words.depth.taps, words.depth.tapsAbout], [words.depth.nats, words.depth.natsAbout]]) {
      const side = document.createElement("span");
      side.textContent = name;
      side.title = about;
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
    paintStrip(pen, roll.figure, scene.seconds, strip.clientWidth, colour, scene.shows);
    strip.setAttribute("aria-label", summary(roll.figure));
    roll.classList.toggle("no-taps", !roll.figure.taps.length);
  };

  // The choice, and what its colours mean.
  const tend = (box, roll) => {
    const { taps } = roll.figure;
    box.hidden = false;
    if (box.open !== inside) box.open = inside;
    const now = shows(roll);
    for (const radio of box.querySelectorAll("input")) {
      radio.name = `views-${box.parentElement.closest("[id]").id}`; // arrow keys go through one name
      radio.closest("label").hidden = !taps || (!taps.length && ["layers", "shares"].includes(radio.value));
      radio.checked = radio.value === now;
    }
    box.querySelector("legend").hidden = !taps;
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
    if (!taps) return [words.depth.opened];
    if (now === "loudness") return [];
    const parts = [];
    if (taps.length) {
      named(taps).forEach((name, k) => {
        parts.push(chip({ background: `var(--tap${taps.length > 1 ? Math.round((k * (COLOURS - 1)) / (taps.length - 1)) : 0})` }), name);
      });
    }
    const sound = box.closest(".outcome").querySelector(".roll.sound");
    const strip = !taps.length ? words.depth.stripPlain : now === "layers" ? words.depth.stripBeyond : words.depth.strip;
    const said = [...(sound ? [] : [filled(words.depth[now], { nats: MOST_NATS })]), strip];
    said.push(taps.length ? words.depth.caution : words.depth.untapped);
    const told = document.createElement("span");
    told.className = "told";
    told.textContent = said.join(" ");
    return [...parts, told];
  };

  // Not by its toggle event: Gradio, too, may close the fold, as it draws a new run in its place.
  document.addEventListener("click", (event) => {
    const summary = event.target.closest && event.target.closest(".inside > summary");
    if (!summary) return;
    inside = !summary.parentElement.open;
    setTimeout(figures.redraw); // when it is open
  });
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
    const box = roll.closest(".outcome") && roll.closest(".outcome").querySelector(".inside");
    if (box && (taps || roll.figure.done)) tend(box, roll);
    drawStrip(roll, scene, colour);
    figures.offer(roll);
    if (roll.matches(".notes")) figures.explainable(roll, scene);
    figures.tellHeads(roll, scene);
  };

  Object.assign(figures, { shows, fill, drawn, paintStrip, stripHeight, along, stack, summary, shade, noteAt, noteSaid, saidOf });
}
