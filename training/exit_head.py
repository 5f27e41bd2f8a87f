"""Would exact speculation pay? `python -m training.exit_head checkpoints/NAME --data data/NAME [--json FILE]`.

Drafting: an exit head on the first blocks guesses the next tokens, one after the other. Verifying: one pass of the
whole model over the guesses keeps each with the chance that leaves the model's distribution as it is (arXiv 2211.17192,
2302.01318). The heads are trained here on the output of the frozen model, for some minutes. Then, along the model's own
continuations of test windows at temperature 1: how much of the distributions overlaps, how many guesses a round keeps,
and, with the costs of the native engine, what is gained. No head is kept: it is a study.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from torch import Tensor, nn

from shortcut_gen.checkpoint import load_checkpoint
from shortcut_gen.decoding import native
from shortcut_gen.decoding.engines import make_engine
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.places import Place
from training.corpus.joined import open_corpus
from training.corpus.shards import IGNORED, Split, write_json
from training.run.batches import Crops, WindowLoader
from training.scoring.likelihood import check_ids
from training.scoring.speculation_costs import measure
from training.support.command_line import add_checkpoint, add_data, local, plain, run


@dataclass(frozen=True, kw_only=True)
class ExitSettings:
    """How the heads are trained and judged."""

    blocks: tuple[int, ...] = (2, 4)
    """Blocks behind which there is a head."""
    hidden: int = 512
    """Width of a head's own MLP; 0 for none."""
    seconds: float = 180.0
    """Processor seconds to train the heads, all together."""
    batch_size: int = 8
    """Crops of a step."""
    lr: float = 2e-3
    """Learning rate of AdamW at its height; it falls to 0."""
    windows: int = 32
    """Windows of the test split that are continued: the first quarter of the context is given."""
    drafts: int = 4
    """Most guesses of a round."""
    rounds: int = 200
    """Times that each cost is measured."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Of crops and continuations."""
    json: Path | None = None
    """JSON file to write."""

    def __post_init__(self) -> None:
        for name in ("seconds", "batch_size", "lr", "windows", "drafts", "rounds", "threads"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)}; a number above 0 is needed")


class ExitHead(nn.Module):
    """From what a block hands on to logits: an MLP on the residual stream, then a norm and a matrix of its own."""

    def __init__(self, model: ShortcutLM, hidden: int) -> None:
        super().__init__()
        width = model.config.width
        self.mlp = None
        if hidden:
            layers = [nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)]
            self.mlp = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, model.config.vocab_size, bias=False)
        with torch.no_grad():  # it begins as the model's own way out
            self.norm.load_state_dict(model.norm.state_dict())
            self.out.weight.copy_(model.embedding.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, V)."""
        return self.out(self.norm(x if self.mlp is None else x + self.mlp(x)))


def read(model: ShortcutLM, tokens: Tensor, blocks: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
    """The model's logits, (B, T, V), and what each of some blocks hands on, (B, T, D)."""
    seen: dict[int, Tensor] = {}
    handles = []
    for number in blocks:
        handles.append(
            model.blocks[number - 1].register_forward_hook(lambda _m, _i, out, n=number: seen.__setitem__(n, out))
        )
    try:
        with torch.no_grad():
            return model(tokens), seen
    finally:
        for handle in handles:
            handle.remove()


def train(model: ShortcutLM, crops: Crops, settings: ExitSettings) -> tuple[dict[int, ExitHead], int]:
    """Heads that have learnt the model's distribution from their block on, and from how many tokens."""
    torch.manual_seed(settings.seed)
    heads = {block: ExitHead(model, settings.hidden) for block in settings.blocks}
    weights = [weight for head in heads.values() for weight in head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=0.0)
    began, tokens, number = time.process_time(), 0, 0
    while (share := (time.process_time() - began) / settings.seconds) < 1:
        batch = crops[number * settings.batch_size]
        logits, seen = read(model, batch["inputs"], settings.blocks)
        there = batch["targets"] != IGNORED  # (B, T)
        wanted = logits[there].softmax(-1)
        loss = torch.stack([F.cross_entropy(head(seen[block][there]), wanted) for block, head in heads.items()]).sum()
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * min(1.0, (number + 1) / 20) * 0.5 * (1 + math.cos(math.pi * share))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tokens, number = tokens + int(there.sum()), number + 1
    return heads, tokens


