"""What the paper says (arXiv 2409.10870), as far as it was available, and what the names of our runs stand for."""

from collections.abc import Mapping
from dataclasses import dataclass

REFERENCE = 'Verma & Pilanci, "Adaptive Large Language Models By Layerwise Attention Shortcuts", arXiv:2409.10870'
SOURCE = (
    "The paper's text was unavailable where this project was made. The figures given as the paper's are the few that "
    "the project was set up to test: on WikiText-103 an NLL of 3.95 for the baseline and 3.86 with shortcuts, and the "
    "baseline's loss reached 30–49% sooner. They are quoted, not checked against the paper. Its other figures, and "
    "which of its tables holds which, are not known here and are left out."
)
SOONER = (0.30, 0.49)
"""Share of the way to the baseline's loss that the paper's model saves, least and most; its axis is not stated."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a corpus here is, and to which of the paper's it corresponds."""

    modality: str
    title: str
    paper: str | None = None
    """The paper's data set."""
    apart: str = ""
    """Why our figure does not compare with the paper's."""


CORPORA: Mapping[str, Corpus] = {
    "maestro": Corpus(
        modality="music",
        title="MAESTRO v3 piano performances, 388 tokens",
        paper="MAESTRO",
        apart="the budget, and perhaps the tokens, differ",
    ),
    "speech": Corpus(
        modality="speech",
        title="speech, the coarsest codebook of our own codec",
        paper="LibriSpeech",
        apart="another codec's tokens and another corpus",
    ),
    "text8": Corpus(modality="text", title="text8, 27 characters", paper="text8", apart="the budget differs"),
    "wikitext103": Corpus(
        modality="text", title="WikiText-103, GPT-2 BPE", paper="WikiText-103", apart="the budget differs"
    ),
    "novels-characters": Corpus(
        modality="text",
        title="novels, 27 characters",
        paper="text8",
        apart="novels stand in for text8",
    ),
    "novels-bpe": Corpus(
        modality="text",
        title="novels, GPT-2 BPE",
        paper="WikiText-103",
        apart="novels stand in for WikiText-103",
    ),
}

LOSSES: Mapping[tuple[str, str], float] = {
    ("WikiText-103", "baseline"): 3.95,
    ("WikiText-103", "shortcut"): 3.86,
}
"""NLL in the paper, by its data set and our arm. See SOURCE. Who has the paper adds its figures here."""


def modality(corpus: str) -> str:
    """What kind of data a corpus is, its own name where it is unknown here."""
    return CORPORA[corpus].modality if corpus in CORPORA else corpus


def title(corpus: str) -> str:
    """A corpus in words."""
    return CORPORA[corpus].title if corpus in CORPORA else corpus
