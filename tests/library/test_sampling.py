"""The filters and the draw: pure functions of logits."""

import math

import pytest
import torch

from shortcut_gen.decoding.sampling import UNUSABLE, SamplingParams, draw, filter_logits
from shortcut_gen.errors import CheckpointError, SettingsError

PROBS = torch.tensor([[0.5, 0.25, 0.15, 0.07, 0.03]])


def kept(**settings: float) -> list[int]:
    """Which of PROBS' ids a filter leaves."""
    params = SamplingParams(max_tokens=1, **settings)  # type: ignore[arg-type]
    return filter_logits(PROBS.log(), params)[0].isfinite().nonzero().flatten().tolist()


def test_each_filter_keeps_what_its_definition_says() -> None:
    assert kept() == [0, 1, 2, 3, 4]
    assert kept(top_k=2) == [0, 1]
    assert kept(top_k=9) == [0, 1, 2, 3, 4]
    assert kept(top_p=0.7) == [0, 1]  # 0.5 falls short of 0.7, 0.75 reaches it
    assert kept(top_p=0.8) == [0, 1, 2]
    assert kept(top_p=0.01) == [0]
    assert kept(min_p=0.2) == [0, 1, 2]  # at least 0.1
    assert kept(top_k=3, min_p=0.4) == [0, 1]


def test_filters_keep_unsorted_rows_apart() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.6, 0.3], [0.8, 0.05, 0.15]]))
    out = filter_logits(logits, SamplingParams(top_p=0.7, max_tokens=1))
    assert out.isfinite().tolist() == [[False, True, True], [True, False, False]]


def test_temperature_sharpens() -> None:
    cold = torch.softmax(filter_logits(PROBS.log(), SamplingParams(temperature=0.5, max_tokens=1)), -1)
    torch.testing.assert_close(cold, PROBS.square() / PROBS.square().sum())


def test_draws_follow_the_distribution_and_never_take_the_impossible() -> None:
    probs = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    uniforms = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn = draw(probs.log().expand(10_000, -1), uniforms)
    shares = torch.bincount(drawn, minlength=6) / 10_000
    torch.testing.assert_close(shares, probs, atol=2e-4, rtol=0)
    edges = draw(probs.log().expand(2, -1), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
    assert edges.tolist() == [1, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": math.nan},
        {"top_k": -1},
        {"top_k": 2.5},
        {"min_p": 1.0},
        {"min_p": -0.1},
        {"seed": -1},
        {"seed": 2**63},
        {"seconds": 0.0},
        {"seconds": -3.0},
        {"seconds": math.nan},
        {"max_tokens": 0},
    ],
)
def test_settings_outside_their_range_are_named(wrong: dict[str, float]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(SettingsError, match=f"^{name} is {value}; .* is needed$".replace("+", r"\+")):
        SamplingParams(**{"max_tokens": 5, **wrong})  # type: ignore[arg-type]


def test_a_length_is_needed() -> None:
    with pytest.raises(SettingsError, match="at least one length"):
        SamplingParams()


def test_a_temperature_that_float32_cannot_divide_by_is_zero() -> None:
    for cold in (1e-7, 1e-38, 1e-300, 5e-324):
        assert SamplingParams(temperature=cold, max_tokens=1).temperature == 0
    assert SamplingParams(temperature=1e-6, max_tokens=1).temperature == 1e-6


def engines_for_drawing() -> list[object]:
    from shortcut_gen.decoding import native
    from shortcut_gen.decoding.engines import TorchEngine
    from tests.shared.small_models import build

    model = build("baseline")
    made: list[object] = [TorchEngine(model), TorchEngine(model, graphs=True)]
    return made if native.problem() else [*made, native.NativeEngine(model, precision="f32", threads=1)]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -3e38])
def test_logits_that_are_no_usable_numbers_draw_nothing(number: int, temperature: float, bad: float) -> None:
    """In every engine, whether the grammar allows the id or not."""
    engines = engines_for_drawing()
    if number >= len(engines):
        pytest.skip("the native engine was not built")
    params = SamplingParams(temperature=temperature, top_k=2**40, top_p=0.9, min_p=0.01, max_tokens=1)
    allowed = torch.zeros(13, dtype=torch.bool)
    allowed[[3, 7]] = True
    for place in (3, 5):
        logits = torch.linspace(-1, 1, 13).repeat(2, 1)
        logits[1, place] = bad
        drawn = engines[number].choose(logits, [allowed, allowed], params, [0.5, 0.5])  # type: ignore[attr-defined]
        assert drawn[0] in (3, 7)
        assert drawn[1] == UNUSABLE


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_of_damaged_weights_stops_in_one_line(temperature: float) -> None:
    from shortcut_gen.decoding.engines import TorchEngine
    from shortcut_gen.decoding.sampler import Sampler, Stream
    from shortcut_gen.modalities.piano import PianoTokenizer
    from shortcut_gen.network.config import ModelConfig
    from shortcut_gen.network.model import ShortcutLM

    model = ShortcutLM(ModelConfig(context=16, layers=2, width=8, heads=2, feedforward=8, taps=())).eval()
    with torch.no_grad():
        model.norm.weight.fill_(math.nan)
    for engine in (TorchEngine(model), TorchEngine(model, graphs=True)):
        sampler = Sampler(model, PianoTokenizer(), engine)
        with pytest.raises(CheckpointError, match="logits that are no numbers"):
            list(sampler.stream([Stream(prompt=(60,))], SamplingParams(temperature=temperature, max_tokens=4)))


def test_the_native_boundary_refuses_what_does_not_fit() -> None:
    from shortcut_gen.decoding import native

    if native.problem():
        pytest.skip("the native engine was not built")
    from tests.shared.small_models import build

    engine = native.NativeEngine(build("baseline"), precision="f32", threads=1)
    params = SamplingParams(max_tokens=1)
    logits = torch.zeros(1, 13)
    for masks, numbers, given in (
        ([torch.ones(12, dtype=torch.bool)], [0.5], logits),
        ([torch.ones(13)], [0.5], logits),
        ([None, None], [0.5, 0.5], logits),
        ([None], [], logits),
        ([None], [0.5], logits.double()),
    ):
        with pytest.raises(ValueError, match=r"needed|need as many"):
            engine.choose(given, masks, params, numbers)
