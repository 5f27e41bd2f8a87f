"""The tabs, one for each modality: their words and lengths. What happens on a click is in the handlers."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from shortcut_gen.pipeline import Prompt
from ui.handlers import DEFAULT_USED, EXAMPLES, MAX_SECONDS, MAX_USED, PianoHandlers, load_examples
from ui.layout import QUICK, Look, lay_out
from ui.models import Models
from ui.sessions import Sessions

VOICES = EXAMPLES / "speech"


@dataclass(frozen=True)
class Tab:
    """A modality's tab."""

    title: str
    continues: str
    """What it continues, in a few words."""
    build: Callable[[Models, Sessions], None]
    warm_up: Callable[[], Prompt]
    """A short prompt that touches all that a run needs."""
    credit: str = ""
    """Whose work is on the page beside ours."""


def piano_tab(models: Models, sessions: Sessions) -> None:
    """The piano tab."""
    look = Look(
        without="the model begins by itself",
        upload="Or a MIDI file of your own (.mid)",
        kinds=(".mid", ".midi"),
        used=DEFAULT_USED,
        most_used=MAX_USED,
        seconds=20,
        most_seconds=MAX_SECONDS,
        top_p=0.98,
        waiting=(
            "Here the piece goes on.",
            "Choose a beginning, then press <b>Continue</b>: the notes appear as the model finds them.",
        ),
    )
    lay_out(PianoHandlers(models, sessions), models, look)


def speech_tab(models: Models, sessions: Sessions) -> None:
    """The speech tab."""
    # What sound needs (torchaudio, the codec) is imported where there is a model for it.
    from ui import speech_handlers as speech

    do = speech.SpeechHandlers(models, sessions)
    # static/record.js makes a file of what the microphone hears and puts it here, out of sight.
    recording = gr.File(type="filepath", elem_id="recording", render=False)
    look = Look(
        prefix="speech-",
        without="the model begins by itself",
        upload="Or a recording (.wav, .flac, .mp3, .ogg)",
        kinds=("file",),  # what is no sound gets our own line, which says more than gradio's
        used=speech.DEFAULT_USED,
        most_used=speech.MAX_USED,
        seconds=10,
        most_seconds=speech.MAX_SECONDS,
        top_p=1.0,  # below, the voice falls silent
        waiting=(
            "Here the voice goes on.",
            "Choose a voice, then press <b>Continue</b>: you hear the first variation while it is made.",
        ),
        under_upload=(recording, gr.Button("Record with the microphone", elem_id="record", render=False)),
        over_buttons=(
            gr.Checkbox(
                True,
                label="Play the first variation while it is made",
                container=False,
                interactive=True,  # only static/live.js reads it, which gradio does not know
                elem_id="aloud",
                render=False,
            ),
        ),
    )
    on = lay_out(do, models, look)
    recording.upload(
        do.choose_recording,
        [recording, on.choice, on.upload, on.used],
        [on.prompt, on.used, on.choice, on.upload, recording],
        **QUICK,
    )


def _first_voice() -> Prompt:
    return Prompt.from_file(VOICES / load_examples(VOICES)[0].file, 1.0)


TABS: dict[str, Tab] = {
    "piano": Tab("Piano", "a piano performance", piano_tab, Prompt.empty),
    "speech": Tab(
        "Speech",
        "a spoken sentence",
        speech_tab,
        _first_voice,
        credit="Example voices: LibriSpeech test-other (Panayotov et al., 2015), CC BY 4.0, single utterances in Opus.",
    ),
}
"""By tokenizer; a modality joins the page by a line here and a checkpoint."""
