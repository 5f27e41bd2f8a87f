"""Saved takes: what is saved comes back, and nothing in a stranger's file does harm."""

import json
import zipfile
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import MediaError
from shortcut_gen.media import read_score
from tests.shared.results import results_of
from tests.shared.tabs import FIRST, go_on, page, run
from ui.models import Models
from ui.piano import PianoTab
from ui.saved import MAX_BYTES, MadeBy, Origin, Saved, Step, read, write
from ui.sessions import Sessions

BY = MadeBy(name="piano", sha256="0" * 64)
PARAMS = SamplingParams(seconds=3.0, seed=7)
SAVED = Saved(
    tab="piano",
    shown=3,
    steps=(
        Step(
            number=1,
            parent=None,
            origin=Origin(name="J. S. Bach", example=FIRST, seconds=5.0),
            ids=(370, 60, 300),
            params=PARAMS,
            made_by=BY,
            variations=((64, 355), (67,)),
        ),
        Step(
            number=3,
            parent=(1, 1),
            origin=Origin(name="J. S. Bach", example=FIRST, seconds=5.0),
            ids=(370, 60, 300, 64),
            params=replace(PARAMS, seed=2**31 - 1, top_k=3, ending=12.0, guidance=1.5),
            made_by=replace(BY, codec="f" * 64),
            variations=((),),
        ),
    ),
)


def take(do: PianoTab) -> Path:
    """Saved at the page's newest step."""
    newest = do.sessions.steps("page", "piano")[-1]
    return next(result for name, result in newest.results.items() if name.endswith("-take.json")).path()


def test_a_file_has_what_was_saved() -> None:
    assert read(write(SAVED), "take.json", "piano", 388, 1) == SAVED
    assert json.loads(write(SAVED))["steps"][1]["prompt"]["ids"] == 4  # what the step before has is not said again


def test_a_saved_take_is_opened_heard_gone_on_from_and_made_again(do: PianoTab, models: Models) -> None:
    list(run(do, variations=2, seconds=4.0))
    go_on(do, "1.2@6.5", seed=9)
    files = {path.name: read_score(path) for path in results_of(do.sessions, ".mid")}
    path = take(do)
    for sessions in (do.sessions, Sessions(2)):  # beside what the page has, and at another server's
        other = PianoTab(models, sessions)
        drawing, tree, line, upload, *fields = other.open_take(str(path), page("new"))
        assert "2 steps opened." in line
        assert "made with" not in line
        assert 'data-show="1"' in tree
        assert upload is None
        assert fields[:9] == [3.0, 1, 1.0, 0.95, 0, 0.0, 0.0, False, 9]
        opened = sessions.steps("new", "piano")
        saved = do.sessions.steps("page", "piano")
        assert [each.made[0].ids for each in opened] == [each.made[0].ids for each in saved]
        assert opened[1].parent == (1, 2)
        assert "seed 9" in drawing
        other.show_step("1", page("new"))
        mine = {r.name: r.path() for each in opened for r in each.results.values() if r.name.endswith(".mid")}
        for name, score in files.items():
            one, two = (
                sorted((note.pitch, note.start, note.end) for note in each.notes)
                for each in (score, read_score(mine[name]))
            )
            assert [pitch for pitch, *_ in one] == [pitch for pitch, *_ in two]
            assert [end for *_, end in one] == pytest.approx([end for *_, end in two], abs=0.006)
        # The same prompt, seed and settings: the same ids.
        go_on(other, "2.0", key="new", seed=9)
        go_on(other, "1.0", key="new", variations=2, seconds=4.0)
        third, fourth = sessions.steps("new", "piano")[2:]
        assert third.made[0].ids == saved[1].made[0].ids
        assert third.parent == (1, 2)
        assert [each.ids for each in fourth.made] == [each.ids for each in saved[0].made]
        go_on(other, "2.1", key="new")
        assert sessions.steps("new", "piano")[-1].made[0].prompt_ids[: len(opened[1].made[0].ids)]
    sessions.clear()


def test_a_file_that_is_saved_later_has_what_came_since(do: PianoTab) -> None:
    list(run(do))
    first = take(do)
    assert len(json.loads(first.read_bytes())["steps"]) == 1
    list(run(do, seed=8))
    results_of(do.sessions, "-take.json")
    assert len(json.loads(first.read_bytes())["steps"]) == 2


