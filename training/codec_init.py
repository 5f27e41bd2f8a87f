"""First scales of a codec's convolutions, set from data, layer by layer (arXiv:1511.06422).

With torch's own initialisation each layer passes on about half of what it is given, and a codec of twenty layers begins
with silence: 1,000 steps later it was still there (docs/experiments.md). With weights scaled so that each layer's
output has a useful size, the same run leaves silence within 100 steps.
"""

import torch
from encodec.model import EncodecModel
from torch import Tensor, nn

UNIT = 1.0
"""Standard deviation of what a layer passes on."""
BRANCH = 0.7
"""That of each of the two branches that a residual block adds."""
WAVEFORM = 0.05
"""That of the decoded sound: speech at a usual level."""


@torch.no_grad()
def initialise_scales(codec: EncodecModel, audio: Tensor) -> None:
    """Scale the weights of all convolutions from one batch of crops, (B, 1, S), layer by layer; biases become 0."""
    parts = (codec.encoder, codec.decoder)
    layers = [
        (name, layer)
        for part in parts
        for name, layer in part.named_modules()
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
    ]
    for name, layer in layers:
        size = _output_size(codec, audio, layer)
        branch = "shortcut" in name or ("block" in name and layer.kernel_size == (1,))
        target = WAVEFORM if layer is layers[-1][1] else BRANCH if branch else UNIT
        layer.weight.mul_(target / max(size, 1e-8))


def _output_size(codec: EncodecModel, audio: Tensor, layer: nn.Module) -> float:
    """Standard deviation of a layer's output, its bias set to 0."""
    seen: list[float] = []
    assert isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
    if layer.bias is not None:
        layer.bias.zero_()
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(float(output.std())))
    try:
        codec.decoder(codec.encoder(audio))
    finally:
        hook.remove()
    return seen[0]
