"""To an ending: a continuation goes on past its length and is cut where it sounds most like an end, with every engine,
in any batch."""

from pathlib import Path

import numpy as np
import pytest

from shortcut_gen.decoding.sampler import Row, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import SettingsError
from shortcut_gen.media import Score
from shortcut_gen.modalities.piano import NOTE_OFF, TIME_SHIFT, PianoTokenizer
from shortcut_gen.modalities.text import CharacterTokenizer
from shortcut_gen.pipeline import Pipeline, Prompt

PIANO = PianoTokenizer()


def wait(seconds: float) -> list[int]:
    return [TIME_SHIFT + 99] * int(seconds) + [TIME_SHIFT + round(100 * (seconds % 1)) - 1] * (seconds % 1 > 0)


def run(*pitches: int, each: float = 0.25) -> list[int]:
    """Notes one after the other, each let go when the next is struck."""
    return [token for pitch in pitches for token in (pitch, *wait(each), NOTE_OFF + pitch)]


def valid(ids: list[int]) -> bool:
    grammar = PIANO.grammar()
    for token in ids:
        if not grammar.allowed()[token]:
            return False
        grammar.advance(token)
    return not grammar.sounding


SCALE = [60, 62, 64, 65, 67, 69, 71, 72]
PROMPT = run(*SCALE, *SCALE[::-1], 60, 64, 67, 72)


def test_it_ends_on_the_tonic_and_holds_the_chord() -> None:
    scale = run(62, 64, 65, 67, 69, 71, 67, 65)
    chord = [48, 64, 67, 72, *wait(0.3), *(NOTE_OFF + pitch for pitch in (48, 64, 67, 72))]
    ids = [*scale, *scale, *chord, *scale, *scale]
    cut = PIANO.to_ending(PROMPT, ids, 3.0)
    assert cut[: len(scale) * 2 + 4] == ids[: len(scale) * 2 + 4]
    assert valid([*PROMPT, *cut])
    score = PIANO.decode(cut)
    assert isinstance(score, Score)
    last = [note for note in score.notes if note.start == score.notes[-1].start]
    assert [note.pitch for note in last] == [48, 64, 67, 72]
    assert all(note.end - note.start == pytest.approx(1.5) for note in last)
    # After the asked length alone: the chord is too early now.
    assert PIANO.seconds(PIANO.to_ending(PROMPT, ids, 5.0)) >= 5.0


def test_what_the_model_holds_rings_on_and_no_longer_than_three_seconds() -> None:
    late = [*wait(1), *run(62, 65), NOTE_OFF + 48, *run(69, 65, 62), *wait(3), NOTE_OFF + 36, 67]
    ids = [36, *run(62, 65, 69), 48, 60, *late]
    cut = PIANO.to_ending(PROMPT, ids, 0.5)
    ends = {note.pitch: round(note.end, 2) for note in PIANO.decode(cut).notes}  # type: ignore[union-attr]
    assert (ends[36], ends[48], ends[60]) == (3.75, 2.25, 3.75)
    assert valid([*PROMPT, *cut])


def test_where_nothing_is_struck_past_the_length_the_last_chord_rings_out() -> None:
    cut = PIANO.to_ending(PROMPT, [*run(62, 65), 60, 64, *wait(12)], 2.0)
    assert PIANO.seconds(cut) == pytest.approx(3.5)
    assert valid([*PROMPT, *cut])
    assert PIANO.to_ending(PROMPT, wait(12), 2.0) == wait(12)


def test_a_row_goes_on_for_the_ending_only_where_ends_are_known() -> None:
    params = SamplingParams(seconds=2.0, ending=2.0)
    row = Row(Stream(prompt=(60,)), 0, params, PIANO)
    while not row.ended:
        row.take(TIME_SHIFT + 49)
    assert row.grammar.seconds == 4.0
    text = CharacterTokenizer()
    row = Row(Stream(prompt=(1,)), 0, params, text)
    while not row.ended:
        row.take(1)
    assert row.grammar.seconds == pytest.approx(2.0, abs=0.1)
    assert text.to_ending([], [1, 2, 3], 0.1) == [1, 2, 3]


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_the_same_seed_gives_the_same_end_alone_and_beside_others(tiny_checkpoint: Path, engine: str) -> None:
    params = SamplingParams(seconds=2.0, seed=3, ending=6.0)
    try:
        alone = Pipeline.from_pretrained(tiny_checkpoint, engine=engine)
    except SettingsError as error:
        pytest.skip(str(error))
    shared = Pipeline.from_pretrained(tiny_checkpoint, engine=engine, share=3)
    growing = [*alone.stream([Prompt.empty()], params, variations=4, every_tokens=4, depth=True)]
    *_, two = shared.stream([Prompt.empty()], params, variations=4)
    *_, bare = alone.stream([Prompt.empty()], SamplingParams(seconds=2.0, seed=3), variations=4)
    for first, second, short in zip(growing[-1].continuations, two.continuations, bare.continuations, strict=True):
        assert first.ids == second.ids
        assert valid(list(first.ids))
        assert first.ids[: len(short.ids) - 1] == short.ids[:-1]  # the last one waits past the length
        assert first.seconds < 2.0 + 6.0 + 3.0
        assert first.depth is not None
        assert len(first.depth.surprise) == len(first.ids)
        assert np.isnan(first.depth.surprise[-1])  # how it rings out was not drawn
    # What was once shown stays, and nothing past the length is shown before it is decided.
    for progress in growing:
        for done, now, end in zip(progress.done, progress.continuations, growing[-1].continuations, strict=True):
            assert end.ids[: len(now.ids)] == now.ids
            assert done or now.seconds <= 2.0


def test_a_wrong_ending_is_a_line() -> None:
    for wrong in (0, -1, float("nan"), "x", True, 601):
        with pytest.raises(SettingsError, match="ending is"):
            SamplingParams(seconds=1.0, ending=wrong)  # type: ignore[arg-type]
