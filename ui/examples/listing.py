"""The example prompts of a folder, as its index.json lists them."""

import json
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parent
VOICES = EXAMPLES / "speech"


@dataclass(frozen=True)
class Example:
    """A line of the table beside the example files."""

    file: str
    title: str
    character: str
    seconds: float
    composer: str = ""
    source: str = ""
    """Where a recording was taken from."""

    @property
    def name(self) -> str:
        """What the page calls it."""
        return f"{self.composer}, {self.title}" if self.composer else self.title

    @property
    def label(self) -> str:
        """Two lines for the list of examples."""
        by = f"{self.composer} — " if self.composer else ""
        return f"{self.title}\n{by}{self.character}"


def load_examples(folder: Path = EXAMPLES) -> list[Example]:
    """The example prompts of a folder."""
    table = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return [Example(**line) for line in table["examples"]]
