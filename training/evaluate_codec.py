"""Judge a codec on recordings: `python -m training.evaluate_codec checkpoints/codec-harmonic --data FOLDER --opus`.

Each recording is encoded once and decoded from its first 1, 2, 4 and 8 codebooks; what comes out is compared with what
went in, at 16 kHz. Opus at its lowest rate, 6 kb/s, does the same with --opus. --judges asks models that listen as
well, which takes seconds a recording. A run's folder or .ckpt file is judged too, also while it trains.
"""

import dataclasses
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import torch
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from shortcut_gen.codec.finding import open_codec
from shortcut_gen.codec.folder import read_codec_info, write_codec_info
from shortcut_gen.codec.harmonic.codec import HarmonicCodec
from shortcut_gen.codec.harmonic.config import HarmonicConfig
from shortcut_gen.codec.harmonic.network import HarmonicNetwork
from shortcut_gen.errors import DataError, MediaError, SettingsError
from shortcut_gen.files import write_whole
from shortcut_gen.media import Audio, read_audio
from training.cards.codec import write_codec_card
from training.corpus.recordings import find
from training.run.checkpoints import LAST, read_run_checkpoint
from training.scoring.codec_tables import table
from training.scoring.judges import JUDGES, ORIGINAL, ask, check, rates, text_of
from training.scoring.sound import RATE, Signal, codebook_use, lag, shifted, similarity, to_rate
from training.support.command_line import plain, run

LEVELS = (1, 2, 4, 8)
"""Numbers of codebooks at which a codec is judged, as far as it has them."""
MOST_SECONDS = 60.0
"""Of a longer recording, this much of its start is judged."""
OPUS = "opus"


class Judged(Protocol):
    """What of a codec is used here; `codec.base.Codec` has it."""

    sample_rate: int
    frame_rate: float
    cardinality: int
    num_codebooks: int

    def encode(self, audio: Audio) -> Tensor:
        """(Q, F) codes."""
        ...

    def decode(self, codes: Tensor) -> Audio:
        """Sound of (q, F) codes, (1, S)."""
        ...


