"""Files: read only where they are regular and of a sensible size, written whole or not at all."""

import contextlib
import io
import json
import math
import os
import secrets
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from shortcut_gen.errors import MediaError, ShortcutGenError

try:
    import fcntl
except ImportError:  # Windows: runs are not kept apart there
    fcntl = None  # type: ignore[assignment]


def write_whole(path: str | os.PathLike[str], data: bytes, error: type[ShortcutGenError] = MediaError) -> None:
    """Write beside the file's place first, then move there: a reader never sees half of it.

    Raises `error`, with one line, where the system refuses; what was there before is then still there.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as refusal:
        with contextlib.suppress(OSError):  # its folder is missing or forbidden: no part was left in it
            part.unlink(missing_ok=True)
        raise error(f"{path} cannot be written: {reason(refusal)}") from refusal


def remove_parts(folder: Path, names: str = ".*.????????.part") -> None:
    """Take away what killed processes had half written in a folder: for who holds the folder alone.

    names: a pattern of such files, if they are not those of `write_whole`.
    """
    for part in folder.glob(names):
        with contextlib.suppress(OSError):
            part.unlink()


def open_regular(path: str | os.PathLike[str], error: type[ShortcutGenError] = MediaError) -> BinaryIO:
    """A file open to read. Raises `error` on anything else that has a name (opening a pipe would wait forever), and
    OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise error(f"{path} is {kind_of(mode)}; a file is needed")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


class SizedStream(io.RawIOBase):
    """A stream of `_size` bytes of which `_at` is the place; a subclass says what is read there."""

    _size: int
    _at = 0

    def readable(self) -> bool:
        """As io has it."""
        return True

    def seekable(self) -> bool:
        """As io has it."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As io has it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        """As io has it."""
        return self._at


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether something is a file, or a link to one, and not a pipe, a device or a link to nothing."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def kind_of(mode: int) -> str:
    """What something is that is no regular file."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_json(
    path: str | os.PathLike[str], error: type[ShortcutGenError], *, most: int = 16 * 2**20, depth: int = 64
) -> Any:
    """What a JSON file holds. Raises `error` in one line where it is no regular file, longer than `most` bytes, no JSON
    or nested deeper than `depth`; and FileNotFoundError.
    """
    try:
        with open_regular(path, error) as file:
            text = file.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as refusal:
        raise error(f"{path}: cannot be read: {reason(refusal)}") from refusal
    if len(text) > most:
        raise error(f"{path}: has more than {most:,} bytes; at most so many are read")
    try:
        return parse_json(text, depth)
    except ValueError as problem:
        raise error(f"{path}: not JSON: {problem}") from problem


def parse_json(text: bytes | str, depth: int = 64) -> Any:
    """What JSON text holds. Raises ValueError also where it is nested too deep or holds a number that JSON has not."""
    try:
        values = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {depth} levels") from None
    _check_depth(values, depth)
    return values


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_depth(values: Any, depth: int) -> None:
    layer = [values]
    for _ in range(depth):
        inner: list[Any] = []
        for value in layer:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("it holds a number out of range")
        if not inner:
            return
        layer = inner
    raise ValueError(f"it is nested deeper than {depth} levels")


class Lock:
    """A file that one process at a time may hold; a killed process leaves it free."""

    def __init__(self, path: Path, busy: str, error: type[ShortcutGenError]) -> None:
        """Raises `error`, which says `busy`, where another process holds it, or where the system refuses."""
        self._path = path
        self._file: BinaryIO | None = None
        file: BinaryIO | None = None
        try:
            while self._file is None:
                file = path.open("ab")
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    self._file = file
                else:  # whoever held it took it away in between
                    file.close()
        except BlockingIOError:
            if file is not None:
                file.close()
            raise error(busy) from None
        except OSError as refusal:
            raise error(f"{path} cannot be written: {reason(refusal)}") from refusal

    def release(self) -> None:
        """Let it go, and take the file away."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.release()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def reason(error: OSError) -> str:
    """Why the system refused, in its own words."""
    return (error.strerror or str(error) or type(error).__name__).lower()
