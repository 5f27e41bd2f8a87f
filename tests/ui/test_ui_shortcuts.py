"""Taps turned down or up from the page, without a browser."""

import pytest

from shortcut_gen.errors import SettingsError
from tests.shared.tabs import run
from ui.piano import PianoTab
from ui.saved import read
from ui.shortcuts import fitted, gains_of


@pytest.mark.parametrize(
    ("text", "taps", "gains"),
    [
        ("", 4, ()),
        (None, 4, ()),
        ("1,1,1,1", 4, ()),
        ("0,1,2.5,4", 4, (0.0, 1.0, 2.5, 4.0)),
        ("1,0.5", 0, ()),
        ("0,1,1,1", 2, (0.0, 1.0)),
    ],
)
def test_what_the_sliders_send(text: object, taps: int, gains: tuple[float, ...]) -> None:
    assert gains_of(text, taps) == gains


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x", "the shortcuts are 'x'; a number from 0 to 4 for each tap is needed"),
        ("nan,1", "for each tap is needed"),
        ("5,1", "from 0 to 4"),
        ("0.5,1,0.5", "3 shortcuts are set, and this model has 2"),
        ("0,0", "one of them at least is needed"),
    ],
)
def test_what_no_slider_sends_is_a_line(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        gains_of(text, 2)


@pytest.mark.parametrize(
    ("taps", "text", "shown", "reset"),
    [
        ((2, 4), "0.5,1,1", 2, False),  # what is turned is there with this model too
        ((2, 4), "1,1,0.5", 2, True),
        ((2, 4, 6), "", 3, False),
        ((), "0.5,1,1", 0, True),
        ((2, 4, 6), "0.5,1", 3, True),  # of a file made by another model
    ],
)
def test_the_sliders_fit_the_model(taps: tuple[int, ...], text: str, shown: int, reset: bool) -> None:
    said, *made = fitted(taps, text, 3)
    assert [each["visible"] for each in made] == [k < shown for k in range(3)]
    assert [each["label"] for each in made[:shown]] == [f"Layer {tap}" for tap in taps]
    assert [each.get("value") for each in made] == [1 if reset else None] * 3
    assert ("no shortcuts" in said) is (not taps)


def test_a_tap_that_is_turned_down_is_drawn_on_less_says_its_cost_and_is_saved(do: PianoTab) -> None:
    taps = do.models.pipeline().model.config.sources
    turned = ",".join(["0.2"] + ["1"] * (taps - 1))
    list(run(do, key="a"))
    last = list(run(do, key="a", gains=turned))[-1]
    plain, other = do.sessions.steps("a", "piano")
    shares = [step.made[0].depth.shares[:, 0].mean() for step in (plain, other) if step.made[0].depth]
    assert shares[1] < 0.8 * shares[0]
    assert other.made[0].params.tap_gains == (0.2, *(1.0,) * (taps - 1))
    assert "nats a token" in last[1]
    name = next(name for name in other.results if name.endswith("take.json"))
    saved = read(other.results[name].path().read_bytes(), name, "piano", 388, 1)
    assert [step.params.tap_gains for step in saved.steps] == [(), other.made[0].params.tap_gains]
