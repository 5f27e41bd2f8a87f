"""The judge of music: what it says of excerpts whose differences are known, and the command on a tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest

from shortcut_gen.media import Note, Score
from training.evaluate_piano import MADE, OTHER, REAL, chosen, exchanged, main, real_takes
from training.evaluate_piano import PianoEvaluation as Evaluation
from training.prepare import main as prepare
from training.scoring.music import (
    Excerpt,
    against,
    apart,
    interval_bins,
    notes_at_once,
    pitch_classes,
    rhythm,
)


def pulse(pitches: list[int], gap: float, seconds: float, velocity: int = 64, hold: float = 0.9) -> Score:
    starts = np.arange(0, seconds, gap).tolist()
    return Score(
        notes=tuple(
            Note(pitch=pitches[k % len(pitches)], velocity=velocity, start=start, end=start + hold * gap)
            for k, start in enumerate(starts)
        )
    )


def excerpt(score: Score, start: float = 0.0, end: float = 10.0) -> Excerpt:
    return Excerpt.of(score, start, end)


def test_what_goes_on_unchanged_is_told_from_what_does_not() -> None:
    steady = pulse([60, 64, 67, 72], 0.25, 20)
    same = against(excerpt(steady, 0, 10), excerpt(steady, 10, 20))
    assert min(same[key] for key in ("key", "register", "intervals", "rhythm")) > 0.9
    assert max(same[key] for key in ("density", "loudness", "at once")) < 0.1
    other = pulse([61, 66, 68, 70], 0.4, 10, velocity=90)
    changed = against(excerpt(steady), excerpt(other))
    assert changed["key"] < 0.1
    assert changed["intervals"] < 0.1
    assert changed["rhythm"] < 0.6
    assert changed["loudness"] == pytest.approx(26)
    assert changed["density"] == pytest.approx(np.log2(0.4 / 0.25), abs=0.05)


def test_each_measure_on_excerpts_with_a_known_answer() -> None:
    chord = Score(
        notes=tuple(Note(pitch=60 + 12 * k, velocity=64, start=t, end=t + 1) for t in range(8) for k in range(3))
    )
    assert pitch_classes(excerpt(chord))[0] == 1
    assert notes_at_once(excerpt(chord)) == pytest.approx(3, abs=0.1)
    assert len(excerpt(chord).intervals) == 7  # a chord is one onset
    assert rhythm(excerpt(chord))[19] > 0.8  # it comes again after 20 bins of 50 ms
    assert abs(rhythm(excerpt(chord))[9]) < 0.3
    assert np.flatnonzero(interval_bins(excerpt(pulse([60], 0.25, 9)))).size == 1
    nothing = excerpt(Score(notes=()))
    assert np.isfinite(list(against(nothing, nothing).values())).all()
    assert [part.seconds for part in (nothing.part(0, 2), nothing.part(2, 10))] == [2, 8]


def test_sets_of_the_same_kind_overlap_and_others_do_not() -> None:
    chance = np.random.default_rng(0)
    real, like, unlike = (list(chance.normal(mean, 1, (40, 3))) for mean in (0, 0, 4))
    near, far = apart(real, like), apart(real, unlike)
    assert near[0] > 0.9 > 0.4 > far[0]
    assert near[1] < 0.1 < 1 < far[1]


def test_prompts_are_real_and_others_are_exchanged() -> None:
    chosen_pieces = {f"piece {k}": pulse([60 + k, 64 + k], 0.25, 40) for k in range(3)}
    from shortcut_gen.modalities.piano import PianoTokenizer

    ids = [(name, np.array(PianoTokenizer().encode(score), np.uint16)) for name, score in chosen_pieces.items()]
    split = type("Split", (list,), {})(ids)
    takes = real_takes(split, Evaluation(prompt_seconds=10, seconds=10))
    assert [take.name for take in takes] == list(chosen_pieces)
    assert all(take.following.start.min() < 0.3 for take in takes)
    swapped = exchanged(takes)
    assert set(swapped[0].prompt.pitch) == {60, 64}
    assert set(swapped[0].following.pitch) == {61, 65}


def test_the_best_the_middle_and_the_worst_are_shown() -> None:
    rows = {key: [float(k) for k in range(12)] for key in ("key", "register", "intervals", "rhythm")}
    assert chosen(rows) == [11, 10, 6, 5, 1, 0]
    assert chosen({key: values[:3] for key, values in rows.items()}) == [2, 1, 0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    (folder / "midi").mkdir()
    for k in range(8):
        # Longer than a figure whose repetitions would not count as copied.
        tune = [50 + k + step for step in (0, 4, 7, 12, 7, 5, 9, 2, 11, 16, 14)]
        pulse(tune, 0.2, 16).write(folder / f"midi/{k}.mid")
    arguments = ["midi-folder", "--source", str(folder / "midi"), "--out", str(folder / "data"), "--test", "0.4"]
    assert prepare([*arguments, "--workers", "1"]) == 0
    return folder / "data"


def test_the_command_judges_a_model(
    tiny_checkpoint: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(corpus), "--prompts", "3", "--prompt_seconds", "6", "--seconds", "5"]
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    assert main([str(tiny_checkpoint), *options, *files]) == 0
    said = capsys.readouterr().out
    assert "key kept" in said
    assert "off by" in said
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["takes"] == 3
    assert set(told["rows"]) == {MADE, REAL, OTHER}
    # A steady pulse goes on as it was; a random model does not go on with it.
    assert told["rows"][REAL]["rhythm"]["mean"] > 0.9 > told["rows"][MADE]["rhythm"]["mean"]
    assert told["rows"][REAL]["copied"]["mean"] > 10
    assert (tmp_path / "out.png").stat().st_size > 5000
    assert main([str(tiny_checkpoint), *options, "--settings", "1,0.98,0", "0.5,1,0.1"]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith(("1, 0.98", "0.5, 1"))]) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompts", "0"], "prompts is 0"),
        (["--seconds", "1"], "seconds is 1"),
        (["--settings", "1,2"], "TEMPERATURE,TOP_P,MIN_P is needed"),
        (["--settings", "1,7,0"], "top_p is 7"),
        (["--seconds", "100"], "at least two are needed"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_is_a_line(
    options: list[str], said: str, tiny_checkpoint: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tiny_checkpoint), "--data", str(corpus), *options]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
