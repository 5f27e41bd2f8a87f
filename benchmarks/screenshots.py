"""Pictures of the page, and how long it takes: `python -m benchmarks.screenshots`.

Starts the demo on the shipped checkpoints, continues a prompt in each tab there is, at 1280 and at 390 pixels, and
saves `page-1280.png`, `page-390.png` (piano), `speech-1280.png` and `speech-390.png`; and `depth.png`, a take of piano
with the look inside the model open and a note explained. Prints the seconds from the command to a page that answers,
and from the click to the first notes or the first sound. Needs Chromium (CHROMIUM=FILE names it) and playwright.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SEED = 3
# When Continue was clicked, and when the loudspeaker's clock reaches the first piece of sound, in ms.
LISTEN = """
    window.clicked = window.sounds = 0;
    document.addEventListener("click", event => {
        if (event.target.closest(".go")) [window.clicked, window.sounds] = [performance.now(), 0];
    }, true);
    const start = AudioBufferSourceNode.prototype.start;
    AudioBufferSourceNode.prototype.start = function (when, ...rest) {
        window.sounds ||= performance.now() + 1000 * Math.max(when - this.context.currentTime, 0);
        return start.call(this, when, ...rest);
    };
"""


@dataclass(frozen=True)
class View:
    """A picture to take."""

    tab: str
    width: int
    scheme: str
    variations: int
    example: str
    inside: str = ""
    """The file of a picture of its first take alone, with the look inside the model."""

    @property
    def prefix(self) -> str:
        return "" if self.tab == "Piano" else f"{self.tab.lower()}-"

    @property
    def file(self) -> str:
        return f"{self.prefix or 'page-'}{self.width}.png"


VIEWS = (
    View("Piano", 1280, "light", 2, "Chopin"),
    View("Piano", 390, "dark", 1, "Schumann"),
    View("Piano", 1280, "light", 1, "Entertainer", inside="depth.png"),
    View("Speech", 1280, "light", 2, "Reader 3005"),
    View("Speech", 390, "dark", 1, "Reader 3331"),
)


def start(
    checkpoints: Path, flags: Sequence[str] = (), log: IO[str] | None = None, **environment: str
) -> tuple[subprocess.Popen[str], str]:
    """The server, once it answers, and its address. flags: more for its command line. log: where what it has to say
    goes. environment: more for its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "ui", "--checkpoints", str(checkpoints), "--port", address.rpartition(":")[2]]
    began = time.monotonic()
    around = os.environ | environment
    server = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=log, text=True, env=around)
    assert server.stdout is not None
    if not any(address in line for line in server.stdout):  # a library may print a line of its own first
        raise SystemExit(server.wait())
    with urllib.request.urlopen(f"http://{address}/") as answer:
        answer.read()
    print(f"start to page: {time.monotonic() - began:.1f} s")
    return server, f"http://{address}"


def opened(browser: Any, url: str, view: View) -> Any:
    """The page with the view's tab and settings, or None where it has no such tab."""
    page = browser.new_page(viewport={"width": view.width, "height": 900}, color_scheme=view.scheme)
    page.outside = []
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else page.outside.append(r.url))
    page.add_init_script(LISTEN)
    page.goto(url)
    page.wait_for_selector("#tabs .go")
    tab = page.get_by_role("tab", name=view.tab)
    if not tab.count():
        page.close()
        return None
    tab.click()
    page.locator(f"#{view.prefix}examples label", has_text=view.example).click()
    page.locator(f"#{view.prefix}variations label", has_text=str(view.variations)).click()
    page.locator(f"#{view.prefix}more").get_by_text("More settings").click()
    page.locator(f"#{view.prefix}fresh input").uncheck()
    page.locator(f"#{view.prefix}seed input").fill(str(SEED))
    page.locator(f"#{view.prefix}seed input").press("Tab")
    page.wait_for_timeout(500)
    return page


def picture(browser: Any, url: str, view: View, folder: Path) -> None:
    """Continue an example and save what the page then looks like."""
    page = opened(browser, url, view)
    if page is None:
        return
    began = time.monotonic()
    page.click(f"#{view.prefix}go")
    page.wait_for_selector(f"#{view.prefix}takes .take .roll canvas", state="attached")
    drawn = time.monotonic() - began
    page.wait_for_selector(f"#{view.prefix}takes .take audio", timeout=300_000)
    every = time.monotonic() - began
    heard = page.evaluate("window.sounds && (window.sounds - window.clicked) / 1000")
    sound = f"heard {heard:.2f}, " if heard else ""
    print(
        f"{view.tab}, {view.width} px, {view.variations} variation(s), seconds from the click: drawn {drawn:.2f}, "
        f"{sound}done {every:.1f}; requests to elsewhere: {len(page.outside)}"
    )
    page.wait_for_function("!document.querySelector('.playhead.on')", timeout=60_000)
    page.wait_for_timeout(800)
    # Not by `full_page`: beyond the window's edge Chromium paints only a part of the second player.
    page.mouse.move(0, 0)
    page.set_viewport_size({"width": view.width, "height": page.evaluate("document.documentElement.scrollHeight")})
    page.wait_for_timeout(500)
    if view.inside:
        look_inside(page, folder / view.inside)
    else:
        page.screenshot(path=folder / view.file)
    page.close()


def look_inside(page: Any, path: Path) -> None:
    """Of a page with a take its first one, with the look inside the model, head by head too, and a note explained."""
    page.locator(".inside > summary:visible").click()
    page.locator(".take .heads summary").first.click()
    field = page.locator(".take .field").first
    place = field.evaluate(
        """(field) => {
            const scene = window.figures.scene(field.closest(".roll"));
            const notes = scene.notes.filter(({ drew }) => drew);
            const note = notes[Math.floor(notes.length / 2)];
            const [x, y, w, h] = window.figures.place(note, scene, field.clientWidth, field.clientHeight);
            return { x: x + w / 2, y: y + h / 2 };
        }"""
    )
    field.click(position=place)
    page.wait_for_selector(".why .said:has-text('%')", timeout=300_000)
    page.wait_for_timeout(500)
    page.locator(".take").first.screenshot(path=path)


def time_to_sound(browser: Any, url: str, runs: int) -> None:
    """Seconds from the click to the first sound, again and again."""
    page = opened(browser, url, next(view for view in VIEWS if view.tab == "Speech"))
    if page is None:
        return
    page.locator("#speech-variations label", has_text="1").click()
    waits = []
    for _ in range(runs):
        page.click("#speech-go")
        page.wait_for_function("window.sounds > 0", polling=20)
        waits.append(page.evaluate("(window.sounds - window.clicked) / 1000"))
        page.click("#speech-stop")
        page.wait_for_selector("#speech-go:not([disabled])")
    page.close()
    print(f"click to sound, {runs} runs: median {statistics.median(waits):.2f} s, slowest {max(waits):.2f} s")


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--runs", type=int, default=7, help="runs that time the first sound; 0 for none")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    server, url = start(arguments.checkpoints)
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
            for view in VIEWS:
                picture(browser, url, view, arguments.out)
            if arguments.runs > 0:
                time_to_sound(browser, url, arguments.runs)
            browser.close()
    finally:
        server.terminate()
        server.wait(120)


if __name__ == "__main__":
    main()
