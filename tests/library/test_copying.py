"""Is it copying? What counts as a run, that the longest is found, and that a damaged index is one clear line."""

import json
import lzma
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcut_gen.copying import INDEX, LEAST, Copying, Performance, line, line_of, open_copying, told, write_copying
from shortcut_gen.copying.file import MAX_CROWD
from shortcut_gen.copying.runs import new_steps
from shortcut_gen.copying.strings import PAIRS, Strings
from shortcut_gen.errors import CheckpointError, MediaError
from shortcut_gen.media import Note, Score

Chord = tuple[int, ...]


def played(chords: list[Chord], *, gap: float = 0.2, jitter: float = 0.0, seed: int = 0, start: float = 0.0) -> Score:
    """Chords one behind the other, the notes of each struck within `jitter` seconds in an order that is chance."""
    chance = np.random.default_rng(seed)
    notes = []
    for place, chord in enumerate(chords):
        at = start + place * gap
        for pitch in chord:
            begin = at + float(chance.uniform(0, jitter))
            length, loud = float(chance.uniform(0.01, 2)), int(chance.integers(1, 128))
            notes.append(Note(pitch=pitch, velocity=loud, start=begin, end=begin + length))
    return Score(notes=tuple(sorted(notes, key=lambda note: (note.start, note.pitch))))


def music(seed: int, chords: int) -> list[Chord]:
    """Chords of one to four notes without sense."""
    chance = np.random.default_rng(seed)
    sizes = chance.integers(1, 5, chords)
    return [tuple(sorted(chance.choice(np.arange(40, 80), size, replace=False).tolist())) for size in sizes]


TRAINING = [music(seed, 300) for seed in range(4)]
WORKS = [
    Performance(name=f"{k}.mid", composer="Anon", title=f"No. {k}", notes=sum(map(len, chords)))
    for k, chords in enumerate(TRAINING)
]


@pytest.fixture(scope="module")
def index() -> Copying:
    return Copying.of([line_of(played(chords)) for chords in TRAINING], WORKS, corpus="nonsense", licence="none")


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 3), st.integers(0, 200), st.integers(12, 80), st.integers(-20, 20), st.floats(0.07, 0.5),
    st.integers(0, 2**31),
)  # fmt: skip
def test_a_planted_excerpt_is_found_whole_in_any_key_tempo_and_order_of_chords(
    index: Copying, which: int, first: int, length: int, up: int, gap: float, seed: int
) -> None:
    stolen = [tuple(pitch + up for pitch in chord) for chord in TRAINING[which][first : first + length]]
    score = played([*music(seed + 10, 20), *stolen, *music(seed + 11, 20)], gap=gap, jitter=0.02, seed=seed)
    run = index.longest(score)
    notes = sum(map(len, stolen))
    assert notes <= len(run.places) <= notes + 6  # a note beside it may be right by chance
    assert run.notes > 0.8 * notes  # two equal steps in a row count once
    assert run.performance == WORKS[which]
    assert abs(run.performance_seconds - first * 0.2) < 3.0  # its onsets are known at every 64th note
    assert run.works == 1
    marked = [score.notes[place] for place in run.places]
    inside = [note for note in score.notes if 20 * gap - 0.01 <= note.start < (20 + length) * gap - 0.02]
    assert set(inside) <= set(marked)
    assert min(note.start for note in marked) == pytest.approx(run.start_seconds, abs=0.006)
    assert max(note.start for note in marked) == pytest.approx(run.end_seconds, abs=0.006)


def test_only_what_follows_the_seam_is_looked_at(index: Copying) -> None:
    score = played([*TRAINING[1][:50], *music(77, 60)])
    assert index.longest(score).notes >= 100
    later = index.longest(score, start_seconds=50 * 0.2 - 0.05)
    assert later.notes <= LEAST + 2
    assert later.of == sum(map(len, music(77, 60)))


def test_chance_scores_low_and_too_little_scores_nothing(index: Copying) -> None:
    for seed in range(100, 110):
        assert index.longest(played(music(seed, 400))).notes <= LEAST + 3
    nothing = index.longest(Score(notes=()))
    assert (nothing.notes, nothing.of, nothing.places, nothing.performance) == (0, 0, (), None)
    assert index.longest(played(TRAINING[0][:1])).notes == 0
    assert Copying.of([]).longest(played(TRAINING[0])).notes == 0
    with pytest.raises(MediaError, match="100,001 notes"):
        index.longest_of(line(np.full(100_001, 60), np.arange(100_001) / 100))


