"""What the server holds of pages: places in line, steps, results, and how long."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from shortcut_gen.errors import MediaError
from shortcut_gen.pipeline import Pipeline, Progress
from tests.shared.results import results_of
from tests.shared.tabs import FIRST, SETTINGS, go_on, page, run
from ui import sessions as sessions_module
from ui.guard import COOKIE
from ui.piano import PianoTab
from ui.results import Made, Result, route
from ui.sessions import Admission, Sessions


def test_a_file_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise MediaError("song.wav cannot be written (No space left on device)")

    found = {"song.wav": Result(tmp_path / "song.wav", full), "gone.wav": Result(tmp_path / "gone/gone.wav", full)}
    client = TestClient(Starlette(routes=[route(lambda token, name: found.get(name), Made(10**6))]))
    answer = client.get("/results/0a/song.wav")
    assert (answer.status_code, answer.text) == (507, "song.wav cannot be written (No space left on device)")
    assert client.get("/results/0a/gone.wav").status_code == 404
    assert client.get("/results/0a/other.wav").status_code == 404


def test_a_file_is_made_once_and_can_be_asked_for_in_parts(tmp_path: Path) -> None:
    made = []

    def write(path: Path) -> None:
        made.append(path)
        path.write_bytes(b"0123456789")

    result = Result(tmp_path / "song.wav", write)
    client = TestClient(Starlette(routes=[route(lambda token, name: result, Made(10**6))]))
    assert client.get("/results/0a/song.wav").content == b"0123456789"
    part = client.get("/results/0a/song.wav", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert len(made) == 1


def test_two_pages_do_not_mix(do: PianoTab) -> None:
    one, two = run(do, key="one", seconds=30.0), run(do, key="two", seed=99)
    next(one), next(two)
    do.stop(page("two"))  # stops nothing of the first page
    last_two = list(two)[-1]
    last_one = list(one)[-1]
    assert "Stopped." in last_two[1]
    assert "Stopped." not in last_one[1]
    assert "seed7" in last_one[0]
    assert "seed99" not in last_one[0]


def test_the_oldest_steps_make_room(do: PianoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "KEEP_STEPS", 2)
    for _ in range(4):
        list(run(do))
    assert [step.number for step in do.sessions.steps("page", "piano")] == [3, 4]
    assert len(list(do.sessions.files.results.iterdir())) == 2


def test_a_variation_is_gone_on_from_with_the_ids_it_has(do: PianoTab) -> None:
    list(run(do, variations=2))
    last = go_on(do, "1.2", seed=9)[-1]
    first, second = do.sessions.steps("page", "piano")
    before, after = first.made[1], second.made[0]
    assert after.prompt_ids == before.prompt_ids + before.ids
    assert second.parent == (1, 2)
    assert "of J. S. Bach, Prelude in C major, BWV 846, on from variation 2 of step 1, " in last[0]
    assert 'data-show="1"' in last[5]
    assert 'aria-label="Step 2: 1 variation from variation 2 of step 1, seed 9" aria-current=true' in last[5]
    earlier = go_on(do, "2.1@6.5")[-1]
    third = do.sessions.steps("page", "piano")[-1]
    assert third.made[0].prompt_ids == after.prompt_ids[: len(third.made[0].prompt_ids)]
    assert 5.5 < third.made[0].seam_seconds <= 6.5
    assert "Undo" in earlier[5]


@pytest.mark.parametrize("origin", ["", None, 7, "x", "9.1", "1.5", "1", "1.1@0.001", "-1.1", "9.0", "1.1@nan"])
def test_what_cannot_be_gone_on_from_is_a_line(do: PianoTab, origin: Any) -> None:
    list(run(do))
    last = go_on(do, origin)[-1]
    assert "status error" in last[1]
    assert len(do.sessions.steps("page", "piano")) == 1


def test_steps_are_undone_and_redone_and_a_reload_brings_them_back(
    do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.steps.CLOSES_WITHIN", 0.0)

    def opened(key: str, browser: str) -> Any:
        return SimpleNamespace(session_hash=key, cookies={COOKIE: browser})

    token = do.begin(opened("old", "me"))[3]
    list(do.run(token, FIRST, None, *SETTINGS.values(), request=opened("old", "me")))
    token = do.begin(opened("old", "me"))[3]
    last = list(do.run(token, FIRST, None, *(SETTINGS | {"seed": 8}).values(), request=opened("old", "me")))[-1]
    drawing, steps, _ = do.show_step("back", page("old"))
    assert "seed 7" in drawing
    assert "there is no step" in do.show_step("back", page("old"))[2]
    assert do.show_step("forward", page("old"))[0] == last[0]
    assert do.show_step("1", page("old"))[0] == drawing
    assert "step 7 is not there" in do.show_step("7", page("old"))[2]
    sessions.alive("old")
    assert do.restore(opened("new", "me"))[0] == gr.skip()  # the old page is still open: this is a second one
    sessions.close("old")
    assert do.restore(opened("stranger", "you"))[0] == gr.skip()
    assert do.restore(opened("new", "me")) == (drawing, steps)
    sessions.alive("new")
    # It is reloaded while a run goes on: that ends, and the steps are there.
    begun = do.begin(opened("new", "me"))[3]
    steps_of_run = do.run(begun, FIRST, None, *(SETTINGS | {"seconds": 120.0}).values(), request=opened("new", "me"))
    next(steps_of_run), next(steps_of_run)
    sessions.close("new")
    assert do.restore(opened("newer", "me")) == (drawing, steps)
    list(steps_of_run)
    assert [step.number for step in sessions.steps("newer", "piano")] == [1, 2, 3]
    assert sessions.shown("newer", "piano").number == 3  # type: ignore[union-attr]
    sessions.alive("newer")
    assert do.restore(opened("third", "me"))[0] == gr.skip()


def test_files_have_a_limit_together_and_are_made_again(tmp_path: Path) -> None:
    made, results = Made(25), []
    for name in "abc":
        results.append(Result(tmp_path / name, lambda path: path.write_bytes(bytes(10)) and None))
        made.used(results[-1].path())
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["b", "c"]
    assert results[0].path().read_bytes() == bytes(10)


def test_a_run_waits_for_its_turn_and_can_be_stopped_before_it(do: PianoTab, sessions: Sessions) -> None:
    begun = []
    for key in "ab":
        line, _, _, token = do.begin(page(key))
        assert "Reading" in line
        begun.append(sessions.start_run(key, "piano", token))
    line, go, halt, first = do.begin(page("c"))
    assert "You are the next: yours begins when others are done" in line
    assert (go["interactive"], halt["interactive"]) == (False, True)
    line, go, halt = do.stop(page("c"))
    assert "Stopped before it began" in line
    assert (go["interactive"], halt["interactive"]) == (True, False)
    _, _, _, second = do.begin(page("c"))
    # Gradio's queue still holds the first click: its turn comes, and it takes nothing from the second.
    assert all("value" not in value for step in run(do, key="c", token=first) for value in step)  # gr.skip()
    last = list(run(do, key="c", token=second))[-1]
    assert "tokens" in last[1]
    assert len(results_of(do.sessions, ".mid")) == 1
    assert all(each is not None and not each.stop.is_set() for each in begun)


def test_a_run_that_is_stopped_in_line_for_its_model_says_so(
    do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the variations on the page stay."""

    def waits(pipeline: Pipeline, rows: Any, *_: Any, **__: Any) -> Any:
        for _ in range(100):
            yield Progress(continuations=(), done=(False,), queue=3)

    monkeypatch.setattr(Pipeline, "stream_rows", waits)
    said = []
    for each in run(do):
        assert each[0] == gr.skip()
        said.append(each)
        if "Number 3 in line" in str(each[1]):
            do.stop(page())
    assert "Stopped before it began" in said[-1][1]
    assert [button["interactive"] for button in said[-1][3:5]] == [True, False]
    assert sessions.steps("page", "piano") == []