@dataclass(frozen=True, kw_only=True)
class CodecEvaluation:
    """What is judged and how."""

    data: Path = Path("data/speech/LibriSpeech/test-other")
    """Folder of recordings, read with all its subfolders."""
    split: str = "test"
    """What config.json calls these figures."""
    limit: int | None = None
    """Judge only so many recordings, spread evenly over the folder."""
    opus: bool = False
    """Judge Opus at 6 kb/s on the same recordings."""
    judges: Sequence[str] = ()
    """Models to ask as well, some of JUDGES."""
    json: Path | None = None
    """File to write the figures to."""
    workers: int = 1
    """Processes that compute the metrics; the codec runs in the first."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice."""
    device: str = "cpu"
    """Where the codec runs."""
    write: bool = True
    """Write the figures into the codec's config.json and card, where it is a checkpoint folder."""

    def __post_init__(self) -> None:
        for name, least in (("limit", 1), ("workers", 1), ("threads", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"{name} is {value}; a whole number of at least {least} is needed")


@dataclass
class Tally:
    """Sums over the recordings of one system."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Means over the recordings where a measure has a value, and how many those are where some have none."""
        out: dict[str, float] = {}
        for name in self.rows[0] if self.rows else ():
            values = np.array([row[name] for row in self.rows])
            there = np.isfinite(values)
            out[name] = float(values[there].mean()) if there.any() else float("nan")
            if not there.all():
                out[f"{name}_missing"] = int((~there).sum())
        return out


def opus(samples: Signal) -> tuple[Signal, int, int]:
    """A signal at 16 kHz through Opus at 6 kb/s: what comes back, bytes of the file, bytes of its packets.

    libsndfile's lowest quality asks libopus for 6 kb/s; it answers with a variable rate. The decoder's own delay
    (pre-skip) is taken off by libsndfile.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="OGG", subtype="OPUS", compression_level=1.0)
    data = buffer.getvalue()
    out, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return to_rate(out, rate), len(data), packet_bytes(data)


def packet_bytes(ogg: bytes) -> int:
    """Bytes of the sound packets of an Ogg file (RFC 3533): without page headers and the two pages of Opus headers."""
    total = number = place = 0
    while ogg[place : place + 4] == b"OggS":
        count = ogg[place + 26]
        size = sum(ogg[place + 27 : place + 27 + count])
        total += size if number >= 2 else 0
        place += 27 + count + size
        number += 1
    return total


def judge(
    codec: Judged, paths: Sequence[Path], *, with_opus: bool = False, judges: Sequence[str] = (), workers: int = 1
) -> dict[str, Any]:
    """The figures of a codec on recordings: by number of codebooks, of each level's codebook, and of Opus.

    With judges, what they say goes into each of these, and of the recordings themselves under "original".
    """
    levels = [level for level in LEVELS if level < codec.num_codebooks] + [min(codec.num_codebooks, LEVELS[-1])]
    counts = np.zeros((codec.num_codebooks, codec.cardinality), np.int64)
    names = [*map(str, levels), *([OPUS] if with_opus else []), *([ORIGINAL] if judges else [])]
    tallies = {name: Tally() for name in names}
    totals = dict.fromkeys(("seconds", "file_bytes", "packet_bytes", "opus_delay"), 0.0)
    jobs = _jobs(codec, paths, levels, with_opus, judges, counts, totals)
    with tqdm(total=len(paths), unit=" files", disable=None) as bar:
        for done in _scored(jobs, workers):
            for name, row in done.items():
                tallies[name].rows.append(row)
            bar.update()
    if not totals["seconds"]:
        raise DataError("no recording lasts a frame of the codec; longer ones are needed")
    bits = codec.frame_rate * math.log2(codec.cardinality) / 1000
    out: dict[str, Any] = {
        "files": len(tallies[str(levels[0])].rows),
        "seconds": round(totals["seconds"], 1),
        "codebooks": {str(level): {"kbps": bits * level} | rates(tallies[str(level)].figures()) for level in levels},
        "use": [codebook_use(row) for row in counts],
    }
    if with_opus:
        rate = {name: totals[f"{name}_bytes"] * 8 / totals["seconds"] / 1000 for name in ("file", "packet")}
        head = {"kbps": rate["packet"], "kbps_with_container": rate["file"], "most_delay": totals["opus_delay"]}
        out[OPUS] = head | rates(tallies[OPUS].figures())
    if judges:
        out |= {"judges": list(judges), ORIGINAL: rates(tallies[ORIGINAL].figures())}
    return out


@dataclass(frozen=True)
class Job:
    """A recording and what each system made of it, all at 16 kHz."""

    original: Signal
    made: dict[str, Signal]
    equal: dict[str, float]
    """Shares of equal codes after another round."""
    judges: Sequence[str]
    text: list[str] | None
    """What is said, where that is known."""


def _jobs(
    codec: Judged,
    paths: Sequence[Path],
    levels: Sequence[int],
    with_opus: bool,
    judges: Sequence[str],
    counts: NDArray[np.int64],
    totals: dict[str, float],
) -> Iterator[Job]:
    """What there is to score of each recording."""
    for path in paths:
        audio = read_audio(path, MOST_SECONDS)
        original = to_rate(audio.samples.mean(axis=0), audio.sample_rate)
        codes = codec.encode(audio)
        if not codes.shape[-1]:
            continue
        for level, row in enumerate(codes.numpy()):
            counts[level] += np.bincount(row, minlength=codec.cardinality)
        made, equal = {}, {}
        for level in levels:
            decoded = codec.decode(codes[:level])
            made[str(level)] = _fitted(to_rate(decoded.samples[0], decoded.sample_rate), original)
            again = codec.encode(decoded)[:level]
            equal[str(level)] = float((again == codes[:level]).float().mean())
        if with_opus:
            back, whole, packets = opus(original)
            delay = lag(original, back)
            made[OPUS] = shifted(back, delay, len(original))
            totals["file_bytes"] += whole
            totals["packet_bytes"] += packets
            totals["opus_delay"] = max(totals["opus_delay"], abs(delay))
        totals["seconds"] += audio.duration
        yield Job(original, made, equal, judges, text_of(path) if "words" in judges else None)


def _fitted(samples: Signal, original: Signal) -> Signal:
    return shifted(samples, 0, len(original))


def _score(job: Job) -> dict[str, dict[str, float]]:
    rows = {name: similarity(job.original, samples) for name, samples in job.made.items()}
    rows = {name: row | ({"equal_codes": job.equal[name]} if name in job.equal else {}) for name, row in rows.items()}
    if not job.judges:
        return rows
    found = ask(job.judges, job.original, job.made, job.text)
    return {name: rows.get(name, {}) | row for name, row in found.items()}


def _scored(jobs: Iterable[Job], workers: int) -> Iterator[dict[str, dict[str, float]]]:
    if workers == 1:
        yield from map(_score, jobs)
        return
    # Started anew, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        waiting = []
        for job in jobs:
            waiting.append(pool.submit(_score, job))
            if len(waiting) > 2 * workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def load(name: str, device: str) -> tuple[Judged, Path | None]:
    """A codec by folder or name, or of a run under way; and its folder, if figures can be written there."""
    path = Path(name)
    saved = path if path.suffix == ".ckpt" else path / LAST
    if path.suffix == ".ckpt" or saved.is_file():
        state = read_run_checkpoint(saved)
        if "codec" not in state["run"]:
            raise DataError(f"{saved}: a checkpoint of another kind; one of training.fit_codec is needed")
        network = HarmonicNetwork(HarmonicConfig.from_dict(state["run"]["codec"]))
        network.load_state_dict(state["state_dict"]["codec"])
        return HarmonicCodec(saved.stem, network, device=device), None
    return open_codec(name, device=device), path if path.is_dir() else None


def write_figures(folder: Path, split: str, figures: dict[str, Any]) -> None:
    """Put figures into a codec folder's config.json and card. Raises CheckpointError."""
    info = read_codec_info(folder)
    info = dataclasses.replace(info, figures=info.figures | {split: figures})
    write_codec_info(folder, info)
    write_codec_card(folder, info)


def evaluate(name: str, settings: CodecEvaluation) -> dict[str, Any]:
    """Judge a codec, print the table and write what is asked for."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    check(settings.judges)
    codec, folder = load(name, settings.device)
    paths = find(settings.data, settings.limit)
    figures = judge(codec, paths, with_opus=settings.opus, judges=settings.judges, workers=settings.workers)
    figures |= {"data": settings.data.name, "limit": settings.limit}
    print(table(figures))
    if settings.json:
        write_whole(settings.json, (json.dumps(plain(figures), indent=2) + "\n").encode(), MediaError)
    if settings.write and folder is not None:
        write_figures(folder, settings.split, plain(figures))
    return figures


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.evaluate_codec", description=__doc__, exit_on_error=False)
    parser.add_argument("codec", help="Codec folder, run folder, run's .ckpt file, or encodec_24khz.")
    parser.add_class_arguments(CodecEvaluation, skip={"opus", "judges"})
    parser.add_argument("--opus", action="store_true", help="Judge Opus at 6 kb/s on the same recordings.")
    told = (
        "Models to ask: DistillMOS and DNSMOS (how good it sounds), PocketSphinx's word errors, likeness of the voice."
    )
    parser.add_argument("--judges", nargs="+", choices=JUDGES, default=[], help=told)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    return run(_parser, lambda values: evaluate(values.pop("codec"), CodecEvaluation(**values)), arguments)


if __name__ == "__main__":
    sys.exit(main())
