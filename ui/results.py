"""Files of results that are made when they are first asked for: most are never, and Stop is to end all work at once."""

import contextlib
import os
import re
import threading
import unicodedata
import zipfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from shortcut_gen.errors import MediaError, ShortcutGenError
from ui.text import refusals

MADE_AT_ONCE = 2
"""Files that are made at a time, over all pages: each keeps a core busy."""

_TURNS = threading.BoundedSemaphore(MADE_AT_ONCE)
_KINDS = {".mid": "audio/midi", ".wav": "audio/wav", ".zip": "application/zip", ".json": "application/json"}


class Result:
    """A file that is not there yet."""

    def __init__(self, path: Path, write: Callable[[Path], None], fresh: bool = False, light: bool = False) -> None:
        """`write` makes the file at the path it is given, and may raise ShortcutGenError. fresh: whenever it is asked
        for, as what it tells of may have changed. light: no turn is needed to make it.
        """
        self._path, self._write, self.fresh = path, write, fresh
        self._turns = contextlib.nullcontext() if light or fresh else _TURNS
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Of the file."""
        return self._path.name

    def path(self) -> Path:
        """The file, made now if it was not yet. Raises ShortcutGenError, FileNotFoundError where its folder is gone."""
        with self._lock:
            if self.fresh or not self._path.is_file():
                if not self._path.parent.is_dir():
                    raise FileNotFoundError(self._path)
                with self._turns:
                    self._write(self._path)
        return self._path


class Made:
    """The files that are there, at most so many bytes of them: the one unused for longest goes, to be made again."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._sizes: OrderedDict[Path, int] = OrderedDict()
        self._lock = threading.Lock()

    def used(self, path: Path) -> None:
        """That file is there and was asked for."""
        with self._lock:
            with contextlib.suppress(FileNotFoundError):  # its step may be gone meanwhile
                self._sizes[path] = path.stat().st_size
                self._sizes.move_to_end(path)
            while sum(self._sizes.values()) > self._most and len(self._sizes) > 1:
                self._sizes.popitem(last=False)[0].unlink(missing_ok=True)


def together(parts: Sequence[Result], made: Made) -> Callable[[Path], None]:
    """What writes a zip of other files, each made at need, one after another; none is held in memory whole."""

    def write(path: Path) -> None:
        beside = path.with_suffix(".part")
        try:
            with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as out:  # sound hardly shrinks
                for part in parts:
                    out.write(part.path(), part.name)
                    made.used(part.path())
            beside.replace(path)
        except OSError as error:
            if isinstance(error, FileNotFoundError):  # its step is gone
                raise
            raise MediaError(refusals.unwritten(path.name, error.strerror)) from error
        finally:
            beside.unlink(missing_ok=True)

    return write


def slug(name: str) -> str:
    """A file name without spaces or accents, from a name that may have a suffix."""
    plain = unicodedata.normalize("NFKD", re.sub(r"\.[a-z0-9]{2,4}$", "", name, flags=re.IGNORECASE))
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    return "-".join(words)[:48].strip("-") or "prompt"


def address(token: str, name: str) -> str:
    """Where a page finds a result, relative to the page. token: of its run."""
    return f"results/{token}/{quote(name)}"


class _Opened(FileResponse):
    """A file that is held open, as it may go, with its step, before it is sent."""

    def __init__(self, path: Path, file: BufferedReader, kind: str, headers: Mapping[str, str]) -> None:
        super().__init__(
            path,
            media_type=kind,
            filename=path.name,
            content_disposition_type="inline",
            headers=headers,
            stat_result=os.fstat(file.fileno()),
        )
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        # Starlette would open the path here, behind the headers that promise its bytes.
        yield anyio.wrap_file(self._file)


def route(find: Callable[[str, str], Result | None], made: Made) -> Route:
    """Serves the result that `find` gives for a run's token and a name: whole or in ranges; 404 where there is none."""

    def opened(result: Result) -> tuple[Path, BufferedReader]:
        path = result.path()
        file = path.open("rb")
        made.used(path)
        return path, file

    async def answer(request: Request) -> Response:
        result = find(request.path_params["token"], request.path_params["name"])
        if result is None:
            return PlainTextResponse(refusals.RESULT_GONE, 404)
        try:
            path, file = await run_in_threadpool(opened, result)
        except FileNotFoundError:
            return PlainTextResponse(refusals.RESULT_GONE, 404)
        except ShortcutGenError as error:  # such as a full disk
            return PlainTextResponse(str(error), 507)
        headers = {"Cache-Control": "no-store" if result.fresh else "private, max-age=3600"}
        return _Opened(path, file, _KINDS.get(path.suffix, "application/octet-stream"), headers)

    return Route("/results/{token}/{name}", answer)
