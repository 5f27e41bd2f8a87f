() => {
  // Runs once, when the page is there. Listeners sit on the document because Gradio redraws what lies below.
  document.documentElement.lang = "en";
  const line = document.getElementById("status");
  if (line) line.setAttribute("aria-live", "polite");

  const field = (card) => card && card.querySelector(".field");
  const place = (audio) => {
    const card = audio.closest(".take");
    const roll = card && card.querySelector(".roll");
    if (!roll) return;
    const head = roll.querySelector(".playhead");
    head.style.left = `${Math.min((100 * audio.currentTime) / Number(roll.dataset.seconds), 100)}%`;
    head.classList.add("on");
  };
  const follow = (audio) => {
    place(audio);
    if (!audio.paused && audio.isConnected) requestAnimationFrame(() => follow(audio));
  };

  document.addEventListener("play", (event) => {
    for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
    follow(event.target);
  }, true);
  document.addEventListener("seeked", (event) => place(event.target), true);

  // A click on a finished roll plays from there.
  document.addEventListener("click", (event) => {
    const roll = event.target.closest && event.target.closest(".take .field");
    const audio = roll && roll.closest(".take").querySelector("audio");
    if (audio) {
      const box = roll.getBoundingClientRect();
      audio.currentTime = (Number(roll.closest(".roll").dataset.seconds) * (event.clientX - box.left)) / box.width;
      audio.play();
    }
    // On a narrow screen the takes lie below the fold.
    if (event.target.closest && event.target.closest("#go") && window.innerWidth < 760) {
      document.getElementById("takes").scrollIntoView({ behavior: "smooth", block: "start" });
    }
  });
}
