"""The kernels in C++: equal to PyTorch at every instruction set, shape and layout, gradients too."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shortcut_gen.compiled import FORCED_LEVEL
from shortcut_gen.network import cpu_kernels
from shortcut_gen.network.attention import prefix_attention
from shortcut_gen.network.cpu_kernels import LEVELS, functions, gated, gelu, library, native_attention, rotated, takes
from shortcut_gen.network.model import Step

PROBLEM = cpu_kernels.problem()
needs_library = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))


def has_tiles() -> bool:
    """Whether this machine multiplies bfloat16 tiles."""
    loaded = library.load()
    return not isinstance(loaded, str) and library.level(loaded) == LEVELS.index("amx")


needs_tiles = pytest.mark.skipif(not has_tiles(), reason="the library or the processor's AMX is missing here")


def operands(length: int, sources: int, width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys and values of 2 sequences and 3 heads as views in the order that the model's projections have."""
    query = torch.randn(2, length, 3, width).to(dtype).transpose(1, 2)
    both = torch.randn(2, length, sources, 6, width).to(dtype).permute(0, 3, 1, 2, 4)
    return [x.detach().requires_grad_() for x in (query, *both.chunk(2, dim=1))]


def exactly(inputs: list[Tensor], out_grad: Tensor) -> list[Tensor]:
    """Output and gradients of the plain form in float64."""
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    out = prefix_attention(*doubles, form="dense")
    return [out, *torch.autograd.grad(out, doubles, out_grad.double())]


@needs_library
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", functions.WIDTHS)
@settings(max_examples=8, deadline=None)
@given(length=st.integers(1, 70), sources=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_equal_to_the_plain_form_with_its_gradients(
    level: str, width: int, length: int, sources: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FORCED_LEVEL, level)
        torch.manual_seed(seed)
        inputs = operands(length, sources, width)
        out_grad = torch.randn(2, 3, length, width)
        out = native_attention(*inputs)
        results = [out, *torch.autograd.grad(out, inputs, out_grad)]
    for ours, exact in zip(results, exactly(inputs, out_grad), strict=True):
        torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=1e-5)


@needs_library
def test_long_prefixes_and_large_scores() -> None:
    """Several panels of keys, and a softmax that one far key dominates: the running maximum has to be right."""
    torch.manual_seed(0)
    inputs = operands(200, 4, 8)
    with torch.no_grad():
        inputs[0].mul_(20)
        inputs[1].mul_(20)
    out_grad = torch.randn(2, 3, 200, 8)
    out = native_attention(*inputs)
    results = [out, *torch.autograd.grad(out, inputs, out_grad)]
    for ours, exact in zip(results, exactly(inputs, out_grad), strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours.double(), exact, atol=2e-3, rtol=1e-3)


