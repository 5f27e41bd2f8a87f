"""python -m training.prepare: turns a corpus as published into shards of ids.

It can be stopped at any time, even killed: run again, it goes on with the shards that are missing, and what it writes
does not depend on where it was cut off or on the number of cores.
"""

import io
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jsonargparse import auto_cli, set_parsing_settings
from jsonargparse.typing import register_type
from tqdm import tqdm

from shortcut_gen.errors import DataError, SettingsError, ShortcutGenError
from shortcut_gen.files import Lock, reason, remove_parts
from shortcut_gen.places import Url
from training.corpus.archives import name_of
from training.corpus.encoding import Encoded, Failed, Source, encode_all
from training.corpus.plan import PROGRESS, Plan, PlannedShard
from training.corpus.progress import clear, clear_progress, is_complete, read, summary
from training.corpus.remote import Upload, uploading
from training.corpus.scores import MaestroSource, MidiFolderSource
from training.corpus.shards import MANIFEST, Shard, ShardWriter, write_json
from training.corpus.speech_commands import AudioFolder, LibriSpeech, SpeechCommand, processes_of, source_of
from training.corpus.texts import NovelsSource, Text8Source, WikiTextSource
from training.support.command_line import listed

PIECES_PER_SHARD = 64
"""Of scores: about 1.6 million tokens of piano."""


def maestro(source: Path, out: Url | Path, workers: int = 0, ray: str | None = None) -> None:
    """MAESTRO v3.0.0: the official MIDI zip as it is, or the unpacked folder, with MAESTRO's own split.

    Args:
        source: The zip file or the folder.
        out: Folder of the shards, or its URL, such as data/maestro.
        workers: Processes that encode; 0 takes one a core.
        ray: Encode on a Ray cluster: HOST:PORT of its head, auto for the one that runs here, local for these cores.
    """
    prepare(MaestroSource(source), out, workers=workers, ray=ray)


def midi_folder(
    source: Path,
    out: Url | Path,
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.1,
    licence: str = "not stated",
    name: str | None = None,
    workers: int = 0,
    ray: str | None = None,
) -> None:
    """Your own MIDI files: every one under a folder, split by piece. Files that cannot be read are left out and named.

    Args:
        source: The folder, or a zip or tar archive of it.
        out: Folder of the shards, or its URL, such as data/mine.
        seed: Chooses which pieces are held out.
        validation: Share of the pieces to validate on.
        test: Share of the pieces to test on.
        licence: Licence of the music; models trained on it name it.
        name: Name of the corpus; the name of the folder if none is given.
        workers: Processes that encode; 0 takes one a core.
        ray: Encode on a Ray cluster: HOST:PORT of its head, auto for the one that runs here, local for these cores.
    """
    corpus = name or name_of(source)
    files = MidiFolderSource(source, corpus=corpus, licence=licence, seed=seed, validation=validation, test=test)
    prepare(files, out, workers=workers, ray=ray)


def text8(source: Path, out: Url | Path, workers: int = 0, ray: str | None = None) -> None:
    """text8: the official file of 100,000,000 characters or its zip, as 27 symbols; 90 million to train on, 5 and 5.

    Args:
        source: The file text8, text8.zip, or a folder with it.
        out: Folder of the shards, or its URL, such as data/text8.
        workers: Processes that encode; 0 takes one a core.
        ray: Encode on a Ray cluster: HOST:PORT of its head, auto for the one that runs here, local for these cores.
    """
    prepare(Text8Source(source), out, workers=workers, ray=ray)


def wikitext103(source: Path, out: Url | Path, workers: int = 0, ray: str | None = None) -> None:
    """WikiText-103: the official zip, raw or tokens, or its unpacked folder, in GPT-2's BPE, with its own split.

    Args:
        source: The zip file or the folder.
        out: Folder of the shards, or its URL, such as data/wikitext103.
        workers: Processes that encode; 0 takes one a core.
        ray: Encode on a Ray cluster: HOST:PORT of its head, auto for the one that runs here, local for these cores.
    """
    prepare(WikiTextSource(source), out, workers=workers, ray=ray)


