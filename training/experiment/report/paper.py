"""What the paper says (arXiv 2409.10870), as far as it was available, and what the names of our runs stand for."""

from collections.abc import Mapping
from dataclasses import dataclass

REFERENCE = 'Verma & Pilanci, "Adaptive Large Language Models By Layerwise Attention Shortcuts", arXiv:2409.10870'
SOURCE = (
    "The paper's figures are those of its Tables 2 and 3, WikiText-103 at 128 and 32 wide, one seed each. The numbers "
    "of its Figure 2 and Table 1, the losses on its four data sets and the speed-ups, are not in the text at hand; "
    "summaries of the paper give the speed-ups as 30% to 49.2%, the largest on MAESTRO. Its runs had more than 10 "
    "billion tokens (12 to 13 epochs, Adam at 2e-4, halved midway), no error bars, and no control for the 3.65 times "
    "as many non-embedding parameters."
)
CONTRADICTIONS = (
    "Taps are 2, 4, 8 in one sentence and 2, 4, 6, 8 in all others: 2, 4, 6, 8 here.",
    "One sentence lets the last block attend to its own input at all positions too; the formula does not, nor does "
    "`shortcut` here. `shortcut-current` is the sentence.",
    "Keys and values come from the stack of features, and in another sentence values come from the taps as they are: "
    "both from the features here.",
    "The printed residual is x + MLP(LN(x + Att(LN x))): the standard block here, and `shortcut-literal` as printed.",
    "A speed-up is called time to the baseline's validation loss, but no hardware and no seconds are given: tokens, "
    "FLOPs and seconds here.",
)
"""Where the paper contradicts itself, and what is done here."""
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

LOSSES: Mapping[tuple[str, str, int], tuple[float, float]] = {
    ("WikiText-103", "baseline", 128): (3.95, 0.3178),
    ("WikiText-103", "shortcut", 128): (3.86, 0.3281),
    ("WikiText-103", "shortcut-identity", 128): (3.93, 0.3202),
    ("WikiText-103", "shortcut-middle", 128): (3.92, 0.3224),
    ("WikiText-103", "baseline", 32): (5.01, 0.2327),
    ("WikiText-103", "shortcut", 32): (4.95, 0.2394),
}
"""NLL and accuracy in the paper's Tables 2 and 3, by its data set, our arm and the model's width."""
WIDTH = 128
"""Of the paper's models, but for Table 3's."""


def figures(data: str | None, arm: str, width: int) -> str | None:
    """The paper's NLL and accuracy of an arm at our width, or else at its own; None where the text at hand has none."""
    own = LOSSES.get((data or "", arm, width))
    found = own or LOSSES.get((data or "", arm, WIDTH))
    return None if found is None else f"{found[0]:.2f}, {found[1]:.2%}" + ("" if own else f" ({WIDTH} wide)")


def modality(corpus: str) -> str:
    """What kind of data a corpus is, its own name where it is unknown here."""
    return CORPORA[corpus].modality if corpus in CORPORA else corpus


def title(corpus: str) -> str:
    """A corpus in words."""
    return CORPORA[corpus].title if corpus in CORPORA else corpus
