() => {
  // The microphone: what it hears becomes a WAV file, as the server reads no browser's own format, and is uploaded.
  const LONGEST = 30; // seconds
  const NAME = "recording.wav";
  const RATE = 24000; // Hz: what a codec can use, in half the bytes of 48 kHz

  let recorder = null;

  const wav = (samples) => {
    const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
    text(0, "RIFF");
    view.setUint32(4, 36 + 2 * samples.length, true);
    text(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true); // plain samples
    view.setUint16(22, 1, true); // one channel
    view.setUint32(24, RATE, true);
    view.setUint32(28, 2 * RATE, true);
    view.setUint16(32, 2, true);
    view.setUint16(34, 16, true);
    text(36, "data");
    view.setUint32(40, 2 * samples.length, true);
    samples.forEach((sample, i) => {
      view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true);
    });
    return new File([view], NAME, { type: "audio/wav" });
  };

  const mono = async (blob) => {
    const decoder = new OfflineAudioContext(1, 1, RATE);
    const sound = await decoder.decodeAudioData(await blob.arrayBuffer());
    const samples = new Float32Array(sound.length);
    for (let channel = 0; channel < sound.numberOfChannels; channel++) {
      sound.getChannelData(channel).forEach((sample, i) => { samples[i] += sample / sound.numberOfChannels; });
    }
    return samples;
  };

  const complain = (button, text) => {
    const said = document.createElement("p");
    said.className = "status error microphone-said";
    said.setAttribute("role", "alert");
    said.textContent = text;
    button.after(said);
  };

  const begin = async (button) => {
    document.querySelectorAll(".microphone-said").forEach((old) => old.remove());
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      complain(button, words.record.none);
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    } catch (error) {
      complain(button, error.name === "NotAllowedError" ? words.record.refused : words.record.missing);
      return;
    }
    for (const audio of document.querySelectorAll("audio")) audio.pause();
    const label = button.textContent;
    const parts = [];
    const began = performance.now();
    recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    const clock = setInterval(() => {
      const seconds = (performance.now() - began) / 1000;
      button.textContent = filled(words.record.stop, { seconds: Math.floor(seconds) });
      if (seconds >= LONGEST) recorder.stop();
    }, 200);
    recorder.addEventListener("stop", async () => {
      clearInterval(clock);
      for (const track of stream.getTracks()) track.stop();
      button.textContent = label;
      button.classList.remove("on");
      const type = recorder.mimeType;
      recorder = null;
      try {
        const files = new DataTransfer();
        files.items.add(wav(await mono(new Blob(parts, { type }))));
        const input = document.querySelector("#recording input[type=file]");
        input.files = files.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
      } catch {
        complain(button, words.record.unread);
      }
    });
    recorder.start();
    button.classList.add("on");
    button.textContent = filled(words.record.stop, { seconds: 0 });
  };

  // Continue while it records goes on from what was said: the recording ends, and once its card is there Continue is
  // pressed again. Where it is refused, as one that is too short, the card says so and nothing is continued.
  document.addEventListener("click", async (event) => {
    const go = event.target.closest && event.target.closest("#speech-go");
    if (!go || !recorder) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const card = document.querySelector("#speech-prompt");
    const before = card.innerHTML;
    const refused = () => card.querySelector("[role=alert]");
    const came = () => card.innerHTML !== before && (refused() || card.textContent.includes(NAME));
    recorder.stop();
    for (const until = performance.now() + 30_000; !came() && performance.now() < until;) {
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    await new Promise((resolve) => { setTimeout(resolve, 100); }); // the fields beside the card
    if (came() && !refused() && !recorder) go.click();
  }, true);
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("#record");
    if (!button) return;
    if (recorder) recorder.stop();
    else begin(button);
  });
}
