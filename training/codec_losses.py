"""Losses of a neural codec, and the balancer that says how much each of them weighs (arXiv:2210.13438, section 3.4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shortcut_gen.modalities._torchaudio import torchaudio

MEL_WINDOWS = (64, 128, 256, 512, 1024, 2048)
"""Window lengths of the mel loss, in samples; hops are a quarter of them."""
MEL_BINS = (8, 16, 32, 48, 64, 80)
"""Mel bands for each window: fewer where the window resolves fewer."""
FLOOR = 1e-2
"""Added below the logarithm of a magnitude: what lies some 40 dB under a crop's own loudness is ignored."""
QUIETEST = 1e-3
"""A crop of a smaller standard deviation is taken for one of this."""


def to_one_loudness(real: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Each of them, (B, 1, S), by the factor that brings the real crop's standard deviation to 1.

    Speech is recorded at -30 dB or so: without it, all above 1 kHz lies so close to the floor that it counts for
    nothing (docs/experiments.md).
    """
    gain = 1 / real.std(dim=-1, keepdim=True).clamp_min(QUIETEST)
    return real * gain, *(other * gain for other in others)


class MultiScaleMel(nn.Module):
    """Distance of log-mel spectrograms, averaged over several window lengths."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            torchaudio.transforms.MelSpectrogram(
                sample_rate,
                n_fft=window,
                win_length=window,
                hop_length=window // 4,
                n_mels=bins,
                power=1,
                normalized=True,  # noise of one loudness has one magnitude, however long the window
            )
            for window, bins in zip(MEL_WINDOWS, MEL_BINS, strict=True)
        )

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Mean L1 of the log magnitudes plus a tenth of that of the magnitudes, for (B, 1, S) each."""
        total = made.new_zeros(())
        real, made = to_one_loudness(real, made)
        for scale in self.scales:
            a, b = scale(made), scale(real)
            total = total + F.l1_loss((a + FLOOR).log(), (b + FLOOR).log()) + 0.1 * F.l1_loss(a, b)
        return total / len(self.scales)


def generator_losses(
    real: tuple[list[Tensor], list[list[Tensor]]], made: tuple[list[Tensor], list[list[Tensor]]]
) -> tuple[Tensor, Tensor]:
    """The hinge loss of the decoder and the feature matching, over all of the discriminator's scales.

    Each argument is what the discriminator gives: logits, and feature maps by scale and layer. Feature matching is
    relative to the size of the real features, as in section 3.4.
    """
    adversarial = torch.stack([F.relu(1 - logits.float()).mean() for logits in made[0]]).mean()
    ratios = []
    for real_maps, made_maps in zip(real[1], made[1], strict=True):
        for a, b in zip(real_maps, made_maps, strict=True):
            a = a.detach().float()
            ratios.append(F.l1_loss(b.float(), a) / a.abs().mean().clamp_min(1e-6))
    return adversarial, torch.stack(ratios).mean()


def discriminator_loss(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """The discriminator's hinge loss, over its scales."""
    parts = [F.relu(1 - r.float()).mean() + F.relu(1 + m.float()).mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(parts).mean()


class Balancer:
    """Makes each loss's gradient at the waveform as large as its weight's share, whatever the loss's own scale.

    gradient = Σ w_i / Σ w · g_i / ⟨‖g_i‖⟩, with a running mean of the norms (decay 0.999 in the paper).
    """

    def __init__(self, weights: dict[str, float], decay: float = 0.99) -> None:
        self.weights = weights
        self.decay = decay
        self.norms: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def gradient(self, losses: dict[str, Tensor], made: Tensor, shares: dict[str, float] | None = None) -> Tensor:
        """The balanced gradient of all losses at `made`, (B, C, S); its norm is about 1 a row.

        `shares` are factors of some weights, from 0 to 1, such as those of a loss that is only beginning to count.
        """
        total = torch.zeros_like(made)
        weights = {name: self.weights[name] * (shares or {}).get(name, 1.0) for name in losses}
        share = sum(weights.values())
        for name, loss in losses.items():
            (part,) = torch.autograd.grad(loss, made, retain_graph=True)
            norm = float(part.flatten(1).norm(dim=1).mean())
            self.norms[name] = self.decay * self.norms.get(name, 0.0) + (1 - self.decay) * norm
            self.counts[name] = self.decay * self.counts.get(name, 0.0) + (1 - self.decay)
            mean = self.norms[name] / self.counts[name]
            total += part * (weights[name] / share / (mean + 1e-12))
        return total

    def state_dict(self) -> dict[str, dict[str, float]]:
        """The running means."""
        return {"norms": dict(self.norms), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, dict[str, float]]) -> None:
        """Goes on from there."""
        self.norms, self.counts = dict(state["norms"]), dict(state["counts"])