def test_places_are_few_and_nobody_holds_one_that_is_gone(
    do: PianoTab, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = sessions.runs + sessions_module.WAITING_RUNS
    for k in range(most):
        assert sessions.ask(f"page {k}")[0] is not Admission.REFUSED
    line, go, _, token = do.begin(page("late"))
    assert "Too many wait" in line
    assert go["interactive"] is True
    assert all("value" not in value for step in run(do, key="late", token=token) for value in step)
    assert sessions.ask("page 3")[0] is Admission.WAITS  # a page's own place is no other's
    sessions.stop("page 3")
    assert sessions.ask("late")[0] is Admission.WAITS
    # Who asked and was never heard of again loses the place; an open page keeps it.
    sessions.alive("page 200")
    monkeypatch.setattr(sessions_module, "TAKEN_WITHIN", -1.0)
    assert sessions.ask("one more")[0] is Admission.SERVED
    sessions.alive("page 201")
    sessions.alive("page 202")
    assert sessions.ask("yet one")[0] is Admission.WAITS
    sessions.close("page 200")
    sessions.close("page 201")
    assert sessions.ask("and one")[0] is Admission.SERVED


def test_one_browser_holds_a_few_places_at_most(sessions: Sessions) -> None:
    for k in range(sessions_module.RUNS_OF_BROWSER):
        assert sessions.ask(f"page {k}", browser="mine")[0] is not Admission.REFUSED
    assert sessions.ask("one more", browser="mine")[0] is Admission.REFUSED
    assert sessions.ask("another's", browser="yours")[0] is not Admission.REFUSED


def test_the_server_ends_with_its_runs(do: PianoTab, sessions: Sessions) -> None:
    steps = run(do, seconds=120.0)
    next(steps)
    sessions.stop_all()
    list(steps)
    assert list(sessions.files.results.glob("*/*.wav")) == []
    assert sessions.start_run("page", "piano") is None


def test_results_of_closed_pages_go_and_old_runs_make_room(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "KEEP_RUNS", 3)
    runs = []
    for k in range(5):
        runs.append(sessions.start_run(str(k)))
        if k != 1:  # which still computes
            sessions.end_run(runs[k])
    assert [run.folder.is_dir() for run in runs] == [False, True, False, True, True]
    assert [run.stop.is_set() for run in runs] == [True, False, True, False, False]
    sessions.close("4")
    assert runs[4].stop.is_set()
    assert runs[4].folder.is_dir()
    monkeypatch.setattr(sessions_module, "GRACE_SECONDS", -1.0)
    sessions.start_run("new")
    assert not runs[4].folder.is_dir()
    sessions.stop("nobody")
    sessions.clear()
    assert not sessions.files.root.exists()
