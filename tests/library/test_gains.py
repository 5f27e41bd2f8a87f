"""Taps turned down and up: as if their keys counted so many times, in every engine, row by row, and at what cost."""

import numpy as np
import pytest
import torch

from shortcut_gen import Prompt, SamplingParams
from shortcut_gen.decoding import native
from shortcut_gen.decoding.engines import TorchEngine
from shortcut_gen.decoding.native import NativeEngine
from shortcut_gen.decoding.sampler import Stream
from shortcut_gen.errors import SettingsError
from shortcut_gen.explain import explain, gain_cost
from shortcut_gen.network.look import Look, biases
from shortcut_gen.pipeline import EncodedPrompt
from tests.shared.small_models import small_pipeline
from training.attention.changes import View, without
from training.attention.taps import enter, last_block, leave, mix, take_apart

needs_library = pytest.mark.skipif(native.problem() is not None, reason=native.problem() or "")
ENGINES = ["torch", pytest.param("native", marks=needs_library)]
PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)
TOKENS = [(29 * at) % 388 for at in range(47)]
GAINS = [(0.0, 1.0), (2.5, 0.3), (1.0, 4.0)]


@pytest.mark.parametrize("gains", GAINS)
def test_a_gain_is_what_training_calls_a_change_of_the_shares(gains: tuple[float, ...]) -> None:
    """Its oracle: the attention taken apart, each tap's share times its gain; without the tap for 0."""
    lm = small_pipeline("torch").model
    with torch.inference_mode():
        ids = torch.tensor([TOKENS])
        entry = enter(lm, ids)
        parts = take_apart(last_block(lm).attention, entry.query, entry.sources, entry.step)
        share = parts.share * torch.tensor(gains)[:, None]
        read = mix(share / share.sum(dim=2, keepdim=True), parts.read)
        if gains[0] == 0:
            view = View(model=lm, entry=entry, parts=parts, tokens=ids[0], generator=torch.Generator())
            torch.testing.assert_close(read, without(0)(view))
        got = lm(ids, look=Look(torch.tensor([biases(gains)])))
        torch.testing.assert_close(got, leave(lm, entry, read), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gains", GAINS)
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_decode_as_the_model_reads_with_gains(engine: str, gains: tuple[float, ...]) -> None:
    lm = small_pipeline("torch", position="rotary", shortcut_heads=8).model
    look = Look(torch.tensor([biases(gains)]))
    with torch.inference_mode():
        want, plain = lm(torch.tensor([TOKENS]), look=look)[0], lm(torch.tensor([TOKENS]))[0]
    assert look.shares is not None
    levels = native.LEVELS[: native.LEVELS.index(native.machine_level()) + 1] if engine == "native" else [""]
    for level in levels:
        made = NativeEngine(lm, precision="f32", threads=1, level=level) if level else TorchEngine(lm)
        decoding = made.decoding(3)
        decoding.look(1, watched=True, gains=gains)  # type: ignore[attr-defined]
        for row in range(3):
            decoding.read(row, TOKENS[:30])
        decoding.read(1, TOKENS[30:40], start=30)
        decoding.read(2, TOKENS[30:40])
        for token in TOKENS[40:]:
            logits = decoding.step([token] * 3).clone()
        torch.testing.assert_close(logits[1], want[-1], atol=1e-4, rtol=1e-4)
        again = decoding.read(1, TOKENS)
        torch.testing.assert_close(again[0], want[-1], atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(decoding.seen.shares[0], look.shares[0], atol=1e-4)  # type: ignore[attr-defined]
        decoding.look(1, watched=False)  # type: ignore[attr-defined]
        torch.testing.assert_close(decoding.read(1, TOKENS)[0], plain[-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_of_other_gains_share_a_batch_and_have_the_ids_that_they_have_alone(engine: str) -> None:
    """Also those of equal prompts, which are read once where the gains are equal."""
    alone, shared = small_pipeline(engine), small_pipeline(engine, share=5)
    settings = [SamplingParams(max_tokens=80, seed=3, tap_gains=gains) for gains in [(), *GAINS, (1, 1)]]
    row = [(EncodedPrompt(prompt=Prompt.empty(), ids=PROMPT), 0)]
    want = [[*alone.stream_rows(row, params, depth=number % 2 == 0)][-1] for number, params in enumerate(settings)]
    ids = [progress.continuations[0].ids for progress in want]
    assert len(set(ids)) == 4 and ids[0] == ids[4]
    assert shared.shared is not None
    requests = [shared.shared.submit([Stream(prompt=PROMPT, seed=3)], params) for params in settings]
    for request, made in zip(requests, ids, strict=True):
        got: list[int] = []
        done = (False,)
        while not done[0]:
            new, done = request.take()
            got += new[0]
        assert tuple(got) == made
    depth = want[2].continuations[0].depth
    assert depth is not None
    said = explain(alone, PROMPT + ids[2], len(PROMPT) + 30, len(PROMPT), gains=GAINS[1])
    np.testing.assert_allclose(said.shares, depth.shares[30], atol=1e-4)


def test_the_cost_of_gains_is_that_of_the_ids_under_them() -> None:
    pipe = small_pipeline("torch")
    cost = gain_cost(pipe, TOKENS, GAINS[1], skip=5)
    with torch.inference_mode():
        ids = torch.tensor([TOKENS])
        look = Look(torch.tensor([biases(GAINS[1])]))
        want = [pipe.model(ids[:, :-1], look=one)[0].log_softmax(-1)[range(46), TOKENS[1:]] for one in (look, None)]
    assert cost.tokens == 41
    assert cost.nats == pytest.approx(-float(want[0][5:].mean()), abs=1e-5)
    assert cost.nats_as_trained == pytest.approx(-float(want[1][5:].mean()), abs=1e-5)
    assert cost.difference == cost.nats - cost.nats_as_trained != 0
    assert gain_cost(pipe, TOKENS * 4, (1, 1)).difference == 0


@pytest.mark.parametrize("gains", [(0, 0), (5, 1), (-1, 1), (float("nan"), 1), ("a", 1), 2, (True, 1)])
def test_wrong_gains_are_refused_in_a_line(gains: object) -> None:
    with pytest.raises(SettingsError, match=r"^tap_gains is [^\n]* are needed$"):
        SamplingParams(max_tokens=1, tap_gains=gains)  # type: ignore[arg-type]


def test_gains_that_do_not_fit_the_model_or_the_engine_are_refused() -> None:
    assert SamplingParams(max_tokens=1, tap_gains=(1, 1.0)) == SamplingParams(max_tokens=1)
    params = SamplingParams(max_tokens=1, tap_gains=(1, 2, 3))
    for pipe in (small_pipeline("torch"), small_pipeline("torch", share=2), small_pipeline("torch", taps=())):
        with pytest.raises(SettingsError, match=r"^tap_gains has 3 numbers; the model has [02] taps [^\n]*$"):
            pipe.continue_prompt(Prompt.empty(), params)
        with pytest.raises(SettingsError, match=r"^3 gains are given; the model has [02] taps [^\n]*$"):
            gain_cost(pipe, TOKENS, (1, 2, 3))
    pipe = small_pipeline("torch")
    pipe.sampler.engine = TorchEngine(pipe.model, graphs=True)
    with pytest.raises(SettingsError, match=r"^tap_gains is \(2.0, 1.0\), but on this device [^\n]*$"):
        pipe.continue_prompt(Prompt.empty(), SamplingParams(max_tokens=1, tap_gains=(2, 1)))
    with pytest.raises(SettingsError, match=r"^skip is 46; of 47 ids that are read, 0 to 45 are needed$"):
        gain_cost(pipe, TOKENS, (2, 1), skip=46)
