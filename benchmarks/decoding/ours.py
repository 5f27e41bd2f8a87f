"""Our own engines in a benchmark's worker: the whole of `Sampler.stream`, and its parts for where the time goes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.decoding.round import Decode, random_model, served
from shortcut_gen.decoding.engines import Engine, TorchEngine, make_engine
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM


class FreeGrammar:
    """Allows every id, as the peers do."""

    seconds = 0.0

    def advance(self, token: int) -> None:
        pass

    def allowed(self) -> Tensor | None:
        return None


class FreeTokenizer:
    """As much of a `Tokenizer` as the sampler asks for."""

    name = "free"
    frame = 1

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def clip(self, ids: Sequence[int], n: int) -> list[int]:
        return list(ids[-n:])

    def grammar(self) -> FreeGrammar:
        return FreeGrammar()


def our_engine(model: ShortcutLM, engine: str, precision: str | None) -> Engine:
    """What `make_engine` makes, or with "eager" PyTorch without a graph wherever the model is."""
    return TorchEngine(model) if engine == "eager" else make_engine(model, engine, precision)


@served
def ours(config: ModelConfig, threads: int, engine: str, precision: str | None = None, device: str = "cpu") -> Decode:
    """`Sampler.stream` with one of our engines."""
    torch.set_num_threads(threads)
    model = random_model(config).to(device)
    made = our_engine(model, engine, precision)
    sampler = Sampler(model, FreeTokenizer(config.vocab_size), made)  # type: ignore[arg-type]

    def decode(prompts: list[list[int]], new: int, top_k: int, seed: int) -> list[list[int]]:
        streams = [Stream(prompt=tuple(ids), seed=seed, variation=row) for row, ids in enumerate(prompts)]
        drawn = {"temperature": 1.0, "top_k": top_k} if top_k > 1 else {"temperature": 0.0}
        params = SamplingParams(seed=seed, max_tokens=new, **drawn)  # type: ignore[arg-type]
        steps = list(sampler.stream(streams, params))
        return [list(row) for row in zip(*steps, strict=True)]  # type: ignore[arg-type]

    return decode
