() => {
  // A note of a take, explained: what the model attended to when it drew the note, and what was likelier (ui/why.py).
  // By a click on a note while layers or surprise are shown; by two buttons for keyboards.
  const { figures } = window;
  const TOLD = 4; // notes that are named in words
  const PATIENCE = 120; // milliseconds

  const percent = (share) => (share < 0.01 ? words.why.under : `${Math.round(100 * share)}%`);
  const inWords = (note, found) => {
    const likeliest = found.likeliest.map(([word, chance]) => filled(words.why.likely, { word, chance: percent(chance) })).join(", ");
    const looked = found.looked
      .slice(0, TOLD)
      .map(([pitch, start, weight, tap]) => {
        const note = { note: figures.pitchName(pitch), seconds: (start / 100).toFixed(1) };
        return filled(words.why.looked, { ...note, share: percent(weight / 1000), tap });
      })
      .join(", ");
    const said = { word: found.word, seconds: note.start.toFixed(1), chance: percent(found.probability) };
    const first = [filled(words.why.first, said), filled(words.why.likeliest, { words: likeliest })];
    const eyes = looked ? [filled(words.why.eyes, { notes: looked })] : [];
    return [...first, ...eyes, words.depth.caution].join(" ");
  };

  const same = (a, b) => a && b && a.pitch === b.pitch && Math.abs(a.start - b.start) < 0.005;
  const newNotes = (roll) => figures.scene(roll).notes.filter(({ drew }) => drew);

  // Its place is as high whatever is said there, so that nothing moves; what is longer is scrolled to.
  const say = (said, text) => {
    said.textContent = text;
    said.scrollTop = 0;
    if (said.scrollHeight > said.clientHeight + 1) said.tabIndex = 0;
    else said.removeAttribute("tabindex");
  };

  const panelOf = (roll) => {
    let panel = roll.nextElementSibling;
    if (panel && panel.matches(".why")) return panel;
    panel = document.createElement("div");
    panel.className = "why";
    for (const [step, name] of [[-1, words.why.before], [1, words.why.next]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button";
      button.dataset.step = step;
      button.textContent = name;
      panel.append(button);
    }
    const said = document.createElement("p");
    said.className = "said";
    said.setAttribute("aria-live", "polite");
    said.textContent = words.why.click;
    panel.append(said);
    roll.after(panel);
    return panel;
  };

  let asked = null; // a browser has six connections to a host: one explanation is asked for at a time
  const choose = async (roll, note) => {
    const said = panelOf(roll).querySelector(".said");
    if (roll.chosen && same(roll.chosen.note, note)) return;
    if (asked) asked.abort();
    const { signal } = (asked = new AbortController());
    roll.chosen = { note, looked: [] };
    say(said, filled(words.why.reading, { what: figures.noteSaid(note) }));
    figures.draw(roll);
    const [address, place] = roll.dataset.from.split("#");
    try {
      await new Promise((resolve) => setTimeout(resolve, PATIENCE)); // who steps on quickly asks for the last alone
      if (signal.aborted) return;
      const answer = await fetch(`${address.replace("notes/", "why/")}/${place}/${note.drew.place}`, { signal });
      const found = await answer.json();
      if (!roll.chosen || roll.chosen.note !== note) return; // another one was chosen meanwhile
      if (found.error) {
        roll.chosen = null;
        say(said, filled(words.why.failed, { why: found.error }));
        return;
      }
      roll.chosen.looked = found.looked;
      roll.chosen.taps = found.taps;
      roll.chosen.heads = found.heads;
      say(said, inWords(note, found));
      figures.draw(roll);
    } catch {
      if (signal.aborted) return;
      roll.chosen = null;
      say(said, words.why.away);
    }
  };

  // Another run's notes stand there now.
  figures.forget = (roll) => {
    roll.chosen = null;
    const panel = roll.nextElementSibling;
    if (panel && panel.matches(".why")) panel.remove();
  };

  // Outlines over the notes: the chosen one in ink, those it attended to in their tap's colour, stronger is thicker.
  figures.mark = (pen, roll, scene, width, height, colour) => {
    if (!roll.chosen || scene.shows === "loudness") return;
    const outline = (note, shade, line) => {
      const [x, y, w, h] = figures.place(note, scene, width, height);
      const out = line / 2 + 1;
      const [left, top, right, low] = [x - out, y - out, x + w + out, y + h + out];
      pen.line([left, top, right, top, right, low, left, low, left, top], shade, line);
    };
    const most = Math.max(...roll.chosen.looked.map(([, , weight]) => weight), 1);
    for (const [pitch, start, weight, tap] of roll.chosen.looked) {
      const note = scene.notes.find((each) => same(each, { pitch, start: start / 100 }));
      const k = roll.chosen.taps.indexOf(tap);
      if (note) outline(note, figures.shade(colour, k, roll.chosen.taps.length), 0.75 + (3 * weight) / most);
    }
    outline(roll.chosen.note, colour.ink, 2);
  };

  figures.explainable = (roll, scene) => {
    const wanted = scene.shows !== "loudness" && roll.closest(".take") && roll.dataset.from;
    if (wanted) panelOf(roll).hidden = false;
    else if (roll.nextElementSibling && roll.nextElementSibling.matches(".why")) roll.nextElementSibling.hidden = true;
  };

  // Before the listener that plays from where the click was.
  document.addEventListener("click", (event) => {
    const field = event.target.closest && event.target.closest(".roll.deep.notes .field");
    const roll = field && field.closest(".roll");
    const note = roll && roll.closest(".take") && figures.noteAt(roll, event);
    if (note && note.drew) {
      event.stopPropagation();
      choose(roll, note);
    }
  }, true);
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".why [data-step]");
    if (!button) return;
    const roll = button.closest(".why").previousElementSibling;
    const notes = newNotes(roll);
    if (!notes.length) return;
    const step = Number(button.dataset.step);
    const now = roll.chosen ? notes.findIndex((each) => same(each, roll.chosen.note)) : step < 0 ? notes.length : -1;
    choose(roll, notes[Math.max(0, Math.min(now + step, notes.length - 1))]);
  });
}
