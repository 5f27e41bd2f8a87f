"""Small models of every option, for the tests."""

import warnings
from pathlib import Path

import torch

from shortcut_gen.checkpoint import Checkpoint, CheckpointInfo, save_checkpoint
from shortcut_gen.codec.encodec import OFFICIAL_FILE, EncodecCodec
from shortcut_gen.codec.folder import CodecInfo, save_codec
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Pipeline

SMALL = dict(vocab_size=13, context=24, layers=5, width=16, heads=2, feedforward=24, feature_hidden=20)
VARIANTS: dict[str, dict[str, object]] = {
    "baseline": {"taps": ()},
    "shortcut": {},
    "identity": {"features": "identity"},
    "current": {"attend_current": True},
    "literal": {"residual": "literal"},
    "rotary": {"position": "rotary"},
    "one-tap": {"taps": (3,)},
    "value-residual": {"value_residual": True},
    "value-residual-alone": {"value_residual": True, "taps": (), "position": "rotary"},
    "swiglu": {"activation": "swiglu"},
    "swiglu-alone": {"activation": "swiglu", "taps": (), "position": "rotary", "value_residual": True},
    "residual-mlps": {"taps": (), "residual_mlps": (2, 4)},
    "residual-mlps-and-taps": {"residual_mlps": (4, 5)},
}


def build(variant: str, seed: int = 0) -> ShortcutLM:
    torch.manual_seed(seed)
    config = ModelConfig(**{**SMALL, "taps": (2, 4), "shortcut_heads": 4, **VARIANTS[variant]})  # type: ignore[arg-type]
    model = ShortcutLM(config).eval()
    with torch.no_grad():  # weights far from their small start, so that a wrong path shows
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def small_pipeline(engine: str, share: int = 0, **changes: object) -> Pipeline:
    """A pipeline for piano with random weights, in f32."""
    shape = {"context": 48, "layers": 4, "width": 16, "heads": 2, "feedforward": 32, "taps": (1, 2)}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        lm = ShortcutLM(ModelConfig(**{**shape, "feature_hidden": 16, "shortcut_heads": 4, **changes})).eval()  # type: ignore[arg-type]
        for parameter in lm.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    info = CheckpointInfo(model=lm.config, tokenizer="piano")
    return Pipeline(Checkpoint(model=lm, tokenizer=get_tokenizer("piano"), info=info), engine, "f32", share)


def tiny_codec(folder: Path, **changes: object) -> Path:
    """A codec folder with random weights: 50 frames/s at 16 kHz, 4 codebooks of 16 entries; or with `changes`.

    Its LSTM's weights are large, as a trained one's, so that its state matters.
    """
    from shortcut_gen.codec import network as encodec_model

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        shape = dict(filters=2, lstm_layers=1, dimension=8, codebooks=4, cardinality=16)
        config = encodec_model.CodecConfig(**{**shape, **changes})  # type: ignore[arg-type]
        width = config.filters * 2 ** len(config.ratios)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*weight_norm.*")
            model = encodec_model.build(config).eval()
        for net in (model.encoder, model.decoder):
            for name, parameter in net.named_parameters():
                if "lstm" in name:
                    parameter.mul_(3)
                if "lstm.bias_hh" in name:
                    parameter[width : 2 * width] += 3  # the forget gate: it remembers long
        # Entries are drawn from what noise becomes, so that codes differ.
        left = model.encoder(torch.randn(1, 1, 16_000) * torch.linspace(0, 1, 16_000))  # (1, D, F)
        for layer in model.quantizer.vq.layers:
            layer._codebook.embed.copy_(left[0, :, torch.randperm(left.shape[-1])[:16]].t())
            left = left - layer.decode(layer.encode(left))
    save_codec(folder, model, CodecInfo(config=config, licence="Apache-2.0"))
    return folder


def official_weights(folder: Path) -> Path:
    """A file such as the official EnCodec's, of its shape, with random weights."""
    from shortcut_gen.codec import network as encodec_model

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*weight_norm.*")
        torch.manual_seed(0)
        model = encodec_model.EncodecModel.encodec_model_24khz(pretrained=False)
        for layer in model.quantizer.vq.layers:
            layer._codebook.embed.normal_(std=0.05)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / OFFICIAL_FILE)
    return folder / OFFICIAL_FILE


def tiny_speech_checkpoint(folder: Path, codebooks: int = 2, context: int = 64, taps: tuple[int, ...] = (2, 4)) -> Path:
    """A checkpoint folder with a random model for speech, and the codec it needs, `codec-tiny`, beside it."""
    codec = folder.parent / "codec-tiny"
    if not codec.is_dir():
        tiny_codec(codec)
    settings = EncodecCodec(codec, codebooks=codebooks).identity() | {"codebooks": codebooks}
    config = ModelConfig(
        **{
            **SMALL,
            "vocab_size": 16 * codebooks,
            "context": context,
            "taps": taps,
            "shortcut_heads": 4,
        }  # type: ignore[arg-type]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ShortcutLM(config)
    info = CheckpointInfo(model=config, tokenizer="speech", codec=settings, corpus={"name": "none"}, licence="none")
    save_checkpoint(folder, model, info, dtype=torch.float32)
    return folder
