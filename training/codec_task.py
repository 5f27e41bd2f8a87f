"""One step of training the codec: encoder, quantiser and decoder against the losses, then the discriminator."""

from dataclasses import dataclass
from typing import Any

import torch
from encodec.msstftd import MultiScaleSTFTDiscriminator
from torch import Tensor, nn

from shortcut_gen.errors import ConfigError
from shortcut_gen.modalities.encodec_model import CodecConfig, build
from training.codec_losses import Balancer, MultiScaleMel, discriminator_loss, generator_losses, to_one_loudness
from training.codec_quantizer import draw_levels, initialise, powers_of_two, quantize, revive
from training.run.muon import MuonAdamW
from training.run.recipe import OptimizerConfig

DISCRIMINATOR_WINDOW = 2048
"""Longest window of the package's multi-scale STFT discriminator, in samples."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses and settings of the quantiser and the discriminator."""

    time: float = 0.1
    """Weight of the L1 distance of the waveforms."""
    mel: float = 1.0
    """Weight of the distance of the log-mel spectrograms at several window lengths."""
    commitment: float = 1.0
    """Weight of the pull of the encoder towards the entries it is given; not balanced against the others."""
    adversarial: float = 3.0
    """Weight of the adversarial loss."""
    features: float = 3.0
    """Weight of the distance of the discriminator's features."""
    quantize_after: int = 500
    """Steps without quantiser at the start; the first entries are then drawn from what the encoder has learnt."""
    full_share: float = 0.25
    """Share of the crops that use every codebook; the others use 1, 2, 4, 8 or any number of them."""
    unquantized_share: float = 0.3
    """Share of the crops that bypass the quantiser afterwards, as in arXiv:2410.00037: the code stays informative."""
    revive_below: float = 0.2
    """An entry used less than this share of the mean is moved to where vectors are."""
    revive_every: int = 10
    """Steps between two looks for unused entries."""
    adversary_from: float = 0.6
    """Share of the budget after which the discriminator joins; 1 leaves it out."""
    adversary_alone: int = 0
    """Steps for which the discriminator trains first, while the codec does not use its losses yet."""
    adversary_ramp: int = 1000
    """Steps over which the adversarial losses rise to their full weight: an untrained discriminator only does harm."""
    adversary_filters: int = 32
    """Channels of the discriminator's layers."""
    adversary_lr: float = 3e-4
    """Learning rate of the discriminator, scaled by the same schedule."""
    adversary_seconds: float = 0.0
    """Seconds of each crop that the discriminator hears, at a place drawn anew each step; 0 for all of them."""
    adversary_every: int = 1
    """Steps of the codec to one of the discriminator."""
    freeze_encoder: bool = False
    """Train the decoder alone: what a language model has learnt of the tokens then stays true."""

    def __post_init__(self) -> None:
        for name in ("time", "mel", "commitment", "adversarial", "features", "revive_below"):
            _check(self, name, getattr(self, name) >= 0, "a number of at least 0")
        _check(self, "mel", self.mel + self.time > 0, "a weight above 0 for mel or time")
        for name in ("full_share", "unquantized_share", "adversary_from"):
            _check(self, name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        _check(self, "quantize_after", self.quantize_after >= 0, "a whole number of at least 0")
        for name in ("revive_every", "adversary_ramp", "adversary_filters", "adversary_every"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        for name in ("adversary_alone", "adversary_seconds"):
            _check(self, name, getattr(self, name) >= 0, "a number of at least 0")
        _check(self, "adversary_lr", self.adversary_lr > 0, "a number above 0")

    def heard_samples(self, crop: int, sample_rate: int) -> int:
        """Samples of a crop of so many that the discriminator hears. Raises ConfigError where they are too few."""
        samples = min(round(self.adversary_seconds * sample_rate) or crop, crop)
        if self.adversary_from < 1 and samples <= DISCRIMINATOR_WINDOW:
            raise ConfigError(
                f"the discriminator would hear {samples} samples of a crop; more than {DISCRIMINATOR_WINDOW} are "
                "needed: a larger losses.adversary_seconds or data.seconds"
            )
        return samples


def _check(config: LossConfig, name: str, ok: bool, need: str) -> None:
    if not ok:
        raise ConfigError(f"losses.{name} is {getattr(config, name)}; {need} is needed")


def _optimizer(parts: list[nn.Module], recipe: OptimizerConfig) -> torch.optim.Optimizer:
    """Of encoder and decoder. Under `muon` the layers next to the waveform, and all biases, take AdamW."""
    named = [(name, parameter) for part in parts for name, parameter in part.named_parameters()]
    if recipe.name != "muon":
        maker = torch.optim.Adam if recipe.name == "adam" else torch.optim.AdamW
        return maker((p for _, p in named), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay)
    matrices = [(name, p) for name, p in named if p.dim() > 1 and min(p.shape[:2]) > 1]
    chosen = {id(p) for _, p in matrices}
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in matrices if p.dim() == 3], "matrices": 1, "kernels": True},
        {"params": [p for _, p in matrices if p.dim() == 2], "matrices": 4},  # the four gates of an LSTM
        {"params": [p for _, p in named if id(p) not in chosen]},
    ]
    for group in groups[:2]:
        group["weight_decay"] = recipe.weight_decay
    return MuonAdamW([g for g in groups if g["params"]], lr=recipe.lr, betas=recipe.betas, momentum=recipe.momentum)


