"""training.scoring.sound: measures with known answers."""

import sys

import numpy as np
import pytest

from shortcut_gen.errors import SettingsError
from tests.shared.sounds import RATE, needs_eval, noise, sawtooth, speechlike
from training.scoring.sound import (
    Voices,
    clipped_share,
    codebook_use,
    flux_percentile,
    frame_levels,
    lag,
    longest_silence,
    loud_level,
    mel_distance,
    pesq,
    pitches,
    shifted,
    si_sdr,
    silence_share,
    speech_level,
    stoi,
    to_rate,
)


@pytest.mark.parametrize("decibels", [0.0, 10.0, 25.0])
def test_si_sdr_is_the_level_of_the_noise_whatever_the_gain(decibels: float) -> None:
    sound, hiss = noise(5), noise(5, seed=1)
    hiss = hiss - sound * (sound @ hiss) / (sound @ sound)  # nothing of the sound in it
    hiss *= np.sqrt((sound @ sound) / (hiss @ hiss)) * 10 ** (-decibels / 20)
    assert si_sdr(sound, 0.3 * (sound + hiss)) == pytest.approx(decibels, abs=0.01)
    assert si_sdr(sound, -0.3 * sound + np.float32(0.1)) > 80


def test_mel_distance_is_the_change_of_the_logarithm() -> None:
    sound = noise(2, level=0.05)
    assert mel_distance(sound, sound) == 0
    assert mel_distance(sound, np.float32(np.e) * sound) == pytest.approx(1, abs=1e-3)


@needs_eval
def test_stoi_and_pesq_of_a_perfect_and_of_a_noisy_copy() -> None:
    sound = speechlike(4)
    assert stoi(sound, sound) == pytest.approx(1, abs=1e-3)
    assert pesq(sound, sound) == pytest.approx(4.64, abs=0.01)
    noisy = sound + noise(4, level=float(sound.std()))
    assert stoi(sound, noisy) < 0.95
    assert pesq(sound, noisy) < 2
    silence = np.zeros_like(sound)
    assert np.isnan(stoi(silence, silence))
    assert np.isnan(pesq(silence, silence))


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(SettingsError, match=r"pystoi cannot be imported .*shortcut-gen\[eval\]"):
        stoi(noise(1), noise(1))


@pytest.mark.parametrize("later", [-40, 0, 1, 333])
def test_lag_finds_a_shift_and_shifted_takes_it_off(later: int) -> None:
    sound = noise(0.5)
    moved = shifted(sound, -later, len(sound) + 50)
    assert lag(sound, moved) == later
    back = shifted(moved, later, len(sound))
    kept = slice(max(-later, 0), len(sound) - max(later - 50, 0))
    assert np.array_equal(back[kept], sound[kept])


def test_codebook_use() -> None:
    assert codebook_use(np.array([5, 5, 0, 0])) == {"used": 0.5, "perplexity": pytest.approx(2)}
    assert codebook_use(np.full(1024, 3)) == {"used": 1.0, "perplexity": pytest.approx(1024)}
    assert codebook_use(np.array([0, 9])) == {"used": 0.5, "perplexity": pytest.approx(1)}


def test_silence_is_a_share_of_the_frames_below_the_speakers_level() -> None:
    half = np.concatenate([noise(1), noise(1, level=1e-4, seed=1)])
    levels = frame_levels(half, RATE)
    assert len(levels) == 100
    assert levels[:50] == pytest.approx(np.full(50, -20), abs=1.5)
    loud = loud_level(levels)
    assert silence_share(levels, loud) == 0.5
    assert silence_share(frame_levels(np.zeros(RATE, np.float32), RATE), loud) == 1
    assert silence_share(frame_levels(noise(1), RATE), loud) == 0
    assert silence_share(np.empty(0), loud) == 1


def test_pauses_count_in_neither_the_level_nor_twice_in_the_longest_silence() -> None:
    parts = [noise(1), np.zeros(RATE // 2, np.float32), noise(1, seed=1), np.zeros(RATE, np.float32), noise(1, seed=2)]
    levels = frame_levels(np.concatenate(parts), RATE)
    loud = loud_level(levels)
    assert speech_level(levels, loud) == pytest.approx(-20, abs=0.2)
    assert longest_silence(levels, loud) == pytest.approx(1.0)
    assert longest_silence(frame_levels(noise(1), RATE), loud) == 0
    assert longest_silence(np.full(50, -120.0), loud) == pytest.approx(1.0)
    assert np.isnan(speech_level(np.full(50, -120.0), loud))


def test_clipping() -> None:
    assert clipped_share(np.array([0.2, 1.0, -1.0, 0.99], np.float32)) == 0.5


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("hertz", [80.0, 123.4, 200.0, 350.0])
def test_the_pitch_of_a_sawtooth(hertz: float, rate: int) -> None:
    found = pitches(sawtooth(hertz, 1, rate), rate)
    assert len(found) > 90
    assert found == pytest.approx(np.full(len(found), hertz), rel=0.01)


def test_noise_and_silence_have_no_pitch() -> None:
    assert len(pitches(noise(3), RATE)) < 15
    assert len(pitches(np.zeros(RATE, np.float32), RATE)) == 0
    assert len(pitches(np.zeros(100, np.float32), RATE)) == 0


def test_a_click_has_the_strongest_flux_and_another_moment_any_rank() -> None:
    sound = speechlike(6)
    ranks = [flux_percentile(sound, RATE, moment) for moment in np.linspace(0.1, 5.9, 100)]
    assert np.mean(ranks) == pytest.approx(50, abs=10)
    clicked = sound.copy()
    clicked[3 * RATE : 3 * RATE + 3] += np.float32([0.8, -0.8, 0.8])
    assert flux_percentile(clicked, RATE, 3.0) == 100
    assert flux_percentile(clicked, RATE, 4.4) < 100
    with pytest.raises(SettingsError, match="more is needed"):
        flux_percentile(sound[:400], RATE, 0.01)


def test_another_rate_keeps_a_tone() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100).astype(np.float32)
    out = to_rate(tone, 44_100)
    assert len(out) == RATE
    wanted = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert out[200:-200] == pytest.approx(wanted[200:-200], abs=1e-3)


@needs_eval
def test_voices_are_alike_to_themselves_and_silence_has_none() -> None:
    voices = Voices()
    one, other = (voices.embed(speechlike(4, hertz=hertz), RATE) for hertz in (110, 230))
    again = voices.embed(0.4 * speechlike(4, hertz=110, seed=3), RATE)
    assert one is not None
    assert other is not None
    assert again is not None
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-4)
    assert one @ again > one @ other
    assert voices.embed(np.zeros(RATE, np.float32), RATE) is None
    assert voices.embed(noise(0.2), RATE) is None
