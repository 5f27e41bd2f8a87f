"""The machine that something was timed on."""

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """What a run is timed on."""
    if torch.cuda.is_available():
        device, name = "cuda", torch.cuda.get_device_name()
    else:
        device, name = "cpu", _processor()
    return {"device": device, "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def commit() -> str | None:
    """The commit of the code that runs, `-dirty` behind it where files differ; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Takes numbers below float32's normal ones for zero meanwhile, in this thread and those it starts.

    Gradients hold a few once a model is trained, and matrix products spread them. Intel's processors handle them in
    microcode: a backward pass of the paper's model in float32 took 27 times as long there (docs/experiments.md).
    """
    before = float(torch.tensor([1e-30]) * 1e-10) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
