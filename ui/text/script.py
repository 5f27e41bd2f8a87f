"""What the page's JavaScript says: `words.page.away` there is `WORDS["page"]["away"]` here.

`{name}` stands for what the script puts there. Where words are said by Python too, they are taken from its modules.
"""

from ui.text import form, keyboard, page, pictures, runs

LAYER = "layer {tap}"
CAUTION = "Attention, not cause: where it looked, not why."
"""With all that is said of the depth map."""
NOTE_AT = "{note} at {seconds} s"

WORDS: dict[str, dict[str, str | tuple[str, ...]]] = {
    "page": {
        "language": page.LANGUAGE,
        "pitches": pictures.PITCHES,
        "away": "The server does not answer; reload the page when it is back.",
        "refused": "Refused: {why}.",
        "answered": "the server answered {status}",
        "unheard": "Not to be heard: {why}.",
        "unplayable": "The sound cannot be played here.",
        "seconds": runs.seconds("{seconds}"),
    },
    "keys": {"go": "Ctrl+Enter", "halt": "Escape"},
    "takes": {
        "copied": "Link copied",
        "copy": runs.COPY_LINK,
        "link": "The link:",
    },
    "depth": {
        "layer": LAYER,
        "caution": CAUTION,
        "nothing": "Nothing drawn yet.",
        "opened": (
            "There is nothing to look at inside a take that was opened from a file, as it holds notes alone. "
            f"“{runs.AGAIN}” makes it anew, and then there is."
        ),
        "summary": "Shares of the attention on average: {shares}; surprise {nats} nats a token on average.",
        "summaryPlain": "Surprise: {nats} nats a token on average.",
        "taps": "layers",
        "tapsAbout": "Each tapped block's share of the last block's attention, a quarter of a second or a frame a time",
        "nats": "surprise",
        "natsAbout": "-ln p of the tokens by the model's own softmax, in nats",
        "layers": "A note has the colour of the layer that the model looked at more than it usually does here; the "
        "stronger, the more.",
        "shares": "A note has the colour of the layer that the model looked at most.",
        "surprise": "The stronger a colour, the less the model itself expected the note.",
        "stripBeyond": "Along time: over the line what it looked at more than usual, under it what less; below, its "
        "surprise.",
        "strip": "Along time: each layer's share, a line for how evenly they share (entropy); below, its surprise.",
        "stripPlain": "Along time: its surprise.",
        "untapped": form.NO_SHORTCUTS,
        "at": NOTE_AT,
        "ofPrompt": f"{NOTE_AT}, of the prompt",
        "note": f"{NOTE_AT}: probability {{chance}} ({{nats}} nats)",
        "share": f"{LAYER} {{share}}",
    },
    "heads": {
        "title": "Head by head",
        "head": "head",
        "cell": f"head {{head}}, {LAYER}: {{share}}",
        "of": "of {what}",
        "frames": "of all new frames, on average",
        "notes": "of all new notes and pauses, on average",
        "table": "The share of each layer in each head of the last one, {of}",
        "key": f"The stronger a cell, the larger the share; those of a head come to 100%. {CAUTION}",
        "picture": "Head by head, {of}",
        "along": "The shares of {layers} layers in each of {heads} heads along time",
        "alongKey": "The same along time, a strip for each head, the lowest layer at the bottom.",
    },
    "why": {
        "before": "◂ Note before",
        "next": "Next note ▸",
        "click": "Click a note to see what the model looked at for it.",
        "reading": "Reading what {what} was drawn from.",
        "under": "under 1%",
        "likely": "{word} {chance}",
        "looked": f"{NOTE_AT} ({{share}}, mostly by {LAYER})",
        "first": "{word} at {seconds} s had a probability of {chance}.",
        "likeliest": "Likeliest: {words}.",
        "eyes": "It looked most at {notes}; the outlines above show more.",
        "failed": "Not explained: {why}.",
        "away": "The server does not answer; try again when it is back.",
    },
    "save": {
        "picture": "Picture, {kind}",
        "ofTake": " of {take}",
        "prompt": "prompt",
        "continuation": "continuation; paler is softer",
        "surprise": "stronger is more surprising",
    },
    "record": {
        "none": "The browser offers no microphone here; it does at https addresses and at localhost.",
        "refused": "The microphone cannot be used: permission was refused.",
        "missing": "The microphone cannot be used: none was found.",
        "stop": "Stop recording ({seconds} s)",
        "unread": "The recording cannot be read; a longer one is needed.",
    },
    "keyboard": {
        "names": pictures.SPOKEN_PITCHES,
        "key": "{name} {octave}",
        "failed": "The samples could not be loaded; reload the page.",
        "silent": "There is no sound: {why}. What you play can still be recorded.",
        "undecoded": "There is no sound: this browser cannot play the samples (Ogg Vorbis).",
        "some": "{failed} of {all} samples could not be loaded; their neighbours take their places.",
        "longest": "Ten minutes are recorded, and no more are taken.",
        "most": "{events} events are recorded, and no more are taken.",
        "loading": "Loading the piano.",
        "unnamed": "a MIDI keyboard",
        "connected": "Connected: {names}.",
        "unconnected": "No MIDI keyboard is there yet; one that is plugged in is heard at once.",
        "noMidi": "This browser offers no MIDI here.",
        "noMidiHere": "This browser offers no MIDI here; some do, at https addresses and at localhost.",
        "midiRefused": "MIDI cannot be used: permission was refused.",
        "midiMissing": "MIDI cannot be used: the system offers none.",
        "record": keyboard.RECORD,
        "nothing": "Nothing was played; the prompt stays as it was.",
        "recorded": f"What you played is the prompt now: press {form.CONTINUE}.",
        "untaken": "The page does not take the recording.",
        "beat": "{beats} …",
        "stop": "Stop recording ({clock})",
        "tempo": "The tempo is {tempo}; {least} to {most} beats a minute are taken.",
        "noTempo": "no number",
        "counting": "The recording begins after four beats.",
        "waiting": "The recording begins with the first note.",
        "answers": "The model answers; play on, and it stops.",
        "turn": "Your turn.",
        "stuck": "The page does not answer; reload it if it stays so.",
        "plays": "You play.",
        "begun": "Play: where you pause, the model goes on.",
        "over": "The duet is over.",
        "end": "End the duet",
        "duet": keyboard.DUET,
    },
}
