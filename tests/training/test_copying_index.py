"""training.copying_index: the index of a corpus goes into the checkpoint, with what real music comes to."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shortcut_gen import copies
from shortcut_gen.copying import INDEX, Line, Performance, line_of, open_copying
from shortcut_gen.media import Note, Score
from shortcut_gen.modalities.piano import PianoTokenizer
from training.copying_index import main, same_work, works
from training.prepare import main as prepare
from training.scoring.lines import line_of_ids


def piece(seed: int, notes: int = 300) -> Score:
    chance = np.random.default_rng(seed)
    starts = np.cumsum(chance.uniform(0.0, 0.3, notes)).tolist()
    made = [Note(pitch=int(chance.integers(40, 80)), velocity=60, start=at, end=at + 0.2) for at in starts]
    return Score(notes=tuple(sorted(made, key=lambda note: (note.start, note.pitch))))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    (folder / "midi").mkdir()
    for k in range(6):
        piece(k).write(folder / f"midi/{k}.mid")
    arguments = ["midi-folder", "--source", str(folder / "midi"), "--out", str(folder / "data"), "--test", "0.3"]
    assert prepare([*arguments, "--workers", "1"]) == 0
    return folder / "data"


def test_ids_give_the_line_that_their_score_gives() -> None:
    tokenizer = PianoTokenizer()
    ids = np.array(tokenizer.encode(piece(9)), np.uint16)
    mine, other = line_of_ids(ids), line_of(tokenizer.decode(ids.tolist()))
    assert mine.pitch.tolist() == other.pitch.tolist()
    assert mine.tick.tolist() == other.tick.tolist()
    assert len(mine.pitch) == 300


def test_the_command_indexes_a_corpus_and_the_other_finds_it(
    corpus: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "mine"
    shutil.copytree(tiny_checkpoint, checkpoint)
    assert main([str(checkpoint), "--data", str(corpus)]) == 0
    said = capsys.readouterr().out
    assert "notes looked at" in said
    index = open_copying(checkpoint)
    assert sorted(index.real) == [50, 100, 200]
    known = index.performances[0]
    midi = corpus.parent / "midi" / known.name
    assert copies.main([str(midi), "--checkpoint", str(checkpoint), "--json", str(tmp_path / "out.json")]) == 0
    assert f"of 300 notes, from 0:00 on, are in training: {known.name}, at 0:00" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["files"][0]
    assert found["performance"]["name"] == known.name
    assert found["notes"] > 280  # all but steps that repeat the one before by chance


def test_refusals_are_one_line(
    corpus: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        ([str(tiny_checkpoint), "--data", str(tmp_path)], "no prepared corpus"),
        ([str(tiny_checkpoint), "--data", str(corpus), "--excerpts", "0"], "excerpts is 0"),
        ([str(tiny_checkpoint), "--data", str(corpus), "--source", str(tmp_path)], "maestro-v3.0.0.csv"),
        ([str(tmp_path / "none"), "--data", str(corpus)], "config.json"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err
    assert not (tiny_checkpoint / INDEX).exists()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("Frédéric Chopin", "Etude Op. 10, No. 4"), ("Frederic Chopin", "Étude in C-sharp Minor, op 10 no. 4"), True),
        (("J. S. Bach", "Prelude, BWV 846"), ("J. S. Bach", "Prelude, BWV 847"), False),
        (("Joseph Haydn", "Sonata Hob. XVI:52"), ("Joseph Haydn", "Sonata in E-flat, Hob. XVI:52, 1st mov."), True),
        (("Joseph Haydn", "Sonata Hob. XVI:52"), ("Joseph Haydn", "Sonata Hob. XVI:50"), False),
        (("Franz Liszt", "Un Sospiro"), ("Franz Liszt", "Un sospiro"), True),
        (("Franz Liszt", "Op. 1"), ("Franz Schubert", "Op. 1"), False),
    ],
)
def test_the_same_work_is_known_by_other_titles(one: tuple[str, str], other: tuple[str, str], same: bool) -> None:
    pair = [Performance(name="x", composer=composer, title=title, notes=1) for composer, title in (one, other)]
    assert same_work(*pair) is same


@pytest.mark.maestro
def test_the_shipped_index_finds_training_and_no_more_than_usual_of_the_test_split(
    maestro_zip: Path, root: Path
) -> None:
    from training.corpus.scores import MaestroSource

    index, source, names = open_copying(root / "checkpoints/piano"), MaestroSource(maestro_zip), works(maestro_zip)
    assert index.licence == "CC BY-NC-SA 4.0"
    splits = source.splits()
    assert [known.name for known in index.performances] == splits["train"]
    seen = line_of(source.load(splits["train"][100]))
    part = Line(*(values[400:700] for values in (seen.pitch, seen.tick, seen.note)))
    run = index.longest_of(part)
    assert run.performance is not None and run.notes > 200
    assert (run.performance.composer, run.performance.title) == names[splits["train"][100]]
    longer = 0
    for name in splits["test"][::30]:
        test = index.longest_of(Line(*(values[:300] for values in vars(line_of(source.load(name))).values())))
        assert test.real is not None and test.real.notes == 400
        longer += test.notes > 2 * test.real.high
    assert longer == 0
