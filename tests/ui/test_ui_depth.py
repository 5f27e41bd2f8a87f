"""The depth map's figures for the page, without a browser."""

from dataclasses import replace

import numpy as np
import pytest

from shortcut_gen.decoding.depth import Depth
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.modalities.piano import NOTE_OFF, TIME_SHIFT, VELOCITY, PianoTokenizer
from shortcut_gen.pipeline import Continuation, Prompt
from ui.depth import FIRST, LEVELS, drawn, head_strips, heads, note_places, strip
from ui.notes import row

PROMPT = (VELOCITY + 20, 60, TIME_SHIFT + 49)  # C4, still sounding at the seam, 0.5 s
# E4 twice in one tick, C4 struck anew, and a second later G4.
IDS = (64, NOTE_OFF + 64, 64, 60, TIME_SHIFT + 99, NOTE_OFF + 64, 67, TIME_SHIFT + 9)


def made(ids: tuple[int, ...] = IDS, taps: tuple[int, ...] = (2, 4), unknown: int = 0) -> Continuation:
    shares = np.tile(np.linspace(0.1, 0.9, len(IDS), dtype=np.float32)[:, None], (1, len(taps)))
    if taps:
        shares[:, 1] = 1 - shares[:, 0]
    surprise = np.arange(len(IDS), dtype=np.float32)
    surprise[:unknown] = np.nan
    depth = Depth(taps=taps, shares=shares[: len(ids)], surprise=surprise[: len(ids)])
    return Continuation(
        prompt=Prompt.empty(),
        prompt_ids=PROMPT,
        ids=ids,
        seed=1,
        variation=0,
        params=SamplingParams(seconds=2.0),
        tokenizer=PianoTokenizer(),
        depth=depth,
    )


def test_each_note_has_the_id_that_struck_it() -> None:
    notes = made().score.notes
    found = {(note.pitch, note.start, note.end): place for note, place in zip(notes, note_places(made(), notes))}  # noqa: B905
    assert found == {(60, 0.0, 0.5): -1, (64, 0.5, 0.5): 0, (64, 0.5, 1.5): 2, (60, 0.5, 1.6): 3, (67, 1.5, 1.6): 6}


def test_a_notes_figures_are_those_of_its_id_and_the_prompt_has_none() -> None:
    notes = made().score.notes
    figures = drawn(made(), notes)
    assert figures[0] == []
    assert [6, 600, 786, 214] in figures
    assert drawn(made(unknown=4), notes).count([]) == 4  # what the model did not draw says nothing


def test_the_strip_is_told_once_and_in_the_end_whole() -> None:
    whole = strip(made(), True, 0)
    assert len(whole["bins"]) == 5
    assert whole["bins"][1] == []  # a rest of a second is one id
    assert whole["bins"][0][0] == 200  # 0 to 4 nats, on average
    seen: list[list[int]] = []
    for count in range(1, len(IDS) + 1):
        told = strip(made(IDS[:count]), False, len(seen))
        assert told["after"] == len(seen)
        seen += told["bins"]
        assert seen == whole["bins"][: len(seen)]


def test_heads_are_the_mean_over_what_the_model_drew_and_told_at_the_end() -> None:
    by_head = np.zeros((len(IDS), 2, 2), np.float32)
    by_head[:, 0, 0], by_head[:, 1, 1] = 1, 1
    by_head[:4] = np.nan
    by_head[4, 1] = [1, 0]
    before = made(unknown=4)
    assert before.depth is not None
    told = replace(before, depth=replace(before.depth, by_head=by_head))
    assert heads(told) == [[1000, 0], [250, 750]]
    assert row(told, True, 0)["heads"] == heads(told)
    assert "heads" not in row(told, False, 0)
    assert heads(made(taps=())) == []


def test_each_head_has_its_shares_along_time() -> None:
    rng = np.random.default_rng(1)
    by_head = rng.dirichlet((1, 1), (len(IDS), 3)).astype(np.float32)
    before = made(unknown=1)
    assert before.depth is not None
    told = replace(before, depth=replace(before.depth, by_head=by_head))
    text = head_strips(told)
    bins = strip(told, True, 0)["bins"]
    assert row(told, True, 0)["headStrips"] == text
    assert "headStrips" not in row(told, False, 0)
    assert len(text) == len(bins) * 3 * 2
    assert text.isascii()
    assert not set(text) & {'"', "\\"}  # as it is in JSON
    assert [text[6 * k] == " " for k in range(len(bins))] == [not each for each in bins]
    # The first bin has ids 0 to 4, of which the model did not draw the first.
    found = (np.frombuffer(text[:6].encode(), np.uint8).reshape(3, 2) - FIRST) / LEVELS
    assert found == pytest.approx(by_head[1:5].mean(axis=0), abs=0.51 / LEVELS)
    assert head_strips(made(taps=())) == ""


@pytest.mark.parametrize("taps", [(), (2, 4)])
def test_a_model_without_taps_has_surprise_alone(taps: tuple[int, ...]) -> None:
    told = row(made(taps=taps), True, 0)
    assert told["taps"] == list(taps)
    assert [len(each) for each in told["drew"] if each] == [2 + len(taps)] * 4
    assert {len(each) for each in told["strip"]["bins"] if each} == {1 + len(taps)}
