() => {
  // What is heard of the keyboard: samples of the server's own piano (ui/keyboard.py), so that a key sounds at once.
  const DAMPER = 0.08; // seconds: the time constant with which a string falls silent
  const MOST = 64; // strings that sound at a time; the one struck first gives way
  const LOUDER = 1.7; // amplitude goes with velocity to this power, as the soundfont's does
  const AT_ONCE = 3; // samples that are asked for at a time

  class Instrument {
    constructor() {
      this.samples = []; // { pitch, velocity, buffer }, in the order in which they arrive
      this.voices = new Set();
      this.pedal = false;
    }

    // To be called at a click or a key: a browser makes no sound before. Resolves to a line on what is wrong, or to "".
    open() {
      if (!this.context) {
        this.context = new AudioContext({ latencyHint: "interactive" });
        this.loading = this.load().catch(() => words.keyboard.failed);
      }
      this.context.resume();
      return this.loading;
    }

    async load() {
      const { pitches, velocities, problem } = await (await fetch("static/keyboard.json")).json();
      if (problem) return filled(words.keyboard.silent, { why: problem });
      // The middle of the keyboard first, moderately loud: with the first sample there is sound.
      const [middle] = velocities.slice(velocities.length / 2);
      const wanted = velocities.flatMap((velocity) => pitches.map((pitch) => ({ pitch, velocity })));
      const far = ({ pitch, velocity }) => Math.abs(pitch - 60) + (velocity === middle ? 0 : 100);
      wanted.sort((one, other) => far(one) - far(other));
      const all = wanted.length;
      let failed = 0;
      const work = async () => {
        for (let one = wanted.shift(); one; one = wanted.shift()) {
          try {
            const answer = await fetch(`static/keyboard/${one.pitch}-${one.velocity}.ogg`);
            if (!answer.ok) throw new Error(answer.status);
            const buffer = await this.context.decodeAudioData(await answer.arrayBuffer());
            this.samples.push({ ...one, buffer });
          } catch {
            failed += 1;
          }
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      if (failed === all) return words.keyboard.undecoded;
      return failed ? filled(words.keyboard.some, { failed, all }) : "";
    }

    nearest(pitch, velocity) {
      const far = (one) => 40 * Math.abs(one.pitch - pitch) + Math.abs(one.velocity - velocity);
      return this.samples.reduce((best, one) => (best && far(best) <= far(one) ? best : one), null);
    }

    strike(pitch, velocity) {
      for (const voice of this.voices) if (voice.pitch === pitch) this.damp(voice);
      const sample = this.nearest(pitch, velocity);
      if (!sample) return;
      if (this.voices.size >= MOST) this.damp(this.voices.values().next().value);
      const { context } = this;
      const source = new AudioBufferSourceNode(context, {
        buffer: sample.buffer,
        playbackRate: 2 ** ((pitch - sample.pitch) / 12),
      });
      const gain = new GainNode(context, { gain: (velocity / sample.velocity) ** LOUDER });
      source.connect(gain).connect(context.destination);
      source.start();
      const voice = { pitch, source, gain, held: true };
      this.voices.add(voice);
      source.addEventListener("ended", () => {
        this.voices.delete(voice);
        gain.disconnect();
      });
    }

    damp(voice) {
      const now = this.context.currentTime;
      this.voices.delete(voice);
      voice.gain.gain.setTargetAtTime(0, now, DAMPER);
      voice.source.stop(now + 8 * DAMPER);
    }

    release(pitch) {
      for (const voice of this.voices) {
        if (voice.pitch !== pitch) continue;
        voice.held = false;
        if (!this.pedal) this.damp(voice);
      }
    }

    press(pedal) {
      this.pedal = pedal;
      if (!pedal) for (const voice of this.voices) if (!voice.held) this.damp(voice);
    }

    // Beats before a recording, the first one higher. Returns when the beat after the last one is heard, in ms.
    count(beats, seconds) {
      const { context } = this;
      const first = context.currentTime + 0.1;
      for (let beat = 0; beat < beats; beat++) {
        const at = first + beat * seconds;
        const tone = new OscillatorNode(context, { frequency: beat ? 880 : 1320 });
        const gain = new GainNode(context, { gain: 0 });
        gain.gain.setValueAtTime(0.2, at);
        gain.gain.setTargetAtTime(0, at + 0.01, 0.015);
        tone.connect(gain).connect(context.destination);
        tone.start(at);
        tone.stop(at + 0.15);
      }
      const late = context.baseLatency + (context.outputLatency || 0); // what is heard was given away earlier
      return performance.now() + 1000 * (0.1 + beats * seconds + late);
    }
  }

  window.keyboard = { instrument: new Instrument() };
}
