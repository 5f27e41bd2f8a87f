"""The law of the caches: decoding with them equals reading everything anew, however a sequence is split."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcut_gen.network.cache import DecodeCache
from tests.shared.small_models import VARIANTS, build

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 23), max_size=6), seed=st.integers(0, 99))
def test_any_split_equals_one_pass(variant: str, batch: int, dtype: torch.dtype, cuts: list[int], seed: int) -> None:
    model = build(variant).to(dtype)
    torch.manual_seed(seed)
    tokens = torch.randint(0, 13, (batch, 24))
    bounds = [0, *sorted(set(cuts)), 24]
    cache = DecodeCache.create(model.config, batch, dtype=dtype)
    with torch.inference_mode():
        parts = [model(tokens[:, a:b], cache) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        whole = model(tokens)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_different_lengths_do_not_see_each_other(variant: str) -> None:
    """A ragged batch gives each row what it would get alone, and rows may be dropped, doubled and reordered."""
    model = build(variant).double()
    torch.manual_seed(1)
    tokens = torch.randint(0, 13, (4, 24))
    lengths = [3, 11, 1, 7]
    cache = DecodeCache.create(model.config, 4, dtype=torch.float64)
    with torch.inference_mode():
        for row, length in enumerate(lengths):
            model(tokens[row : row + 1, :length], cache.row(row))
            cache.lengths[row] = length
        step = torch.stack([tokens[row, length] for row, length in enumerate(lengths)]).unsqueeze(1)
        first = model(step, cache)
        kept = cache.take([3, 1, 1])
        more = torch.stack([tokens[row, lengths[row] + 1 : lengths[row] + 4] for row in (3, 1, 1)])
        second = model(more, kept)
        for row, length in enumerate(lengths):
            alone = model(tokens[row : row + 1, : length + 1])[:, -1:]
            torch.testing.assert_close(first[row : row + 1], alone, atol=1e-9, rtol=1e-9)
        for place, row in enumerate((3, 1, 1)):
            alone = model(tokens[row : row + 1, : lengths[row] + 4])[:, -3:]
            torch.testing.assert_close(second[place : place + 1], alone, atol=1e-9, rtol=1e-9)


def test_more_than_the_context_is_refused() -> None:
    model = build("shortcut")
    cache = DecodeCache.create(model.config)
    model(torch.zeros(1, 24, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="25 tokens do not fit the context of 24"):
        model(torch.zeros(1, 1, dtype=torch.long), cache)
