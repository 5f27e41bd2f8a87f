"""A training step, ours against others': `python -m benchmarks.train [--json FILE]`.

Forward, backward, clipping and AdamW on the same batch of random ids (how long a step takes does not depend on which):
our baseline and shortcut model, a plain loop in the manner of nanoGPT, transformers' GPT-2 and x-transformers, all at
the baseline's size but the shortcut model, each in a process of its own, taking turns. bf16 is torch's autocast, for
all; the loss is taken in f32, for all.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measuring.timing import Figure, about, alternate, command, describe, progress, ratio, table
from benchmarks.measuring.workers import started
from shortcut_gen.errors import SettingsError
from shortcut_gen.network.config import ModelConfig
from training.corpus.shards import write_json

Precision = Literal["f32", "bf16"]
SELF = "benchmarks.train"
ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": (f"{SELF}:ours", {"kind": "baseline"}),
    "shortcut": (f"{SELF}:ours", {"kind": "shortcut"}),
    "plain loop": (f"{SELF}:plain", {}),
    "transformers": (f"{SELF}:transformers", {}),
    "x-transformers": (f"{SELF}:x_transformers", {}),
}
PEERS = ("plain loop", "transformers", "x-transformers")
LEARNING_RATE = 1e-3
CLIP = 1.0


class PlainBlock(nn.Module):
    """A block as nanoGPT writes it: queries, keys and values of one matrix, torch's causal attention, an MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.first, self.second = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv, self.out = nn.Linear(config.width, 3 * config.width), nn.Linear(config.width, config.width)
        self.up = nn.Linear(config.width, config.feedforward)
        self.down = nn.Linear(config.feedforward, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        parts = self.qkv(self.first(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, H, T, E)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x)), approximate="tanh"))


class PlainModel(nn.Module):
    """The baseline as one would write it down."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.Sequential(*(PlainBlock(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> logits (B, T, V)."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def _stepping(
    logits: Callable[[Tensor], Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    vocab: int,
    device: str,
    precision: Precision,
) -> Callable[..., dict[str, Any]]:
    """A worker that makes training steps."""

    def steps(batch: int, length: int, count: int) -> dict[str, Any]:
        """Seconds that so many steps take on batches (B, T), and the last loss."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, vocab, (batch, length + 1), generator=generator).to(device)
        began = _clock(device)
        for _ in range(count):
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                out = logits(ids[:, :-1])
            loss = F.cross_entropy(out.flatten(0, 1).float(), ids[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
        return {"seconds": _clock(device) - began, "loss": float(loss.detach())}

    return steps


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _served(make: Callable[..., tuple[nn.Module, Callable[[Tensor], Tensor]]]) -> Callable[..., Any]:
    """Makes a factory of a model and its logits one for benchmarks.measuring.workers, trained with AdamW."""

    @functools.wraps(make)
    def factory(config: dict[str, Any], threads: int, device: str, precision: Precision, **settings: Any) -> Any:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        shape = ModelConfig.from_dict(config)
        model, logits = make(shape, **settings)
        model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.95))
        return _stepping(logits, model, optimizer, shape.vocab_size, device, precision)

    return factory


def ours(
    config: dict[str, Any], threads: int, device: str, precision: Precision, kind: str, form: str = "auto"
) -> Callable[..., dict[str, Any]]:
    """Our model as training.fit trains it, its optimiser and its way with memory too; `form` is the last block's."""
    from shortcut_gen.network import attention, model
    from training.run.recipe import OptimizerConfig
    from training.run.task import LanguageModelTask
    from training.support.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shape = ModelConfig.from_dict(config)
    if form != "auto":
        model.prefix_attention = functools.partial(attention.prefix_attention, form=form)  # type: ignore[assignment]
    chosen = shape if kind == "shortcut" else dataclasses.replace(shape, taps=())
    task = LanguageModelTask(chosen, OptimizerConfig(name="adamw", lr=LEARNING_RATE))
    task.to(device).train()
    return _stepping(task.model, task.model, task.configure_optimizers(), shape.vocab_size, device, precision)


@_served
def plain(config: ModelConfig) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The plain loop's model."""
    model = PlainModel(config)
    return model, model


@_served
def transformers(config: ModelConfig) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """transformers' GPT-2."""
    from benchmarks.peers.torch import gpt2

    model = gpt2(config)
    return model, lambda ids: model(ids, use_cache=False).logits


