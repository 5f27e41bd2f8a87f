"""The model: its size, its causality, its initial weights, and the agreement of the attention forms."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from shortcut_gen.errors import ConfigError
from shortcut_gen.network.attention import prefix_attention
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from tests.shared.small_models import SMALL, VARIANTS, build


def test_paper_sizes() -> None:
    """1.98 M and 7.23 M non-embedding parameters."""
    assert ShortcutLM(ModelConfig(taps=())).num_parameters() == 1_982_976
    assert ShortcutLM(ModelConfig()).num_parameters() == 7_234_816
    # The same MLPs as residual layers: a norm for each (256) where the shortcut model has one for all.
    assert ShortcutLM(ModelConfig(taps=(), residual_mlps=(2, 4, 6, 8))).num_parameters() == 7_234_816 + 3 * 256


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_output_depends_on_a_later_input(variant: str) -> None:
    """Gradients of the logits at t reach inputs up to t, and none after it, through taps and all."""
    model = build(variant).double()
    tokens = torch.randint(0, 13, (1, 12))
    embedded = model.embedding(tokens).detach().requires_grad_()
    hook = model.embedding.register_forward_hook(lambda *_: embedded)
    logits = model(tokens)
    hook.remove()
    for t in (0, 5, 11):
        (grad,) = torch.autograd.grad(logits[0, t].square().sum(), embedded, retain_graph=True)
        reach = grad[0].abs().sum(dim=-1)  # (T,)
        assert (reach[t + 1 :] == 0).all()
        assert (reach[: t + 1] > 0).all()


@pytest.mark.parametrize("tap", [2, 4])
def test_taps_reach_the_output(tap: int) -> None:
    """Silencing one tap's feature map changes the logits: no tap is wired to nothing."""
    model = build("shortcut")
    assert model.shortcut is not None and model.shortcut.features is not None
    tokens = torch.randint(0, 13, (1, 12))
    before = model(tokens)
    with torch.no_grad():
        model.shortcut.features.weights[2][model.config.taps.index(tap)].zero_()
    assert (model(tokens) - before).abs().max() > 1e-3


@pytest.mark.parametrize(("variant", "block"), [("residual-mlps", 2), ("residual-mlps-and-taps", 5)])
def test_residual_mlps_add_to_the_stream(variant: str, block: int) -> None:
    """Silenced, one changes the logits; all silenced, the model is the one without them."""
    model = build(variant)
    tokens = torch.randint(0, 13, (1, 12))
    before = model(tokens)
    for number in (block, *model.config.residual_mlps):
        with torch.no_grad():
            for parameter in model.residual_mlps[str(number)].down.parameters():
                parameter.zero_()
        if number == block:
            assert (model(tokens) - before).abs().max() > 1e-3
    plain = ShortcutLM(dataclasses.replace(model.config, residual_mlps=())).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("residual_mlps")})
    torch.testing.assert_close(model(tokens), plain(tokens), atol=0, rtol=0)


def test_last_block_attends_to_taps_alone() -> None:
    """Without `attend_current` the last block's keys leave block 9's output out: it reaches t only from t."""
    model = build("shortcut").double()
    assert model.shortcut is not None
    below: list[Tensor] = []

    def keep(_: object, __: object, out: Tensor) -> Tensor:
        below.append(out.detach().requires_grad_())
        return below[-1]

    # Block 4 of this small model is tapped and feeds the last block's queries; leave it to the queries alone.
    model.config.__dict__["taps"] = (2,)
    model.shortcut.features = None
    hook = model.blocks[-1].register_forward_hook(keep)
    logits = model(torch.randint(0, 13, (1, 8)))
    hook.remove()
    (grad,) = torch.autograd.grad(logits[0, 5].square().sum(), below[0])
    assert grad[0, :5].abs().max() == 0
    assert grad[0, 5].abs().max() > 0


def test_initial_weights_are_gpt2s() -> None:
    model = ShortcutLM(ModelConfig())
    residual = 0.02 / math.sqrt(2 * 10)
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "down.weight")):
            assert parameter.std().item() == pytest.approx(residual, rel=0.05)
        elif parameter.dim() > 1 and ".biases." not in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05)
        else:
            assert parameter.eq(1.0 if "norm.weight" in name else 0.0).all()
    logits = model(torch.randint(0, 388, (2, 64)))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(0, 388, (128,)))
    assert loss.item() == pytest.approx(math.log(388), abs=0.1)


