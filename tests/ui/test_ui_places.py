"""Clicks whose turn comes late: each gets an answer, whatever was thought of its page meanwhile."""

from collections.abc import Callable

import gradio as gr
import pytest

from tests.shared.tabs import page, run
from ui import sessions as sessions_module
from ui.piano import PianoTab
from ui.runs import Lapsed, Run
from ui.sessions import Sessions


@pytest.fixture
def unheard(do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """A click that waits, and whose place others get as nothing is heard of its page. Returns its token."""
    monkeypatch.setattr(sessions_module, "KEEP_RUNS", 3)

    def click() -> str:
        for k in range(sessions.runs):
            assert sessions.start_run(f"first {k}", "piano") is not None
        line, _, _, token = do.begin(page("late"))
        assert "yours begins when others are done" in line
        monkeypatch.setattr(sessions_module, "TAKEN_WITHIN", -1.0)
        do.begin(page("next"))
        do.begin(page("one more"))
        assert sessions.live(token) is None  # it is gone
        return str(token)

    return click


def test_a_page_that_was_not_heard_of_while_it_waited_is_served_when_its_turn_comes(
    do: PianoTab, unheard: Callable[[], str]
) -> None:
    token = unheard()
    last = list(run(do, key="late", token=token))[-1]
    assert "tokens" in last[1]
    assert do.sessions.steps("late", "piano")[0].folder.name == token


def test_a_step_keeps_what_was_made_and_not_how_it_was_made(do: PianoTab) -> None:
    list(run(do))
    (step,) = do.sessions.steps("page", "piano")
    assert step.made
    assert not step.making


def test_nobody_else_takes_such_a_place(do: PianoTab, unheard: Callable[[], str]) -> None:
    token = unheard()
    said = list(run(do, key="somebody else", token=token))
    assert "place in line is gone" in said[-1][1]
    assert [button["interactive"] for button in said[-1][3:5]] == [True, False]
    assert do.sessions.steps("somebody else", "piano") == []


@pytest.mark.parametrize("kept", [True, False], ids=["known", "discarded"])
def test_a_place_that_was_given_back_begins_nothing_and_says_so_once_more(
    do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Stop's own answer comes another way, and may come later."""
    monkeypatch.setattr(sessions_module, "KEEP_RUNS", 96 if kept else 3)
    for k in range(sessions.runs):
        sessions.start_run(f"first {k}", "piano")
    *_, token = do.begin(page("late"))
    assert "Stopped before it began" in do.stop(page("late"))[0]
    do.begin(page("next"))
    assert (sessions.live(token) is not None) is kept
    (said,) = run(do, key="late", token=token)
    assert "Stopped before it began" in said[1]
    assert [button["interactive"] for button in said[3:5]] == [True, False]
    *_, newer = do.begin(page("late"))  # whose line stays
    assert list(run(do, key="late", token=token)) == [(gr.skip(),) * 6]
    assert sessions.live(newer) is not None


def test_the_last_of_those_places_are_remembered(sessions: Sessions) -> None:
    lapsed = Lapsed(2)
    for name in "abc":
        lapsed.note((name, "piano"), Run(sessions.files.results / name, [], browser="browser"))
    assert [lapsed.knows((name, "piano"), name) for name in "abc"] == [False, True, True]
    assert [lapsed.take((name, "piano"), name) for name in "abc"] == [None, "browser", "browser"]
    assert lapsed.take(("c", "piano"), "c") is None  # once
