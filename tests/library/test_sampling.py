"""The filters and the draw: pure functions of logits."""

import math

import pytest
import torch

from shortcut_gen.decoding.sampling import SamplingParams, draw, filter_logits
from shortcut_gen.errors import SettingsError

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
