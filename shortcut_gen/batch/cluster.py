"""A batch on a cluster: each worker process has a `Maker` and its models, and writes into a folder that all share."""

import dataclasses
import platform
import secrets
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import shortcut_gen
from shortcut_gen.batch.making import Maker, Piece
from shortcut_gen.batch.models import Models
from shortcut_gen.batch.settings import BatchSettings
from shortcut_gen.cluster import Remote, on_cluster
from shortcut_gen.errors import ClusterError
from shortcut_gen.files import write_whole

MARK = ".shared-"
"""Beginning of the name of a file in the folder of results, by which a machine knows that it sees the same folder."""


def make_on_cluster(
    address: str, settings: BatchSettings, chunks: Sequence[Sequence[Piece]]
) -> Generator[list[dict[str, Any]]]:
    """The records of each chunk's pieces, in order, once their files are written. Raises ShortcutGenError."""
    out = Path(settings.out)  # no URL: the settings refuse that
    mark = out / f"{MARK}{secrets.token_hex(8)}"
    for old in out.glob(f"{MARK}*"):  # of a run that was killed
        old.unlink(missing_ok=True)
    write_whole(mark, b"")
    try:
        there = (dataclasses.replace(settings, ray=None), mark.name, shortcut_gen.__version__)
        remote = Remote(ChunkMaker, there, gpu=settings.device.startswith("cuda"))
        yield from on_cluster(address, remote, [[_to_item(piece) for piece in chunk] for chunk in chunks])
    finally:
        mark.unlink(missing_ok=True)


class ChunkMaker:
    """Makes chunks on whichever machine it stands."""

    def __init__(self, settings: BatchSettings, mark: str, version: str) -> None:
        """Raises ClusterError where a machine has another version, or another folder."""
        where = platform.node()
        if shortcut_gen.__version__ != version:
            raise ClusterError(f"{where} has shortcut-gen {shortcut_gen.__version__}; {version} is needed, as here")
        out = Path(settings.out)
        if not (out / mark).is_file():
            raise ClusterError(f"{settings.out} on {where} is not the folder it is here; one that all share is needed")
        self._maker = Maker(settings, out)
        self._models = Models(settings.checkpoint, settings.device, settings.engine, settings.precision)
        self._where = where

    def __call__(self, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The records of some pieces, as `_to_item` has them; their files are written. Raises ShortcutGenError."""
        generated = self._maker.generate([self._to_piece(item) for item in items])
        return generated.failed + [self._maker.keep(*made) for made in generated.made]

    def _to_piece(self, item: dict[str, Any]) -> Piece:
        model = self._models.at(item["folder"])
        if model.sha256 != item["checkpoint"]:
            raise ClusterError(f"{model.folder} on {self._where} is another checkpoint than here")
        if (model.engine, model.precision) != item["engine"]:
            there, here = f"{model.engine} with {model.precision}", " with ".join(item["engine"])
            raise ClusterError(
                f"{self._where} would run {there}, not {here}; name --engine and --precision that all machines have"
            )
        return Piece(
            path=item["path"], sha256=item["sha256"], name=item["name"], variation=item["variation"], model=model
        )


def _to_item(piece: Piece) -> dict[str, Any]:
    return {
        "path": piece.path,
        "sha256": piece.sha256,
        "name": piece.name,
        "variation": piece.variation,
        "folder": piece.model.named,
        "checkpoint": piece.model.sha256,
        "engine": (piece.model.engine, piece.model.precision),
    }
