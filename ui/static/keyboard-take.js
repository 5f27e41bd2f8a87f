() => {
  // What was played, and the MIDI file that it becomes (format 0, a tick is a millisecond).
  const LONGEST = 600_000; // ms
  const MOST = 200_000; // events of a file that the server reads (ui/piano.py)
  const CLOSING = 300; // of these, kept for what closes the file
  const PEDAL = 64; // the number of its controller

  class Take {
    // zero: the time of its beginning in ms, null for that of the first note.
    constructor(zero = null, beats = 120) {
      Object.assign(this, { zero, beats });
      this.events = [];
      this.notes = 0;
      this.pedal = 0; // as it stands before the first event
      this.open = new Set();
      this.last = zero ?? 0;
    }

    // { time in ms, kind: on, off or pedal, pitch, velocity }. Returns why no more is taken, or "".
    add({ time, kind, pitch, velocity }) {
      if (this.zero === null) {
        if (kind === "pedal") this.pedal = velocity;
        if (kind !== "on") return "";
        this.zero = this.last = time;
      }
      if (time - this.zero > LONGEST) return words.keyboard.longest;
      if (this.events.length >= MOST - CLOSING) {
        return filled(words.keyboard.most, { events: MOST.toLocaleString(words.page.language) });
      }
      this.last = Math.max(time, this.last);
      const put = (sort, amount) => this.events.push({ time: this.last, kind: sort, pitch, velocity: amount });
      if (kind === "pedal") put("pedal", velocity);
      else {
        if (this.open.has(pitch)) put("off", 0);
        this.open.delete(pitch);
        if (kind === "on") {
          put("on", velocity);
          this.open.add(pitch);
          this.notes += 1;
        }
      }
      return "";
    }

    // The part of it that began at most so many ms before its end.
    end(ms) {
      const part = new Take(null, this.beats);
      part.add({ kind: "pedal", velocity: this.pedal });
      for (const event of this.events) if (event.kind === "pedal" || event.time >= this.last - ms) part.add(event);
      return part;
    }

    file(name, end) {
      const perBeat = Math.round(60_000 / this.beats);
      const bytes = [];
      let before = 0;
      const write = (time, ...event) => {
        const at = Math.max(Math.round(time - this.zero), before);
        const parts = [(at - before) & 127];
        for (let rest = (at - before) >> 7; rest; rest >>= 7) parts.unshift((rest & 127) | 128);
        for (const part of parts) bytes.push(part);
        for (const part of event) bytes.push(part);
        before = at;
      };
      const whole = (number, size) => Array.from({ length: size }, (_, i) => (number >> (8 * (size - 1 - i))) & 255);
      let { pedal } = this;
      write(this.zero, 0xff, 0x51, 3, ...whole(perBeat * 1000, 3));
      if (pedal) write(this.zero, 0xb0, PEDAL, pedal);
      for (const { time, kind, pitch, velocity } of this.events) {
        if (kind === "pedal") write(time, 0xb0, PEDAL, (pedal = velocity));
        else write(time, kind === "on" ? 0x90 : 0x80, pitch, velocity);
      }
      const close = Math.min(Math.max(end, this.last), this.zero + LONGEST);
      for (const pitch of this.open) write(close, 0x80, pitch, 0);
      if (pedal) write(close, 0xb0, PEDAL, 0);
      write(close, 0xff, 0x2f, 0);
      const letters = (word) => [...word].map((letter) => letter.charCodeAt(0));
      const head = [...letters("MThd"), ...whole(6, 4), 0, 0, 0, 1, ...whole(perBeat, 2)];
      const track = [...letters("MTrk"), ...whole(bytes.length, 4)];
      return new File([new Uint8Array(head), new Uint8Array(track), new Uint8Array(bytes)], name, { type: "audio/midi" });
    }
  }
  Take.LONGEST = LONGEST;

  window.keyboard.Take = Take;
}
