"""The public names, and the README's five lines."""

import re
import subprocess
import sys
from pathlib import Path

import soundfile

import shortcut_gen
from tests.shared.small_models import tiny_speech_checkpoint
from tests.shared.sounds import RATE, speechlike

PUBLIC = {
    "Audio",
    "Checkpoint",
    "CheckpointInfo",
    "Codec",
    "Continuation",
    "EncodecCodec",
    "ModelConfig",
    "Note",
    "Pipeline",
    "Progress",
    "Prompt",
    "Sampler",
    "SamplingParams",
    "Score",
    "ShortcutGenError",
    "ShortcutLM",
    "SpeechTokenizer",
    "Stream",
    "load_checkpoint",
    "open_codec",
    "save_checkpoint",
}


def test_the_public_names_are_these() -> None:
    assert set(shortcut_gen.__all__) == PUBLIC
    assert list(shortcut_gen.__all__) == sorted(shortcut_gen.__all__)


def test_public_names_are_documented() -> None:
    undocumented = [name for name in PUBLIC if not (getattr(shortcut_gen, name).__doc__ or "").strip()]
    assert undocumented == []


def test_piano_needs_nothing_that_speech_needs(root: Path, tiny_checkpoint: Path) -> None:
    code = f"""
import sys
sys.modules |= {{"encodec": None, "torchaudio": None, "einops": None}}  # as where they are not installed
from shortcut_gen import Pipeline, Prompt, SamplingParams
pipeline = Pipeline.from_pretrained({str(tiny_checkpoint)!r})
assert pipeline.continue_prompt(Prompt.empty(), SamplingParams(max_tokens=5)).score is not None
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=root, check=True)


def test_the_python_of_the_readme_runs(root: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    code = "".join(blocks)
    soundfile.write(tmp_path / "sentence.flac", speechlike(4.0), RATE)
    for ours, here in (
        ('"checkpoints/speech"', repr(str(tiny_speech_checkpoint(tmp_path / "checkpoints" / "speech")))),
        ('"sentence.flac"', repr(str(tmp_path / "sentence.flac"))),
        ("seconds=5", "seconds=2"),
        ("seconds=10", "seconds=1"),
        ('"checkpoints/piano"', repr(str(tiny_checkpoint))),
        ('"ui/examples/', f'"{root}/ui/examples/'),
        ('"continued.', f'"{tmp_path}/continued.'),
        ('"spoken.', f'"{tmp_path}/spoken.'),
        ("seconds=30", "seconds=1"),
        ("seconds=20", "seconds=3"),
    ):
        assert ours in code
        code = code.replace(ours, here)
    exec(code, {})
    assert (tmp_path / "continued.mid").stat().st_size > 100
    assert (tmp_path / "continued.wav").stat().st_size > 100_000
    assert soundfile.info(tmp_path / "spoken.wav").duration == 3.0


def test_importing_the_library_leaves_the_compiler_of_torch_alone() -> None:
    """It takes longer to import than all the rest, and every command would wait for it."""
    code = "import sys, shortcut_gen; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0
