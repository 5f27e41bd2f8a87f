() => {
  // The piano keyboard: its keys, and what plays them: pointer, computer keys, MIDI. Each is a source by its own name,
  // so that a pitch that two of them hold ends with the second one.
  const { keyboard } = window;
  const { instrument } = keyboard;
  const LOWEST = 21;
  const HIGHEST = 108;
  const KEY_WIDTH = 20.5; // px at least, of a white key
  const TYPED = 80; // velocity of a computer's key, which knows none
  // Two rows as a piano's: letters for white keys, what lies above and between for black ones. By place, not by letter.
  const LOWER = "KeyZ KeyS KeyX KeyD KeyC KeyV KeyG KeyB KeyH KeyN KeyJ KeyM Comma KeyL Period Semicolon Slash".split(" ");
  const UPPER =
    "KeyQ Digit2 KeyW Digit3 KeyE KeyR Digit5 KeyT Digit6 KeyY Digit7 KeyU KeyI Digit9 KeyO Digit0 KeyP".split(" ");
  const STEPS = new Map([...LOWER.map((code, i) => [code, i]), ...UPPER.map((code, i) => [code, 12 + i])]);
  const SIGNS = { Comma: ",", Period: ".", Semicolon: ";", Slash: "/" };

  const held = new Map(); // source to pitch
  const pedals = new Set(); // sources that hold the pedal
  const listeners = [];
  let base = 48; // of the lower row
  let low = LOWEST; // the lowest key that is shown
  let count = 0; // octaves that are shown, 0 for all 88 keys
  let signs = (code) => SIGNS[code] || code.replace(/Key|Digit/, "");

  const panel = () => document.querySelector("#play");
  const piano = () => panel().querySelector(".piano");
  const key = (pitch) => panel().querySelector(`.piano [data-pitch="${pitch}"]`);
  const black = (pitch) => [1, 3, 6, 8, 10].includes(pitch % 12);
  const tell = (event) => listeners.forEach((listener) => listener(event));

  const say = (text, kind = "quiet") => {
    const line = panel().querySelector("#play-line");
    line.className = `status ${kind}`;
    line.textContent = text;
  };

  const light = (pitch) => {
    const shown = key(pitch);
    if (shown) shown.classList.toggle("on", [...held.values()].includes(pitch));
  };
  const press = (source, pitch, velocity, time) => {
    instrument.strike(pitch, velocity); // first of all: it is waited for
    held.set(source, pitch);
    light(pitch);
    tell({ time, kind: "on", pitch, velocity });
  };
  const release = (source, time) => {
    const pitch = held.get(source);
    if (!held.delete(source) || [...held.values()].includes(pitch)) return;
    instrument.release(pitch);
    light(pitch);
    tell({ time, kind: "off", pitch, velocity: 0 });
  };
  const tread = (source, down, time) => {
    const before = pedals.size > 0;
    if (down) pedals.add(source);
    else pedals.delete(source);
    const button = panel().querySelector("#play-pedal");
    button.setAttribute("aria-pressed", pedals.has("button"));
    if (before === pedals.size > 0) return;
    instrument.press(!before);
    button.classList.toggle("on", !before);
    tell({ time, kind: "pedal", pitch: 0, velocity: before ? 0 : 127 });
  };
  // What is held when the window loses the keyboard would sound for ever: its end is told to another window.
  const letGo = (of = () => true) => {
    const now = performance.now();
    for (const source of [...held.keys()]) if (of(source)) release(source, now);
    for (const source of [...pedals]) if (of(source)) tread(source, false, now);
  };

  // The keys that are shown: all 88, or as many octaves as there is room for.
  const draw = () => {
    const box = piano();
    const high = count ? Math.min(low + 12 * count, HIGHEST) : HIGHEST;
    const pitches = Array.from({ length: high - low + 1 }, (_, i) => low + i);
    const width = 100 / pitches.filter((pitch) => !black(pitch)).length;
    const codes = new Map([...STEPS].map(([code, step]) => [base + step, code]));
    const stop = Number(box.dataset.stop || 60);
    const tab = Math.min(Math.max(stop, low), high);
    const focused = box.contains(document.activeElement) && document.activeElement !== box;
    let at = 0;
    box.replaceChildren(
      ...pitches.map((pitch) => {
        const made = document.createElement("button");
        const dark = black(pitch);
        const octave = Math.floor(pitch / 12) - 1;
        made.type = "button";
        made.className = `${dark ? "black" : "white"}${[...held.values()].includes(pitch) ? " on" : ""}`;
        made.style.left = `${(at - (dark ? 0.3 : 0)) * width}%`;
        made.style.width = `${(dark ? 0.6 : 1) * width}%`;
        made.dataset.pitch = pitch;
        made.dataset.code = codes.has(pitch) ? signs(codes.get(pitch)) : "";
        made.dataset.name = pitch % 12 ? "" : `${words.page.pitches[0]}${octave}`;
        made.tabIndex = pitch === tab ? 0 : -1;
        made.setAttribute("aria-label", filled(words.keyboard.key, { name: words.keyboard.names[pitch % 12], octave }));
        if (!dark) at += 1;
        return made;
      }),
    );
    if (focused) key(tab).focus();
    for (const [name, by] of [["#play-lower", -12], ["#play-higher", 12]]) {
      panel().querySelector(name).disabled = !room(by);
    }
  };
  // The octaves that are shown begin with a C, but for the lowest keys of all.
  const moved = (by) => Math.min(Math.max(low + (by > 0 && low === LOWEST ? 3 : by), LOWEST), HIGHEST - 12 * count);
  const room = (by) => (count && moved(by) !== low) || (base + by >= 12 && base + by <= 84);
  const shift = (by) => {
    if (!room(by)) return;
    base = Math.min(Math.max(base + by, 12), 84);
    if (count) low = moved(by);
    draw();
  };
  const fit = () => {
    const whites = Math.floor(piano().clientWidth / KEY_WIDTH);
    const octaves = whites >= 52 ? 0 : Math.max(Math.floor((whites - 1) / 7), 1);
    if (octaves === count && piano().childElementCount) return;
    count = octaves;
    low = count ? 60 - 12 * Math.ceil(count / 2) : LOWEST;
    base = count === 1 ? 60 : 48;
    draw();
  };

  // Pointers: struck nearer to its front end, a key is louder; drawn over the keys, a pointer plays them in turn.
  const under = (event) => {
    const found = document.elementFromPoint(event.clientX, event.clientY);
    return found && found.closest("#play .piano [data-pitch]");
  };
  const touch = (event, found) => {
    const box = found.getBoundingClientRect();
    const deep = Math.min(Math.max((event.clientY - box.top) / box.height, 0), 1);
    press(`pointer ${event.pointerId}`, Number(found.dataset.pitch), Math.round(35 + 75 * deep), event.timeStamp);
  };
  document.addEventListener("pointerdown", (event) => {
    const found = event.button === 0 && event.target.closest && event.target.closest("#play .piano [data-pitch]");
    if (!found) return;
    event.preventDefault();
    if (found.hasPointerCapture(event.pointerId)) found.releasePointerCapture(event.pointerId);
    instrument.open();
    touch(event, found);
    piano().focus({ preventScroll: true });
  });
  document.addEventListener("pointermove", (event) => {
    const source = `pointer ${event.pointerId}`;
    if (!held.has(source)) return;
    const found = under(event);
    if (!found || Number(found.dataset.pitch) === held.get(source)) return;
    release(source, event.timeStamp);
    touch(event, found);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    document.addEventListener(name, (event) => release(`pointer ${event.pointerId}`, event.timeStamp));
  }

  // Computer keys. What is typed into a field is text, and what has a modifier is the browser's.
  const typing = (target) =>
    target.isContentEditable ||
    target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=range], [type=button])");
  const open = () => panel() && panel().open && panel().offsetParent;
  const walk = (from, code) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[code];
    const to = by && key(Number(from.dataset.pitch) + by);
    if (!to) return Boolean(by);
    from.tabIndex = -1;
    to.tabIndex = 0;
    piano().dataset.stop = to.dataset.pitch;
    to.focus();
    return true;
  };
  const typed = (event) => {
    const { target, code, timeStamp } = event;
    if (STEPS.has(code)) {
      const pitch = base + STEPS.get(code);
      if (!event.repeat && pitch >= LOWEST && pitch <= HIGHEST) press(`key ${code}`, pitch, TYPED, timeStamp);
      return true;
    }
    if (code === "Minus" || code === "Equal") {
      shift(code === "Minus" ? -12 : 12);
      return true;
    }
    if (target.matches("#play .piano [data-pitch]")) {
      if (code === "Enter" || code === "Space") {
        if (!event.repeat) press(`key ${code}`, Number(target.dataset.pitch), TYPED, timeStamp);
        return true;
      }
      return walk(target, code);
    }
    if (code !== "Space" || target.closest("button, summary, input, a, [role=tab], audio")) return false;
    tread("key Space", true, timeStamp);
    return true;
  };
  document.addEventListener("keydown", (event) => {
    if (!open() || event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    if (typed(event)) event.preventDefault();
  });
  document.addEventListener("keyup", (event) => {
    release(`key ${event.code}`, event.timeStamp);
    if (pedals.has("key Space") && event.code === "Space") tread("key Space", false, event.timeStamp);
    // A button is pressed when the space bar comes up, and this key has sounded already.
    if (event.code === "Space" && event.target.matches && event.target.matches("#play .piano *")) event.preventDefault();
  });
  window.addEventListener("blur", () => letGo((source) => !source.startsWith("midi")));
  document.addEventListener("visibilitychange", () => document.hidden && letGo());

  // MIDI keyboards, and those that are connected later.
  let access = null;
  const receive = ({ data: [status, number, amount], timeStamp, target }) => {
    const kind = status & 0xf0;
    const source = `midi ${target.id} ${status & 15}`;
    const down = (kind === 0x90 && amount > 0) || (kind === 0xb0 && number === 64 && amount >= 64);
    if (down && !open()) return; // what ends is heard at any time
    if (kind === 0x90 && down) press(`${source} ${number}`, number, amount, timeStamp);
    else if (kind === 0x90 || kind === 0x80) release(`${source} ${number}`, timeStamp);
    else if (kind === 0xb0 && number === 64) tread(source, down, timeStamp);
    else if (kind === 0xb0 && number >= 120) letGo((one) => one.startsWith(source)); // all notes off
  };
  const attach = () => {
    const inputs = [...access.inputs.values()].filter((input) => input.state !== "disconnected");
    for (const input of inputs) input.onmidimessage = receive;
    if (!inputs.length) letGo((source) => source.startsWith("midi"));
    const names = inputs.map((input) => input.name || words.keyboard.unnamed).join(", ");
    say(names ? filled(words.keyboard.connected, { names }) : words.keyboard.unconnected);
    panel().querySelector("#play-midi").classList.toggle("on", inputs.length > 0);
  };
  const connect = async () => {
    if (!navigator.requestMIDIAccess) {
      say(window.isSecureContext ? words.keyboard.noMidi : words.keyboard.noMidiHere, "error");
      return;
    }
    try {
      access ??= await navigator.requestMIDIAccess();
    } catch (error) {
      const refused = ["NotAllowedError", "SecurityError"].includes(error.name);
      say(refused ? words.keyboard.midiRefused : words.keyboard.midiMissing, "error");
      return;
    }
    access.onstatechange = attach;
    attach();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("#play button");
    if (!button) return;
    instrument.open();
    if (button.id === "play-lower") shift(-12);
    if (button.id === "play-higher") shift(12);
    if (button.id === "play-midi") connect();
    if (button.id === "play-pedal") tread("button", !pedals.has("button"), event.timeStamp);
    // A click of a screen reader on a key comes without a pointer.
    if (button.dataset.pitch && !event.detail) {
      press("click", Number(button.dataset.pitch), TYPED, event.timeStamp);
      setTimeout(() => release("click", performance.now()), 400);
    }
    // The space bar is the pedal again, not the button that was clicked last.
    if (event.detail) piano().focus({ preventScroll: true });
  });

  const watcher = new ResizeObserver(() => panel().open && fit());
  document.addEventListener("toggle", async (event) => {
    if (event.target !== panel()) return;
    if (!panel().open) {
      letGo();
      tell({ kind: "closed" });
      return;
    }
    watcher.observe(piano());
    fit();
    say(words.keyboard.loading, "busy");
    const problem = await instrument.open();
    if (panel().querySelector("#play-line").classList.contains("busy")) say(problem, problem ? "error" : "quiet");
    const map = navigator.keyboard && (await navigator.keyboard.getLayoutMap().catch(() => null));
    if (!map) return;
    const plain = signs;
    signs = (code) => (map.get(code) || plain(code)).toUpperCase();
    draw();
  }, true);

  Object.assign(keyboard, { say, panel, held, treads: () => pedals.size > 0, heard: (listener) => listeners.push(listener) });
}