def novels(
    source: Path,
    out: Url | Path,
    tokens: Literal["characters", "bpe"],
    seed: int = 0,
    validation: float = 0.05,
    test: float = 0.05,
    workers: int = 0,
    ray: str | None = None,
) -> None:
    """Novels, or other texts out of copyright: every .txt of a folder or archive, split by novel.

    Args:
        source: The folder, or a tar (.xz, .gz) or zip archive of it.
        out: Folder of the shards, or its URL, such as data/novels-bpe.
        tokens: characters for text8's 27 symbols, bpe for GPT-2's 50,257.
        seed: Chooses which novels are held out.
        validation: Share of the novels to validate on.
        test: Share of the novels to test on.
        workers: Processes that encode; 0 takes one a core.
        ray: Encode on a Ray cluster: HOST:PORT of its head, auto for the one that runs here, local for these cores.
    """
    prepare(
        NovelsSource(source, tokens=tokens, seed=seed, validation=validation, test=test), out, workers=workers, ray=ray
    )


register_type(Url, deserializer=Url)

SUBCOMMANDS: dict[str, Any] = {
    "maestro": maestro,
    "midi-folder": midi_folder,
    "text8": text8,
    "wikitext103": wikitext103,
    "novels": novels,
    "librispeech": LibriSpeech,
    "audio-folder": AudioFolder,
}
"""Every corpus there is a command for."""


