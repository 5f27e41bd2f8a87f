"""From the click to the first audible sample, in the real page: `python -m benchmarks.first_sound [--json FILE]`.

Starts the demo and continues an example in headless Chromium, again and again, in the tab for music and in that for
speech. Both play while they are made: the moment counts at which the loudspeaker's clock reaches the first sample
louder than -60 dBFS. The real-time factor is the seconds of music or speech that were made over those from the click
until all was there. The browser runs on the same cores as the demo; what a loudspeaker's own buffer adds is not
counted.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from benchmarks.measuring.timing import Figure, about, command, describe, progress, table
from benchmarks.screenshots import FLAGS, View, opened, start
from shortcut_gen.errors import SettingsError
from training.corpus.shards import write_json

LISTEN = """
    const LEVEL = 0.001;  // -60 dBFS
    const nothing = () => ({ clicked: performance.now(), audible: 0, drawn: 0, given: 0, gaps: 0, end: null, last: 0 });
    window.heard = nothing();
    const loud = samples => samples.findIndex(sample => Math.abs(sample) > LEVEL);
    document.addEventListener("click", event => {
        if (event.target.closest && event.target.closest(".go")) window.heard = nothing();
    }, true);
    const start = AudioBufferSourceNode.prototype.start;
    AudioBufferSourceNode.prototype.start = function (when, ...rest) {
        const heard = window.heard, samples = this.buffer.getChannelData(0), rate = this.buffer.sampleRate;
        const now = performance.now(), first = loud(samples);
        const at = now + 1000 * Math.max(when - this.context.currentTime, 0);
        if (!heard.audible && first >= 0) heard.audible = at + 1000 * first / rate;
        if (heard.end !== null) heard.gaps += Math.max(when - heard.end - 1 / rate, 0);
        [heard.end, heard.given, heard.last] = [when + samples.length / rate, heard.given + samples.length / rate, now];
        return start.call(this, when, ...rest);
    };
"""
TABS = {"piano": View("Piano", 1280, "light", 1, "Chopin"), "speech": View("Speech", 1280, "light", 1, "Reader 3005")}
LABELS = {
    "first_sound": ("click to first audible sample, s", ".2f"),
    "real_time_factor": ("made per second from the click", ".2f"),
    "gaps": ("silence where playing waited, s", ".2f"),
}


def continued(page: Any, view: View, seconds: float) -> dict[str, float]:
    """One continuation of so many seconds: what was heard, and when."""
    takes = f"#{view.prefix}takes .take audio"
    page.evaluate("document.querySelectorAll('.take audio').forEach(audio => audio.remove())")
    page.click(f"#{view.prefix}go")
    page.wait_for_selector(takes, timeout=300_000)
    page.wait_for_function("wanted => window.heard.given > wanted - 0.1", arg=seconds, timeout=300_000)
    made = page.evaluate("window.heard.given")
    page.wait_for_selector(f"#{view.prefix}go:not([disabled])", timeout=300_000)
    heard = page.evaluate("window.heard")
    return {
        "first_sound": (heard["audible"] - heard["clicked"]) / 1000,
        "real_time_factor": made * 1000 / (heard["last"] - heard["clicked"]),
        "gaps": heard["gaps"],
    }


def measure(browser: Any, url: str, view: View, seconds: float, runs: int) -> list[dict[str, float]]:
    """All runs in a tab, after one to warm up; none where the page has no such tab."""
    page = opened(browser, url, view)
    if page is None:
        return []
    page.evaluate(f"() => {{ {LISTEN} }}")
    field = page.locator(f"#{view.prefix}seconds input[type=number]")
    field.fill(str(seconds))
    field.press("Tab")
    page.wait_for_timeout(300)
    taken = []
    for number in range(runs + 1):
        run = continued(page, view, seconds)
        progress(f"{view.tab}, run {number} of {runs}")
        taken += [run] if number else []
    page.close()
    return taken


def main(
    checkpoints: Path = Path("checkpoints"),
    tabs: tuple[Literal["piano", "speech"], ...] = ("piano", "speech"),
    seconds: float = 10.0,
    runs: int = 7,
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        checkpoints: Folder of the checkpoints that the page offers.
        tabs: Which of its tabs.
        seconds: Length of each continuation.
        runs: Continuations in each tab, after one to warm up.
        json: File to write.
    """
    if runs < 1 or not seconds > 0:
        raise SettingsError(f"runs is {runs} and seconds {seconds}; numbers above 0 are needed")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise SettingsError("playwright is not installed (pip install .[dev])") from None
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        raise SettingsError("no Chromium was found; install it or name it with CHROMIUM=FILE")
    machine = about(("gradio", "playwright"))
    print(describe(machine), flush=True)
    server, url = start(checkpoints)
    found = {}
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
            for tab in tabs:
                found[tab] = measure(browser, url, TABS[tab], seconds, runs)
            browser.close()
    finally:
        server.terminate()
        server.wait(120)
        if server.stdout:
            server.stdout.close()
    figures = {
        tab: {name: Figure.of([run[name] for run in taken]) for name in LABELS} for tab, taken in found.items() if taken
    }
    for tab in set(tabs) - set(figures):
        print(f"{tab} is skipped: the page has no such tab with {checkpoints}")
    print(f"\ncontinuations of {seconds:g} s, {runs} runs, median (least to most)\n")
    cells = [["", *figures]]
    for name, (label, form) in LABELS.items():
        parts = [figure[name] for figure in figures.values()]
        cells.append([label, *(f"{f.median:{form}} ({f.low:{form}} to {f.high:{form}})" for f in parts)])
    print(table(cells), flush=True)
    if json:
        rows = {tab: {"runs": found[tab], "seconds": seconds} for tab in figures}
        write_json(json, {"machine": machine, "tabs": rows})


if __name__ == "__main__":
    sys.exit(command(main))
