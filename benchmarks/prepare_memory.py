"""Most memory that training.prepare takes, at two sizes of a corpus: `python -m benchmarks.prepare_memory`.

Makes corpora in LibriSpeech's layout, of generated sound in chapters of 40 utterances of 12 s, and prepares each in a
process of its own with a small random codec, or with one that is given. The peak is that of the resident set, as the
system counts it, of the process that finds, reads, encodes and writes (--workers 1).
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from jsonargparse import auto_cli

from shortcut_gen.codec.folder import CodecInfo, save_codec
from shortcut_gen.codec.network import CodecConfig, build

RATE = 16_000
SECONDS = 12.0
IN_A_CHAPTER = 40
KINDS = 10


def main(hours: list[float] = [0.5, 5.0], codec: Path | None = None, output: Path | None = None) -> None:  # noqa: B006
    """Measure every size.

    Args:
        hours: Sizes of the corpora.
        codec: Codec folder; a small one of random weights if none is given.
        output: JSON file to write.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = codec or small_codec(folder / "codec")
        for number, size in enumerate(hours):
            corpus = folder / f"corpus-{number}"
            files = write_corpus(corpus, size)
            seconds, peak = measured(corpus, folder / f"out-{number}", chosen)
            rows.append({"hours": size, "files": files, "seconds": round(seconds, 1), "peak_mib": round(peak / 2**20)})
            print(
                f"{size:8.2f} h  {files:7,} files  {seconds:7.1f} s ({size * 3600 / seconds:.0f} times real time)  "
                f"peak {peak / 2**20:,.0f} MiB",
                flush=True,
            )
    if output:
        output.write_text(json.dumps(rows, indent=1) + "\n")


def small_codec(folder: Path) -> Path:
    """A codec folder of random weights."""
    config = CodecConfig(filters=2, lstm_layers=1, dimension=8, codebooks=4, cardinality=1024)
    save_codec(folder, build(config), CodecInfo(config=config))
    return folder


def write_corpus(folder: Path, hours: float) -> int:
    """Utterances in LibriSpeech's layout, most of them links to a few files; how many."""
    rng = np.random.default_rng(0)
    kinds = folder / "kinds"
    kinds.mkdir(parents=True)
    for kind in range(KINDS):
        loudness = np.repeat(rng.uniform(0, 0.3, 4 * round(SECONDS)), RATE // 4)  # as loud and soft as syllables
        sound = (loudness * rng.standard_normal(len(loudness))).astype(np.float32)
        soundfile.write(kinds / f"{kind}.flac", sound, RATE)
    count = max(round(hours * 3600 / SECONDS), IN_A_CHAPTER)
    for number in range(count):
        speaker = chapter = number // IN_A_CHAPTER
        path = folder / f"LibriSpeech/train-clean-100/{speaker}/{chapter}/{speaker}-{chapter}-{number:07}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(kinds / f"{number % KINDS}.flac")
    return count


def measured(corpus: Path, out: Path, codec: Path) -> tuple[float, int]:
    """Seconds that preparing takes, and the most bytes resident."""
    command = ["librispeech", "--source", str(corpus / "LibriSpeech"), "--out", str(out), "--codec", str(codec)]
    command += ["--codebooks", "4", "--workers", "1", "--device", "cpu"]
    began = time.perf_counter()
    arguments = [sys.executable, "-W", "ignore", "-m", "training.prepare", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = os.posix_spawn(sys.executable, arguments, environment, file_actions=_silent())
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"training.prepare ended with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _silent() -> list[tuple[int, int, str, int, int]]:
    """Standard output and error to nowhere."""
    return [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