def test_another_checkpoint_is_said(do: PianoTab, tmp_path: Path) -> None:
    (tmp_path / "take.json").write_bytes(write(SAVED))
    drawing, _, line, *_ = do.open_take(str(tmp_path / "take.json"), page())
    assert "made with piano, which is not here" in unescape(line).lower()
    assert "codec" in line
    assert "J. S. Bach" in drawing


def test_a_zip_has_the_files_of_all_variations(do: PianoTab) -> None:
    list(run(do, variations=2))
    [path] = results_of(do.sessions, ".zip")
    with zipfile.ZipFile(path) as held:
        names = held.namelist()
        assert held.testzip() is None
    assert {Path(name).suffix for name in names} == {".mid", ".wav", ".json"}
    assert len(names) == 2 * 4 + 1
    assert not list(path.parent.glob("*.part"))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"format": "x"}, "its format is not"),
        ({"version": 2}, "of version 2; version 1 is read"),
        ({"more": 1}, "is not an object of"),
        ({"tab": "speech"}, "a take of the tab 'speech'; open it there"),
        ({"shown": 2}, "shows step 2, which it does not have"),
        ({"steps": []}, "steps is not a list of 1 to 200"),
    ],
)
def test_a_wrong_file_is_one_line(do: PianoTab, tmp_path: Path, change: dict[str, Any], line: str) -> None:
    path = tmp_path / "take.json"
    path.write_text(json.dumps(json.loads(write(SAVED)) | change))
    said = unescape(do.open_take(str(path), page())[2])
    assert "take.json" in said
    assert line in said
    assert str(tmp_path) not in said
    assert do.sessions.steps("page", "piano") == []


PLACES = [
    ("number",),
    ("parent",),
    ("prompt",),
    ("settings",),
    ("checkpoint",),
    ("codec",),
    ("variations",),
    *(("prompt", name) for name in ("name", "example", "start", "seconds", "ids")),
    *(("settings", name) for name in ("temperature", "top_k", "top_p", "min_p", "seed", "seconds")),
    ("checkpoint", "sha256"),
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("x" * 5000),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(PLACES), step=st.sampled_from([0, 1]), value=ANYTHING)
def test_whatever_stands_at_a_place_is_read_or_refused_in_a_line(place: tuple[str, ...], step: int, value: Any) -> None:
    file = json.loads(write(SAVED))
    inside = file["steps"][step]
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = value
    said, steps = "take.json is read", ()
    try:
        steps = read(json.dumps(file).encode(), "take.json", "piano", 388, 1).steps
    except MediaError as error:
        said = str(error)
    assert said.startswith("take.json ")
    assert len(said) < 300
    assert "\n" not in said
    assert all(0 <= each < 388 for one in steps for ids in (one.ids, *one.variations) for each in ids)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400) | st.integers(0, 5000).map(lambda n: b'{"format":' + b"[" * n))
def test_what_is_no_take_is_refused_in_a_line(data: bytes) -> None:
    with pytest.raises(MediaError, match=r"^take.json is no saved take"):
        read(data, "take.json", "piano", 388, 1)


def test_a_file_that_is_too_large_is_not_read(do: PianoTab, tmp_path: Path) -> None:
    path = tmp_path / "take.json"
    path.write_bytes(b"{" + b" " * MAX_BYTES)
    assert "more than 8,000,000 bytes" in do.open_take(str(path), page())[2]
    long = replace(SAVED.steps[0], variations=((355,) * 3000,))
    path.write_bytes(write(replace(SAVED, shown=1, steps=(long,))))
    assert "has a variation of 3,000 s in step 1; at most 1,200 are opened" in do.open_take(str(path), page())[2]
    long = replace(SAVED.steps[0], variations=((60,) * 59_999,))
    with pytest.raises(MediaError, match="more than 60,000 ids"):
        read(write(replace(SAVED, shown=1, steps=(long,))), "take.json", "piano", 388, 1)


def test_a_take_waits_for_the_run_that_goes_on(do: PianoTab, tmp_path: Path) -> None:
    (tmp_path / "take.json").write_bytes(write(SAVED))
    steps = run(do, seconds=120.0)
    next(steps)
    assert "a run goes on" in do.open_take(str(tmp_path / "take.json"), page())[2]
    steps.close()
