"""What tests of the page share: its sessions; and the real page in headless Chromium, against a server of its own."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from tests.shared.pages import visit
from tests.shared.small_models import tiny_speech_checkpoint
from ui.models import Models, find_checkpoints
from ui.piano import PianoTab
from ui.sessions import Sessions

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
]
# Notes what is given to the loudspeaker: when, at which rate, and the samples.
LISTEN = """
    window.pieces = [];
    const start = AudioBufferSourceNode.prototype.start;
    AudioBufferSourceNode.prototype.start = function (when, ...rest) {
        window.pieces.push({ when, rate: this.context.sampleRate, samples: this.buffer.getChannelData(0).slice() });
        return start.call(this, when, ...rest);
    };
"""


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    """A server's, of which two runs compute at a time."""
    made = Sessions(2)
    yield made
    made.clear()


@pytest.fixture(scope="module")
def models(tiny_checkpoint: Path) -> Models:
    """Of the tab for piano, with a tiny model."""
    return Models(find_checkpoints(tiny_checkpoint)["piano"])


@pytest.fixture
def do(models: Models, sessions: Sessions) -> PianoTab:
    return PianoTab(models, sessions)


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server writes of its troubles."""
    return tmp_path_factory.mktemp("log") / "stderr"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[str]:
    """One for all files, as it takes many seconds to start. Pages share nothing."""
    folder = tmp_path_factory.mktemp("checkpoints")
    # Big enough that two minutes of four variations take a while: there must be time to see it grow and to press Stop.
    config = ModelConfig(width=512, feedforward=2048, feature_hidden=512)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(folder / "piano", ShortcutLM(config), CheckpointInfo(model=config, tokenizer="piano"))
    tiny_speech_checkpoint(folder / "speech")
    tiny_speech_checkpoint(folder / "speech-plain", taps=())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # With the native engine these tiny models are done before a browser can look at them growing or stop them.
    command = [sys.executable, "-m", "ui", "--checkpoints", str(folder), "--port", str(port), "--engine", "torch"]
    command += ["--runs", "2"]
    temporary = tmp_path_factory.mktemp("tmp")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    # -m ui wants the checkout on the path, wherever the tests were started.
    root = Path(__file__).resolve().parents[2]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        # A library may print a line of its own first.
        assert any(f"http://127.0.0.1:{port}" in line for line in process.stdout), log.read_text()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(60) == 0
    assert list(temporary.iterdir()) == []  # results and uploads are gone with the server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """For each file anew: while one is there, other tests cannot run an event loop of their own."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium was found; install it or name it with CHROMIUM=FILE")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.add_init_script(LISTEN)
    made = context.new_page()
    made.set_default_timeout(60_000)
    made.outside = []
    made.problems = []
    made.on("request", lambda r: None if r.url.startswith((server, "data:", "blob:")) else made.outside.append(r.url))
    made.on("pageerror", lambda error: made.problems.append(str(error)))
    made.on("console", lambda said: made.problems.append(said.text) if "Content Security" in said.text else None)
    visit(made, server)
    yield made
    assert made.outside == []
    assert made.problems == []
    context.close()
