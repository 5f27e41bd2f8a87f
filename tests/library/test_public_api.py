"""The public names, and the README's five lines."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import soundfile

import shortcut_gen
from shortcut_gen import Audio, Note, Pipeline, Prompt, SamplingParams, Score
from tests.shared.small_models import tiny_speech_checkpoint
from tests.shared.sounds import RATE, speechlike


def test_what_the_documents_import_is_public_and_documented(root: Path) -> None:
    documents = [root / "README.md", *(root / "docs").glob("*.md")]
    text = "\n".join(document.read_text(encoding="utf-8") for document in documents)
    shown = {
        name.strip() for names in re.findall(r"from shortcut_gen import ([\w, ]+)", text) for name in names.split(",")
    }
    assert len(shown) >= 3
    assert shown <= set(shortcut_gen.__all__)
    public = [name for name in shortcut_gen.__all__ if name != "__version__"]
    assert [name for name in public if not (getattr(shortcut_gen, name).__doc__ or "").strip()] == []


def test_the_version_is_that_of_the_package(root: Path) -> None:
    told = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert shortcut_gen.__version__ == told


def test_a_prompt_and_a_continuation_show_as_one_short_line(tiny_checkpoint: Path) -> None:
    notes = tuple(Note(pitch=60 + k % 12, velocity=80, start=k / 4, end=k / 4 + 0.2) for k in range(400))
    prompt = Prompt(media=Score(notes=notes), name="a.mid", seconds=4.0)
    assert repr(prompt) == "<Prompt 'a.mid': 400 notes, 100.0 s, the first 4 s>"
    assert repr(Prompt.empty()) == "<Prompt 'from scratch': nothing>"
    sound = Prompt(media=Audio(np.zeros((1, 8000), np.float32), 16_000), name="b.wav")
    assert repr(sound) == "<Prompt 'b.wav': 16,000 Hz, 0.5 s>"
    made = Pipeline.from_pretrained(tiny_checkpoint).continue_prompt(prompt, SamplingParams(max_tokens=5, seed=3))
    assert re.fullmatch(r"<Continuation of 'a.mid': 5 ids, 4.0 to \d+\.\d s, seed 3, variation 0>", repr(made))


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
    code = "".join(block for block in blocks if "gradio_client" not in block)  # tests/ui/test_ui_programs.py runs that
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
