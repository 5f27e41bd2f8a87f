() => {
  // Plays the first variation while it is made. The server hands out plain samples (ui/live.py); each piece is put at
  // the very sample where the one before it ends, so that there is neither a gap nor an overlap.
  const LEAD = 0.25; // seconds there must be before sound begins: what comes late by less is not noticed
  const AGAIN = 0.6; // the same after it has run dry, and twice as much each time: few pauses rather than many
  const MOST = 5;
  const ENOUGH = 1.5; // seconds there are, with which there is no hurry to ask for more
  const PAUSE = 200; // milliseconds until then
  const TRIES = 5; // of a request that fails, before the server is taken to be gone
  const STEP = 40; // milliseconds between two places of the playhead: the model may want the same processor

  let context = null;
  let playing = null;

  class Playing {
    constructor(address, rate, channels, stage) {
      Object.assign(this, { address, rate, channels, stage });
      this.asked = new AbortController();
      this.output = context.createGain();
      this.output.connect(context.destination);
      this.waiting = []; // pieces that are not yet given to the context
      this.count = 0; // samples in them
      this.lead = LEAD;
      this.given = 0; // samples given to the context so far
      this.next = 0; // when they end, in samples of its clock
      this.last = false;
    }

    async listen() {
      // Over short answers, so that no connection is held: a browser has six to a host, for all its tabs.
      const frame = 2 * this.channels; // bytes of one moment
      let from = 0;
      let failed = 0;
      while (failed < TRIES) {
        try {
          const hurry = this.ahead < ENOUGH;
          const answer = await fetch(`${this.address}?from=${from}${hurry ? "" : "&wait=0"}`, {
            signal: this.asked.signal,
          });
          if (!answer.ok) return this.stop();
          const came = await this.read(answer.body.getReader(), frame);
          from += came;
          failed = 0;
          if (!came && answer.headers.has("X-Last")) break;
        } catch {
          if (this.asked.signal.aborted) return;
          failed += 1; // once the server is gone for good, what has come is still played
        }
        if (failed || this.ahead > ENOUGH) await new Promise((go) => setTimeout(go, PAUSE));
      }
      this.last = true;
      this.give();
    }

    // Takes an answer piece by piece; how many bytes there were of whole moments.
    async read(reader, frame) {
      let odd = new Uint8Array(0); // part of a moment, where a network parted one
      let came = 0;
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return came;
          const bytes = new Uint8Array(odd.length + value.length);
          bytes.set(odd);
          bytes.set(value, odd.length);
          const whole = bytes.length - (bytes.length % frame);
          odd = bytes.slice(whole);
          this.take(new DataView(bytes.buffer, 0, whole));
          came += whole;
        }
      } catch {
        return came; // it broke off: the rest is asked for again
      }
    }

    take(bytes) {
      const length = bytes.byteLength / 2 / this.channels;
      if (!length) return;
      const buffer = context.createBuffer(this.channels, length, this.rate);
      for (let channel = 0; channel < this.channels; channel++) {
        const samples = buffer.getChannelData(channel);
        for (let i = 0; i < length; i++) samples[i] = bytes.getInt16(2 * (i * this.channels + channel), true) / 32767;
      }
      this.waiting.push(buffer);
      this.count += length;
      this.give();
    }

    give() {
      if (!this.output) return;
      const now = Math.ceil((context.currentTime + 0.02) * this.rate);
      if (this.next < now) {
        // At the beginning, or the sound has run dry: wait until there is enough again.
        if (this.count < this.lead * this.rate && !this.last) return;
        this.next = now;
        this.lead = this.lead === LEAD ? AGAIN : Math.min(2 * this.lead, MOST);
      }
      for (const buffer of this.waiting) {
        const source = context.createBufferSource();
        source.buffer = buffer;
        source.connect(this.output);
        source.start(this.next / this.rate);
        this.next += buffer.length;
        this.given += buffer.length;
      }
      this.waiting = [];
      this.count = 0;
    }

    // Seconds of sound that there is to play.
    get ahead() {
      return (this.count + Math.max(this.next - context.currentTime * this.rate, 0)) / this.rate;
    }

    // Seconds of the continuation that have been heard.
    get heard() {
      return (this.given - Math.max(this.next - context.currentTime * this.rate, 0)) / this.rate;
    }

    stop() {
      this.asked.abort();
      if (this.output) this.output.disconnect();
      this.output = null;
      if (playing === this) playing = null;
      const head = this.head();
      if (head) head.classList.remove("on");
    }

    head() {
      return this.stage && this.stage.querySelector(".take .playhead");
    }

    follow() {
      if (playing !== this) return;
      const head = this.head();
      const over = this.last && !this.count && this.next <= context.currentTime * this.rate;
      if (over) return this.stop();
      if (head && this.given) {
        const roll = head.closest(".roll");
        const at = Number(roll.dataset.seam) + this.heard;
        head.style.transform = `translateX(${Math.min((100 * at) / Number(roll.dataset.seconds), 100)}%)`;
        head.classList.add("on");
      }
      setTimeout(() => this.follow(), STEP);
    }
  }

  const silence = () => playing && playing.stop();

  // A browser lets a page make sound only after a click: this is the click. The context has the sound's own rate, so
  // that no piece is resampled by itself; until it is known, that of the sound before.
  const open = (rate) => {
    if (context && (!rate || context.sampleRate === rate)) return context.resume();
    if (context) context.close();
    context = new AudioContext(rate ? { sampleRate: rate } : {});
    return context.resume();
  };

  document.addEventListener("click", (event) => {
    if (!event.target.closest) return;
    const button = event.target.closest(".halt, .go, .onward button, .together [data-where]");
    const aloud = button && button.closest(".columns").querySelector(".aloud input");
    if (!aloud) return;
    silence();
    if (!button.matches(".halt") && aloud.checked) open();
  });
  document.addEventListener("play", silence, true);
  document.addEventListener("silence", silence); // a player goes on (static/keyboard-record.js)

  let known = "";
  const look = () => {
    const line = document.querySelector("[data-live]");
    if (!line || line.dataset.live === known) return;
    known = line.dataset.live;
    const columns = line.closest(".columns");
    if (!columns || !columns.querySelector(".aloud input").checked) return;
    silence();
    for (const audio of document.querySelectorAll("audio")) audio.pause();
    const rate = Number(line.dataset.rate);
    open(rate);
    playing = new Playing(known, rate, Number(line.dataset.channels), columns.querySelector(".outcome"));
    playing.listen();
    playing.follow();
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
}
