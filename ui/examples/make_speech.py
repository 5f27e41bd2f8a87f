"""Cuts the example voices out of LibriSpeech: `python -m ui.examples.make_speech --source LibriSpeech/test-other`.

Whole utterances of test-other (CC BY 4.0), whose readers no model here was trained on, as Ogg Opus: near 70 kb/s,
transparent at 16 kHz, a quarter of the space of WAV. `speech/index.json` has the source of each and the licence.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from shortcut_gen.errors import MediaError, ShortcutGenError
from shortcut_gen.media import read_audio

FOLDER = Path(__file__).parent / "speech"
COMPRESSION = 0.75
"""soundfile's scale from 0, the most bits, to 1."""
CORPUS = {
    "modality": "speech",
    "corpus": "LibriSpeech, test-other (Panayotov, Chen, Povey, Khudanpur: LibriSpeech, an ASR corpus based on public "
    "domain audio books, ICASSP 2015; openslr.org/12)",
    "licence": "CC BY 4.0",
    "changes": "single utterances, encoded as Ogg Opus",
}


@dataclass(frozen=True)
class Clip:
    """An utterance, and the page's words for the voice. The pitch is the median of its fundamental, measured."""

    utterance: str
    character: str

    @property
    def speaker(self) -> str:
        """LibriSpeech's number for the reader."""
        return self.utterance.partition("-")[0]

    @property
    def file(self) -> str:
        """Its name among the examples."""
        return f"{self.utterance}.ogg"


CLIPS = (
    Clip("3080-5032-0004", "a medium voice, near 180 Hz"),
    Clip("3005-163389-0005", "a deep voice, near 105 Hz"),
    Clip("3331-159605-0002", "a high voice, near 245 Hz"),
    Clip("2033-164914-0001", "a medium voice, near 155 Hz"),
    Clip("1688-142285-0007", "a high voice in a noisy room"),
)


def make(source: Path) -> None:
    """Write the clips and their index. Raises MediaError."""
    lines = []
    for clip in CLIPS:
        found = sorted(source.rglob(f"{clip.utterance}.flac"))
        if not found:
            raise MediaError(f"{source} has no {clip.utterance}.flac; LibriSpeech's test-other is needed")
        audio = read_audio(found[0])
        path = FOLDER / clip.file
        FOLDER.mkdir(exist_ok=True)
        soundfile.write(
            path, audio.samples.T, audio.sample_rate, format="OGG", subtype="OPUS", compression_level=COMPRESSION
        )
        title = f"Reader {clip.speaker}"
        lines.append({"file": clip.file, "title": title, "character": clip.character, "seconds": audio.duration})
        lines[-1] |= {"source": f"LibriSpeech test-other, speaker {clip.speaker}, utterance {clip.utterance}"}
        print(f"{path.name}: {audio.duration:.1f} s, {path.stat().st_size:,} bytes")
    text = json.dumps(CORPUS | {"examples": lines}, indent=2, ensure_ascii=False) + "\n"
    (FOLDER / "index.json").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ui.examples.make_speech", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the unpacked folder test-other")
    try:
        make(parser.parse_args(arguments).source)
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
