"""Sound at a common loudness: a soft piece is heard beside a loud one without reaching for the volume."""

from dataclasses import replace

import numpy as np
import pyloudnorm

from shortcut_gen.media import Audio
from shortcut_gen.media.render import PEAK

TARGET = -18.0
"""LUFS, ITU-R BS.1770: what players bring quiet music to, or a little under."""
MOST_GAIN = 24.0
"""dB; what is softer still is left softer, or its echo would roar."""


def leveled(audio: Audio) -> Audio:
    """The same sound at TARGET, or as near to it as its peaks allow. Under 0.4 s nothing can be measured or is done."""
    samples = audio.samples.T  # (S, C)
    meter = pyloudnorm.Meter(audio.sample_rate)
    if len(samples) < meter.block_size * audio.sample_rate:
        return audio
    loudness = meter.integrated_loudness(samples.astype(np.float64))
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(loudness) or peak == 0:  # silence
        return audio
    gain = min(10 ** (min(TARGET - loudness, MOST_GAIN) / 20), PEAK / peak)
    return replace(audio, samples=(audio.samples * np.float32(gain)))
