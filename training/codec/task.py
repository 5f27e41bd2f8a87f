"""One step of training the codec: encoder, quantiser and decoder against the energy distance, the pitch against targets.

The decoder is given the real pitch and phase while it trains; what it decides itself is trained beside it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shortcut_gen.codec.harmonic import source
from shortcut_gen.codec.harmonic.config import FRAME, HOP, SAMPLE_RATE, HarmonicConfig
from shortcut_gen.codec.harmonic.features import MARGIN, autocorrelation, joined, log_mel
from shortcut_gen.codec.harmonic.network import Filters, HarmonicNetwork, decided
from shortcut_gen.errors import ConfigError
from training.codec.losses import WINDOWS, energy_distance, total_distance
from training.codec.quantizer import EntryMeans, draw_levels, quantize
from training.codec.targets import Targets, pitch_loss, targets
from training.run.muon import MuonAdamW
from training.run.recipe import OptimizerConfig

PITCH_MARGIN = 20 * HOP
"""Samples on either side of a crop that the pitch's path is found over too, so that its ends are in the middle."""
CROP_MARGIN = PITCH_MARGIN + MARGIN
"""What a crop brings along on either side."""
NOISE_START = 0.5
"""Size of the first weights of added noise channels, against those of the code's."""

_GRADIENT = 5.0  # longest gradient
_OUTSIDE_MUON = ("encoder.into", "decoder.head", "decoder.voice", "decoder.pitch")
_YOUNG = 10  # steps after which a running mean of the weights is no longer mostly its start


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the losses and settings of the quantiser."""

    phase: float = 0.3
    """Distance of the phases below 2 kHz."""
    pitch: float = 0.1
    """Cross entropy of the pitch classes."""
    voicing: float = 0.3
    """Cross entropy of voicing."""
    commitment: float = 0.25
    """Pull of the encoder towards the entries it is given."""
    quantize_after: int = 300
    """Steps without quantiser at the start; the first entries are then drawn from what the encoder has learnt."""
    unquantized_share: float = 0.12
    """Share of the crops that bypass the quantiser afterwards, as in arXiv:2410.00037: the code stays informative."""
    revive_every: int = 10
    """Steps between two looks for unused entries."""
    revive_until: float = 0.8
    """Share of the budget after which none is moved any more."""
    freeze_encoder: bool = False
    """Train the decoder alone: what a language model has learnt of the tokens then stays true."""

    def __post_init__(self) -> None:
        for name in ("phase", "pitch", "voicing", "commitment"):
            _check(self, name, getattr(self, name) >= 0, "a number of at least 0")
        for name in ("unquantized_share", "revive_until"):
            _check(self, name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        _check(self, "quantize_after", self.quantize_after >= 0, "a whole number of at least 0")
        _check(self, "revive_every", self.revive_every >= 1, "a whole number of at least 1")


def _check(config: LossConfig, name: str, ok: bool, need: str) -> None:
    if not ok:
        raise ConfigError(f"losses.{name} is {getattr(config, name)}; {need} is needed")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a step needs of (B, S) crops."""

    sound: Tensor
    """(B, S) without the margins."""
    features: Tensor
    """(B, S / HOP, 176)."""
    targets: Targets


@torch.no_grad()
def prepared(audio: Tensor) -> Prepared:
    """Crops with `CROP_MARGIN` on either side, (B, S + 2·CROP_MARGIN); S a whole number of frames."""
    correlation, mel = autocorrelation(audio), log_mel(audio)
    known = targets(audio, correlation)
    first = PITCH_MARGIN // HOP
    half_frames = slice(first, correlation.shape[1] - first)
    phase = known.phase[:, source.PHASES * first : known.phase.shape[1] - source.PHASES * first]
    return Prepared(
        sound=audio[:, CROP_MARGIN : audio.shape[1] - CROP_MARGIN],
        features=joined(mel, correlation)[:, half_frames],
        targets=Targets(pitch=known.pitch[:, half_frames], voiced=known.voiced[:, half_frames], phase=phase),
    )


