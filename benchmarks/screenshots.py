"""Pictures of the page, and how long it takes: `python -m benchmarks.screenshots`.

Starts the demo on the shipped checkpoints, continues a prompt at 1280 and at 390 pixels, saves `page-1280.png` and
`page-390.png`, and prints the seconds from the command to a page that answers and from the click to the first notes.
Needs Chromium (CHROMIUM=FILE names it) and playwright.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SEED = 3


def start(checkpoints: Path) -> tuple[subprocess.Popen[str], str]:
    """The server, once it answers, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "ui", "--checkpoints", str(checkpoints), "--port", address.rpartition(":")[2]]
    began = time.monotonic()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    if not server.stdout.readline():
        raise SystemExit(server.wait())
    with urllib.request.urlopen(f"http://{address}/") as answer:
        answer.read()
    print(f"start to page: {time.monotonic() - began:.1f} s")
    return server, f"http://{address}"


def picture(browser: Any, url: str, path: Path, width: int, scheme: str, variations: int, example: str) -> None:
    """Continue an example and save what the page then looks like."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    outside: list[str] = []
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else outside.append(r.url))
    page.goto(url)
    page.locator("#examples label", has_text=example).click()
    page.locator("#variations label", has_text=str(variations)).click()
    page.locator("#fresh input").uncheck()
    page.locator("#seed input").fill(str(SEED))
    page.locator("#seed input").press("Tab")
    page.wait_for_timeout(500)
    began = time.monotonic()
    page.click("#go")
    page.wait_for_selector(".take path.new", state="attached")
    print(f"{width} px, {variations} variation(s): click to first notes {time.monotonic() - began:.2f} s", end=", ")
    page.wait_for_selector(".take audio", timeout=300_000)
    print(f"to the sound of all {time.monotonic() - began:.1f} s, requests to elsewhere {len(outside)}")
    page.wait_for_timeout(800)
    page.screenshot(path=path, full_page=True)
    page.close()


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    server, url = start(arguments.checkpoints)
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
            picture(browser, url, arguments.out / "page-1280.png", 1280, "light", 2, "Chopin")
            picture(browser, url, arguments.out / "page-390.png", 390, "dark", 1, "Schumann")
            browser.close()
    finally:
        server.terminate()
        server.wait(120)


if __name__ == "__main__":
    main()
