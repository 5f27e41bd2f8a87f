"""The last block's training attention, form against form: `python -m benchmarks.attention [--json FILE]`.

Forward and backward of `prefix_attention` at the paper's shape, the forms taking turns in one process; times are the
median of the rounds with their spread, and ratios are to the dense mask. On a CPU flex_attention has no backward, so it
runs on a GPU only; the C++ form (`native`) on a CPU only.
"""

import json
import statistics
import time
from pathlib import Path
from typing import get_args

import torch
from jsonargparse import auto_cli

from shortcut_gen.network.attention import Form, prefix_attention


def main(
    batch: int = 16,
    heads: int = 16,
    length: int = 512,
    sources: int = 4,
    width: int = 8,
    rounds: int = 7,
    threads: int = 1,
    device: str = "cpu",
    output: str | None = None,
) -> None:
    """Time every form.

    Args:
        batch: B, sequences.
        heads: H, heads.
        length: T, tokens.
        sources: L, taps.
        width: E, head width.
        rounds: Times each form runs, in turn with the others, after one warm-up.
        threads: CPU threads.
        device: Where it runs: cpu or cuda.
        output: JSON file to write.
    """
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    only = {"flex": "cuda", "native": "cpu"}
    forms = [form for form in get_args(Form) if form != "auto" and only.get(form, device) == device]
    query = torch.randn(batch, heads, length, width, device=device, dtype=dtype, requires_grad=True)
    keys, values = (
        torch.randn(batch, heads, length, sources, width, device=device, dtype=dtype, requires_grad=True) for _ in "kv"
    )
    grad = torch.randn_like(query)
    times: dict[str, list[float]] = {form: [] for form in forms}
    for number in range(rounds + 1):
        for form in forms:
            began = time.perf_counter()
            out = prefix_attention(query, keys, values, form)
            torch.autograd.grad(out, (query, keys, values), grad)
            if device == "cuda":
                torch.cuda.synchronize()
            if number:
                times[form].append(time.perf_counter() - began)
    dense = statistics.median(times["dense"])
    rows = []
    print(f"{'form':10}{'median ms':>12}{'spread ms':>20}{'times dense':>14}")
    for form, seconds in times.items():
        median, low, high = statistics.median(seconds), min(seconds), max(seconds)
        print(f"{form:10}{median * 1e3:>12.1f}{f'{low * 1e3:.1f} to {high * 1e3:.1f}':>20}{dense / median:>14.2f}")
        rows.append({"form": form, "seconds": median, "spread": [low, high], "speed_up": dense / median})
    if output:
        Path(output).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
