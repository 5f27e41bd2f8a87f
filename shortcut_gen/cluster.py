"""Work on the machines of a Ray cluster (the extra `cluster`): one function over many items, the answers in order.

Tasks and not actors or `map_batches`: items may be as large as the sound they hold, so they are handed out as answers
are fetched and never all at once; and a task of a lost machine runs wherever there is room. What is dear to make, such
as a model, is kept by each worker process, which Ray gives one task after another.
"""

import importlib.util
import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from shortcut_gen.errors import ClusterError, SettingsError, ShortcutGenError
from shortcut_gen.files import reason

AHEAD = 4
"""Items a core that are handed out before the oldest has been answered."""
TRIES = 8
"""Times that an item is tried whose process or machine dies; one that kills its process each time ends the run."""
CONNECT_SECONDS = 20

Work = Callable[[Any], Any]
"""What is done to one item. Both it and its answer are pickled, between processes of this program alone."""


@dataclass(frozen=True)
class Remote:
    """How a worker process comes by its `Work`: made once, at its first item."""

    make: Callable[..., Work]
    arguments: tuple[Any, ...]
    gpu: bool = False
    folder: Path = field(default_factory=Path.cwd)
    """Where paths that are not absolute begin, on every machine."""
    run: str = field(default_factory=lambda: uuid4().hex)


_kept: tuple[str, Work] | None = None  # of a worker process: the run and its work


def _answer(remote: Remote, item: Any) -> Any:
    """In a worker process. An error that a user can mend is answered, as Ray would wrap one that is raised."""
    global _kept  # noqa: PLW0603
    try:
        if _kept is None or _kept[0] != remote.run:
            import torch

            torch.set_num_threads(1)  # a task has one core
            if not remote.folder.is_dir():
                raise ClusterError(
                    f"{remote.folder} is no folder on {platform.node()}; start the command in one that all share"
                )
            os.chdir(remote.folder)
            _kept = (remote.run, remote.make(*remote.arguments))
        return _kept[1](item)
    except ShortcutGenError as error:
        return error


def on_cluster(address: str, remote: Remote, items: Iterable[Any]) -> Generator[Any]:
    """What the work answers to each item, in their order; what a killed process or a lost machine had is done again.

    `address` is HOST:PORT of the head, `auto` for the cluster that runs here, or `local`, which starts one of this
    machine's cores and ends it. Raises ClusterError where there is none or it fails, and the first error of the work.
    """
    with _connected(address) as ray:
        task = ray.remote(
            num_cpus=1, num_gpus=1 if remote.gpu else 0, max_calls=0, max_retries=TRIES, scheduling_strategy="SPREAD"
        )(_answer)
        shared = ray.put(remote)
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(task.remote(shared, item))
                # Counted anew each time: machines come and go.
                while len(waiting) >= AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1))):
                    yield _fetched(ray, waiting.popleft())
            while waiting:
                yield _fetched(ray, waiting.popleft())
        finally:
            for left in waiting:
                ray.cancel(left, force=True)


def _fetched(ray: Any, answer: Any) -> Any:
    try:
        result = ray.get(answer)
    except ray.exceptions.RayTaskError:
        raise  # a fault of ours
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(f"the cluster gave an item up after {TRIES + 1} tries: {said[0]}") from error
    if isinstance(result, ShortcutGenError):
        raise result
    return result


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    if importlib.util.find_spec("ray") is None:
        raise SettingsError("--ray needs the package ray; install it by: pip install 'shortcut-gen[cluster]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anybody
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        ray.init(address="local", include_dashboard=False, **quiet)
    else:
        _reach(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ClusterError(f"ray is {address!r}, and no cluster answers there: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises SettingsError, or ClusterError where nothing listens: Ray would try for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError(f"ray is {address!r}; HOST:PORT of a cluster's head, auto or local is needed")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(f"ray is {address!r}, and nothing answers there ({reason(error)})") from error
