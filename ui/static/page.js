() => {
  // Runs once, when the page is there. Listeners sit on the document because Gradio redraws what lies below.
  document.documentElement.lang = words.page.language;
  // A tab is laid out when it is first opened.
  const announce = () => {
    for (const line of document.querySelectorAll(".line:not([aria-live])")) line.setAttribute("aria-live", "polite");
  };
  // Gradio gives each radio button a name of its own, and arrow keys go through those of one name.
  const group = () => {
    for (const box of document.querySelectorAll(".examples, .variations")) {
      for (const radio of box.querySelectorAll("input[type=radio]")) if (radio.name !== box.id) radio.name = box.id;
    }
  };
  // An example's first line is its title, however many lines it takes on a narrow screen.
  const entitle = () => {
    for (const span of document.querySelectorAll(".examples label span:not(.two)")) {
      const [title, ...rest] = span.textContent.split("\n");
      if (!rest.length) continue;
      const bold = document.createElement("b");
      bold.textContent = title;
      span.classList.add("two");
      span.replaceChildren(bold, rest.join(" "));
    }
  };
  // What only scripts use is nothing for the keyboard or a reader.
  const hide = () => {
    for (const box of document.querySelectorAll(".out-of-sight:not([aria-hidden])")) {
      box.setAttribute("aria-hidden", "true");
      for (const each of [box, ...box.querySelectorAll("input, textarea, button")]) each.tabIndex = -1;
    }
  };
  const tend = () => { announce(); group(); entitle(); hide(); };
  new MutationObserver(tend).observe(document.body, { childList: true, subtree: true });
  tend();

  // What the server refuses, it says in a line; Gradio shows none of it.
  const complain = (text) => {
    const line = [...document.querySelectorAll(".line")].find((each) => each.offsetParent);
    if (!line) return;
    const said = document.createElement("p");
    said.className = "status error refused";
    said.setAttribute("role", "alert");
    said.textContent = text;
    document.querySelectorAll(".refused").forEach((old) => old.remove());
    line.after(said);
  };
  const ask = window.fetch;
  window.fetch = async (...given) => {
    const address = String(given[0].url || given[0]);
    if (!address.includes("/gradio_api/")) return ask(...given);
    let answer;
    try {
      answer = await ask(...given);
    } catch (error) {
      if (error.name !== "AbortError") complain(words.page.away);
      throw error;
    }
    if (address.includes("/upload_progress")) return answer; // of an upload that was refused
    if (answer.status >= 400) {
      const told = await answer.clone().json().catch(() => ({}));
      const text = typeof told.detail === "string" ? told.detail : told.error;
      const why = typeof text === "string" && text ? text : filled(words.page.answered, { status: answer.status });
      complain(filled(words.page.refused, { why }));
    } else {
      document.querySelectorAll(".refused").forEach((old) => old.remove());
    }
    return answer;
  };

  const place = (audio) => {
    const card = audio.closest(".card");
    const roll = card && card.querySelector(".roll:not(.overview)");
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
  document.addEventListener("error", async (event) => {
    const audio = event.target;
    if (!audio.matches || !audio.matches("audio") || !audio.getAttribute("src")) return;
    const answer = await ask(audio.src).catch(() => null);
    complain(answer && !answer.ok ? filled(words.page.unheard, { why: await answer.text() }) : words.page.unplayable);
  }, true);
  document.addEventListener("seeked", (event) => place(event.target), true);

  // A drag over the drawing of a prompt chooses the part of it that is used; the sliders say the same for keyboards.
  const slider = (roll, name, value) => {
    const input = roll.closest(".columns").querySelector(`.${name} input[type=number]`);
    if (!input || input.disabled) return;
    const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
    set.call(input, String(Math.round(10 * value) / 10));
    for (const kind of ["input", "change", "blur"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
  };
  let drag = null;
  let dragged = false; // the click that ends a drag plays nothing
  const seconds = (event) => {
    const box = drag.field.getBoundingClientRect();
    return (drag.whole * Math.max(0, Math.min(event.clientX - box.left, box.width))) / box.width;
  };
  const shade = (event) => {
    const [from, to] = [drag.from, seconds(event)].sort((a, b) => a - b);
    drag.band.style.left = `${(100 * from) / drag.whole}%`;
    drag.band.style.width = `${(100 * (to - from)) / drag.whole}%`;
    return [from, to];
  };
  document.addEventListener("pointerdown", (event) => {
    dragged = false;
    const field = event.target.closest && event.target.closest("[data-choose] .field");
    if (!field || event.button) return;
    const roll = field.closest(".roll");
    drag = { field, roll, whole: Number(roll.dataset.choose), x: event.clientX, band: document.createElement("i") };
    drag.band.className = "band";
    drag.from = seconds(event);
    field.append(drag.band);
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    dragged = dragged || Math.abs(event.clientX - drag.x) > 6;
    if (dragged) shade(event);
  });
  document.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const [from, to] = shade(event);
    drag.band.remove();
    const { roll } = drag;
    drag = null;
    if (dragged) {
      slider(roll, "start", from);
      slider(roll, "used", Math.max(to - from, 1));
    } else if (roll.matches(".overview")) {
      slider(roll, "start", from);
    }
  });
  document.addEventListener("pointercancel", () => {
    if (drag) drag.band.remove();
    drag = null;
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest) return;
    // A click on a finished drawing plays from there.
    const field = !dragged && event.target.closest(".card .roll:not(.overview) .field");
    const audio = field && field.closest(".card").querySelector("audio");
    if (audio) {
      const box = field.getBoundingClientRect();
      audio.currentTime = (Number(field.closest(".roll").dataset.seconds) * (event.clientX - box.left)) / box.width;
      audio.play();
    }
    // On a narrow screen the takes lie below the fold.
    const go = event.target.closest(".go");
    if (go && event.isTrusted && window.innerWidth < 760) { // a duet keeps its keyboard in sight
      go.closest(".columns").querySelector(".outcome").scrollIntoView({ behavior: "smooth", block: "start" });
    }
  });
}
