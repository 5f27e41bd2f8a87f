"""What a decoded token costs, counted and not timed: memory that is asked for, tensor operations, bytes they make."""

import os
import platform
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from shortcut_gen.decoding import native
from shortcut_gen.decoding.engines import Engine, TorchEngine
from shortcut_gen.decoding.native import NativeEngine
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM

needs_library = pytest.mark.skipif(native.problem() is not None, reason=native.problem() or "")
PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)
CONTEXT = 256

COUNTER = """
#include <stddef.h>
#include <errno.h>
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
static _Atomic long asked;
long asked_for(void) { return asked; }
void *malloc(size_t size) { asked += size; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { asked += count * size; return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { asked += size; return __libc_realloc(old, size); }
void *memalign(size_t to, size_t size) { asked += size; return __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { asked += size; return __libc_memalign(to, size); }
int posix_memalign(void **out, size_t to, size_t size) {
    asked += size;
    return (*out = __libc_memalign(to, size)) ? 0 : ENOMEM;
}
"""
"""Put before the C library: bytes that anything in the process has asked for."""

COUNTED = """
import ctypes
import torch
torch.set_num_threads(1)
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.decoding.native import NativeEngine
from tests.library.test_decoding_costs import model
asked = ctypes.CDLL(None).asked_for
asked.restype = ctypes.c_long
probe = asked()
torch.empty(1000)
assert asked() - probe >= 4000, "the counter sees nothing"
params = SamplingParams(max_tokens=9, top_k=100, top_p=0.9, min_p=0.01)
for taps in ((), (1, 2)):
    for precision, threads in (("f32", 1), ("bf16", 1), ("int8", 1), ("int8", 2)):
        decoding = NativeEngine(model(taps=taps), precision=precision, threads=threads).decoding(3)
        for row in range(3):
            decoding.read(row, [376, 60, 300][: row + 1])
        masks = [None, torch.ones(388, dtype=torch.bool), None]
        decoding.draw([1, 2, 3], masks, params, [0.1, 0.5, 0.9])
        counts = []
        for _ in range(20):
            before = asked()
            problem = decoding._library.shortcut_pass(*decoding._step, decoding._draw.address)
            counts.append(asked() - before)
            assert problem == 0
            for row in range(3):
                decoding._lengths[row] += 1
        assert counts == [0] * 20, (taps, precision, threads, counts)
print("counted")
"""


def model(**changes: object) -> ShortcutLM:
    torch.manual_seed(3)
    shape = dict(context=CONTEXT, layers=3, width=16, heads=2, feedforward=32, taps=(1, 2), feature_hidden=16)
    return ShortcutLM(ModelConfig(**{**shape, "shortcut_heads": 4, **changes})).eval()  # type: ignore[arg-type]


class Counted(TorchDispatchMode):
    """Counts the operations that reach a device, and the bytes of the new tensors they make."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.operations = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.names.append(func.overloadpacket.__name__)
        given = {_memory(value) for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.Tensor)}
        made = [
            value for value in (out if isinstance(out, tuple | list) else (out,)) if isinstance(value, torch.Tensor)
        ]
        if new := [value for value in made if _memory(value) not in given]:
            self.operations += 1
            self.bytes += sum(value.untyped_storage().nbytes() for value in new)
        elif func._schema.is_mutable:
            self.operations += 1
        return out


def _memory(value: torch.Tensor) -> int:
    return value.untyped_storage().data_ptr()


def streamed(engine: Engine, lm: ShortcutLM, batch: int = 1) -> Iterator[object]:
    """A stream that neither ends nor slides for the next 200 tokens."""
    streams = [Stream(prompt=PROMPT, variation=k) for k in range(batch)]
    params = SamplingParams(max_tokens=10_000, top_k=100, top_p=0.9)
    stream = Sampler(lm, PianoTokenizer(), engine).stream(streams, params)
    next(stream)
    return stream


@needs_library
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="counts the calls of glibc's malloc")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_native_step_asks_for_no_memory(tmp_path: Path, root: Path) -> None:
    (tmp_path / "counter.c").write_text(COUNTER)
    build = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(tmp_path / "counter.so"), str(tmp_path / "counter.c")]
    subprocess.run(build, check=True)
    counting = os.environ | {"LD_PRELOAD": str(tmp_path / "counter.so")}
    command = [sys.executable, "-W", "ignore", "-c", COUNTED]
    made = subprocess.run(command, cwd=root, env=counting, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stdout) == (0, "counted\n"), made.stderr[-2000:]


@needs_library
def test_a_native_token_makes_no_tensor_and_leaves_nothing_but_its_id() -> None:
    lm = model()
    for batch in (1, 4):
        stream = streamed(NativeEngine(lm, threads=1), lm, batch)
        for _ in range(70):  # arrays are grown
            next(stream)
        with Counted() as counted:
            for _ in range(50):
                next(stream)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(100):
                next(stream)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # Each row has its uniform numbers for hundreds of tokens, and adds its id to a list.
        assert counted.operations <= batch
        assert after - before < batch * 100 * 100
        assert peak - before < batch * 100 * 100 + 8192


@pytest.mark.parametrize("taps", [(), (1, 2)], ids=["baseline", "shortcut"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_torch_token_costs_the_same_wherever_it_stands(taps: tuple[int, ...], batch: int) -> None:
    lm = model(taps=taps)
    stream = streamed(TorchEngine(lm), lm, batch)
    costs = []
    for _ in range(2):
        with Counted() as counted:
            for _ in range(50):
                next(stream)
        costs.append((counted.operations / 50, counted.bytes / 50))
        for _ in range(70):
            next(stream)
    assert costs[0] == costs[1]
    # Each block, each tap, each row's mask; embedding, head, filters and draw.
    assert costs[0][0] < 20 * lm.config.layers + 6 * len(taps) + 2 * batch + 30
    # A few copies of a block's activations and of the logits, but never one of the caches.
    assert costs[0][1] < batch * 4 * (lm.config.layers * 40 * 16 + 20 * lm.config.vocab_size)


def test_a_static_step_is_always_the_same_operations_and_waits_for_nothing_but_the_ids() -> None:
    lm = model()
    stream = streamed(TorchEngine(lm, graphs=True), lm, batch=3)
    steps = []
    for _ in range(200):  # through all spans of the cache
        with Counted() as counted:
            next(stream)
        # The numbers are drawn now and then; a slice of the whole is an alias.
        steps.append([name for name in counted.names if name not in ("rand", "slice", "alias")])
    assert all(step == steps[0] for step in steps)
    assert not {"_local_scalar_dense", "nonzero", "index"} & set(steps[0])
