"""How much each tap is used: by head, by kind of token, by the model's surprise, and what the use depends on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.modalities.piano import NOTE_OFF, NOTE_ON, TIME_SHIFT, VELOCITY
from shortcut_gen.network.model import ShortcutLM
from training.attention.taps import Entry, Parts, enter, last_block, take_apart

STARTS: dict[str, tuple[tuple[str, int], ...]] = {
    "piano": (("note-on", NOTE_ON), ("note-off", NOTE_OFF), ("time-shift", TIME_SHIFT), ("velocity", VELOCITY)),
    "characters": (("space", 0), ("letter", 1)),
}
"""Kinds of the ids of a tokenizer, each with its first id; where none are named, the levels of a frame are kinds."""


def kinds_of(tokenizer: Tokenizer) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the kinds of ids there are, and which of them each id is, (V,)."""
    levels, size = tokenizer.frame, tokenizer.vocab_size
    named = [(f"codebook {level + 1}", level * size // levels) for level in range(levels)]
    starts = STARTS.get(tokenizer.name, named if levels > 1 else [("all", 0)])
    firsts = np.array([first for _, first in starts])
    return [name for name, _ in starts], np.searchsorted(firsts, np.arange(size), side="right") - 1


@dataclass(frozen=True, kw_only=True)
class Use:
    """The use of the taps in N windows of T tokens."""

    read: NDArray[np.int64]
    """(N, T): the token at each position."""
    wanted: NDArray[np.int64]
    """(N, T): the token that follows it."""
    nll: NDArray[np.float64]
    """(N, T): the model's surprise at the token that follows, in nats."""
    share: NDArray[np.float32]
    """(N, T, H, L): share of the attention each tap has."""
    own: NDArray[np.float32]
    """(N, T, H): share of the attention at the query's own position, over all taps."""


def look(model: ShortcutLM, ids: Tensor) -> tuple[Use, Entry, Parts]:
    """The use of the taps in one window, (T + 1,) ids, with what it was taken from."""
    entry = enter(model, ids[:-1].unsqueeze(0))
    parts = take_apart(last_block(model).attention, entry.query, entry.sources, entry.step)
    own = (parts.share * parts.within.diagonal(dim1=-2, dim2=-1)).sum(dim=2)  # (B, H, T)
    use = Use(
        read=ids[:-1].unsqueeze(0).cpu().numpy(),
        wanted=ids[1:].unsqueeze(0).cpu().numpy(),
        nll=surprise(entry.logits, ids),
        share=parts.share.permute(0, 3, 1, 2).cpu().numpy(),
        own=own.transpose(1, 2).cpu().numpy(),
    )
    return use, entry, parts


def surprise(logits: Tensor, ids: Tensor) -> NDArray[np.float64]:
    """(1, T) nats: how unlikely each token was that follows one of (T + 1,) ids."""
    losses: NDArray[np.float64] = F.cross_entropy(logits[0].float(), ids[1:], reduction="none").double().cpu().numpy()
    return losses[None]


def joined(uses: Sequence[Use]) -> Use:
    """Windows of one length, one behind the other."""
    names = ("read", "wanted", "nll", "share", "own")
    return Use(**{name: np.concatenate([getattr(use, name) for use in uses]) for name in names})


def figures(use: Use, kinds: tuple[list[str], NDArray[np.int64]], quantiles: int) -> dict[str, Any]:
    """All that is said of the use of the taps, as plain values. Lists of shares are by head, then by tap."""
    share = use.share.reshape(-1, *use.share.shape[2:])  # (N·T, H, L)
    names, of_id = kinds
    read, wanted, nll = use.read.ravel(), use.wanted.ravel(), use.nll.ravel()
    edges = np.quantile(nll, np.linspace(0, 1, quantiles + 1)[1:-1])
    parts = [f"{number + 1} of {quantiles}" for number in range(quantiles)]
    places = np.broadcast_to(np.arange(use.read.shape[1]), use.read.shape).ravel()
    return {
        "windows": len(use.read),
        "tokens": len(read),
        "nll": float(nll.mean()),
        "share": share.mean(axis=0).tolist(),
        "sd": share.std(axis=0).tolist(),
        "own_position": use.own.reshape(len(read), -1).mean(axis=0).tolist(),
        "by_kind_read": _groups(names, of_id[read], share, nll),
        "by_kind_wanted": _groups(names, of_id[wanted], share, nll),
        "by_surprise": _groups(parts, np.searchsorted(edges, nll, side="right"), share, nll),
        "explained": {
            "position in the window": explained(share, places),
            "kind of the token read": explained(share, of_id[read]),
            "the token read": explained(share, read),
        },
    }


def _groups(
    names: Sequence[str], group: NDArray[np.int64], share: NDArray[np.float32], nll: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Of each group that has a token: how many it has, their mean NLL and the mean shares, (H, L)."""
    out = []
    for number, name in enumerate(names):
        rows = group == number
        if rows.any():
            mean = share[rows].mean(axis=0).tolist()
            out.append({"name": name, "tokens": int(rows.sum()), "nll": float(nll[rows].mean()), "share": mean})
    return out


def explained(share: NDArray[np.float32], group: NDArray[np.int64]) -> float | None:
    """What part of the shares' variance over tokens a grouping of the tokens explains, over all heads and taps.

    share: (N, H, L), group: (N,). Adjusted for the number of groups, as the adjusted R² is, so that a grouping that
    means nothing comes to about 0. None where there is one token or less for each group.
    """
    _, group = np.unique(group, return_inverse=True)
    groups = int(group.max()) + 1
    flat = share.reshape(len(share), -1).astype(np.float64)
    if len(flat) <= groups:
        return None
    total = float(((flat - flat.mean(axis=0)) ** 2).sum())
    sums = np.zeros((groups, flat.shape[1]))
    np.add.at(sums, group, flat)
    left = float(((flat - (sums / np.bincount(group)[:, None])[group]) ** 2).sum())
    return 1 - left / total * (len(flat) - 1) / (len(flat) - groups) if total else None
