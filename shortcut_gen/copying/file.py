"""The index on disk: one safetensors file in a checkpoint's folder, read with one line for each damage.

Its header's metadata is JSON under the key `copying`: format, corpus, licence, performances, and what real excerpts
come to. Its two tensors hold bytes compressed by xz: `steps`, and `clock` as differences of 32 bits.
"""

import dataclasses
import json
import lzma
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shortcut_gen.copying.index import Copying, Performance, clock_lengths
from shortcut_gen.copying.runs import TICKS_PER_SECOND
from shortcut_gen.copying.strings import crowd
from shortcut_gen.errors import CheckpointError
from shortcut_gen.files import open_regular, parse_json, reason, write_whole
from shortcut_gen.media import MAX_SECONDS

INDEX = "copying.safetensors"
FORMAT = 1
"""Version of the file's layout; also of what counts as a run."""
MAX_BYTES = 64 * 2**20
"""A longer file is refused."""
MAX_ABOUT_BYTES = 8 * 2**20
"""Longer metadata are refused."""
MAX_NOTES = 2**25
"""Notes of all performances at most, six times MAESTRO: some 600 MB while it is sorted."""
MAX_CROWD = 2**16
"""Places of one hash at most, which bounds how long a search takes; MAESTRO has 5,309."""
_XZ_MEMORY: Final = 2**27  # what the strongest preset asks for is 65 MiB
_TENSORS = ("clock", "steps")
_TEXTS = ("corpus", "source_sha256", "licence")


def write_copying(folder: Path, index: Copying) -> None:
    """Write the index into a checkpoint's folder, whole or not at all. Raises CheckpointError."""
    about = {name: getattr(index, name) for name in _TEXTS} | {
        "format": FORMAT,
        "performances": [dataclasses.asdict(performance) for performance in index.performances],
        "real": [[length, sorted(counts.items())] for length, counts in index.real.items()],
    }
    clock = np.diff(index.clock, prepend=0).astype("<i4")
    tensors = {"steps": _packed(index.steps), "clock": _packed(clock)}
    data = save(tensors, metadata={"copying": json.dumps(about, allow_nan=False)})
    write_whole(folder / INDEX, data, CheckpointError)


def open_copying(folder: str | Path) -> Copying:
    """The index in a checkpoint's folder. Raises CheckpointError."""
    path = Path(folder) / INDEX
    try:
        with open_regular(path, CheckpointError) as file:
            size = file.seek(0, 2)
        if size > MAX_BYTES:
            raise CheckpointError(f"{path}: has {size:,} bytes; at most {MAX_BYTES:,} are read")
        with safe_open(path, framework="numpy") as given:
            text = (given.metadata() or {}).get("copying")
            names = sorted(given.keys())
            if text is None or names != list(_TENSORS):
                raise CheckpointError(f"{path}: is no index of training performances")
            tensors = {name: given.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder}: no {INDEX} there, the index of what it was trained on; training.copying_index makes one"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read, perhaps cut short: {error}") from error
    try:
        return _index(text, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, lzma.LZMAError) as error:
        what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: is damaged: {what}") from error


def _index(text: str, tensors: dict[str, NDArray[Any]]) -> Copying:
    """The index of a file's parts. Raises KeyError, TypeError, ValueError or LZMAError on what it never writes."""
    if len(text) > MAX_ABOUT_BYTES:
        raise ValueError(f"its metadata have more than {MAX_ABOUT_BYTES:,} characters")
    about = parse_json(text, depth=8)
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {str(about['format'])[:20]}, and {FORMAT} is needed")
    performances = [_performance(values) for values in about["performances"]]
    notes = np.array([performance.notes for performance in performances], np.int64)
    if notes.sum() > MAX_NOTES:
        raise ValueError(f"it is of {notes.sum():,} notes; at most {MAX_NOTES:,} are read")
    steps = np.frombuffer(_unpacked(tensors["steps"], int(notes.sum())), np.uint8)
    if not np.array_equal(np.flatnonzero(steps == 0), np.cumsum(notes) - 1):
        raise ValueError("its performances do not end where they should")
    if crowd(steps) > MAX_CROWD:
        raise ValueError("it repeats itself more than music does")
    lengths = clock_lengths(notes)
    clock = np.cumsum(np.frombuffer(_unpacked(tensors["clock"], 4 * int(lengths.sum())), "<i4"), dtype=np.int64)
    if len(clock) and not 0 <= clock.min() <= clock.max() <= MAX_SECONDS * TICKS_PER_SECOND:
        raise ValueError("it has onsets that no performance has")
    real = {_whole(length): {_whole(run, 0): _whole(n) for run, n in counts} for length, counts in about["real"]}
    if not all(real.values()):
        raise ValueError("it has lengths of real excerpts without an excerpt")
    return Copying(performances, steps, clock, real=real, **{name: _text(about[name]) for name in _TEXTS})


def _performance(values: dict[str, Any]) -> Performance:
    texts = {name: _text(values[name]) for name in ("name", "composer", "title")}
    return Performance(notes=_whole(values["notes"]), **texts)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it has a {type(value).__name__} where a text is needed")
    return value


def _whole(value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise ValueError(f"it has {str(value)[:20]!r} where a whole number of at least {least} is needed")
    return value


def _packed(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(lzma.compress(values.tobytes(), preset=6 | lzma.PRESET_EXTREME), np.uint8)


def _unpacked(data: NDArray[Any], size: int) -> bytes:
    """The bytes that were packed, of which there must be `size`: no more are unpacked whatever the data say."""
    if data.dtype != np.uint8 or data.ndim != 1:
        raise ValueError("its tensors are not rows of bytes")
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    out = unpacker.decompress(data.tobytes(), max_length=size + 1)
    if len(out) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError("its tensors are not as long as its performances")
    return out
