"""Judges of speech that are models themselves: how good it sounds, what words are heard, whose voice it is.

Optional: they need the `judges` extra, the voice the `eval` extra. Each is loaded once a process, when first asked.
Signals are (S,) float arrays in [-1, 1] at 16 kHz.
"""

import contextlib
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shortcut_gen.codec.torchaudio_loader import torchaudio
from shortcut_gen.errors import DataError
from training.scoring.sound import RATE, Signal, Voices, needed, resemblyzer

JUDGES = ("distillmos", "dnsmos", "words", "voice")
"""What `ask` takes."""
OPINIONS = JUDGES[:2]
"""Those that need nothing to compare with: what `opinions` takes."""
ORIGINAL = "original"
TEXTS = "*.trans.txt"
"""LibriSpeech's transcripts of a chapter: a line of NAME WORDS for each of its recordings."""


def check(judges: Sequence[str]) -> None:
    """Raises SettingsError, with what to install, where a judge's packages are missing."""
    packages = {
        "distillmos": ("distillmos",),
        "dnsmos": ("onnxruntime", "speechmos.dnsmos"),
        "words": ("pocketsphinx",),
    }
    for judge in judges:
        for name in packages.get(judge, ()):
            needed(name, "judges")
    if "voice" in judges:
        resemblyzer()


def distillmos(samples: Signal) -> float:
    """DistillMOS (arXiv:2502.05356), the mean opinion that listeners would have, 1 to 5; nothing is compared.

    Windows of 7.68 s, at most a second apart, are averaged; a shorter sound is filled with zeros.
    """
    with torch.inference_mode():
        return float(_distillmos()(torch.from_numpy(np.ascontiguousarray(samples))[None]))


@cache
def _distillmos() -> Any:
    module = needed("distillmos", "judges")
    with contextlib.redirect_stdout(io.StringIO()):  # it says where its weights lie
        return module.ConvTransformerSQAModel().eval()


def dnsmos(samples: Signal) -> dict[str, float]:
    """DNSMOS P.835 (arXiv:2110.01763), 1 to 5: dnsmos (overall) and dnsmos_signal; NaN of no samples at all.

    A sound shorter than 9.01 s is repeated; its windows are a second apart.
    """
    if not len(samples):  # it would repeat nothing for ever
        return {"dnsmos": float("nan"), "dnsmos_signal": float("nan")}
    # Resampling can pass 1 by a little, which is refused.
    found = _dnsmos()(np.clip(samples, -1, 1), RATE, False)
    return {"dnsmos": float(found["ovrl_mos"]), "dnsmos_signal": float(found["sig_mos"])}


@cache
def _dnsmos() -> Any:
    module, runtime = needed("speechmos.dnsmos", "judges"), needed("onnxruntime", "judges")
    folder = Path(module.__file__).parent / "dnsmos_models"
    paths = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
    judge = module.DNSMOS(*paths)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # its own choice is a thread for every core, and they spin
    judge.onnx_sess, judge.p808_onnx_sess = (runtime.InferenceSession(path, options) for path in paths)
    return judge


def words(samples: Signal) -> list[str]:
    """What PocketSphinx hears, in lower case, with its US English model and no prior knowledge of the text."""
    decoder = _sphinx()
    decoder.reinit_feat()  # its noise tracking and cepstral means would carry over from the recording before
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    return heard.hypstr.lower().split() if heard else []


@cache
def _sphinx() -> Any:
    return needed("pocketsphinx", "judges").Decoder(samprate=RATE, loglevel="FATAL")


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> float:
    """Words substituted, left out and put in."""
    return float(torchaudio.functional.edit_distance(list(reference), list(heard)))


def text_of(path: Path) -> list[str] | None:
    """The words of a recording, in lower case, where LibriSpeech's transcript lies beside it. Raises DataError."""
    for place in sorted(path.parent.glob(TEXTS)):
        try:
            lines = place.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{place}: cannot be read ({error})") from error
        for name, *spoken in map(str.split, filter(str.strip, lines)):
            if name == path.stem:
                return [word.lower() for word in spoken]
    return None


def opinions(judges: Sequence[str], samples: Signal) -> dict[str, float]:
    """What those of the judges say that judge a sound alone: distillmos; dnsmos and dnsmos_signal."""
    found = {"distillmos": distillmos(samples)} if "distillmos" in judges else {}
    return found | (dnsmos(samples) if "dnsmos" in judges else {})


def ask(
    judges: Sequence[str], original: Signal, made: dict[str, Signal], text: list[str] | None = None
) -> dict[str, dict[str, float]]:
    """What the judges say of an original, under "original", and of what systems made of it, under their names.

    distillmos and dnsmos judge each sound alone. `words`: word_errors and words against what is heard in the original,
    text_errors and text_words against the text, NaN without one. `voice`: cosine of the embeddings of a sound and the
    original (Resemblyzer), NaN where either has no voice. Raises SettingsError.
    """
    rows: dict[str, dict[str, float]] = {name: {} for name in (ORIGINAL, *made)}
    sounds = {ORIGINAL: original} | made
    for name, sound in sounds.items():
        rows[name] |= opinions(judges, sound)
    if "words" in judges:
        heard = {name: words(sound) for name, sound in sounds.items()}
        for name, row in rows.items():
            row |= _errors("", heard[ORIGINAL] if name != ORIGINAL else None, heard[name])
            row |= _errors("text_", text, heard[name])
    if "voice" in judges:
        embeddings = {name: _voices().embed(sound, RATE) for name, sound in sounds.items()}
        first = embeddings.pop(ORIGINAL)
        for name, other in embeddings.items():
            rows[name]["voice"] = float("nan") if first is None or other is None else float(first @ other)
    return rows


def _errors(of: str, reference: list[str] | None, heard: list[str]) -> dict[str, float]:
    counts = (float("nan"),) * 2 if reference is None else (word_errors(reference, heard), float(len(reference)))
    return dict(zip((f"{of}word_errors", f"{of}words"), counts, strict=True))


def rates(figures: dict[str, float]) -> dict[str, float]:
    """Mean figures with word error rates, wer and text_wer, in the place of counts: all errors by all words."""
    out = {name: value for name, value in figures.items() if "word" not in name}
    for of in ("", "text_"):
        errors, count = (figures.get(f"{of}{name}", float("nan")) for name in ("word_errors", "words"))
        if np.isfinite(errors) and count:
            out[f"{of}wer"] = errors / count
    return out


@cache
def _voices() -> Voices:
    return Voices()
