"""The arms: what sets each apart from the base, and how nearly the matched ones match it."""

from dataclasses import asdict, replace

import pytest

from shortcut_gen.errors import ConfigError, SettingsError
from shortcut_gen.network.config import ModelConfig
from training.experiment.arms import ARMS, model_of, sizes

PAPER = ModelConfig()
SMALL = ModelConfig(
    **dict(vocab_size=13, context=24, layers=6, width=24, heads=3, feedforward=72, feature_hidden=20),  # type: ignore[arg-type]
    **dict(taps=(2, 4), shortcut_heads=4, position="rotary", dropout=0.1),  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        ("baseline", {"taps": ()}),
        ("shortcut", {}),
        ("shortcut-identity", {"features": "identity"}),
        ("shortcut-middle", {"taps": (5,)}),
        ("shortcut-current", {"attend_current": True}),
        ("shortcut-literal", {"residual": "literal"}),
        ("wide", {"taps": (), "width": 240, "heads": 15, "feedforward": 960}),
        ("deep", {"taps": (), "layers": 36}),
        ("feedforward", {"taps": (), "feedforward": 2552}),
        ("mlps", {"taps": (), "residual_mlps": (2, 4, 6, 8)}),
    ],
)
def test_what_an_arm_changes_at_the_papers_size(arm: str, changes: dict[str, object]) -> None:
    model = model_of(arm, PAPER)
    assert {key: value for key, value in asdict(model).items() if value != asdict(PAPER)[key]} == changes


@pytest.mark.parametrize("base", [PAPER, SMALL, replace(SMALL, feature_hidden=200)])
@pytest.mark.parametrize(("arm", "field"), [("wide", "heads"), ("deep", "layers"), ("feedforward", "feedforward")])
def test_a_matched_arm_is_the_nearest_of_its_kind(base: ModelConfig, arm: str, field: str) -> None:
    """One step larger or smaller is no nearer; a width keeps its shape."""
    goal, model = sizes(base, 24)[0], model_of(arm, base)
    off = abs(sizes(model, 24)[0] - goal)
    assert off / goal < 0.15
    head, step = base.width // base.heads, 8 if arm == "feedforward" else 1
    for size in (getattr(model, field) - step, getattr(model, field) + step):
        change = {field: size}
        if arm == "wide":
            change |= {"width": size * head, "feedforward": size * head * base.feedforward // base.width}
        assert abs(sizes(replace(model, **change), 24)[0] - goal) >= off  # type: ignore[arg-type]
    if arm == "wide":
        assert model.width / model.heads == head
        assert model.feedforward / model.width == base.feedforward / base.width


def test_the_mlps_differ_from_the_shortcut_by_norms_alone() -> None:
    assert sizes(model_of("mlps", PAPER), 512)[0] - sizes(PAPER, 512)[0] == 3 * 2 * 128


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_can_be_had_of_a_base_with_every_option(arm: str) -> None:
    base = replace(SMALL, attend_current=True, layers=3, taps=(1, 2))
    model = model_of(arm, base)
    assert model.vocab_size == base.vocab_size
    assert model.dropout == base.dropout


def test_what_cannot_be_an_arm() -> None:
    with pytest.raises(SettingsError, match="unknown arm 'widest'; known are baseline, shortcut, "):
        model_of("widest", PAPER)
    with pytest.raises(ConfigError, match="no taps"):
        model_of("wide", ModelConfig(taps=()))