class CodecTask:
    """The networks, their optimisers and what one step does to them."""

    def __init__(
        self, config: CodecConfig, losses: LossConfig, recipe: OptimizerConfig, device: torch.device, half: bool
    ) -> None:
        self.config = config
        self.losses = losses
        self.recipe = recipe
        self.device = device
        self.half = half
        self.codec = build(config).to(device)
        self.discriminator = MultiScaleSTFTDiscriminator(filters=losses.adversary_filters).to(device)
        self.mel = MultiScaleMel(config.sample_rate).to(device)
        self.adversary_steps = 0
        self.balancer = Balancer({name: getattr(losses, name) for name in ("time", "mel", "adversarial", "features")})
        trained = [self.codec.decoder] if losses.freeze_encoder else [self.codec.encoder, self.codec.decoder]
        self.parameters = [parameter for part in trained for parameter in part.parameters()]
        self.optimizer = _optimizer(trained, recipe)
        self.adversary_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(),
            lr=losses.adversary_lr,
            betas=(0.5, 0.9),  # arXiv:2210.13438, section 4.1
            weight_decay=0.0,
        )

    @property
    def num_parameters(self) -> int:
        """Parameters of encoder and decoder and entries of the codebooks."""
        books = self.config.codebooks * self.config.cardinality * self.config.dimension
        return books + sum(p.numel() for part in (self.codec.encoder, self.codec.decoder) for p in part.parameters())

    def autocast(self) -> torch.autocast:
        """bf16 where the run asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def start_quantizer(self, batches: list[Tensor], generator: torch.Generator) -> None:
        """Draw the first entries from what the encoder makes of (B, 1, S) batches."""
        with torch.no_grad():
            vectors = [self._encode(batch) for batch in batches]
        initialise(self.codec.quantizer, torch.cat([v.transpose(1, 2).flatten(0, 1) for v in vectors]), generator)

    def step(self, audio: Tensor, number: int, progress: float, generator: torch.Generator) -> dict[str, float]:
        """One step on (B, 1, S) crops; returns the losses as plain numbers."""
        audio = audio.to(self.device)
        scale = self.recipe.rate(number, progress) / self.recipe.lr
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * scale
        for group in self.adversary_optimizer.param_groups:
            group["lr"] = self.losses.adversary_lr * scale
        self.codec.train()
        made, figures, commitment = self._forward(audio, number, generator)
        losses = {"time": (made - audio).abs().mean(), "mel": self.mel(made, audio)}
        if progress >= self.losses.adversary_from < 1:
            losses |= self._adversary(*self._heard(audio, made, generator), number, figures)
        losses = {name: loss for name, loss in losses.items() if self.balancer.weights[name] > 0}
        listened = max(self.adversary_steps - self.losses.adversary_alone, 0)
        ramp = min(listened / self.losses.adversary_ramp, 1.0)
        gradient = self.balancer.gradient(losses, made, {"adversarial": ramp, "features": ramp})
        self.optimizer.zero_grad(set_to_none=True)
        # The commitment's gradient is that of one row's mean, as the balanced gradient is one row's.
        outputs: list[Tensor] = [made]
        gradients: list[Tensor | None] = [gradient / len(audio)]
        if commitment is not None and commitment.requires_grad and self.losses.commitment:
            outputs.append(commitment * self.losses.commitment)
            gradients.append(None)
        torch.autograd.backward(outputs, gradients)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 5.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        return figures | {name: float(loss.detach()) for name, loss in losses.items()} | {"gradient": float(norm)}

    def _encode(self, audio: Tensor) -> Tensor:
        with self.autocast():
            return self.codec.encoder(audio.to(self.device)).float()  # (B, D, F)

    def _decode(self, vectors: Tensor, samples: int) -> Tensor:
        with self.autocast():
            return self.codec.decoder(vectors)[..., :samples].float()  # (B, 1, S)

    def _forward(
        self, audio: Tensor, number: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float], Tensor | None]:
        with torch.set_grad_enabled(not self.losses.freeze_encoder):
            vectors = self._encode(audio)
        if number < self.losses.quantize_after:
            return self._decode(vectors, audio.shape[-1]), {}, None
        levels = draw_levels(len(audio), self.config.codebooks, self.losses.full_share, generator).to(self.device)
        if self.losses.freeze_encoder:
            self.codec.quantizer.eval()
        elif number % self.losses.revive_every == 0:
            revive(self.codec.quantizer, vectors.detach(), self.losses.revive_below, generator)
        quantized = quantize(self.codec.quantizer, vectors, levels)
        figures = {"commitment": float(quantized.commitment.detach()), "left_over": float(quantized.error)}
        bypass = torch.rand(len(audio), generator=generator) < self.losses.unquantized_share
        chosen = torch.where(bypass.to(self.device)[:, None, None], vectors, quantized.vectors)
        return self._decode(chosen, audio.shape[-1]), figures, quantized.commitment

    def _heard(self, audio: Tensor, made: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The part of the crops that the discriminator hears, as loud as each other; (B, 1, S) each."""
        samples = self.losses.heard_samples(audio.shape[-1], self.config.sample_rate)
        first = int(torch.randint(audio.shape[-1] - samples + 1, (), generator=generator))
        real, other = to_one_loudness(audio, made)
        return real[..., first : first + samples], other[..., first : first + samples]

    def _adversary(self, audio: Tensor, made: Tensor, number: int, figures: dict[str, float]) -> dict[str, Tensor]:
        if number % self.losses.adversary_every == 0:
            with self.autocast():
                real, _ = self.discriminator(audio)
                fake, _ = self.discriminator(made.detach())
            loss = discriminator_loss(real, fake)
            self.adversary_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), 5.0)
            self.adversary_optimizer.step()
            figures["discriminator"] = float(loss.detach())
        self.adversary_steps += 1
        if self.adversary_steps <= self.losses.adversary_alone:
            return {}
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        with self.autocast():
            with torch.no_grad():
                truth = self.discriminator(audio)
            judged = self.discriminator(made)
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        adversarial, features = generator_losses(truth, judged)
        return {"adversarial": adversarial, "features": features}

    @torch.no_grad()
    def validate(self, audio: Tensor, quantized: bool) -> dict[str, float]:
        """Mel distance of (N, 1, S) crops at 1, 2, 4, ... codebooks, and how many entries of the first two are used."""
        self.codec.eval()
        audio = audio.to(self.device)
        vectors = self._encode(audio)
        if not quantized:
            made = self._decode(vectors, audio.shape[-1])
            return {"mel": float(self.mel(made, audio))}
        codes = self.codec.quantizer.encode(vectors, self.config.frame_rate)  # (Q, B, F)
        out = {}
        for level in powers_of_two(self.config.codebooks):
            made = self._decode(self.codec.quantizer.decode(codes[:level]), audio.shape[-1])
            out[f"mel@{level}"] = float(self.mel(made, audio))
        for level in range(min(2, self.config.codebooks)):
            out[f"used@{level + 1}"] = codes[level].unique().numel() / self.config.cardinality
        return out

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {
            "codec": self.codec.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "adversary_optimizer": self.adversary_optimizer.state_dict(),
            "balancer": self.balancer.state_dict(),
            "adversary_steps": self.adversary_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        for name in ("codec", "discriminator", "optimizer", "adversary_optimizer", "balancer"):
            getattr(self, name).load_state_dict(state[name])
        self.adversary_steps = state.get("adversary_steps", 0)
