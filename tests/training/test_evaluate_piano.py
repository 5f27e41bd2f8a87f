"""The judge of music: what it says of excerpts whose differences are known, and the command on a tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest

from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.media import Note, Score
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from training.corpus.shards import Corpus
from training.evaluate_piano import PianoEvaluation as Evaluation
from training.evaluate_piano import main, real_takes
from training.prepare import main as prepare
from training.scoring.music import (
    RUNS,
    Copies,
    Excerpt,
    against,
    apart,
    frechet,
    goes_on,
    interval_bins,
    notes_at_once,
    pitch_classes,
    rhythm,
)
from training.scoring.ngram_engine import NgramEngine
from training.scoring.takes import COUNTED, MADE, OTHER, REAL, Take, chosen, exchanged, forgotten


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


def test_a_pattern_that_goes_on_is_like_itself_later() -> None:
    steady = pulse([60, 64, 67, 72], 0.25, 50)
    going = goes_on(excerpt(steady, 0, 50), 20, 20)
    assert min(going.values()) > 0.9
    changed = Score(notes=(*steady.slice(0, 20).notes, *(n for n in pulse([61, 66], 0.4, 50).notes if n.start >= 20)))
    assert max(goes_on(excerpt(changed, 0, 50), 20, 20).values()) < min(
        goes_on(excerpt(changed, 0, 50), 30, 10).values()
    )
    assert goes_on(excerpt(steady, 0, 11), 6, 10) == {}


def test_notes_that_were_never_ended_are_counted() -> None:
    kept = pulse([60, 64], 0.5, 40)
    left = Score(
        notes=(*kept.notes[:-4], *(Note(pitch=40, velocity=64, start=20.0 + k, end=25.0 + k) for k in range(4)))
    )
    takes = [Take("", Score(notes=tuple(sorted(of.notes, key=lambda n: n.start))), 10, 30) for of in (kept, left)]
    assert forgotten(takes[:1], 5) == 0
    assert forgotten(takes[1:], 5) == pytest.approx(1000 * 4 / 54)  # of 50 short notes in 25 s, and these
    assert forgotten(takes[1:], 8) == 0


def test_the_frechet_distance_of_normal_sets_is_known() -> None:
    chance = np.random.default_rng(2)
    one, like, wide = (chance.normal(mean, size, (4000, 3)) for mean, size in ((0, 1), (0, 1), (2, 3)))
    assert frechet(one, like) < 0.02
    assert frechet(one, wide) == pytest.approx(3 * (2**2 + (3 - 1) ** 2), rel=0.1)  # by dimension
    assert np.isnan(frechet(one[:1], like))


def test_n_grams_draw_what_they_counted_under_the_grammar(corpus: Path) -> None:
    opened = Corpus.open(corpus)
    engine = NgramEngine(opened.split("train"), opened.split("validation"), opened.vocab_size)
    ids = opened.split("train")[0][1].tolist()
    shares = [engine.shares(ids[:at]) for at in range(60)]
    assert [share.sum() for share in shares] == pytest.approx([1] * 60)
    chance = 1 / opened.vocab_size
    assert np.mean([share[token] for share, token in zip(shares, ids, strict=False)]) > 20 * chance
    model = ShortcutLM(ModelConfig(context=32, layers=2, width=8, heads=2, feedforward=8, taps=(), position="rotary"))
    streams = [Stream(prompt=tuple(ids[:20]), seed=k) for k in range(3)]
    made: list[list[int]] = [[], [], []]
    for step in Sampler(model, PianoTokenizer(), engine).stream(streams, SamplingParams(max_tokens=90, top_p=0.9)):
        for row, token in zip(made, step, strict=True):
            assert token is not None
            row.append(token)
    assert made[0] != made[1]
    for row in made:
        score = PianoTokenizer().decode([*ids[:20], *row])
        gaps = np.diff([note.start for note in score.notes])  # the corpus has one pulse
        assert np.median(gaps) == pytest.approx(0.2, abs=0.05)


def test_a_copied_run_is_found_in_any_key() -> None:
    chance = np.random.default_rng(1)
    corpus = [chance.integers(30, 90, 500) for _ in range(4)]
    copies = Copies(corpus)
    stolen = np.concatenate([chance.integers(30, 90, 40), corpus[2][100:126] + 5, chance.integers(30, 90, 40)])
    assert copies.longest(stolen) == 25  # 24 of its 25 intervals are the longest length that is looked up
    assert copies.longest(chance.integers(30, 90, 200)) <= 5
    assert copies.longest(np.array([60])) == 0
    assert copies.longest(np.array([60] * (max(RUNS) + 1))) == 0


def test_prompts_are_real_and_others_are_exchanged() -> None:
    chosen_pieces = {f"piece {k}": pulse([60 + k, 64 + k], 0.25, 40) for k in range(3)}
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
        pulse([50 + k, 54 + k, 57 + k], 0.2, 16).write(folder / f"midi/{k}.mid")
    arguments = ["midi-folder", "--source", str(folder / "midi"), "--out", str(folder / "data"), "--test", "0.4"]
    assert prepare([*arguments, "--workers", "1"]) == 0
    return folder / "data"


def test_the_command_judges_a_model(
    tiny_checkpoint: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(corpus), "--prompts", "3", "--prompt_seconds", "6", "--seconds", "5"]
    files = [
        "--json",
        str(tmp_path / "out.json"),
        "--plot",
        str(tmp_path / "out.png"),
        "--out",
        str(tmp_path / "heard"),
    ]
    assert main([str(tiny_checkpoint), *options, *files]) == 0
    said = capsys.readouterr().out
    assert "key kept" in said
    assert "off by" in said
    assert "self-similarity" in said
    assert "Fréchet" in said
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["takes"] == 3
    assert set(told["rows"]) == {MADE, REAL, COUNTED, OTHER}
    # A corpus of one pulse is what n-grams are good at; a random model is not.
    assert told["rows"][COUNTED]["intervals"]["mean"] > told["rows"][MADE]["intervals"]["mean"]
    # A steady pulse goes on as it was; a random model does not go on with it.
    assert told["rows"][REAL]["rhythm"]["mean"] > 0.9 > told["rows"][MADE]["rhythm"]["mean"]
    assert told["rows"][REAL]["copied"]["mean"] > 10
    assert (tmp_path / "out.png").stat().st_size > 5000
    assert len(told["heard"]["takes"]) == 3
    assert "continuations have nothing that no real excerpt has" in said
    written = {path.name: path.stat().st_size for path in (tmp_path / "heard").iterdir()}
    assert set(written) == {"00.wav", "01.wav", "02.wav", "rolls-0.png", "spectrograms-0.png"}
    assert min(written.values()) > 5000
    assert main([str(tiny_checkpoint), *options, "--settings", "1,0.98,0", "0.5,1,0.1"]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith(("1, 0.98", "0.5, 1"))]) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompts", "0"], "prompts is 0"),
        (["--seconds", "1"], "seconds is 1"),
        (["--longest_note", "0"], "longest_note is 0"),
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