class CodecTask:
    """The network, its optimiser, the running mean of its weights and what one step does to them."""

    def __init__(
        self, config: HarmonicConfig, losses: LossConfig, recipe: OptimizerConfig, device: torch.device, half: bool
    ) -> None:
        self.config = config
        self.losses = losses
        self.recipe = recipe
        self.device = device
        self.half = half
        self.network = HarmonicNetwork(config).to(device)
        self.means = EntryMeans(self.network.quantizer).to(device)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        """Running mean of the weights: what is validated and exported."""
        self.quantizing = False
        self.steps = 0
        if losses.freeze_encoder:
            self.network.encoder.requires_grad_(False)
        self.parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = _optimizer(self.network, recipe)

    @property
    def num_parameters(self) -> int:
        """Parameters of encoder and decoder and entries of the codebooks."""
        return self.network.quantizer.entries.numel() + sum(p.numel() for p in self.network.parameters())

    def autocast(self) -> torch.autocast:
        """bf16 where the run asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def take(self, state: dict[str, Tensor]) -> None:
        """Start from a codec's weights; noise channels that it has not got begin small. Raises ConfigError."""
        own = self.network.state_dict()
        state = dict(state)
        into = "decoder.into.weight"
        missing = own[into].shape[1] - state[into].shape[1]
        if missing == self.config.noise_channels:
            more = NOISE_START * state[into].std() * torch.randn(len(state[into]), missing)
            state[into] = torch.cat((state[into], more), dim=1)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            last = str(error).splitlines()[-1].strip()
            raise ConfigError(f"the codec to start from has another shape: {last}") from error
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.means = EntryMeans(self.network.quantizer).to(self.device)
        self.quantizing = True

    def start_quantizer(self, batches: list[Prepared], generator: torch.Generator) -> None:
        """Draw the first entries from what the encoder makes of some batches."""
        with torch.no_grad():
            vectors = [self._encode(batch.features).flatten(0, 1) for batch in batches]
        self.means.start(self.network.quantizer, torch.cat(vectors), generator)
        self.average["quantizer.entries"].copy_(self.network.quantizer.entries)
        self.quantizing = True

    def step(self, batch: Prepared, number: int, progress: float, generator: torch.Generator) -> dict[str, float]:
        """One step; returns the losses as plain numbers."""
        rate = self.recipe.rate(number, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        vectors, commitment = self._coded(batch, number, progress, generator)
        draws, logits = self._draws(vectors, batch, generator)
        energy, near, phase = energy_distance(batch.sound, draws, WINDOWS[number % len(WINDOWS)])
        pitch, voicing = pitch_loss(logits, batch.targets)
        losses = self.losses
        loss = energy + losses.phase * phase + losses.pitch * pitch + losses.voicing * voicing
        if not losses.freeze_encoder:
            loss = loss + losses.commitment * commitment
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, _GRADIENT)
        if torch.isfinite(norm):
            self.optimizer.step()
        self._follow()
        figures = {"near": near, "energy": energy, "phase": phase, "pitch": pitch, "voicing": voicing}
        figures |= {"commitment": commitment, "gradient": norm}
        return {name: float(value.detach()) for name, value in figures.items()}

    def _encode(self, features: Tensor) -> Tensor:
        with self.autocast():
            return self.network.encoder(features.to(self.device)).float()  # (B, F, D)

    def _coded(
        self, batch: Prepared, number: int, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The vectors that the decoder is given, (B, F, D), and the commitment."""
        with torch.set_grad_enabled(not self.losses.freeze_encoder):
            vectors = self._encode(batch.features)
        if not self.quantizing:
            return vectors, vectors.new_zeros(())
        rows = len(vectors)
        levels = draw_levels(rows, self.config.codebooks, generator).to(self.device)
        learning = not self.losses.freeze_encoder
        reviving = learning and number % self.losses.revive_every == 0 and progress < self.losses.revive_until
        quantized = quantize(
            self.network.quantizer,
            vectors,
            levels,
            self.means if learning else None,
            generator if reviving else None,
        )
        bypass = torch.rand(rows, generator=generator) < self.losses.unquantized_share
        chosen = torch.where(bypass.to(self.device)[:, None, None], vectors, quantized.vectors)
        return chosen, quantized.commitment

    def _draws(self, vectors: Tensor, batch: Prepared, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two sounds of each row, (2·B, S), made with other noise, and the logits of pitch, (B, T, 97)."""
        known, decoder = batch.targets, self.network.decoder
        rows = len(vectors)
        twice = self.config.noise_channels > 0  # the filters differ too
        if twice:
            vectors = vectors.repeat(2, 1, 1)
            drawn = torch.randn(*vectors.shape[:2], self.config.noise_channels, generator=generator)
            vectors = torch.cat((vectors, drawn.to(vectors)), dim=-1)
        pitch, voiced = known.pitch, known.voiced
        with self.autocast():
            body = decoder.body(vectors)
            logits = decoder.pitch_logits(body[:rows]).float()
            copies = len(body) // rows
            filters = decoder(body, pitch.repeat(copies, 1), voiced.repeat(copies, 1))
        pulses = source.pulses(known.phase, _extended(pitch), _extended(voiced)).repeat(2, 1)
        noise = torch.randn(pulses.shape, generator=generator)
        return sounded(pulses, noise, filters if twice else _doubled(filters)), logits

    def _follow(self) -> None:
        """The running mean of the weights; a young one forgets faster, or the random start would stay in it."""
        self.steps += 1
        decay = min(self.recipe.ema, (1 + self.steps) / (_YOUNG + self.steps))
        for name, value in self.network.state_dict().items():
            if name.startswith("quantizer."):
                self.average[name].copy_(value)
            else:
                self.average[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def validate(self, batch: Prepared) -> dict[str, float]:
        """Distance of sound decoded at 1, 2, 4, ... codebooks with the pitch it decides, and entries in use."""
        held = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        try:
            return self._validated(batch)
        finally:
            self.network.load_state_dict(held)

    def _validated(self, batch: Prepared) -> dict[str, float]:
        vectors = self._encode(batch.features)
        if not self.quantizing:
            return {"near": total_distance(batch.sound, self._made(vectors))}
        codes = self.network.quantizer.encode(vectors, self.config.codebooks)  # (B, Q, F)
        out = {}
        for level in (2**k for k in range(self.config.codebooks.bit_length())):
            made = self._made(self.network.quantizer.decode(codes[:, :level]))
            out[f"near@{level}"] = total_distance(batch.sound, made)
        for level in range(min(2, self.config.codebooks)):
            out[f"used@{level + 1}"] = codes[:, level].unique().numel() / self.config.cardinality
        return out

    def _made(self, vectors: Tensor) -> Tensor:
        """Sound of vectors, (B, F, D) to (B, S), with the decoder's own pitch."""
        decoder = self.network.decoder
        silent = vectors.new_zeros(*vectors.shape[:2], self.config.noise_channels)
        body = decoder.body(torch.cat((vectors, silent), dim=-1))
        pitch, voiced = decided(decoder.pitch_logits(body))
        nodes = _extended(pitch)
        pulses = source.pulses(source.phases(nodes, SAMPLE_RATE), nodes, _extended(voiced))
        noise = torch.randn(pulses.shape, generator=torch.Generator().manual_seed(0))
        return sounded(pulses, noise, decoder(body, pitch, voiced))

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {
            "codec": self.average,
            "weights": self.network.state_dict(),
            "means": self.means.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "quantizing": self.quantizing,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.network.load_state_dict(state["weights"])
        self.means.load_state_dict(state["means"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {name: value.clone() for name, value in state["codec"].items()}
        self.quantizing, self.steps = state["quantizing"], state["steps"]


def sounded(pulses: Tensor, noise: Tensor, filters: Filters) -> Tensor:
    """A whole sound, (B, S), from source and noise, (B, S) each, and its filters at S / HOP nodes.

    What is before and behind it is silent; the last filter serves the node at the end too.
    """
    harmonic = torch.cat((filters.harmonic, filters.harmonic[:, -1:]), dim=1)
    breath = torch.cat((filters.breath, filters.breath[:, -1:]), dim=1)
    around = (FRAME // 2, FRAME // 2)
    pulses, noise = (torch.nn.functional.pad(x, around) for x in (pulses, noise))
    return source.overlapped(source.shaped(pulses, noise, harmonic, breath))


def _extended(nodes: Tensor) -> Tensor:
    """(B, T) to (B, T + 1): the last value serves the node behind it."""
    return torch.cat((nodes, nodes[:, -1:]), dim=1)


def _doubled(filters: Filters) -> Filters:
    return Filters(harmonic=filters.harmonic.repeat(2, 1, 1), breath=filters.breath.repeat(2, 1, 1))


def _optimizer(network: nn.Module, recipe: OptimizerConfig) -> torch.optim.Optimizer:
    """Under `muon` the blocks' matrices take it; the layers at either end and all vectors take AdamW."""
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if recipe.name != "muon":
        maker = torch.optim.Adam if recipe.name == "adam" else torch.optim.AdamW
        return maker((p for _, p in named), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay)
    outside = {f"{layer}.weight" for layer in _OUTSIDE_MUON}
    matrices = [(name, p) for name, p in named if name.endswith(".weight") and p.dim() == 2 and name not in outside]
    chosen = {name for name, _ in matrices}
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in matrices], "matrices": 1, "weight_decay": recipe.weight_decay},
        {"params": [p for name, p in named if name not in chosen]},
    ]
    return MuonAdamW(groups, lr=recipe.lr, betas=recipe.betas, momentum=recipe.momentum)
