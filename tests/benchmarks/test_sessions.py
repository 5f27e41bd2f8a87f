"""What the commands of many people at once make of what they saw, and what they refuse. No server is started."""

import math
from collections.abc import Callable

import pytest

from benchmarks import crowd, sessions
from benchmarks.measuring.timing import command
from benchmarks.sessions import Click, by_minute, growth
from benchmarks.visitors.person import Page, Person, Visit, plain, tab_of
from benchmarks.visitors.server import Watched
from shortcut_gen.errors import SettingsError


def seen(*looks: tuple[float, float, float]) -> Watched:
    """Of looks: when, what the page took, memory in MiB."""
    return Watched(*(list(column) for column in zip(*looks, strict=True))) if looks else Watched()


def test_growth_is_from_the_end_of_the_first_minute_to_the_most_behind_it() -> None:
    looks = seen((5, 0, 9000), (50, 0, 100), (55, 0, 200), (60, 0, 300), (61, 0, 210), (400, 0, 260), (500, 0, 100))
    assert growth(looks) == 1.3


@pytest.mark.parametrize("looks", [(), ((55.0, 0.1, 100.0),), ((61.0, 0.1, 100.0),)])
def test_too_short_a_look_says_nothing_of_growth(looks: tuple[tuple[float, float, float], ...]) -> None:
    assert math.isnan(growth(seen(*looks)))
    assert not growth(seen(*looks)) > sessions.FLAT  # nor is it a failure


def test_clicks_are_counted_by_the_minute_in_which_they_were_over_and_the_last_holds_what_came_behind() -> None:
    clicks = [
        Click(at, Visit("piano", outcome=outcome))
        for at, outcome in ((3.0, "answered"), (59.9, "lost"), (60.0, "stopped"), (60.0, "stopped"), (150.0, "left"))
    ]
    head, *rows = by_minute(clicks, seen((1, 0.1, 100), (2, 0.5, 90), (3, 0.2, 80), (130, 2.0, 120)), 2)
    assert head == ["minute", "answered", "stopped", "refused", "left", "lost", "MiB", "GET /, s: median", "slowest"]
    assert rows[0] == ["1", "1", "0", "0", "0", "1", "100", "0.20", "0.50"]
    assert rows[1] == ["2", "0", "2", "0", "1", "0", "120", "2.00", "2.00"]
    assert by_minute([], seen(), 1)[1][6:] == ["nan", "nan", "nan"]


def test_a_round_counts_how_visits_ended_and_tells_median_and_slowest() -> None:
    visits = [
        Visit("piano", outcome="answered", sound=1.0, whole=4.0),
        Visit("speech", outcome="answered", sound=3.0, whole=6.0, placed=True),
        Visit("piano", outcome="refused"),
        Visit("piano", placed=True),
    ]
    row = crowd.Round(visits, 61.4, seen((1, 0.02, 900.4), (2, 0.04, 800.0), (3, 0.9, 700.0))).row()
    assert dict(zip(crowd.HEAD, row, strict=True)) == {
        "people": "4",
        "answered": "2",
        "waited": "2",
        "refused": "1",
        "lost": "1",
        "sound, s": "2.0 (3.0)",
        "whole, s": "5.0 (6.0)",
        "all, s": "61",
        "GET /, s": "0.04 (0.90)",
        "MiB": "900",
    }
    assert crowd.told([None, None]) == "none"


def message(success: bool = True, **output: object) -> dict[str, object]:
    return {"msg": "process_completed", "success": success, "output": output}


STATUS = '<p class="status{kind}">{line}</p>'


@pytest.mark.parametrize(
    ("told", "outcome", "said"),
    [
        (message(data=["<article></article>", STATUS.format(kind="", line="8 s in 2 s.")]), "answered", "8 s in 2 s."),
        (message(data=["<article></article>", STATUS.format(kind="", line="Stopped. 1 s")]), "stopped", "Stopped. 1 s"),
        (message(data=["", STATUS.format(kind=" error", line="seed is x")]), "lost", "seed is x"),
        (message(success=False, error="broken"), "lost", 'failed: "broken"'),
        (message(data=[{"__type__": "update"}] * 6), "lost", "nothing was made; 3 wait before you"),
    ],
)
def test_what_a_run_ends_with_is_an_answer_or_none(told: dict[str, object], outcome: str, said: str) -> None:
    """An answer is what was made, what there was when it was stopped; all else is lost, with the page's last line."""
    visit = Visit("piano", said="3 wait before you")
    Person._note(told, 2.5, visit)
    assert (visit.outcome, visit.said) == (outcome, said)
    assert visit.whole == (2.5 if outcome == "answered" else None)


def test_a_click_stopped_before_its_turn_has_its_answer_from_the_button() -> None:
    visit = Visit("piano", said="Stopped before it began.")
    Person._note(message(data=[{"__type__": "update"}] * 6), 2.5, visit)
    assert visit.outcome == "stopped"


def test_the_files_of_an_answer_are_found() -> None:
    visit = Visit("piano")
    text = '<article><a href="results/0af3/bach-new.mid">MIDI</a><audio src="results/0af3/bach.wav"></article>'
    Person._note(message(data=[text]), 2.5, visit)
    assert visit.files == ["results/0af3/bach-new.mid", "results/0af3/bach.wav"]


def test_the_last_line_of_a_status_is_what_it_says() -> None:
    assert plain(r"<p class=\"status busy\" id=a>one</p><p class=\"status\">two</p>") == "two"
    assert plain("no line") == ""


def test_one_of_four_asks_for_speech_and_a_page_without_a_tab_says_so() -> None:
    assert [tab_of(number) for number in range(5)] == ["piano", "piano", "piano", "speech", "piano"]
    with pytest.raises(SettingsError, match="checkpoints of piano and speech"):
        Page({"components": [], "dependencies": []}).run_of("speech")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (sessions.main, ["--people", "0"]),
        (sessions.main, ["--minutes", "0"]),
        (sessions.main, ["--seconds", "21"]),
        (crowd.main, ["--people", "[]"]),
        (crowd.main, ["--people", "[1,0]"]),
        (crowd.main, ["--seconds", "1"]),
    ],
)
def test_what_cannot_be_done_is_one_line(
    main: Callable[..., None], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(main, arguments) == 2
    assert capsys.readouterr().err.startswith("error: people")
