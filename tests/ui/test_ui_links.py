"""Links that set a tab's fields, and fields that come back after a reload. Nothing in either does harm."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcut_gen.errors import SettingsError
from shortcut_gen.media import Note, Score
from tests.shared.tabs import FIRST, go_on, page, run
from ui.links import LENGTH, from_link, from_page, tab_of
from ui.piano import PianoTab
from ui.prompts import NO_PROMPT
from ui.sessions import Sessions

EXAMPLES = [FIRST, NO_PROMPT]
MOST = (120.0, 120.0)


def query_of(drawing: str) -> str:
    return unescape(drawing).split('data-link="')[1].split('"')[0]


def test_a_link_sets_what_made_a_take_so_that_it_can_be_made_again(do: PianoTab) -> None:
    changes = {"temperature": 0.9, "min_p": 0.1, "guidance": 0.5, "seed": 12, "ending": True}
    last = list(run(do, start=2.0, used=4.0, variations=2, **changes))[-1]
    query = query_of(last[0])
    assert len(query) < LENGTH
    _, _, line, card, start, used, choice, upload, *fields = do.arrive(query, "", page("friend"))
    assert line == gr.skip()
    assert "J. S. Bach" in card
    assert (start["value"], used["value"], choice, upload) == (2.0, 4.0, FIRST, None)
    assert fields == [3.0, 2, 0.9, 0.95, 0, 0.1, 0.5, False, 12.0, "tiny", "", True]
    names = ("seconds", "variations", "temperature", "top_p", "top_k", "min_p", "guidance", "fresh_seed", "seed")
    names = (*names, "checkpoint", "gains", "ending")
    list(run(do, key="friend", start=2.0, used=4.0, **dict(zip(names, fields, strict=True))))
    mine, theirs = (do.sessions.steps(key, "piano")[0].made for key in ("page", "friend"))
    assert [each.ids for each in mine] == [each.ids for each in theirs]


def test_a_take_of_ones_own_file_or_of_another_take_has_no_link(do: PianoTab, tmp_path: Path) -> None:
    Score(notes=(Note(pitch=60, velocity=80, start=0.0, end=4.0),)).write(tmp_path / "mine.mid")
    assert "data-link" not in list(run(do, upload=str(tmp_path / "mine.mid"), used=3.0))[-1][0]
    assert "data-link" in list(run(do, choice=NO_PROMPT))[-1][0]
    assert "data-link" not in go_on(do, "2.1")[-1][0]


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("?seed=x", "seed is 'x'; a whole number from"),
        ("?seed=-1", "seed is -1.0"),
        ("?seconds=1e9", "how long to go on is '1e9'"),
        ("?seconds=nan", "how long to go on is 'nan'"),
        ("?prompt=../../etc/passwd", "there is no prompt '../../etc/passwd'"),
        ("?used=121", "how much to use is 121.0; a number from 0 to 120"),
        ("?model=other", "there is no checkpoint 'other'"),
        ("?" + "&".join(f"seed={k}" for k in range(50)), "cannot be read"),
        ("?top_p=", "top-p is ''"),
        ("?tab=nowhere&seed=7", "names the tab 'nowhere'"),
        ("?ending=yes", "to an ending is 'yes'"),
    ],
)
def test_a_wrong_value_in_a_link_is_a_line_and_sets_nothing(do: PianoTab, query: str, line: str) -> None:
    found = do.arrive(query, "", page())
    assert line in unescape(found[2])
    assert all(each == gr.skip() for each in found[3:])


def test_other_queries_and_links_of_other_tabs_set_nothing(do: PianoTab) -> None:
    for query in ("", "?__theme=dark", "?tab=speech&seed=7", "?&&&=="):
        assert all(each == gr.skip() for each in do.arrive(query, "", page())[2:])
    assert tab_of("?tab=speech&seed=7", ["piano", "speech"]) == "speech"
    assert tab_of("?tab=x", ["piano"]) is None


def test_prompt_and_settings_are_there_after_a_reload(do: PianoTab, sessions: Sessions) -> None:
    mine = sessions.files.uploads / "mine.mid"
    Score(notes=(Note(pitch=60, velocity=80, start=0.0, end=9.0),)).write(mine)
    kept = [None, str(mine), 1.0, 5.0, 7, 2, 0.8, 0.9, 3, 0.1, 1.5, True, 4, "tiny", "1,0.5", True]
    _, _, _, card, start, used, choice, upload, *fields = do.arrive("", json.dumps(kept), page())
    assert "mine.mid: 1 note" in card
    assert (start["value"], used["value"], choice, upload, fields) == (1.0, 5.0, None, str(mine), kept[4:])
    # A link goes before; and what is not there any more is left alone.
    assert do.arrive("?seed=5", json.dumps(kept), page())[6] == FIRST
    for gone in ("/etc/passwd", str(sessions.files.uploads / "gone.mid"), "\0", ["x"], "x" * 5000):
        assert do.arrive("", json.dumps([None, gone, *kept[2:]]), page())[3] == gr.skip()


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers())


@settings(max_examples=300, deadline=None)
@given(st.lists(ANYTHING, min_size=14, max_size=17).map(json.dumps) | st.text(max_size=50))
def test_whatever_a_page_remembers_is_read_or_left(kept: str) -> None:
    fields = from_page(kept, EXAMPLES, MOST, ["tiny"], lambda path: False)
    assert fields is None or fields.upload is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.dictionaries(st.sampled_from(["seed", "used", "prompt"]), st.text()).map(str))
def test_whatever_a_link_says_is_read_or_refused_in_a_line(query: Any) -> None:
    said = ""
    try:
        from_link(query, "piano", EXAMPLES, PianoTab.usual, MOST, ["tiny"])
    except SettingsError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 200
