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

ARMS: Mapping[str, str] = {
    "baseline": "the ordinary Transformer",
    "shortcut": "the paper's model: the last block attends to taps",
    "shortcut-identity": "taps without MLPs",
    "shortcut-middle": "one tap, of the block at half depth",
    "shortcut-current": "the last block attends to its own input too",
    "shortcut-literal": "the residual as the paper prints it",
    "wide": "baseline, as large as shortcut by width",
    "deep": "baseline, as large as shortcut by depth",
    "feedforward": "baseline, as large as shortcut by its blocks' MLPs",
    "mlps": "shortcut's MLPs as residual layers, no shortcut",
}
"""The arms of the comparison and what they are."""
TRIALS: Mapping[str, str] = {
    "current-small": "the last block attends to its own input and to taps through MLPs of 128",
    "current-identity": "the last block attends to its own input and to taps as they are, each through its own norm",
    "identity-value": "current-identity and value-residual together",
    "shared-256": "the last block attends to its own input and to taps through one MLP of 256 for all",
    "depth": "baseline, but the last two blocks and the final norm read sums over all depths, weighted token by token",
    "value-residual": "baseline, but the values of every block above the first are mixed with the first's",
    "shortcut-value": "shortcut and value-residual together",
    "extra-heads": "baseline with four more heads in the last two blocks, which attend to taps",
    "depth-value": "depth and value-residual together",
    "muddformer-kv": "baseline, but the last block's queries, keys and values read three such sums over all depths",
}
"""The trials beyond the paper and what they are."""
MATCHED = ("wide", "deep", "feedforward", "mlps")
"""Arms made as large as the shortcut model, without its shortcut."""
CONTROLS = ("baseline", *MATCHED)
"""Arms of the comparison without any shortcut."""
NO_SMALLER = "matched:"
"""How the names of other controls begin: `matched:NAME` is a baseline no smaller than NAME."""


def is_control(arm: str) -> bool:
    """Whether an arm is without any shortcut."""
    return arm in CONTROLS or arm.startswith(NO_SMALLER)


def described(arm: str) -> str:
    """What an arm is, in words."""
    if arm.startswith(NO_SMALLER):
        return f"baseline with feed-forward layers that make it no smaller than {arm.removeprefix(NO_SMALLER)}"
    return {**ARMS, **TRIALS}.get(arm, "a trial")


def modality(corpus: str) -> str:
    """What kind of data a corpus is, its own name where it is unknown here."""
    return CORPORA[corpus].modality if corpus in CORPORA else corpus


def title(corpus: str) -> str:
    """A corpus in words."""
    return CORPORA[corpus].title if corpus in CORPORA else corpus
