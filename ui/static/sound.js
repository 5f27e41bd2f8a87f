() => {
  // Draws sound: loudness over a spectrogram on one time axis. The frame comes from the server (ui/speech_figures.py),
  // the columns from static/notes.js. Paler is softer, as in the rolls.
  const { figures } = window;
  const BANDS = 64; // of a column, low ones first
  const FIRST = 35; // "#" is level 0
  const WHITE = 20; // levels from the loudest there is down to white: 60 dB
  const TOP = 20; // the loudest is taken for this level at least, so that near silence does not look like speech
  const SOFT = 50; // the same of a sample, in thousandths
  const WAVE = 0.3; // of the height

  const most = (values, least) => values.reduce((a, b) => Math.max(a, b), least);

  // The columns by what they are: [name of the colour, first, end].
  const parts = ({ peaks }, scene) => {
    const count = peaks.length;
    const cut = Math.min(Math.round(scene.seam * scene.rate), count);
    const first = Math.min(Math.round(scene.begin * scene.rate), cut);
    return [["unused", 0, first], ["old", first, cut], [scene.later, cut, count]].filter(([, a, b]) => b > a);
  };

  // Opacity for every cell, as a picture of one pixel each; colour for every part.
  const spectrum = (figure, scene, colour) => {
    const count = figure.peaks.length;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [count, BANDS];
    const context = canvas.getContext("2d");
    const cells = context.createImageData(count, BANDS);
    let top = TOP;
    for (let i = 0; i < figure.spectrum.length; i++) top = Math.max(top, figure.spectrum.charCodeAt(i) - FIRST);
    for (let column = 0; column < count; column++) {
      for (let band = 0; band < BANDS; band++) {
        const level = figure.spectrum.charCodeAt(column * BANDS + band) - FIRST;
        const shade = Math.max((level - top) / WHITE + 1, 0) ** 1.5;
        cells.data[4 * ((BANDS - 1 - band) * count + column) + 3] = Math.round(255 * shade);
      }
    }
    context.putImageData(cells, 0, 0);
    context.globalCompositeOperation = "source-atop"; // only where there is something
    for (const [name, from, end] of parts(figure, scene)) {
      context.fillStyle = colour[name];
      context.fillRect(from, 0, end - from, BANDS);
    }
    return canvas;
  };

  const paintSound = (pen, figure, scene, width, height, colour) => {
    const { peaks } = figure;
    if (!peaks.length) return;
    const wide = width / (scene.seconds * scene.rate); // of a column
    const wave = height * WAVE;
    pen.image(spectrum(figure, scene, colour), 0, wave, wide * peaks.length, height - wave);
    const loudest = most(peaks, SOFT);
    for (const [name, from, end] of parts(figure, scene)) {
      const [upper, lower] = [[], []];
      for (let k = from; k < end; k++) {
        const high = (wave * Math.max((48 * peaks[k]) / loudest, 1)) / 100;
        upper.push(k * wide, wave / 2 - high, (k + 1) * wide, wave / 2 - high);
        lower.push([k * wide, wave / 2 + high], [(k + 1) * wide, wave / 2 + high]);
      }
      pen.area([...upper, ...lower.reverse().flat()], colour[name]);
    }
  };

  const drawSound = (roll, scene, colour, width, height) => {
    const scale = window.devicePixelRatio || 1;
    const pen = new figures.CanvasPen(figures.canvasOf(roll.querySelector(".field")), width, height, scale);
    paintSound(pen, roll.figure, scene, width, height, colour);
  };

  Object.assign(figures, { paintSound, drawSound, WAVE });
}