@needs_library
@pytest.mark.parametrize("level", LEVELS[:-1])
def test_bfloat16_is_summed_in_float32(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As exact as rounding the exact result of the rounded operands once."""
    monkeypatch.setenv(FORCED_LEVEL, level)
    torch.manual_seed(1)
    inputs = operands(90, 4, 16, torch.bfloat16)
    out_grad = torch.randn(2, 3, 90, 16).bfloat16()
    out = native_attention(*inputs)
    results = [out, *torch.autograd.grad(out, inputs, out_grad)]
    for ours, exact in zip(results, exactly(inputs, out_grad), strict=True):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours.double(), exact, atol=1e-4, rtol=2**-8)


@needs_tiles
@pytest.mark.parametrize("width", functions.WIDTHS)
@settings(max_examples=12, deadline=None)
@given(length=st.integers(2, 150), sources=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_tiles_round_weights_and_nothing_else(width: int, length: int, sources: int, seed: int) -> None:
    """Weights and their gradients have 8 bits there: results are at most 2^-8 off in the mean, which one key's or one
    query's share lost would be many times over."""
    torch.manual_seed(seed)
    inputs = operands(length, sources, width, torch.bfloat16)
    out_grad = torch.randn(2, 3, length, width).bfloat16()
    out = native_attention(*inputs)
    results = [out, *torch.autograd.grad(out, inputs, out_grad)]
    for ours, exact in zip(results, exactly(inputs, out_grad), strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.linalg.norm(ours.double() - exact) <= 2**-8 * torch.linalg.norm(exact)
        torch.testing.assert_close(ours.double(), exact, atol=0.05, rtol=0.05)


@needs_tiles
def test_tiles_bear_large_scores_and_threads() -> None:
    """Several panels of keys, a softmax that one far key dominates; the same bits with any number of threads."""
    torch.manual_seed(3)
    inputs = operands(200, 4, 16, torch.bfloat16)
    with torch.no_grad():
        inputs[0].mul_(20)
        inputs[1].mul_(20)
    out_grad = torch.randn(2, 3, 200, 16).bfloat16()
    results: list[list[Tensor]] = []
    threads = torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        out = native_attention(*inputs)
        results.append([out, *torch.autograd.grad(out, inputs, out_grad)])
    torch.set_num_threads(threads)
    for one, other, exact in zip(*results, exactly(inputs, out_grad), strict=True):
        assert torch.equal(one, other)
        assert torch.linalg.norm(one.double() - exact) <= 2**-6 * torch.linalg.norm(exact)


@needs_library
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_is_pytorchs(level: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every size of number, over a length that fills no register; gelu(-100) is 0 and not NaN."""
    monkeypatch.setenv(FORCED_LEVEL, level)
    torch.manual_seed(2)
    x = torch.cat([torch.randn(functions.LEAST), torch.tensor([0.0, -0.0, 100.0, -100.0, -9.0, 3e38, -3e38])]).to(dtype)
    x.requires_grad_()
    grad = torch.randn(len(x)).to(dtype)
    exact = x.detach().double().requires_grad_()
    out, expected = gelu(x), F.gelu(exact, approximate="tanh")
    slopes = torch.autograd.grad(out, x, grad)[0]
    expected_slopes = torch.autograd.grad(expected, exact, grad.double())[0]
    near = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-5, "rtol": 2**-8}
    torch.testing.assert_close(out.double()[:-2], expected[:-2], **near)
    torch.testing.assert_close(slopes[:-2].double(), expected_slopes[:-2], **near)
    assert torch.isfinite(out).all()


@needs_library
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swiglus_product_is_pytorchs(level: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every size of number, with several threads; its gradient as one of both halves."""
    monkeypatch.setenv(FORCED_LEVEL, level)
    torch.manual_seed(4)
    x = torch.randn(3, 171, 2, 64) * torch.logspace(-3, 2, 171).unsqueeze(-1).unsqueeze(-1)
    x[0, 0, 0, :4] = torch.tensor([0.0, 100.0, -100.0, -1e30])
    x = x.flatten(2).to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    assert x.numel() >= functions.LEAST
    gate, up = exact.chunk(2, dim=-1)
    out, expected = gated(x), F.silu(gate) * up
    assert out.grad_fn is not None and out.grad_fn.name() == "_NativeGatedBackward"
    grad = torch.randn(out.shape).to(dtype)
    (slopes,), (expected_slopes,) = (
        torch.autograd.grad(out, x, grad),
        torch.autograd.grad(expected, exact, grad.double()),
    )
    near = {"atol": 1e-6, "rtol": 2e-5} if dtype == torch.float32 else {"atol": 1e-5, "rtol": 2**-8}
    torch.testing.assert_close(out.double(), expected, **near)
    torch.testing.assert_close(slopes.double(), expected_slopes, **near)


@needs_library
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [8, 32, 50])
def test_rotary_positions_are_pytorchs(
    level: str, dtype: torch.dtype, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries and several sources of keys, as views in the order of the projections, and from any other order."""
    monkeypatch.setenv(FORCED_LEVEL, level)
    torch.manual_seed(5)
    query, keys, _ = operands(700, 4, width, dtype)
    step = Step(torch.arange(700).unsqueeze(0), None)
    for x in (query, keys, keys.detach().contiguous().requires_grad_()):
        ours = step.rotate(x)
        exact = x.detach().double().requires_grad_()
        expected = step.rotate(exact)
        assert ours.grad_fn is not None and ours.grad_fn.name() == "_NativeRotaryBackward"
        grad = torch.randn(x.shape).to(dtype)
        near = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2**-8, "rtol": 2**-8}
        torch.testing.assert_close(ours.double(), expected, **near)
        slopes = torch.autograd.grad(ours, x, grad)[0]
        torch.testing.assert_close(slopes.double(), torch.autograd.grad(expected, exact, grad.double())[0], **near)


def test_what_does_not_train_is_computed_by_pytorch_alone() -> None:
    """Or a prompt would be read with other last bits than the same ids one by one."""
    x = torch.randn(2, 4, 512, 32)
    angles = torch.rand(1, 1, 512, 16)
    assert rotated(x, angles.cos(), angles.sin()) is None
    gate, up = x.chunk(2, dim=-1)
    assert torch.equal(gated(x), F.silu(gate) * up)


@needs_library
def test_threads_do_not_change_a_bit() -> None:
    inputs = operands(60, 3, 8)
    results = []
    threads = torch.get_num_threads()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        out = native_attention(*inputs)
        results.append([out, *torch.autograd.grad(out.sum(), inputs)])
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(other, results[0], strict=True))


@needs_library
def test_auto_takes_it_where_it_fits_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []

    def spy(*inputs: Tensor) -> Tensor:
        taken.append(tuple(inputs[1].shape))
        return native_attention(*inputs)

    monkeypatch.setattr("shortcut_gen.network.attention.native_attention", spy)
    for inputs in (operands(9, 4, 8), operands(9, 1, 16), operands(9, 4, 8, torch.bfloat16)):
        prefix_attention(*inputs)
    assert len(taken) == 3
    for inputs in (operands(9, 4, 12), operands(9, 4, 8, torch.float64), operands(9, 1, 16, torch.float16)):
        assert prefix_attention(*inputs).shape == inputs[0].shape
        with pytest.raises(ValueError, match=r"^the native attention got torch\.\w+ of shape \(2, 3, 9, \d+\) on cpu"):
            native_attention(*inputs)
    assert len(taken) == 3


def test_without_the_library_pytorch_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = operands(40, 4, 8)
    here = prefix_attention(*inputs)
    monkeypatch.setattr(functions, "load", lambda: "the kernels in C++ were not built")
    assert not takes(*inputs)
    torch.testing.assert_close(prefix_attention(*inputs), here, atol=1e-5, rtol=1e-5)


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(library, "__file__", f"{tmp_path}/library.py")
    library.load.cache_clear()
    try:
        assert (cpu_kernels.problem() or "").startswith("the kernels in C++ were not built (")
    finally:
        library.load.cache_clear()
