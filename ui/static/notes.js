() => {
  // The notes of each roll. Those of a prompt are in the page; those of a run are asked for (ui/notes.py) until it is
  // over, each once. What was asked for stays here, so that a step that is shown again is drawn at once.
  const WAIT = 300; // milliseconds between two askings of a run
  const KEPT = 40; // runs whose notes are kept
  const runs = new Map(); // address: { rows, done, asking }

  // Flat numbers, as in `ui.piano_figures.numbers`, to notes.
  const read = (numbers) => {
    const notes = [];
    for (let i = 0; i + 3 < numbers.length; i += 4) {
      const [pitch, velocity, start, length] = numbers.slice(i, i + 4);
      notes.push({ pitch, velocity, start: start / 100, end: (start + length) / 100 });
    }
    return notes;
  };

  const take = (run, answer) => {
    answer.rows.forEach((row, place) => {
      const known = (run.rows[place] = run.rows[place] || { over: [], open: [] });
      known.over.length = row.after;
      known.over.push(...read(row.notes));
      known.open = read(row.open);
      Object.assign(known, { facts: row.facts, said: row.said });
    });
    run.done = answer.done;
    run.over = answer.over;
  };

  const wanted = (address) =>
    [...document.querySelectorAll("[data-from]")].some((roll) => roll.dataset.from.split("#")[0] === address);

  const ask = async (address, run, told) => {
    const after = run.rows.map((row) => row.over.length).join();
    try {
      const answer = await fetch(`${address}?after=${after}`);
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
    while (!run.done && wanted(address)) {
      await ask(address, run, told);
      if (run.over) break;
      await new Promise((resolve) => setTimeout(resolve, WAIT));
    }
    run.asking = false;
  };

  // What there is of a roll's notes; `told(address)` is called as more come.
  const notesOf = (roll, told) => {
    if (!roll.dataset.from) return { over: read(roll.dataset.notes.split(",").map(Number)), open: [] };
    const [address, place] = roll.dataset.from.split("#");
    const run = runs.get(address) || { rows: [], done: false };
    runs.delete(address);
    runs.set(address, run); // the one used last is the last to go
    while (runs.size > KEPT) runs.delete(runs.keys().next().value);
    follow(address, run, told);
    return run.rows[Number(place)] || { over: [], open: [] };
  };

  window.figures.notesOf = notesOf;
}