def test_one_wrong_note_ends_a_run(index: Copying) -> None:
    stolen = [(pitch,) for chord in TRAINING[2][100:140] for pitch in chord]
    single = Copying.of([line_of(played(stolen))])
    assert single.longest(played(stolen)).notes == len(stolen)
    half = len(stolen) // 2
    wrong = [*stolen[:half], (stolen[half][0] + 1,), *stolen[half + 1 :]]
    assert single.longest(played(wrong)).notes in (half, len(stolen) - half - 1)


def test_figures_that_repeat_count_once() -> None:
    trill = [(72,), (74,)] * 30
    theme = [(60,), (67,), (64,), (59,), (65,), (70,), (62,), (69,), (60,), (65,)]
    index = Copying.of([line_of(played([*theme, *trill]))])
    assert index.longest(played(trill)).notes <= 4
    run = index.longest(played([*theme, *trill]))
    assert run.notes == len(theme) + 4  # up to where the trill has gone round once
    assert len(run.places) == len(theme) + len(trill)  # all are shown
    steps = np.array([5, 7, 5, 7, 5, 9, 9, 9, 1], np.uint8)  # 5 7 once, 9 once
    assert new_steps(steps).tolist() == [True, True, True, False, False, True, False, False, True]
    assert new_steps(steps[:0]).tolist() == []
    assert new_steps(steps[:1]).tolist() == [True]


def test_it_says_how_many_works_have_a_run_and_leaves_out_what_it_is_told_to() -> None:
    common, own = music(5, 12), music(6, 30)
    lines = [line_of(played(chords)) for chords in ([*music(7, 9), *common], [*common, *music(8, 9)], own)]
    known = [
        Performance(name=name, title=title, composer="A", notes=len(found.pitch))
        for (name, title), found in zip((("a", "x"), ("b", "y"), ("c", "y")), lines, strict=True)
    ]
    index = Copying.of(lines, known)
    run = index.longest(played([*music(9, 9), *common]))
    assert run.works == 2
    assert run.performance == known[0]
    assert "1 other work;" not in told(run) and "and 1 other work" in told(run)
    here = line_of(played(own))
    assert index.longest_of(here).notes == len(here.pitch)
    assert index.longest_of(here, without=(2,)).notes <= LEAST + 2


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3), max_size=80), st.lists(st.integers(1, 3), max_size=40))
def test_the_search_agrees_with_looking_everywhere(text: list[int], wanted: list[int]) -> None:
    longest = 0
    for a in range(len(text)):
        for b in range(len(wanted)):
            size = 0
            while max(a, b) + size < 10**9 and a + size < len(text) and b + size < len(wanted):
                if text[a + size] != wanted[b + size]:
                    break
                size += 1
            longest = max(longest, size)
    found = Strings(np.array(text, np.uint8)).matches(np.array(wanted, np.uint8))
    sizes = [int(size) for *_, lengths in found for size in lengths]
    assert max(sizes, default=0) == (longest if longest >= LEAST else 0)


def test_a_search_in_several_goes_finds_the_same() -> None:
    text = np.tile(np.array([1, 2, 1, 2, 1, 1, 2], np.uint8), 3000)
    wanted = np.tile(np.array([1, 2, 1, 2, 1, 1, 2], np.uint8), 200)
    goes = list(Strings(text).matches(wanted))
    assert len(goes) > 600_000 // PAIRS > 1
    assert max(int(size.max(initial=0)) for *_, size in goes) == len(wanted)


def test_what_real_music_comes_to_stands_beside(index: Copying) -> None:
    index = Copying.of([line_of(played(chords)) for chords in TRAINING])
    assert index.longest(played(TRAINING[0])).real is None
    index.real = {100: {0: 10, 7: 50, 9: 35, 12: 4, 20: 1}, 400: {9: 10}}
    real = index.usual(120, 12)
    assert real is not None
    assert (real.notes, real.excerpts, real.median, real.high, real.as_long) == (100, 100, 7, 9, 0.05)
    near = index.usual(5000, 9)
    assert near is not None and (near.notes, near.as_long) == (400, 1.0)
    assert "7 in the median, 9 in one of twenty" in told(index.longest(played(music(50, 40))))


