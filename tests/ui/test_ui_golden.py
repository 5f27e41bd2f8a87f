"""A take that an earlier version saved opens, and is made again as it was (tests/golden/README.md)."""

import json
from html import unescape
from pathlib import Path

import pytest

from tests.shared.tabs import go_on, page
from ui.models import Models, find_checkpoints
from ui.piano import PianoTab
from ui.sessions import Sessions
from ui.speech import SpeechTab

GOLDEN = Path(__file__).parents[1] / "golden"
TABS = {"piano": (PianoTab, "shortcut"), "speech": (SpeechTab, "speech")}


@pytest.mark.parametrize("tab", TABS)
def test_a_take_of_an_earlier_version_opens(tab: str, sessions: Sessions) -> None:
    kind, name = TABS[tab]
    do = kind(Models(find_checkpoints(GOLDEN / name)[tab], engine="torch"), sessions)
    path = GOLDEN / "takes" / f"{tab}-take.json"
    saved = json.loads(path.read_text())["steps"]
    drawing, _, line, *_ = do.open_take(str(path), page())
    opened = sessions.steps("page", tab)
    assert "opened." in line
    assert "made with" not in line  # the checkpoint is known by its hash
    assert unescape(saved[0]["prompt"]["name"]) in unescape(drawing)
    assert [step.parent and [*step.parent] for step in opened] == [step["parent"] for step in saved]
    made = [[[*each.ids] for each in step.made] for step in opened]
    assert made == [[each["ids"] for each in step["variations"]] for step in saved]
    for step, was in zip(opened, saved, strict=True):
        params = step.made[0].params
        assert {name: getattr(params, name) for name in ("temperature", "top_p", "seed", "seconds")}.items() <= (
            was["settings"].items()
        )
        assert [*params.tap_gains] == was["settings"].get("tap_gains", [])
        assert params.ending == was["settings"].get("ending")


def test_a_step_of_an_earlier_version_is_made_again_as_it_was(sessions: Sessions) -> None:
    do = PianoTab(Models(find_checkpoints(GOLDEN / "shortcut")["piano"], engine="torch"), sessions)
    path = GOLDEN / "takes" / "piano-take.json"
    was = json.loads(path.read_text())["steps"]
    do.open_take(str(path), page())
    go_on(do, "1.0", seed=5, seconds=2.0, variations=2)
    go_on(do, "2.0", seed=9, seconds=2.0, gains="1,0.5", ending=True)
    for again, step in zip(sessions.steps("page", "piano")[2:], was, strict=True):
        assert [[*each.ids] for each in again.made] == [each["ids"] for each in step["variations"]]
