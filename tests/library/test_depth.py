"""Depth while decoding: the shares that the model's own attention has, and no id that changes by asking."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_gen import Continuation, Pipeline, Prompt, SamplingParams
from shortcut_gen.decoding import native
from shortcut_gen.decoding.engines import TorchEngine
from shortcut_gen.decoding.native import NativeEngine
from shortcut_gen.pipeline import EncodedPrompt
from tests.shared.small_models import small_pipeline
from training.attention.taps import enter, last_block, take_apart

needs_library = pytest.mark.skipif(native.problem() is not None, reason=native.problem() or "")
ENGINES = ["torch", pytest.param("native", marks=needs_library)]
PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)
PROMPTS: tuple[tuple[int, ...], ...] = (PROMPT, PROMPT[:4], PROMPT * 7, ())
SHAPES: dict[str, dict[str, object]] = {
    "shortcut": {},
    "current": {"attend_current": True, "position": "rotary"},
    "one-tap": {"taps": (2,), "value_residual": True},
    "baseline": {"taps": ()},
}


def made(
    pipe: Pipeline, params: SamplingParams, depth: bool = True, prompts: Sequence[tuple[int, ...]] = PROMPTS
) -> tuple[Continuation, ...]:
    rows = [(EncodedPrompt(prompt=Prompt.empty(), ids=ids), variation) for ids in prompts for variation in range(2)]
    *_, last = pipe.stream_rows(rows, params, depth=depth)
    return last.continuations


@pytest.mark.parametrize("share", [0, 3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_depth_of_each_id_is_that_of_its_window_and_no_id_changes(engine: str, shape: str, share: int) -> None:
    """Past slides of the window, in rows that wait, join and leave, of prompts of all lengths and of none."""
    pipe = small_pipeline(engine, share, **SHAPES[shape])
    params = SamplingParams(max_tokens=90, seed=2, top_p=0.95)
    without = made(pipe, params, depth=False)
    assert all(one.depth is None for one in without)
    for one, plain in zip(made(pipe, params), without, strict=True):
        assert one.ids == plain.ids
        depth, config = one.depth, pipe.model.config
        assert depth is not None
        assert depth.taps == ((*config.taps, config.layers) if config.attend_current else config.taps)
        assert depth.shares.shape == (90, config.sources) and depth.surprise.shape == depth.entropy.shape == (90,)
        assert depth.shares.dtype == depth.surprise.dtype == depth.entropy.dtype == np.float32
        first = 0 if one.prompt_ids else int(np.isnan(depth.surprise).sum())
        assert np.isnan(depth.shares[:first]).all()
        whole, prompt = one.prompt_ids + one.ids, len(one.prompt_ids)
        for at in range(first, 90, 7):
            with torch.inference_mode():
                ids = torch.tensor([pipe.sampler.window(whole, prompt + at, prompt)])
                if not config.taps:
                    logits = pipe.model(ids)
                else:
                    entry = enter(pipe.model, ids)
                    logits = entry.logits
                    parts = take_apart(last_block(pipe.model).attention, entry.query, entry.sources, entry.step)
                    want = parts.share[0, :, :, -1].numpy()  # (H, L)
                    assert depth.by_head is not None
                    np.testing.assert_allclose(depth.by_head[at], want, atol=1e-4)
                    np.testing.assert_allclose(depth.shares[at], want.mean(axis=0), atol=1e-4)
                surprise = -float(logits[0, -1].log_softmax(-1)[one.ids[at]])
            assert depth.surprise[at] == pytest.approx(surprise, abs=2e-4)


@needs_library
@pytest.mark.parametrize("threads", [1, 2])
def test_watching_changes_no_bit_and_sees_the_same_with_every_instruction_set(threads: int) -> None:
    lm = small_pipeline("torch", position="rotary", shortcut_heads=8, context=60).model
    tokens = [(29 * at) % 388 for at in range(60)]
    theirs = TorchEngine(lm).decoding(2)
    theirs.look(1, watched=True)
    for level in native.LEVELS[: native.LEVELS.index(native.machine_level()) + 1]:
        for precision, near in (("f32", 1e-5), ("bf16", 0.02), ("int8", 0.05)):
            engine = NativeEngine(lm, precision=precision, threads=threads, level=level)  # type: ignore[arg-type]
            plain, watched = engine.decoding(2), engine.decoding(2)
            watched.look(1, watched=True)
            for start, end in ((0, 50), (50, 57)):  # many rows and few are computed in different ways
                assert torch.equal(
                    watched.read(1, tokens[start:end], start=start), plain.read(1, tokens[start:end], start=start)
                )
                theirs.read(1, tokens[start:end], start=start)
                assert watched.seen is not None and theirs.seen is not None and plain.seen is None
                np.testing.assert_allclose(watched.seen.shares, theirs.seen.shares, atol=near)
            params = SamplingParams(max_tokens=1, temperature=0.9)
            drawn = [one.draw([5], [None], params, [0.6], [1]) for one in (watched, plain)]
            assert drawn[0] == drawn[1]
            known = theirs.read(1, [5], start=57).log_softmax(-1)[0, drawn[0][0]]
            assert watched.seen is not None and watched.seen.surprise is not None and theirs.seen is not None
            np.testing.assert_allclose(watched.seen.surprise[0], -known, atol=20 * near)
            np.testing.assert_allclose(watched.seen.shares[:1], theirs.seen.shares, atol=near)


def test_entropy_is_that_of_the_shares() -> None:
    depth = made(small_pipeline("torch"), SamplingParams(max_tokens=20))[0].depth
    assert depth is not None
    want = torch.distributions.Categorical(torch.from_numpy(depth.shares.copy())).entropy()
    np.testing.assert_allclose(depth.entropy, want, atol=1e-5)


def test_rows_that_ask_and_rows_that_do_not_share_a_batch(tmp_path: Path) -> None:
    pipe = small_pipeline("torch", share=4)
    params = SamplingParams(max_tokens=60, seed=1)
    asking = pipe.stream_rows([(EncodedPrompt(prompt=Prompt.empty(), ids=PROMPT), 0)], params, 8, depth=True)
    first = next(asking).continuations[0]
    assert first.depth is not None and len(first.depth.surprise) == len(first.ids) > 0
    plain = made(pipe, params, depth=False)
    *_, last = asking
    assert last.continuations[0].ids == plain[0].ids
    assert last.continuations[0].depth is not None and not np.isnan(last.continuations[0].depth.shares).any()


def test_an_engine_that_cannot_look_gives_no_depth() -> None:
    pipe = small_pipeline("torch")
    pipe.sampler.engine = type(pipe.sampler.engine)(pipe.model, graphs=True)  # type: ignore[call-arg]
    assert [one.depth for one in made(pipe, SamplingParams(max_tokens=5))] == [None] * 8
