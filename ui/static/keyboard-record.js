() => {
  // What becomes of what is played on the keyboard: a recording, which is the tab's next prompt, or half of a duet.
  const { keyboard } = window;
  const { Take, instrument, panel, say } = keyboard;
  const BEATS = 4; // of a count-in
  const USUAL = 120; // beats a minute in a file that was recorded without
  const REMEMBERED = 60_000; // ms of the player's part that a duet's answer follows
  const PATIENCE = 30_000; // ms for the page to do what it was told

  const find = (selector) => document.querySelector(selector);
  const near = (selector) => panel().closest(".tabitem, [role=tabpanel]").querySelector(selector);
  const until = async (what) => {
    const began = performance.now();
    while (!what()) {
      if (performance.now() - began > PATIENCE) throw new Error("waited in vain");
      await new Promise((resolve) => { setTimeout(resolve, 40); });
    }
    return what();
  };
  // What the page plays ends: static/live.js listens for this.
  const hush = () => {
    document.dispatchEvent(new Event("silence"));
    for (const audio of document.querySelectorAll("audio")) audio.pause();
  };

  // The file becomes the prompt as an uploaded one does.
  const offer = async (file) => {
    const files = new DataTransfer();
    files.items.add(file);
    const input = await until(() => find("#played input[type=file]"));
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };

  // Recording.
  let recording = null; // { take, clock, from: when its first beat is, after a count-in }

  const finish = async (reason = "") => {
    const { take, clock } = recording;
    clearInterval(clock);
    recording = null;
    const button = find("#play-record");
    button.textContent = words.keyboard.record;
    button.classList.remove("on");
    if (!take.notes) {
      say(reason || words.keyboard.nothing);
      return;
    }
    say(reason || words.keyboard.recorded, reason ? "error" : "quiet");
    await offer(take.file("played.mid", performance.now())).catch(() => say(words.keyboard.untaken, "error"));
  };
  const tick = () => {
    const { take, from } = recording;
    const now = performance.now();
    const left = Math.ceil(((from - now) / 60_000) * take.beats);
    const seconds = Math.max(Math.floor((now - (take.zero ?? now)) / 1000), 0);
    const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    find("#play-record").textContent =
      left > 0 ? filled(words.keyboard.beat, { beats: Math.min(left, BEATS) }) : filled(words.keyboard.stop, { clock });
    if (take.zero !== null && now - take.zero > Take.LONGEST) finish(take.add({ time: now, kind: "pedal" }));
  };
  const record = () => {
    const counted = find("#play-count").checked;
    const tempo = find("#play-tempo");
    if (counted && !(tempo.value && tempo.checkValidity())) {
      const given = { tempo: tempo.value || words.keyboard.noTempo, least: tempo.min, most: tempo.max };
      say(filled(words.keyboard.tempo, given), "error");
      return;
    }
    end();
    hush();
    const beats = counted ? Number(tempo.value) : USUAL;
    const from = counted ? instrument.count(BEATS, 60 / beats) : -Infinity;
    recording = { take: new Take(counted ? from : null, beats), from, clock: setInterval(tick, 100) };
    if (keyboard.treads()) recording.take.add({ time: performance.now(), kind: "pedal", pitch: 0, velocity: 127 });
    find("#play-record").classList.add("on");
    say(counted ? words.keyboard.counting : words.keyboard.waiting);
    tick();
  };

  // Duet: where the player pauses, what was played since the last answer is continued.
  let duet = false;
  let part = null; // the player's, since the last answer
  let timer = 0;
  let turn = 0; // grows with every key, so that an answer on its way knows that it is late
  let asked = false; // Continue was pressed, and the run has not begun
  let answers = 0;

  const stop = async () => {
    const [go, halt] = [near(".go"), near(".halt")];
    if (!asked && !go.disabled) return;
    try {
      await until(() => !halt.disabled || (!asked && !go.disabled));
      if (!halt.disabled) halt.click();
    } catch {
      // The server does not answer; the page says so.
    }
  };
  // Where the page did not play the answer while it was made, it is played now, from where the prompt ends.
  const play = () => {
    const [audio, roll] = [near(".take audio"), near(".take .roll")];
    if (!audio) return;
    const seam = parseFloat(roll.querySelector(".seam")?.style.left || 0) / 100;
    audio.currentTime = seam * Number(roll.dataset.seconds);
    audio.play().catch(() => {}); // a key has stopped it before it began
  };
  const answer = async () => {
    const mine = turn;
    const late = () => mine !== turn || !duet;
    const [go, name] = [near(".go"), `duet-${(answers += 1)}.mid`];
    try {
      await until(() => late() || !go.disabled);
      if (late()) return;
      await offer(part.end(REMEMBERED).file(name, performance.now()));
      await until(() => late() || find("#prompt").textContent.includes(name));
      if (late()) return;
      part = null;
      say(words.keyboard.answers, "busy");
      asked = true;
      let live = false;
      go.click();
      await until(() => go.disabled || late()).finally(() => { asked = false; });
      while (go.disabled) {
        live ||= near(".aloud input").checked && Boolean(near("[data-live]"));
        await new Promise((resolve) => { setTimeout(resolve, 40); });
      }
      if (late()) return;
      say(words.keyboard.turn);
      if (!live) play();
    } catch {
      say(words.keyboard.stuck, "error");
    }
  };
  const follow = (event) => {
    if (event.kind === "on") {
      turn += 1;
      hush();
      stop();
      say(words.keyboard.plays);
    }
    part ??= new Take();
    part.add(event);
    clearTimeout(timer);
    if (part.notes && !keyboard.held.size) timer = setTimeout(answer, 1000 * Number(find("#play-pause").value));
  };
  const begin = () => {
    if (recording) finish();
    [duet, part] = [true, null];
    say(words.keyboard.begun);
    show();
  };
  function end(line = words.keyboard.over) {
    if (!duet) return;
    duet = false;
    clearTimeout(timer);
    say(line);
    show();
  }
  const show = () => {
    const button = find("#play-duet");
    button.setAttribute("aria-pressed", duet);
    button.classList.toggle("on", duet);
    button.textContent = duet ? words.keyboard.end : words.keyboard.duet;
  };

  keyboard.heard((event) => {
    if (event.kind === "closed") {
      if (recording) finish();
      end("");
      return;
    }
    if (recording) {
      const early = recording.from - event.time > 30_000 / recording.take.beats; // by more than half a beat
      const full = event.kind === "on" && early ? "" : recording.take.add(event);
      if (full) finish(full);
    }
    if (duet) follow(event);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button");
    if (!button || !panel()) return;
    if (button.id === "play-record") {
      if (recording) finish();
      else record();
    }
    if (button.id === "play-duet") {
      if (duet) {
        end();
        hush();
        stop();
      } else begin();
    }
    if (button.matches(".halt") && event.isTrusted) end(); // the player's own click
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "play-pause") return;
    event.target.parentElement.querySelector("output").textContent = filled(words.page.seconds, { seconds: event.target.value });
  });
}
