() => {
  // What each drawing shows: the notes of a roll, the columns of sound. Those of a prompt are in the page; those of a
  // run are asked for (ui/notes.py) until it is over, each once. What was asked for stays here, so that a step that is
  // shown again is drawn at once.
  const BANDS = 64; // characters of a column (ui/speech_figures.py)
  const { figures } = window;
  const WAIT = 300; // milliseconds between two askings of a run at first
  const SLOWER = 5; // more, each time, as what comes is ever less of what there is
  const SLOWEST = 1000;
  const KEPT = 40; // runs whose notes are kept
  const runs = new Map(); // address: { rows, done, asking }

  const empty = () => ({ over: [], open: [], bins: [], peaks: [], spectrum: "", taps: null });

  // Flat numbers, as in `ui.piano_figures.numbers`, to notes.
  const read = (numbers) => {
    const notes = [];
    for (let i = 0; i + 3 < numbers.length; i += 4) {
      const [pitch, velocity, start, length] = numbers.slice(i, i + 4);
      notes.push({ pitch, velocity, start: start / 100, end: (start + length) / 100 });
    }
    return notes;
  };

  // What the model drew on for a note, as `ui.depth` says it: the place of its id, nats, and each tap's share.
  const drew = (notes, found) => {
    (found || []).forEach(([place, nats, ...shares], k) => {
      if (place !== undefined) notes[k].drew = { place, nats: nats / 100, shares: shares.map((share) => share / 1000) };
    });
    return notes;
  };
  const bin = ([nats, ...shares]) =>
    nats === undefined ? null : { nats: nats / 100, shares: shares.map((share) => share / 1000) };

  // More columns of a sound; before them it has those that it lacks in common with the first variation.
  const lengthen = (known, row, first) => {
    const from = known.peaks.length < row.after ? first : known;
    known.peaks = [...from.peaks.slice(0, row.after), ...row.peaks];
    known.spectrum = from.spectrum.slice(0, BANDS * row.after) + row.spectrum;
  };

  const take = (run, answer) => {
    answer.rows.forEach((row, place) => {
      const known = (run.rows[place] = run.rows[place] || empty());
      if (row.peaks) lengthen(known, row, run.rows[0]);
      else known.over.length = row.after;
      for (const note of drew(read(row.notes), row.drew)) known.over.push(note);
      known.open = drew(read(row.open), row.drewOpen);
      const { facts, said, heads, headStrips } = row;
      Object.assign(known, { facts, said, heads, headStrips, taps: row.taps || null, done: answer.done });
      if (!row.strip) return;
      known.bins.length = row.strip.after;
      for (const each of row.strip.bins) known.bins.push(bin(each));
      Object.assign(known, { width: row.strip.width, seam: row.strip.seam });
    });
    run.done = answer.done;
    run.over = answer.over;
  };

  const wanted = (address) =>
    [...document.querySelectorAll("[data-from]")].some((roll) => roll.dataset.from.split("#")[0] === address);

  const ask = async (address, run, told) => {
    const after = run.rows.map((row) => row.peaks.length || row.over.length).join();
    const bins = run.rows.map((row) => row.bins.length).join();
    try {
      const answer = await fetch(`${address}?after=${after}&bins=${bins}`);
      if (!answer.ok) {
        run.over = true; // it is not kept any more
        return;
      }
      take(run, await answer.json());
      told(address);
    } catch {
      // The server is away for the moment.
    }
  };

  const follow = async (address, run, told) => {
    if (run.asking || run.done) return;
    run.asking = true;
    for (let turn = 0; !run.done && wanted(address); turn++) {
      await ask(address, run, told);
      if (run.over) break;
      await new Promise((resolve) => setTimeout(resolve, Math.min(WAIT + SLOWER * turn, SLOWEST)));
    }
    run.asking = false;
  };

  // A prompt's sound: JSON as zlib has it, in base64.
  const unpack = async (roll) => {
    const { packed } = roll.dataset;
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const found = await new Response(plain).json();
    if (roll.dataset.packed !== packed) return; // another one by now
    roll.unpacked = { ...empty(), ...found, packed };
    figures.draw(roll);
  };

  // What there is of a roll's notes; `told(address)` is called as more come.
  const notesOf = (roll, told) => {
    const { packed } = roll.dataset;
    if (packed) {
      if (!roll.unpacked || roll.unpacked.packed !== packed) {
        roll.unpacked = { ...empty(), packed };
        unpack(roll);
      }
      return roll.unpacked;
    }
    if (!roll.dataset.from) return { ...empty(), over: read(roll.dataset.notes.split(",").map(Number)) };
    const [address, place] = roll.dataset.from.split("#");
    const run = runs.get(address) || { rows: [], done: false };
    runs.delete(address);
    runs.set(address, run); // the one used last is the last to go
    while (runs.size > KEPT) runs.delete(runs.keys().next().value);
    follow(address, run, told);
    return run.rows[Number(place)] || empty();
  };

  Object.assign(figures, { notesOf, empty });
}