def prepare(
    source: Source,
    out: Url | Path,
    *,
    workers: int = 0,
    ray: str | None = None,
    pieces_per_shard: int = PIECES_PER_SHARD,
) -> None:
    """Write a source's shards and manifest to a folder or a URL, or go on where an earlier call was cut off."""
    if workers < 0:
        raise SettingsError(f"workers is {workers}; a whole number of at least 0 is needed")
    plan = Plan.of(source, pieces_per_shard)
    encode = partial(encode_all, source, workers=workers, ray=ray)
    try:
        with uploading(out) if isinstance(out, Url) else nullcontext() as upload:
            folder = upload.folder if upload else Path(out)
            if is_complete(folder, plan, out):
                _tidy(folder)
                print(f"{out} is complete already: {summary(read(folder / MANIFEST))}")
                return
            with _claimed(folder):
                _begin(folder, plan, upload)
                _write_shards(source, folder, plan, encode, upload)
                manifest = _finish(folder, plan, upload)
    except OSError as error:
        where = error.filename or out
        raise DataError(f"{where} cannot be written: {reason(error)}") from error
    for piece in manifest["skipped"]:
        print(f"left out: {piece['reason']}", file=sys.stderr)
    if kept := manifest["kept"]:
        first = f"{kept[0]['name']}: {kept[0]['said']}"
        more = f", and {len(kept) - 1} more, which {MANIFEST} names" if len(kept) > 1 else ""
        print(f"mended, or used in part: {first}{more}", file=sys.stderr)
    print(f"{out}: {summary(manifest)}")


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Keeps a second preparation of the same folder out; a killed one leaves no lock behind."""
    (out / PROGRESS).mkdir(parents=True, exist_ok=True)
    with Lock(out / PROGRESS / "lock", f"{out} is being prepared by another process; wait for it", DataError):
        yield


def _tidy(out: Path) -> None:
    """Clear the progress away that a run left which was killed behind its manifest."""
    if (out / PROGRESS).is_dir():
        with suppress(DataError, OSError), _claimed(out):  # whoever holds it is just doing so
            clear_progress(out)


def _begin(out: Path, plan: Plan, upload: Upload | None) -> None:
    remove_parts(out)
    stored = out / PROGRESS / "plan.json"
    if not stored.exists():
        write_json(stored, plan.head)
    if upload:
        upload.begun()
    for split in plan.splits:
        (out / split).mkdir(exist_ok=True)
        for part in (out / split).glob(".*.part"):  # what a killed run was writing
            part.unlink()


def _write_shards(
    source: Source,
    out: Path,
    plan: Plan,
    encode: Callable[[Sequence[str]], Generator[Encoded | Failed]],
    upload: Upload | None,
) -> None:
    def there(shard: PlannedShard) -> bool:
        recorded = (out / shard.record).exists()
        return recorded and (upload.has(shard, read(out / shard.record)) if upload else (out / shard.file).exists())

    todo = [shard for shard in plan.shards if not there(shard)]
    names = [name for shard in todo for name in shard.names]
    done = sum(len(shard.names) for shard in plan.shards) - len(names)
    if not todo:
        return
    with (
        closing(encode(names)) as pieces,
        tqdm(total=done + len(names), initial=done, unit="piece", desc=source.corpus, dynamic_ncols=True) as bar,
    ):
        for shard in todo:
            _write_shard(source, out, shard, pieces, bar)
            if upload:
                upload.put(shard)


def _write_shard(source: Source, out: Path, shard: PlannedShard, pieces: Iterator[Encoded | Failed], bar: tqdm) -> None:
    skipped: list[dict[str, str]] = []
    kept: list[dict[str, str]] = []
    with ShardWriter(out, shard.file) as writer:
        for _ in shard.names:
            piece = next(pieces)
            left_out = piece.left_out if isinstance(piece, Encoded) else (piece,)
            if left_out and source.strict:
                raise DataError(left_out[0].reason)
            skipped += [{"name": part.name, "reason": part.reason} for part in left_out]
            if isinstance(piece, Encoded):
                writer.add(piece.name, piece.ids, notes=piece.notes, seconds=piece.seconds)
                kept += [{"name": part.name, "said": part.said} for part in piece.kept]
            bar.update()
        done = writer.close()
    write_json(out / shard.record, {"shard": done.to_dict(), "skipped": skipped, "kept": kept})


def _finish(out: Path, plan: Plan, upload: Upload | None) -> dict[str, Any]:
    """Join the records of all shards in the manifest, and clear the progress away."""
    records = {shard: read(out / shard.record) for shard in plan.shards}
    splits: dict[str, Any] = {}
    for split in plan.splits:
        shards = [Shard.from_dict(record["shard"]) for shard, record in records.items() if shard.split == split]
        pieces = [piece for shard in shards for piece in shard.pieces]
        splits[split] = {
            "tokens": sum(piece.tokens for piece in pieces),
            "notes": sum(piece.notes for piece in pieces),
            "seconds": round(sum(piece.seconds for piece in pieces), 3),
            "shards": [shard.to_dict() for shard in shards],
        }
    skipped = list({(p["name"], p["reason"]): p for record in records.values() for p in record["skipped"]}.values())
    kept = {piece["name"]: piece for record in records.values() for piece in record.get("kept", [])}
    manifest = {**plan.head, "splits": splits, "skipped": skipped, "kept": list(kept.values())}
    if not splits["train"]["tokens"]:
        clear(out, plan)
        if upload:
            upload.clear(plan.shards, files=True)
        first = f"; {skipped[0]['reason']}" if skipped else ""
        raise DataError(f"no piece to train on can be read, {len(skipped)} were left out{first}")
    write_json(out / MANIFEST, manifest)
    if upload:
        upload.finish(plan.shards)
    clear_progress(out)
    return manifest


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no UTF-8
    try:
        made = auto_cli(
            SUBCOMMANDS,
            args=listed(sys.argv[1:] if args is None else args, "--speeds"),
            as_positional=False,
            prog="python -m training.prepare",
        )
        if isinstance(made, SpeechCommand):
            prepare(source_of(made), made.out, workers=processes_of(made), ray=made.ray)
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
