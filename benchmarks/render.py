"""A score to sound: `python -m benchmarks.render [--json FILE]`.

Seconds of sound rendered per second, one core each, of the same score with the same soundfont: ours at once and block
by block, FluidSynth's own command line, and pretty_midi's `fluidsynth`, which loads the soundfont at each call or is
handed a synthesizer that has it; each in a process of its own, taking turns. Ours and pretty_midi end in samples in
memory, the command line in raw samples in a file; ours and the command line are stereo, pretty_midi's is mono.
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring.timing import Figure, about, alternate, command, describe, progress, ratio, table
from benchmarks.measuring.workers import WorkerError, started
from shortcut_gen.errors import SettingsError
from shortcut_gen.media import Score, midi_bytes, read_score, render
from shortcut_gen.media.synthesizer import soundfont, warm_up
from training.corpus.shards import write_json

SELF = "benchmarks.render"
ENGINES = ("ours", "ours, block by block", "fluidsynth", "pretty_midi", "pretty_midi, soundfont kept")
SAMPLE_RATE = 44100
SCORE = Path(__file__).resolve().parent.parent / "ui/examples/beethoven-pathetique.mid"


def long_score(path: Path, seconds: float) -> Score:
    """A file's notes, played again and again until it is so long."""
    given = read_score(path)
    if not given.notes or not seconds > 0:
        raise SettingsError(f"{path} has {len(given.notes)} notes and {seconds} s are wanted; more are needed")
    rounds = range(int(seconds // given.duration) + 1)
    notes = [(note, number * given.duration) for number in rounds for note in given.notes]
    moved = tuple(
        type(note)(pitch=note.pitch, velocity=note.velocity, start=note.start + at, end=note.end + at)
        for note, at in notes
    )
    return Score(notes=moved).slice(0.0, seconds)


def worker(engine: str, score: str, seconds: float, threads: int) -> Callable[..., dict[str, Any]]:
    """Renders the whole score at a call."""
    wanted = long_score(Path(score), seconds)
    font = soundfont(compressed=True)
    makers = {"fluidsynth": _command_line, "pretty_midi": _pretty_midi, "pretty_midi, soundfont kept": _pretty_midi}
    if engine.startswith("ours"):
        take = _ours(wanted, engine == "ours")
    else:
        take = makers[engine](wanted, font, *([True] if engine.endswith("kept") else []))

    def go() -> dict[str, Any]:
        began = time.perf_counter()
        length = take()
        return {"seconds": time.perf_counter() - began, "length": length}

    return go


def _ours(score: Score, whole: bool) -> Callable[[], float]:
    """The seconds of sound that our own rendering makes."""
    warm_up()
    if whole:
        return lambda: render.render(score, sample_rate=SAMPLE_RATE).duration
    return lambda: sum(block.duration for block in render.render_stream(score, sample_rate=SAMPLE_RATE))


def _command_line(score: Score, font: Path) -> Callable[[], float]:
    """FluidSynth's, with our settings, into a file of raw 16-bit samples."""
    program = shutil.which("fluidsynth")
    if program is None:
        raise WorkerError("the program fluidsynth is not installed (Debian's package fluidsynth)")
    folder = tempfile.TemporaryDirectory()
    midi, raw = Path(folder.name) / "score.mid", Path(folder.name) / "sound.raw"
    midi.write_bytes(midi_bytes(score))
    options = ["-n", "-i", "-q", "-C", "no", "-g", "1.2", "-r", str(SAMPLE_RATE), "-T", "raw", "-O", "s16"]
    options += ["-o", "synth.polyphony=512", "-o", "synth.dynamic-sample-loading=1", "-F", str(raw)]

    def go() -> float:
        assert folder  # lives as long as this does
        subprocess.run([program, *options, str(font), str(midi)], check=True, capture_output=True)
        return raw.stat().st_size / 4 / SAMPLE_RATE

    return go


def _pretty_midi(score: Score, font: Path, kept: bool = False) -> Callable[[], float]:
    """pretty_midi's, from a score in memory."""
    import fluidsynth
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(io.BytesIO(midi_bytes(score)))
    if not kept:
        return lambda: len(midi.fluidsynth(fs=SAMPLE_RATE, synthesizer=str(font))) / SAMPLE_RATE
    synth = fluidsynth.Synth(samplerate=float(SAMPLE_RATE))
    number = synth.sfload(str(font))
    return lambda: len(midi.fluidsynth(fs=SAMPLE_RATE, synthesizer=synth, sfid=number)) / SAMPLE_RATE


def main(
    score: Path = SCORE,
    seconds: float = 60.0,
    rounds: int = 5,
    engines: tuple[str, ...] = ENGINES,
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        score: MIDI file to render.
        seconds: How much of it; a shorter one is played again and again.
        rounds: Times each renders it, in turn with the others, after one to warm up.
        engines: What is measured.
        json: File to write.
    """
    if unknown := sorted(set(engines) - set(ENGINES)):
        raise SettingsError(f"engines has {unknown[0]!r}; some of {'; '.join(ENGINES)} are needed")
    if rounds < 1:
        raise SettingsError(f"rounds is {rounds}; a whole number of at least 1 is needed")
    machine = about(("pyfluidsynth", "pretty_midi"))
    machine["renderer"] = render.renderer_name()
    print(describe(machine), flush=True)
    notes = len(long_score(score, seconds).notes)
    shared = {"score": str(score.resolve()), "seconds": seconds}
    wanted = {name: (f"{SELF}:worker", {"engine": name, **shared}) for name in engines}
    lengths: dict[str, float] = {}

    def once(name: str, worker: Any) -> float:
        answer = worker.ask()
        lengths[name] = float(answer["length"])
        return seconds / float(answer["seconds"])

    with started(wanted, 1, {}) as workers:
        timed = {name: (lambda name=name, worker=worker: once(name, worker)) for name, worker in workers.items()}
        speeds = alternate(timed, rounds, progress)
    print(f"\n{seconds:g} s of {score.name}, {notes} notes, {machine['renderer']}, {rounds} rounds\n")
    rows = []
    cells = [["", "seconds of music per second", "ours is so many times as fast", "sound made, s"]]
    for name, values in sorted(speeds.items(), key=lambda item: -Figure.of(item[1]).median):
        times = ratio(speeds["ours"], values) if "ours" in speeds and not name.startswith("ours") else None
        cells.append([name, Figure.of(values).text(), times.text(".2f") if times else "", f"{lengths[name]:.1f}"])
        row = {"engine": name, "seconds_per_second": Figure.of(values).to_dict(2), "length": round(lengths[name], 2)}
        rows.append(row | {"ours_over_it": times.to_dict() if times else None})
    print(table(cells), flush=True)
    if json:
        write_json(json, {"machine": machine, "score": score.name, "seconds": seconds, "notes": notes, "rows": rows})


if __name__ == "__main__":
    sys.exit(command(main))