@dataclass(frozen=True)
class Kept:
    """How well a head's guesses are kept, at each token of some continuations, (T,) each."""

    overlap: NDArray[np.float64]
    """The sum of the lesser of both probabilities: the chance that a guess made here is kept."""
    chance: NDArray[np.float64]
    """The chance that the token that stands here would have been guessed, and kept, given that it stands here."""


def judge(
    model: ShortcutLM, heads: dict[int, ExitHead], tokenizer: Tokenizer, split: Split, settings: ExitSettings
) -> dict[int, list[Kept]]:
    """Of each head: how its guesses fare along the model's own continuations of windows of a split."""
    context = model.config.context
    given = max(context // 4 // tokenizer.frame, 1) * tokenizer.frame
    loader = WindowLoader(split, context=given, batch_size=1, limit=settings.windows, frame=tokenizer.frame)
    prompts = [tuple(batch["inputs"][0].tolist()) for batch in loader if bool((batch["targets"] != IGNORED).all())]
    if not prompts:
        raise DataError(f"the test split has no window of {given} tokens")
    streams = [Stream(prompt=prompt, seed=settings.seed, variation=row) for row, prompt in enumerate(prompts)]
    params = SamplingParams(max_tokens=context - given)
    sampler = Sampler(model, tokenizer, make_engine(model, "auto", None if native.problem() else "f32"))
    made = zip(*sampler.stream(streams, params), strict=True)
    kept: dict[int, list[Kept]] = {block: [] for block in heads}
    for prompt, ids in zip(prompts, made, strict=True):
        text = [*prompt, *(token for token in ids if token is not None)]
        logits, seen = read(model, torch.tensor([text[:-1]]), list(heads))
        allowed = _allowed(tokenizer, text)[given:]
        wanted = torch.tensor(text[given:]).unsqueeze(1)
        p = logits[0, given - 1 :].masked_fill(~allowed, -torch.inf).double().softmax(-1)  # (T, V)
        for block, head in heads.items():
            with torch.no_grad():
                q = head(seen[block])[0, given - 1 :].masked_fill(~allowed, -torch.inf).double().softmax(-1)
            chance = (q.gather(1, wanted) / p.gather(1, wanted)).clamp(max=1).squeeze(1)
            kept[block].append(Kept(torch.minimum(p, q).sum(-1).numpy(), chance.numpy()))
    return kept


def _allowed(tokenizer: Tokenizer, ids: Sequence[int]) -> Tensor:
    """(T, V) bool: what the grammar allows at the place of each id."""
    grammar, rows = tokenizer.grammar(), []
    for token in ids:
        mask = grammar.allowed()
        rows.append(torch.ones(tokenizer.vocab_size, dtype=torch.bool) if mask is None else mask.clone())
        grammar.advance(token)
    return torch.stack(rows)


def rounds(kept: Sequence[Kept], drafts: int, seed: int, times: int = 8) -> float:
    """Guesses that a round of so many keeps on average: rounds are played along the continuations, `times` over.

    A text drawn from the model is as probable as the same text drawn with speculation; whether each of its tokens was a
    guess that was kept depends on that token alone. So the rounds may be played on texts that are there already.
    """
    rng = np.random.default_rng(seed)
    total = count = 0
    for one in kept:
        for _ in range(times):
            hits = rng.random(len(one.chance)) < one.chance
            at = 0
            while at + drafts < len(hits):
                misses = np.flatnonzero(~hits[at : at + drafts])
                good = int(misses[0]) if len(misses) else drafts
                total, count, at = total + good, count + 1, at + good + 1
    return total / max(count, 1)


def gains(costs: Sequence[dict[str, Any]], kept: dict[int, list[float]], drafts: int) -> list[dict[str, Any]]:
    """Of each precision, head and number of guesses: tokens a second against plain steps, its own and the fastest's.

    kept: of each block, the guesses that rounds of 1, 2, ... keep.
    """
    fastest = min(cost["step"] for cost in costs)
    out = []
    for cost in costs:
        for block, lengths in kept.items():
            for k in range(1, drafts + 1):
                gain = (1 + lengths[k - 1]) / (k * cost["drafts"][block] + cost["verify"][k])
                named = {"precision": cost["precision"], "block": block, "drafts": k}
                out.append(named | {"gain": gain, "over_fastest": gain * fastest / cost["step"]})
    return out


def study(checkpoint: Place, data: Sequence[Path], settings: ExitSettings) -> dict[str, Any]:
    """Train the heads, judge them, measure the costs; all figures, as plain values. Raises SettingsError, DataError."""
    torch.set_num_threads(settings.threads)
    loaded = load_checkpoint(local(checkpoint))
    model, tokenizer = loaded.model, loaded.tokenizer
    if not settings.blocks or not 1 <= min(settings.blocks) <= max(settings.blocks) <= len(model.blocks):
        raise SettingsError(f"blocks are {settings.blocks}; numbers from 1 to {len(model.blocks)} are needed")
    corpus = open_corpus(data)
    check_ids(corpus, checkpoint, loaded.info)
    model.requires_grad_(False)
    length = model.config.context
    crops = Crops(
        corpus.split("train"), tokenizer, context=length, batch_size=settings.batch_size, seed=settings.seed,
        transpose=0, stretch=0.0,
    )  # fmt: skip
    heads, tokens = train(model, crops, settings)
    kept = judge(model, heads, tokenizer, corpus.split("test"), settings)
    lengths = {
        block: [rounds(some, k, settings.seed) for k in range(1, settings.drafts + 1)] for block, some in kept.items()
    }
    engine = (settings.hidden, settings.drafts, settings.threads, settings.rounds)
    costs = [] if native.problem() else measure(model, settings.blocks, *engine)
    overlap = {block: float(np.concatenate([one.overlap for one in some]).mean()) for block, some in kept.items()}
    return {
        "checkpoint": checkpoint.name,
        "trained_on": tokens,
        "judged_on": sum(len(one.overlap) for one in kept[settings.blocks[0]]),
        "heads": [{"block": block, "overlap": overlap[block], "kept": lengths[block]} for block in kept],
        "costs": costs,
        "gains": gains(costs, lengths, settings.drafts),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as text."""
    most = range(1, len(result["heads"][0]["kept"]) + 1)
    lines = [f"{result['checkpoint']}: trained on {result['trained_on']:,} tokens, judged on {result['judged_on']:,}"]
    lines.append(f"{'head behind':14}{'overlap':>9}" + "".join(f"{f'kept of {k}':>12}" for k in most))
    for head in result["heads"]:
        lines.append(f"block {head['block']:<8}{head['overlap']:>9.3f}" + "".join(f"{n:>12.2f}" for n in head["kept"]))
    for cost in result["costs"]:
        drafts = ", ".join(f"{share:.2f} behind block {block}" for block, share in cost["drafts"].items())
        verify = ", ".join(f"{share:.2f} for {k}" for k, share in cost["verify"].items())
        lines.append(f"{cost['precision']}: a step {cost['step'] * 1e6:.0f} µs; a guess {drafts}; verifying {verify}")
    best = {name: max(result["gains"], key=lambda gain: gain[name], default=None) for name in ("gain", "over_fastest")}
    for name, against in (("gain", "the same precision"), ("over_fastest", "the fastest")):
        if (one := best[name]) is not None:
            how = f"{one['precision']}, block {one['block']}, {one['drafts']} guesses"
            lines.append(f"best against plain steps in {against}: {one[name]:.2f} times ({how})")
    return "\n".join(lines)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.exit_head", description=__doc__, exit_on_error=False)
    add_checkpoint(parser)
    add_data(parser, "to take them together")
    parser.add_class_arguments(ExitSettings)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def do(values: dict[str, Any]) -> None:
        checkpoint, data = values.pop("checkpoint"), values.pop("data")
        settings = ExitSettings(**values)
        result = study(checkpoint, data, settings)
        print(table(result))
        if settings.json:
            write_json(settings.json, plain(result, 6))

    return run(_parser, do, arguments)


if __name__ == "__main__":
    sys.exit(main())
