"""What keeps two processes from training one run."""

import contextlib
from pathlib import Path

from shortcut_gen.errors import ConfigError
from shortcut_gen.files import Lock, reason, remove_parts
from training.run.checkpoints import LAST

LOCK = ".lock"


class RunLock:
    """A run's folder, held; made if need be, and taken away again where nothing came to be in it."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where another process holds it, or where it cannot be made."""
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: the run's folder cannot be made: {reason(error)}") from error
        busy = f"{folder} is being trained by another process; wait for it, or choose another --name"
        self._lock = Lock(folder / LOCK, busy, ConfigError)
        remove_parts(folder)
        remove_parts((folder / LAST).parent, "*.part")  # a checkpoint that a killed process was writing

    def release(self) -> None:
        """Let it go."""
        self._lock.release()
        with contextlib.suppress(OSError):  # it is not empty, as it should be
            for path in self._made:
                path.rmdir()
