"""What the real-time benchmark makes of its marks."""

import pytest

from benchmarks.speech_realtime import summary
from shortcut_gen.errors import SettingsError


def test_speeds_and_the_sound_in_hand() -> None:
    # The first sound after 0.5 s, then 0.5 s of sound each 0.25 s, once 1 s late.
    marks = [(0.2, 0.0), (0.5, 0.5), (0.75, 1.0), (1.0, 1.5), (2.25, 2.0), (2.5, 2.5)]
    run = summary(0.1, marks)
    assert run.encode == 0.1
    assert run.first_sound == 0.5
    assert run.speed == pytest.approx(1.0)
    assert run.playing == pytest.approx(1.0)
    assert run.first_second == pytest.approx(2.0)
    assert run.in_hand == pytest.approx(1.5 - 1.75)  # at 2.25 s, 1.75 s have been played and 1.5 s were there
    with pytest.raises(SettingsError, match="more seconds are needed"):
        summary(0.1, [(0.2, 0.0), (0.5, 0.5)])
