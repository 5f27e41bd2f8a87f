(() => {
  // A browser opens six connections to a host, and Gradio keeps one of each page for as long as it is open: a few tabs,
  // and no click is heard. Here a page says now and then that it is open, and once that it is closed (ui/alive.py).
  const EVERY = 20000; // milliseconds; a browser lets pages that are out of sight speak once a minute
  const HEARTBEAT = /\/gradio_api\/heartbeat\/([0-9A-Za-z-]+)/;
  let page = "";

  const say = () => page && ask(`alive/${page}`, { cache: "no-store" }).catch(() => {}); // it may say so later

  // As soon as Gradio wants its connection it is given one to nowhere; its address has the page's name.
  const ask = window.fetch;
  window.fetch = (...given) => {
    const found = HEARTBEAT.exec(String(given[0].url || given[0]));
    if (!found) return ask(...given);
    page = found[1];
    say();
    const nothing = new ReadableStream({});
    return Promise.resolve(new Response(nothing, { headers: { "Content-Type": "text/event-stream" } }));
  };
  setInterval(say, EVERY);
  addEventListener("pageshow", say); // it may come back from where browsers keep pages that were left
  addEventListener("pagehide", () => page && navigator.sendBeacon(`alive/${page}`));
})();
