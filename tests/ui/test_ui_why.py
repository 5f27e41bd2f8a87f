"""Why a note: what the page is told of an explanation."""

import pytest

from shortcut_gen.explain import Alternative, Attended, Explanation
from shortcut_gen.modalities.piano import NOTE_OFF, TIME_SHIFT, VELOCITY
from ui.why import struck, told, word

IDS = (VELOCITY + 20, 60, TIME_SHIFT + 49, NOTE_OFF + 60, 64, TIME_SHIFT + 9, 60)


@pytest.mark.parametrize(
    ("token", "said"),
    [(72, "C5"), (NOTE_OFF + 61, "end of C♯4"), (TIME_SHIFT + 9, "0.1 s pause"), (VELOCITY + 31, "loudness 126")],
)
def test_ids_are_said_in_words(token: int, said: str) -> None:
    assert word(token) == said


def test_an_id_stands_for_the_note_that_it_begins_or_ends() -> None:
    assert struck(IDS) == [None, (60, 0), None, (60, 0), (64, 50), None, (60, 60)]


def test_attention_is_gathered_by_notes_with_the_tap_that_has_most_of_it() -> None:
    explanation = Explanation(
        place=6,
        token=60,
        probability=0.25,
        alternatives=(Alternative(72, 0.4, True), Alternative(NOTE_OFF + 1, 0.3, False), Alternative(60, 0.25, True)),
        first=0,
        taps=(2, 4),
        shares=(0.75, 0.25),
        by_head=((0.75, 0.25),),
        attended=(Attended(1, 4, 0.3), Attended(4, 2, 0.35), Attended(3, 2, 0.1), Attended(5, 2, 0.1)),
        attended_by_head=((),),
    )
    found = told(explanation, IDS)
    assert found["looked"] == [[60, 0, 400, 4], [64, 50, 350, 2]]  # a pause is no note
    assert found["likeliest"] == [["C5", 0.4], ["C4", 0.25]]  # what cannot come is not named
    assert found["shares"] == [750, 250]
    assert found["heads"] == [[750, 250]]