@_served
def x_transformers(config: ModelConfig) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """x-transformers' decoder."""
    from benchmarks.peers.torch import x_transformer

    model = x_transformer(config)
    return model, model


Key = tuple[str, str]
"""Engine and precision."""


def main(
    engines: tuple[str, ...] = tuple(ENGINES),
    precisions: tuple[Precision, ...] = ("f32", "bf16"),
    forms: tuple[str, ...] = (),
    batch: int = 16,
    length: int = 512,
    steps: int = 1,
    rounds: int = 7,
    threads: int = 2,
    device: Literal["cpu", "cuda"] = "cpu",
    model: ModelConfig = ModelConfig(),  # noqa: B008 (frozen)
    json: Path | None = None,
) -> None:
    """Measure, print and write.

    Args:
        engines: What is measured.
        precisions: Of the products: f32, or bf16 by autocast.
        forms: Forms of the last block's attention to measure the shortcut model with too; see network.attention.
        batch: Sequences of a batch.
        length: Ids of a sequence.
        steps: Steps of a round.
        rounds: Rounds in which all take turns, after one to warm up.
        threads: CPU threads of each.
        device: Where they run.
        model: Shape of the shortcut model; the baseline is the same without taps.
        json: File to write.
    """
    if unknown := sorted(set(engines) - set(ENGINES)):
        raise SettingsError(f"engines has {unknown[0]!r}; some of {', '.join(ENGINES)} are needed")
    if min(batch, length, steps, rounds, threads) < 1:
        raise SettingsError("batch, length, steps, rounds and threads are whole numbers of at least 1")
    machine = about(("transformers", "x-transformers"))
    print(describe(machine), flush=True)
    chosen = {name: ENGINES[name] for name in engines}
    chosen |= {f"shortcut, {form}": (f"{SELF}:ours", {"kind": "shortcut", "form": form}) for form in forms}
    shared = {"config": model.to_dict(), "device": device}
    wanted = {
        (name, kind): (factory, {**shared, **settings, "precision": kind})
        for name, (factory, settings) in chosen.items()
        for kind in precisions
    }
    work = {"batch": batch, "length": length, "count": steps}
    tokens = batch * length * steps
    with started(wanted, threads, work) as workers:
        timed = {
            key: (lambda worker=worker: tokens / float(worker.ask(**work)["seconds"]))  # type: ignore[misc]
            for key, worker in workers.items()
        }
        speeds = alternate(timed, rounds, progress)
    print(f"\n{batch} × {length} ids a step, AdamW, {threads} thread(s) on {device}, {rounds} rounds\n")
    rows = _rows(speeds, precisions)
    heads = ["model", "precision", "tokens/s", "times the fastest peer", "step, times our baseline's"]
    cells = [[r["engine"], r["precision"], r["text"], r["over_peer_text"], r["step_text"]] for r in rows]
    print(table([heads, *cells]), flush=True)
    if json:
        kept = [{name: value for name, value in row.items() if not name.endswith("text")} for row in rows]
        asked = {"batch": batch, "length": length, "steps": steps, "rounds": rounds, "threads": threads}
        write_json(json, {"machine": machine | {"device": device}, "work": asked, "rows": kept})


def _rows(speeds: dict[Key, list[float]], precisions: Sequence[str]) -> list[dict[str, Any]]:
    """A row an engine and precision, fastest first: its speed over the fastest peer's, its step over our baseline's."""
    rows = []
    for kind in precisions:
        here = {name: values for (name, other), values in speeds.items() if other == kind}
        fastest = max(
            (name for name in PEERS if name in here), key=lambda name: Figure.of(here[name]).median, default=""
        )
        for name, values in sorted(here.items(), key=lambda item: -Figure.of(item[1]).median):
            figure = Figure.of(values)
            row: dict[str, Any] = {"engine": name, "precision": kind, "text": figure.text()}
            row |= {"tokens_per_second": round(figure.median, 1), "spread": round(figure.spread, 4)}
            pairs = (
                ("over_peer", values, here.get(fastest), fastest),
                ("step", here.get("baseline"), values, "baseline"),
            )
            for title, one, other, against in pairs:
                times = ratio(one, other) if one and other and name != against else None
                row[title] = times.to_dict() if times else None
                row[f"{title}_text"] = times.text(".2f") if times else ""
            rows.append(row | {"fastest_peer": fastest or None})
    return rows


if __name__ == "__main__":
    sys.exit(command(main))
