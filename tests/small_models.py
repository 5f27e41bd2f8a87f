"""Small models of every option, for the tests."""

import torch

from shortcut_gen.config import ModelConfig
from shortcut_gen.model import ShortcutLM

SMALL = dict(vocab_size=13, context=24, layers=5, width=16, heads=2, feedforward=24, feature_hidden=20)
VARIANTS: dict[str, dict[str, object]] = {
    "baseline": {"taps": ()},
    "shortcut": {},
    "identity": {"features": "identity"},
    "current": {"attend_current": True},
    "literal": {"residual": "literal"},
    "rotary": {"position": "rotary"},
    "one-tap": {"taps": (3,)},
}


def build(variant: str, seed: int = 0) -> ShortcutLM:
    torch.manual_seed(seed)
    config = ModelConfig(**{**SMALL, "taps": (2, 4), "shortcut_heads": 4, **VARIANTS[variant]})  # type: ignore[arg-type]
    model = ShortcutLM(config).eval()
    with torch.no_grad():  # weights far from their small start, so that a wrong path shows
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model