@pytest.mark.parametrize("form", ["blocks", "merged"])
@pytest.mark.parametrize(("length", "sources"), [(7, 4), (128, 2), (300, 4), (129, 5)])
def test_attention_forms_agree_with_the_dense_mask(form: str, length: int, sources: int) -> None:
    torch.manual_seed(length)
    query = torch.randn(2, 3, length, 8, requires_grad=True)
    keys, values = (torch.randn(2, 3, length, sources, 8, requires_grad=True) for _ in range(2))
    out_grad = torch.randn(2, 3, length, 8)
    results = []
    for each in ("dense", form):
        out = prefix_attention(query, keys, values, each)  # type: ignore[arg-type]
        results.append((out, *torch.autograd.grad(out, (query, keys, values), out_grad)))
    for ours, dense in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, dense, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_flex_form_agrees_forward() -> None:
    """On a CPU flex_attention has no backward; its block mask is the same there."""
    query = torch.randn(1, 2, 40, 8)
    keys, values = (torch.randn(1, 2, 40, 4, 8) for _ in range(2))
    flex = prefix_attention(query, keys, values, "flex")
    torch.testing.assert_close(flex, prefix_attention(query, keys, values, "dense"), atol=1e-5, rtol=1e-5)


def test_attention_under_autocast_runs_in_float32() -> None:
    """bf16 operands, float32 sums: closer to the exact result than bf16 attention could be."""
    query = torch.randn(1, 2, 64, 8, dtype=torch.bfloat16)
    keys, values = (torch.randn(1, 2, 64, 4, 8, dtype=torch.bfloat16) for _ in range(2))
    out = prefix_attention(query, keys, values)
    assert out.dtype == torch.bfloat16
    exact = prefix_attention(query.double(), keys.double(), values.double())
    torch.testing.assert_close(out, exact.bfloat16(), atol=0, rtol=2**-7)


def test_rotary_logits_depend_on_distance_alone() -> None:
    """Reading a window again from position 0, as the sliding window does, changes nothing but rounding."""
    torch.manual_seed(0)
    config = ModelConfig(**{**SMALL, "taps": (2, 4), "shortcut_heads": 4, "position": "rotary", "layers": 5})  # type: ignore[arg-type]
    model = ShortcutLM(config).double().eval()
    tokens = torch.randint(0, 13, (1, 9))
    from shortcut_gen.network.cache import DecodeCache

    shifted = DecodeCache.create(config, dtype=torch.float64)
    shifted.positions = lambda new: torch.arange(7, 7 + new).unsqueeze(0)  # type: ignore[method-assign]
    torch.testing.assert_close(model(tokens, shifted), model(tokens), atol=1e-9, rtol=1e-9)


def test_flops_count_every_product() -> None:
    """Against a count by hand at the baseline's size: 6 per weight, 6·D per visible key."""
    baseline = ShortcutLM(ModelConfig(taps=()))
    weights = 10 * (4 * 128 * 128 + 2 * 128 * 512) + 388 * 128
    assert baseline.flops_per_token() == 6 * weights + 10 * 6 * 128 * 512
    shortcut = ShortcutLM(ModelConfig())
    more = 4 * (128 * 1024 + 1024 * 1024 + 1024 * 128) + 3 * 2 * 128 * 128
    assert shortcut.flops_per_token() - baseline.flops_per_token() == 6 * more + 3 * 6 * 128 * 512
    mlps = ShortcutLM(ModelConfig(taps=(), residual_mlps=(2, 4, 6, 8)))
    more = 4 * (128 * 1024 + 1024 * 1024 + 1024 * 128)
    assert mlps.flops_per_token() - baseline.flops_per_token() == 6 * more


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"width": 100}, "width 100"),
        ({"taps": (2, 10)}, r"\(2, 10\)"),
        ({"taps": (4, 2)}, "rising"),
        ({"taps": (0,)}, "blocks 1 to 9"),
        ({"taps": (), "attend_current": True}, "attend_current"),
        ({"value_residual": 1}, "value_residual is 1; true or false"),
        ({"residual_mlps": (2, 2)}, r"residual_mlps are \(2, 2\); rising"),
        ({"residual_mlps": (11,)}, "blocks 1 to 10"),
        ({"layers": 0}, "layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"position": "none"}, "position is 'none'"),
        ({"activation": "relu"}, "activation is 'relu'; one of gelu, swiglu"),
        ({"shortcut_heads": 7}, "7 shortcut heads"),
        ({"heads": 128, "position": "rotary"}, "even head width"),
    ],
)
def test_a_config_that_cannot_be_built_says_why(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ModelConfig(**wrong)  # type: ignore[arg-type]


def test_config_round_trip_and_unknown_key() -> None:
    config = ModelConfig(taps=(1, 3), position="rotary", residual_mlps=(4,), activation="swiglu")
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="unknown key 'depth'"):
        ModelConfig.from_dict({"depth": 3})
