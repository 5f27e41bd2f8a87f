() => {
  // Runs once, when the page is there. Listeners sit on the document because Gradio redraws what lies below.
  document.documentElement.lang = "en";
  // A tab is laid out when it is first opened.
  const announce = () => {
    for (const line of document.querySelectorAll(".line:not([aria-live])")) line.setAttribute("aria-live", "polite");
  };
  new MutationObserver(announce).observe(document.body, { childList: true, subtree: true });
  announce();

  const place = (audio) => {
    const card = audio.closest(".card");
    const roll = card && card.querySelector(".roll");
    if (!roll) return;
    const head = roll.querySelector(".playhead");
    head.style.transform = `translateX(${Math.min((100 * audio.currentTime) / Number(roll.dataset.seconds), 100)}%)`;
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

  document.addEventListener("click", (event) => {
    if (!event.target.closest) return;
    // A click on a finished drawing plays from there.
    const field = event.target.closest(".card .field");
    const audio = field && field.closest(".card").querySelector("audio");
    if (audio) {
      const box = field.getBoundingClientRect();
      audio.currentTime = (Number(field.closest(".roll").dataset.seconds) * (event.clientX - box.left)) / box.width;
      audio.play();
    }
    // On a narrow screen the takes lie below the fold.
    const go = event.target.closest(".go");
    if (go && window.innerWidth < 760) {
      go.closest(".columns").querySelector(".outcome").scrollIntoView({ behavior: "smooth", block: "start" });
    }
  });
}
