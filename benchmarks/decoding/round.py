"""A round of decoding: the same work for every engine, timed in the engine's own process.

B prompts of random ids are read and so many new ids drawn for each, at temperature 1 from the `top_k` likeliest, or the
likeliest where `top_k` is 1. The time covers reading the prompt, the logits and the choice of every id.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM


class Decode(Protocol):
    """What an engine does in a round."""

    def __call__(self, prompts: list[list[int]], new: int, top_k: int, seed: int) -> list[list[int]]:
        """The new ids of every prompt; all prompts are equally long."""
        ...


def random_model(config: ModelConfig, seed: int = 0) -> ShortcutLM:
    """A model of random weights, the same in every process."""
    torch.manual_seed(seed)
    return ShortcutLM(config).eval()


def prompts_of(vocab: int, batch: int, length: int, seed: int) -> list[list[int]]:
    """Random ids, every row its own: equal prompts may be read once."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[list[int]] = torch.randint(0, vocab, (batch, length), generator=generator).tolist()
    return ids


def served(factory: Callable[..., Decode]) -> Callable[..., Callable[..., dict[str, Any]]]:
    """Makes a factory of `Decode` one for benchmarks.measuring.workers: a call is a round."""

    @functools.wraps(factory)
    def make(config: dict[str, Any], threads: int, **settings: Any) -> Callable[..., dict[str, Any]]:
        shape = ModelConfig.from_dict(config)
        decode = factory(shape, threads, **settings)

        def round_(batch: int, prompt: int, new: int, top_k: int, seed: int, ids: bool = False) -> dict[str, Any]:
            """Seconds, and with `ids` what was drawn."""
            prompts = prompts_of(shape.vocab_size, batch, prompt, seed)
            began = time.perf_counter()
            made = decode(prompts, new, top_k, seed)
            seconds = time.perf_counter() - began
            if [len(row) for row in made] != [new] * batch:
                raise ValueError(f"{[len(row) for row in made]} ids were drawn; {batch} rows of {new} were asked for")
            return {"seconds": seconds} | ({"ids": made} if ids else {})

        return round_

    return make
