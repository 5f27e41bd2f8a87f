"""Writing a file whole or not at all."""

import contextlib
import os
import secrets
from pathlib import Path

from shortcut_gen.errors import MediaError, ShortcutGenError


def write_whole(path: str | os.PathLike[str], data: bytes, error: type[ShortcutGenError] = MediaError) -> None:
    """Write beside the file's place first, then move there: nobody ever finds half of it.

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
        with contextlib.suppress(OSError):  # its folder is not there or not ours: nothing of ours is left in it
            part.unlink(missing_ok=True)
        raise error(f"{path} cannot be written: {reason(refusal)}") from refusal


def reason(error: OSError) -> str:
    """Why the system refused, in its own words."""
    return (error.strerror or str(error) or type(error).__name__).lower()
