"""What the page refuses, each in a line that says what was given and what is needed."""

from collections.abc import Collection

BUSY_FILES = "the server is busy with the files of others; try again in a moment"
ENDS = "the server is about to end; open the file later"
RUN_GOES_ON = "a run goes on; stop it, then open the take"
NO_PROMPT = "no prompt is chosen; pick an example or upload a file"
OTHER_KIND = "this variation was made by a model of another kind; choose that one to go on from it"
NO_STEP = "there is no step to go to"
RESULT_GONE = "the result is not there any more"
NOTE_GONE = "this note is not there any more"
RUN_GONE = "this run is not there any more"
NOTES_ONLY = "only notes are explained"
ALL_OFF = "all shortcuts are turned off; one of them at least is needed"
EMPTY = "empty"
"""A value that was not given."""
CHOICE = "choice"
PROMPT = "prompt"
THE_FILE = "the file"
NO_JSON = "is no saved take: it is no JSON"


def number(name: str, value: str, low: float, high: float) -> str:
    """A value that is no number of a range."""
    return f"{name} is {value}; a number from {low:g} to {high:g} is needed"


def whole(name: str, value: str, low: int, high: int) -> str:
    """A value that is no whole number of a range."""
    return f"{name} is {value}; a whole number from {low:,} to {high:,} is needed"


def switch(name: str, value: str) -> str:
    """A value that is neither on nor off."""
    return f"{name} is {value}; true or false is needed"


def chosen(name: str, value: str, among: Collection[str]) -> str:
    """A value that is none of some."""
    return f"there is no {name} {value}; one of {', '.join(among)} is needed"


def too_little(name: str, value: str, least: float) -> str:
    """Too short a part of a prompt."""
    return f"{name} is {value}; at least {least:g} s are needed"


def gains(value: str, most: float) -> str:
    """Shortcuts that are no numbers of their range."""
    return f"the shortcuts are {value}; a number from 0 to {most:g} for each tap is needed"


def gains_of_another(given: int, taps: int) -> str:
    """Shortcuts of a model with more or fewer taps."""
    return f"{given} shortcuts are set, and this model has {taps}; set all of them to 1, or choose another model"


def link(why: str) -> str:
    """A link that sets nothing."""
    return f"The link sets nothing: {why}."


def link_tab(value: str, tabs: Collection[str]) -> str:
    """A link to a tab that is none."""
    return f"it names the tab {value}; {' or '.join(tabs)} is needed"


def link_unread(why: str) -> str:
    """A link that is no link."""
    return f"the link cannot be read: {why}"


def unread(name: str) -> str:
    """An upload that is gone."""
    return f"{name} cannot be read; upload it again"


def midi_bytes(path: str, size: int, most: int) -> str:
    """Too large a MIDI file."""
    return f"{path} has {size:,} bytes; at most {most:,} of MIDI are taken here"


def sound_not_midi(path: str) -> str:
    """A sound file on the piano tab."""
    return f"{path} is a sound file; a MIDI file is needed (the tab Speech takes sound)"


def midi_not_sound(path: str) -> str:
    """A MIDI file on the speech tab."""
    return f"{path} is a MIDI file; a recording is needed (the tab Piano takes MIDI)"


def no_notes(name: str) -> str:
    """A MIDI file without notes."""
    return f"{name} holds no notes; a MIDI file with at least one is needed"


def no_speech(tokenizer: str) -> str:
    """A model that makes something else."""
    return f"a model of {tokenizer} makes no speech; choose another model"


def nothing_sounds(seconds: float | None) -> str:
    """Too early a point to go on from."""
    return f"nothing sounds in the first {seconds} s; a later point is needed"


def where(text: str) -> str:
    """A place to go on from that is none."""
    return f"where to go on from is {text!r}; such as 3.2@41.5 is needed"


def step_gone(number: int) -> str:
    """A step that is no more."""
    return f"step {number} is not there any more"


def variations(step: int, there: int) -> str:
    """A variation that a step does not have."""
    return f"step {step} has {there} variations; one of them is needed"


def unwritten(name: str, why: str | None) -> str:
    """A file that cannot be made."""
    return f"{name} cannot be written ({why})"


def take_too_large(size: int, most: int) -> str:
    """Steps that do not fit a file."""
    return f"these steps take {size:,} bytes; at most {most:,} can be opened again"


def too_long(name: str, seconds: float, step: int, most: float) -> str:
    """A take with a variation that is too long."""
    return f"{name} has a variation of {seconds:,.0f} s in step {step}; at most {most:,.0f} are opened"


# What is wrong with a saved take: the rest of a line that begins with the file's name.


def take(name: str, wrong: str, value: bool) -> str:
    """The line. value: what is wrong is told as of a single value, by the library."""
    return f"{name} {'cannot be opened: ' if value else ''}{wrong}"


def take_bytes(most: int) -> str:
    """Too large a file."""
    return f"has more than {most:,} bytes, the most that are read"


def take_format(needed: str) -> str:
    """Some other JSON."""
    return f"is no saved take: its format is not {needed!r}"


def take_version(value: str, needed: int) -> str:
    """A take of another version."""
    return f"is a take of version {value}; version {needed} is read here"


def take_tab(value: str) -> str:
    """A take of another tab."""
    return f"is a take of the tab {value}; open it there"


def take_order(at: str, number: int, before: int) -> str:
    """Steps out of their order."""
    return f"has {at}.number {number} after {before}; rising numbers are needed"


def take_shown(number: int) -> str:
    """It shows a step that it does not have."""
    return f"shows step {number}, which it does not have"


def take_parent(at: str, number: int, variation: int) -> str:
    """A step from nowhere."""
    return f"has {at}.parent {number}.{variation}, which is none of the steps before it"


def take_ids(at: str, most: int) -> str:
    """Too many ids."""
    return f"has more than {most:,} ids in a variation of {at}"


def take_frames(at: str, count: int, frame: int) -> str:
    """Part of a frame."""
    return f"has {count:,} ids in {at}.prompt; whole frames of {frame} are needed"


def take_object(at: str, names: Collection[str]) -> str:
    """An object of other values."""
    return f"cannot be opened: {at} is not an object of {', '.join(names)}"


def take_list(at: str, least: int, most: int) -> str:
    """A list that is none, or of another length."""
    return f"cannot be opened: {at} is not a list of {least} to {most:,}"


def take_other_ids(at: str, most: int) -> str:
    """Ids that are none."""
    return f"cannot be opened: {at} holds something else than whole numbers from 0 to {most:,}"


def take_whole(at: str, value: str, low: int, high: int) -> str:
    """A value that is no whole number of a range."""
    return f"cannot be opened: {whole(at, value, low, high)}"


def take_number(at: str, value: str, low: float, high: float) -> str:
    """A value that is no number of a range."""
    return f"cannot be opened: {number(at, value, low, high)}"


def take_text(at: str, most: int) -> str:
    """A name that is none."""
    return f"cannot be opened: {at} is no text of at most {most} characters"


def take_hash(at: str, digits: int) -> str:
    """A hash that is none."""
    return f"cannot be opened: {at} is no sha256; {digits} hexadecimal digits are needed"


ENDING = "the server is about to end or to start anew; try again in a moment"
PARTING = "The server ends now, so this was not made to its end."