def test_the_index_comes_back_from_disk(index: Copying, tmp_path: Path) -> None:
    index.real = {50: {0: 3, 7: 5}}
    write_copying(tmp_path, index)
    again = open_copying(tmp_path)
    assert again.performances == index.performances
    assert np.array_equal(again.steps, index.steps)
    assert np.array_equal(again.clock, index.clock)
    assert (again.real, again.corpus, again.licence) == (index.real, "nonsense", "none")
    score = played(TRAINING[3][40:90])
    assert again.longest(score) == index.longest(score)
    index.real = {}


def rewritten(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    """A damage: what the file says of itself, changed."""

    def damage(data: bytes) -> bytes:
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        about = json.loads(header["__metadata__"]["copying"])
        change(about)
        header["__metadata__"]["copying"] = json.dumps(about)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return damage


def packed_again(data: bytes, steps: bytes) -> bytes:
    """A file whose steps are others."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    first, last = header["clock"]["data_offsets"]
    clock = data[8 + length + first : 8 + length + last]
    body = lzma.compress(steps)
    header["clock"]["data_offsets"] = [0, len(clock)]
    header["steps"] |= {"shape": [len(body)], "data_offsets": [len(clock), len(clock) + len(body)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + clock + body


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "cannot be read"),
        (lambda data: data[:100], "cannot be read"),
        (lambda data: data[:-40], "cannot be read"),
        (lambda data: data[:-40] + bytes(40), "is damaged"),
        (lambda data: struct.pack("<Q", 2**40) + data[8:], "cannot be read"),
        (rewritten(lambda about: about.update(format=2)), "format is 2"),
        (rewritten(lambda about: about.pop("corpus")), "key 'corpus' is missing"),
        (rewritten(lambda about: about.update(corpus=3)), "a text is needed"),
        (rewritten(lambda about: about["performances"].pop()), "is damaged"),
        (rewritten(lambda about: about["performances"][0].update(notes=-1)), "whole number"),
        (rewritten(lambda about: about["performances"][0].update(notes=2**30)), "at most 33,554,432"),
        (rewritten(lambda about: about["performances"][0].update(notes=7)), "not as long"),
        (rewritten(lambda about: about.update(performances={"a": 1})), "is damaged"),
        (rewritten(lambda about: about.update(real=[[50, []]])), "without an excerpt"),
        (rewritten(lambda about: about.update(real=[[50, [["7", 1]]]])), "whole number"),
        (lambda data: packed_again(data, bytes([128]) * 10**8), "not as long"),  # 15 KB that would become 100 MB
        (lambda data: packed_again(data, bytes([128]) * sum(work.notes for work in WORKS)), "do not end where"),
    ],
)
def test_a_damaged_index_is_one_clear_line(
    index: Copying, tmp_path: Path, damage: Callable[[bytes], bytes], said: str
) -> None:
    write_copying(tmp_path, index)
    path = tmp_path / INDEX
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=said) as refusal:
        open_copying(tmp_path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)


def test_an_index_that_would_take_forever_to_search_is_refused(tmp_path: Path) -> None:
    monotone = line(np.full(MAX_CROWD + 20, 60), np.arange(MAX_CROWD + 20) / 10)  # nearly two hours of one key
    write_copying(tmp_path, Copying.of([monotone]))
    with pytest.raises(CheckpointError, match="repeats itself"):
        open_copying(tmp_path)


def test_random_damage_is_read_or_refused(index: Copying, tmp_path: Path) -> None:
    write_copying(tmp_path, index)
    path = tmp_path / INDEX
    data, chance = path.read_bytes(), random.Random(0)
    said: list[str] = []
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(min(len(damaged), 1500))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            open_copying(tmp_path).longest(played(TRAINING[0][:30]))
        except CheckpointError as error:
            said.append(str(error))
    assert len(said) > 100
    assert not any("\n" in line for line in said)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no copying\.safetensors there"):
        open_copying(tmp_path)
    os.mkfifo(tmp_path / INDEX)
    with pytest.raises(CheckpointError, match="is a pipe"):
        open_copying(tmp_path)
