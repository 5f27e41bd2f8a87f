"""Wide-band PESQ of other codecs as published, each with its test set: none of them is ours, nor is one recording.

Read in copies of the papers' tables, not measured here. Two test sets differ by 0.2 to 0.5 for the same codec
(BigCodec: 2.68 and 2.22). The copies of Llasa's table do not name its test set; the Qwen3-TTS report has the same
figures of X-codec 2 and says that they are of LibriSpeech test-clean.
"""

from dataclasses import dataclass

LIBRISPEECH, DAPS, SEED = "LibriSpeech test-clean", "DAPS", "Seed-TTS-Eval, English"
LLASA = "arXiv:2502.04128, table 1"
VOCOS = "arXiv:2306.00814, table 4"
MIMO = "arXiv:2512.23808, table 1"


@dataclass(frozen=True)
class Published:
    """A line of somebody's table."""

    codec: str
    kbps: float
    pesq: float
    """Wide band."""
    data: str
    """The test set."""
    source: str


PUBLISHED = (
    Published("DAC, 1 codebook", 0.5, 1.06, LIBRISPEECH, LLASA),
    Published("DAC, 2 codebooks", 1.0, 1.13, LIBRISPEECH, LLASA),
    Published("BigCodec", 1.04, 2.68, LIBRISPEECH, LLASA),
    Published("BigCodec", 1.04, 2.22, SEED, MIMO),
    Published("Mimi", 1.1, 2.25, LIBRISPEECH, LLASA),
    Published("Mimi", 1.1, 2.07, SEED, MIMO),
    Published("EnCodec, 24 kHz", 1.5, 1.56, LIBRISPEECH, LLASA),
    Published("EnCodec, 24 kHz", 1.5, 1.51, DAPS, VOCOS),
)


def published_lines() -> list[str]:
    """The table as text."""
    lines = ["published elsewhere, on other recordings (PESQ, wide band):"]
    for row in PUBLISHED:
        lines.append(f"{row.codec:18}{row.kbps:>5.2f}{row.pesq:>7.2f}  {row.data} ({row.source})")
    return lines
