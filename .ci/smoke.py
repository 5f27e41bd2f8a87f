"""What an installed release must do, from a folder that has nothing of it: `python -I smoke.py VERSION {native|torch}`.

Ends with a traceback where something fails; .ci/release-check calls it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import soundfile

import shortcut_gen
import ui
from shortcut_gen.decoding.native import library
from shortcut_gen.media import read_score

SECONDS_TO_START = 180


def ran(*words: str) -> str:
    """What a command says; it must end with 0."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}: {done.stderr}"
    return done.stdout


def continued(command: str, prompt: Path, engine: str) -> None:
    """An example goes on, by the model that comes with the package."""
    out = Path("out", prompt.stem)
    ran(command, "generate", str(prompt), "--out", str(out), "--seconds", "2", "--prompt-seconds", "3")
    [record] = [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    assert record["engine"]["name"] == engine, f"{record['engine']} made it, not {engine}"
    assert soundfile.info(out / record["wav"]).duration > 3.5
    if record["midi"] is not None:
        assert read_score(out / record["midi"]).notes


def served() -> None:
    """The page is there, and goes when it is told to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with Path("log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-I", "-m", "ui", "--port", port], stdout=log, stderr=log)
    try:
        until = time.monotonic() + SECONDS_TO_START
        while True:
            assert server.poll() is None and time.monotonic() < until, Path("log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
                    assert page.status == 200 and b"<html" in page.read()
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.3)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, Path("log").read_text()
    finally:
        server.kill()


def main(version: str, engine: str) -> None:
    """All of it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    place = Path(shortcut_gen.__file__).parent
    assert place.is_relative_to(sys.prefix), f"{place} is not what was installed"
    assert Path.cwd() not in place.parents and not any(Path.cwd().glob("*.toml"))
    assert shortcut_gen.__version__ == version, f"{shortcut_gen.__version__}, not {version}"
    found = library.problem()
    assert (found is None) == (engine == "native"), found
    print(f"  the native engine: {found or 'built'}")
    command = str(Path(sys.executable).with_name("shortcut-gen"))
    assert ran(command, "--version").strip() == version
    for words in (["--help"], ["generate", "--help"]):
        assert "usage" in ran(command, *words)
    assert "--port" in ran(sys.executable, "-I", "-m", "ui", "--help")
    examples = Path(ui.__file__).parent / "examples"
    continued(command, examples / "bach-prelude-c.mid", engine)
    continued(command, min((examples / "speech").glob("*.ogg")), engine)
    print("  an example of each was continued")
    served()
    print("  the page was served")


if __name__ == "__main__":
    main(*sys.argv[1:])
