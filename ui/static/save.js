() => {
  // A take's drawing as a file: the roll or the sound as it is shown, the strip, axes and a caption, as PNG or SVG.
  const { figures } = window;
  const WIDTH = 1200;
  const LEFT = 64; // of the field, in pixels
  const SIDE = 24;
  const FIELD = 420;
  const SHARP = 2; // pixels of the PNG per unit

  const LINE = 165; // letters

  const lines = (text) => text.match(new RegExp(`\\S.{0,${LINE - 2}}(?=\\s|$)`, "g")) || [];

  const nameKeys = (pen, roll, scene, top, say) => {
    pen.within(LEFT - figures.KEYS, top, figures.KEYS, FIELD, () => figures.paintKeys(pen, scene, FIELD));
    const row = FIELD / (scene.high - scene.low + 1);
    for (let pitch = scene.low; pitch <= scene.high; pitch += 12) {
      const name = figures.pitchName(pitch);
      say(LEFT - figures.KEYS - 6, top + (scene.high - pitch + 0.5) * row, name, { align: "right" });
    }
  };
  const nameFrequencies = (pen, roll, scene, top, say) => {
    for (const name of roll.querySelectorAll(".keys span")) {
      const at = figures.WAVE + (1 - figures.WAVE) * Number(name.style.getPropertyValue("--at"));
      say(LEFT - 8, top + at * FIELD, name.textContent, { align: "right" });
    }
  };

  // What the colours stand for: [colour, name] of each.
  const chipsOf = (roll, scene, colour) => {
    const plain = [[colour.old, words.save.prompt], [colour.new, words.save.continuation]];
    const taps = roll.figure.taps || [];
    const layers = taps.map((tap, k) => [figures.shade(colour, k, taps.length), filled(words.depth.layer, { tap })]);
    if (scene.shows === "loudness") return plain;
    if (roll.matches(".sound")) return [...plain, ...layers];
    if (scene.shows !== "surprise") return layers;
    return [[colour.unused, words.save.prompt], [colour.new, words.save.surprise]];
  };

  const compose = (pen, roll, height) => {
    const [scene, colour] = [figures.scene(roll), figures.colours(roll)];
    const { figure } = roll;
    const wide = WIDTH - LEFT - SIDE;
    const take = roll.closest(".take");
    const say = (x, y, text, more = {}) => pen.text(x, y, text, { fill: colour.ink, ...more });
    pen.rect(0, 0, WIDTH, height, colour.sheet);
    const [facts, of] = [take.querySelector("h2 .facts"), take.querySelector(".of")];
    say(LEFT, 28, `${take.querySelector("h2").firstChild.textContent} ${of.textContent}`, { size: 18, bold: true });
    say(WIDTH - SIDE, 28, facts.textContent, { size: 13, align: "right", fill: colour.faint });
    let y = 52;
    const notes = roll.matches(".notes");
    pen.within(LEFT, y, wide, FIELD, () => {
      if (notes) figures.paintField(pen, scene, wide, FIELD, colour, figures.fill(roll, scene, colour));
      else figures.paintSound(pen, figure, scene, wide, FIELD, colour);
      if (notes) figures.mark(pen, roll, scene, wide, FIELD, colour);
      pen.rect((scene.seam / scene.seconds) * wide - 1, 0, 2, FIELD, colour.ink, 0.6);
    });
    (notes ? nameKeys : nameFrequencies)(pen, roll, scene, y, say);
    y += FIELD + 14;
    for (const time of roll.querySelectorAll(".times span")) {
      say(LEFT + (parseFloat(time.style.left) / 100) * wide, y, time.textContent, { align: "center" });
    }
    y += 18;
    if (scene.shows !== "loudness") {
      const strip = figures.stripHeight(figure.taps);
      pen.within(LEFT, y, wide, strip, () => figures.paintStrip(pen, figure, scene.seconds, wide, colour, scene.shows));
      if (figure.taps.length) say(LEFT - 8, y + 22, words.depth.taps, { align: "right" });
      say(LEFT - 8, y + strip - 14, words.depth.nats, { align: "right" });
      y += strip + 18;
      y += figures.paintHeads(pen, roll, LEFT, y - 6, wide, colour, say, scene);
    }
    let x = LEFT;
    for (const [shade, name] of chipsOf(roll, scene, colour)) {
      pen.rect(x, y - 5, 16, 10, shade);
      say(x + 22, y, name, { size: 13 });
      x += 42 + 7.5 * name.length;
    }
    y += 24;
    const told = take.closest(".outcome").querySelector(".views .told");
    const caption = scene.shows === "loudness" ? figure.said || "" : told ? told.textContent : "";
    const why = roll.chosen && scene.shows !== "loudness" ? take.querySelector(".why .said").textContent : "";
    for (const line of [...lines(why), ...lines(caption)]) {
      say(LEFT, y, line, { size: 12, fill: colour.faint });
      y += 18;
    }
    return y + 8;
  };

  const measure = (roll) => compose(new figures.SvgPen(WIDTH, 1), roll, 1);

  const download = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const save = (roll, kind) => {
    const height = measure(roll);
    const file = roll.closest(".take").querySelector(".listen a[download$='.mid'], .listen a[download$='.wav']");
    const stem = file ? file.download.replace(/\.(mid|wav)$/, "") : "take";
    const name = `${stem}-${figures.scene(roll).shows}.${kind}`;
    if (kind === "svg") {
      const pen = new figures.SvgPen(WIDTH, height);
      compose(pen, roll, height);
      download(new Blob([pen.toString()], { type: "image/svg+xml" }), name);
      return;
    }
    const canvas = document.createElement("canvas");
    compose(new figures.CanvasPen(canvas, WIDTH, height, SHARP), roll, height);
    canvas.toBlob((blob) => download(blob, name), "image/png");
  };

  // A finished take gets its two buttons.
  figures.offer = (roll) => {
    const take = roll.closest(".take");
    const row = take && take.querySelector(".listen");
    if (!row || row.querySelector(".picture")) return;
    for (const kind of ["png", "svg"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button picture";
      button.dataset.kind = kind;
      button.textContent = filled(words.save.picture, { kind: kind.toUpperCase() });
      const hidden = document.createElement("span");
      hidden.className = "hidden";
      hidden.textContent = filled(words.save.ofTake, { take: take.querySelector("h2").firstChild.textContent.toLowerCase() });
      button.append(hidden);
      row.append(button);
    }
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".picture");
    if (button) save(button.closest(".take").querySelector(".roll"), button.dataset.kind);
  });
}
