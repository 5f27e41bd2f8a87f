"""What is said of a run: the line under the buttons, the variations, the steps, their files."""

from collections.abc import Sequence

READING = "Reading the prompt."
GENERATING = "Generating. Stop keeps what is done."
STOPPING = "Stopping."
STOPPED_BEFORE = "Stopped before it began."
GONE = "The place in line is gone; Continue asks for another one."
FULL = "Too many wait for their turn; try again in a minute."
BEGINS_ITSELF = "The model begins by itself."

MIDI, WAV, NEW_MIDI, NEW_WAV = "MIDI", "WAV", "New part, MIDI", "New part, WAV"
SEAM = "the model goes on"
"""The marker in a MIDI file."""
SAVE_TAKE, ALL_FILES, COPY_LINK, AGAIN = "Save take", "All files, ZIP", "Copy link", "Once more from its prompt"
GO_ON_FROM = "Go on from here"
PROMPT_PLAYER = "The prompt"
STEPS = "Steps"
BEFORE, BEFORE_SIGN = "The step before", "↶ Undo"
AFTER, AFTER_SIGN = "The step after", "↷ Redo"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 note`, `2 notes`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def waits(before: int) -> str:
    """A run waits for so many others."""
    place = f"{before} wait before you" if before else "You are the next"
    return f"{place}: yours begins when others are done. Stop gives the place back."


def in_line(place: int) -> str:
    """A run waits for its model."""
    return f"Number {place} in line for the model."


def stopped(lengths: Sequence[float]) -> str:
    """After Stop, by how long each variation has become, in seconds."""
    if len(lengths) < 2:
        return f"Stopped. {max(lengths, default=0.0):.1f} s are kept."
    parts = [f"{seconds:.1f} s of variation {place}" for place, seconds in enumerate(lengths, start=1)]
    return f"Stopped. Kept: {', '.join(parts)}."


def music(variations: int, length: str, alike: bool, tokens: int, took: float, to_ending: bool) -> str:
    """A run of music is done. length: of the longest variation. alike: the others are as long. tokens: of all
    variations together. took: seconds.
    """
    ends = ", to an ending," if to_ending else ""
    if variations == 1:
        return f"{length} of music{ends} in {took:.1f} s: {tokens:,} tokens."
    each = f"{'' if alike else 'up to '}{length} of music each"
    return f"{variations} variations, {each}{ends or ','} in {took:.1f} s: {tokens:,} tokens in all."


def speech(variations: int, seconds: float, took: float) -> str:
    """A run of speech is done. seconds: of all variations together."""
    of = f" in {variations} variations" if variations > 1 else ""
    speed = seconds / max(took, 1e-3)
    return f"{seconds:.1f} s of speech{of} in {took:.1f} s: {speed:.1f} times as fast as it plays."


def gains_cost(difference: float, as_trained: float) -> str:
    """What it cost that taps were turned, in nats a token; follows what is said of the run."""
    more = "more" if difference >= 0 else "less"
    return (
        f" With the shortcuts turned so, the prompt surprises the model {more}: by {abs(difference):.3f} nats a token "
        f"({as_trained:.3f} as trained)."
    )


def variation(number: int) -> str:
    """The heading of one."""
    return f"Variation {number}"


def continues(name: str, nothing: bool) -> str:
    """What a variation continues. nothing: it has no prompt, and the name says so."""
    return name if nothing else f"of {name}"


def onward(origin: str, variation: int, step: int, seconds: float) -> str:
    """The same, of one that goes on from another variation."""
    return f"{origin}, on from variation {variation} of step {step}, {seconds:.1f} s in"


def to_be(seconds: float, seed: int, to_ending: bool = False) -> str:
    """How long a variation is to be."""
    return f"{seconds:.0f} s{' and to an ending' * to_ending}, seed {seed}"


def so_far(new: float, wanted: float, seed: int) -> str:
    """How far it has come, in seconds."""
    return f"{new:.1f} of {wanted:.0f} s, seed {seed}"


def new(seconds: float, seed: int) -> str:
    """How long one has become."""
    return f"{seconds:.1f} s new, seed {seed}"


def player(number: int) -> str:
    """What a variation's player plays."""
    return f"Variation {number}, prompt and continuation"


def of_variation(number: int) -> str:
    """After a link's label, for who hears it by itself."""
    return f" of variation {number}"


def in_variation(number: int) -> str:
    """After `GO_ON_FROM`."""
    return f" in variation {number}"


def where_in(number: int) -> str:
    """The slider of where to go on from."""
    return f"Where in variation {number} to go on from, in seconds"


def seconds(value: str) -> str:
    """Beside that slider."""
    return f"{value} s"


def step(number: int, variations: int, prompt: str, parent: tuple[int, int] | None, seed: int) -> str:
    """A step of the tree."""
    origin = f"from variation {parent[1]} of step {parent[0]}" if parent else f"of {prompt}"
    return f"Step {number}: {counted(variations, 'variation')} {origin}, seed {seed}"


def all_of_step(number: int) -> str:
    """The group of buttons under a step's variations."""
    return f"All of step {number}"


def opened(name: str, steps: int, others: Sequence[str]) -> str:
    """A saved take was opened; what is to be said of its steps' models."""
    line = f"{name}: {counted(steps, 'step')} opened."
    said = "; ".join(others)
    return f"{line} {said[:1].upper()}{said[1:]}." if others else line


def other_codec(name: str) -> str:
    """A step was made with a codec that is not here."""
    return f"made with {name} and another codec, so it sounds otherwise here"


def other_model(name: str, of_that_name: bool) -> str:
    """A step was made with a checkpoint that is not here. of_that_name: one of its name is."""
    alike = "another checkpoint of that name" if of_that_name else "which is not here"
    return f"made with {name}, {alike}: the same seed gives other ids"


def not_copied(notes: int, least: int) -> str:
    """No more of a variation is in training performances than of real ones. notes: of the longest run that is, 0 where
    it has `least` or fewer.
    """
    if not notes:
        return f"No sign of copying: no more than {least} notes in a row are in a training performance too."
    return f"No sign of copying: at most {notes} notes in a row are in a training performance too."


def maybe_copied(notes: int) -> str:
    """More is."""
    return f"Maybe copied: {notes} notes in a row are in a training performance too, more than usual."


def usual_copies(median: int, high: int) -> str:
    """The figures behind: what real performances have in common with those of other works."""
    return (
        f"Counted in any key and tempo. Real performances of other works have {median} in a row in half of all cases, "
        f"and {high} or more in one of twenty."
    )


def where_copied(told: str) -> str:
    """The same where more is copied. told: where, by the library."""
    return f"Counted in any key and tempo: {told}."


def file(name: str, facts: str, sees: str) -> str:
    """A prompt's card: its name, how long it is, what of it is used."""
    return f"{name}: {facts}. {sees}"


def notes_and_length(notes: int, length: str) -> str:
    """A performance's facts."""
    return f"{counted(notes, 'note')}, {length}"


def sound_length(seconds: float, cut: bool) -> str:
    """A recording's. cut: only so much of it is read."""
    return f"the first {seconds:.0f} s" if cut else f"{seconds:.1f} s"


def begins(start: float) -> str:
    """Where the part of a prompt begins that is used."""
    return f"From {start:.1f} s" if start else "From the beginning"


def not_seen(start: float, why: str) -> str:
    """A part of a prompt that cannot be continued."""
    return f"{begins(start)}: {why}"


def sees(start: float, used: float, tokens: int, context: int, seen: float | None, goes_on: float | None) -> str:
    """What of a prompt is used, and how much of that the model sees: `seen` seconds, None for all. goes_on: when its
    last token is, in seconds, where that is not at the end of the part.
    """
    text = f"{begins(start)}, {used:.1f} s are used: {tokens:,} tokens"
    of = (
        f" of the {context:,} that the model sees"
        if seen is None
        else f", of which the model sees the last {seen:.1f} s"
    )
    last = "" if goes_on is None else f" Its last note begins or ends at {goes_on:.1f} s; there the model goes on."
    return f"{text}{of}.{last}"
