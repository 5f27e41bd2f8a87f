"""To an ending: a continuation goes on past its length to a rest, and ends there, with every engine, in any batch."""

from pathlib import Path

import pytest

from shortcut_gen.decoding.sampler import Row, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import SettingsError
from shortcut_gen.modalities.piano import NOTE_OFF, TIME_SHIFT, PianoGrammar, PianoTokenizer
from shortcut_gen.pipeline import Pipeline, Prompt

CHORD = [60, 64, 67]


def wait(seconds: float) -> list[int]:
    return [TIME_SHIFT + 99] * int(seconds) + [TIME_SHIFT + round(100 * (seconds % 1)) - 1] * (seconds % 1 > 0)


def grammar(ids: list[int]) -> PianoGrammar:
    made = PianoGrammar()
    for token in ids:
        made.advance(token)
    return made


def test_a_rest_is_long_and_longer_than_the_gaps_before_it() -> None:
    quick = [each for k in range(20) for each in (40 + k, *wait(0.2))]
    assert not grammar([*quick, 70, *wait(0.7)]).at_rest
    assert grammar([*quick, 70, *wait(0.8)]).at_rest
    assert grammar([*quick, 70, *wait(0.5), NOTE_OFF + 70, *wait(0.3)]).at_rest  # only what is struck counts
    slow = [each for k in range(20) for each in (40 + k, *wait(0.9))]
    assert not grammar([*slow, 70, *wait(1.5)]).at_rest
    assert grammar([*slow, 70, *wait(2.7)]).at_rest


@pytest.mark.parametrize(("rest", "length"), [(1.0, 3.0), (0.5, 4.1)])
def test_a_row_ends_at_a_rest_or_where_it_must(rest: float, length: float) -> None:
    params = SamplingParams(seconds=2.0, ending=2.0)
    row = Row(Stream(prompt=(60,)), 0, params, PianoTokenizer())
    quick = [each for k in range(10) for each in (*wait(0.2), 40 + k)]
    for token in [*quick, *CHORD, *wait(rest), *quick, *quick]:
        if row.ended:
            break
        row.take(token)
    assert row.grammar.seconds == pytest.approx(length)


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_the_same_seed_gives_the_same_end_alone_and_beside_others(tiny_checkpoint: Path, engine: str) -> None:
    params = SamplingParams(seconds=2.0, seed=3, ending=6.0)
    try:
        alone = Pipeline.from_pretrained(tiny_checkpoint, engine=engine)
    except SettingsError as error:
        pytest.skip(str(error))
    shared = Pipeline.from_pretrained(tiny_checkpoint, engine=engine, share=3)
    *_, one = alone.stream([Prompt.empty()], params, variations=4)
    *_, two = shared.stream([Prompt.empty()], params, variations=4)
    *_, bare = alone.stream([Prompt.empty()], SamplingParams(seconds=2.0, seed=3), variations=4)
    for first, second, short in zip(one.continuations, two.continuations, bare.continuations, strict=True):
        assert first.ids == second.ids
        assert first.ids[: len(short.ids)] == short.ids
        assert first.seconds < 2.0 + 6.0 + 1.0


def test_a_wrong_ending_is_a_line() -> None:
    for wrong in (0, -1, float("nan"), "x", True, 601):
        with pytest.raises(SettingsError, match="ending is"):
            SamplingParams(seconds=1.0, ending=wrong)  # type: ignore[arg-type]
