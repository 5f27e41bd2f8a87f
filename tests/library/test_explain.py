"""Why this id: what an explanation says is what the depth said while it was drawn, and what training's taps say."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from shortcut_gen import Prompt, SamplingParams
from shortcut_gen.errors import SettingsError
from shortcut_gen.explain import Attended, explain
from shortcut_gen.pipeline import EncodedPrompt
from tests.shared.small_models import small_pipeline
from training.attention.taps import enter, last_block, take_apart

PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)
SHAPES: dict[str, dict[str, object]] = {
    "shortcut": {},
    "current": {"attend_current": True, "position": "rotary", "value_residual": True},
    "baseline": {"taps": ()},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_explanation_agrees_with_the_depth_past_slides_of_the_window(shape: str) -> None:
    pipe = small_pipeline("torch", **SHAPES[shape])
    config = pipe.model.config
    rows = [(EncodedPrompt(prompt=Prompt.empty(), ids=PROMPT), 0)]
    *_, last = pipe.stream_rows(rows, SamplingParams(max_tokens=100, seed=4), depth=True)
    made = last.continuations[0]
    ids, depth = PROMPT + made.ids, made.depth
    assert depth is not None
    for at in (0, 1, 38, 40, 77, 99):
        place = len(PROMPT) + at
        said = explain(pipe, ids, place, len(PROMPT), most=12)
        assert (said.place, said.token, said.taps) == (place, ids[place], depth.taps)
        assert -math.log(said.probability) == pytest.approx(float(depth.surprise[at]), abs=1e-4)
        np.testing.assert_allclose(said.shares, depth.shares[at], atol=1e-5)
        found = [one.probability for one in said.alternatives]
        assert found == sorted(found, reverse=True) and len(found) == 12 and sum(found) <= 1.0001
        if said.token in (tokens := [one.token for one in said.alternatives]):
            assert found[tokens.index(said.token)] == said.probability
            assert said.alternatives[tokens.index(said.token)].allowed
        if not config.taps:
            assert said.shares == said.by_head == said.attended == said.attended_by_head == ()
            continue
        entry = enter(pipe.model, torch.tensor([ids[said.first : place]]))
        parts = take_apart(last_block(pipe.model).attention, entry.query, entry.sources, entry.step)
        want = (parts.share[..., None] * parts.within)[0, :, :, -1].transpose(1, 2).detach()  # (H, K, L)
        np.testing.assert_allclose(said.by_head, want.sum(dim=1), atol=1e-5)
        check(said.attended, want.mean(dim=0), said.taps, said.first)
        for some, one in zip(said.attended_by_head, want, strict=True):
            check(some, one, said.taps, said.first)


def check(attended: Sequence[Attended], weights: torch.Tensor, taps: tuple[int, ...], first: int) -> None:
    """They are the largest of weights, (K, L), in their order."""
    likeliest = weights.flatten().sort(descending=True).values
    assert [one.weight for one in attended] == pytest.approx(likeliest[: len(attended)].tolist(), abs=1e-5)
    for one in attended:
        weight = float(weights[one.position - first, taps.index(one.tap)])
        assert one.weight == pytest.approx(weight, abs=1e-5)


def test_without_a_prompts_length_the_longest_window_is_read() -> None:
    pipe = small_pipeline("torch")
    ids = [60 + at % 20 if at % 2 else 300 for at in range(200)]
    assert explain(pipe, ids, 199).first == 199 - len(pipe.tokenizer.clip(ids[:199], 47))
    assert explain(pipe, ids, 1).first == 0


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [({"place": 0}, "place is 0"), ({"place": 9}, "place is 9"), ({"most": 0}, "most is 0"), ({"prompt": 6}, "is 6")],
)
def test_what_cannot_be_explained_is_said_in_a_line(changes: dict[str, int], wrong: str) -> None:
    with pytest.raises(SettingsError, match=rf"^[^\n]*{wrong}[^\n]* needed[^\n]*$"):
        explain(small_pipeline("torch"), PROMPT, **{"place": 5, **changes})
    with pytest.raises(SettingsError, match=r"^the ids hold 388; ids from 0 to 387 are needed$"):
        explain(small_pipeline("torch"), (*PROMPT[:3], 388, 5), 4)
