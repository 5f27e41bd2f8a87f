"""Checkpoints on the Hugging Face Hub, or a server that speaks its protocol (`HF_ENDPOINT`): fetched and pushed whole.

Only files of known names are fetched, and none of them is a program or a pickle. Nothing here is asked for a checkpoint
that is a folder, so nothing needs a network that did not before.
"""

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shortcut_gen.checkpoint import CheckpointInfo, read_info
from shortcut_gen.codec.finding import own_codec
from shortcut_gen.errors import CheckpointError, SettingsError
from shortcut_gen.files import reason
from shortcut_gen.folder import CONFIG, WEIGHTS

CARD = "README.md"
COPYING = "copying.safetensors"
FILES = (CONFIG, WEIGHTS, CARD, COPYING)
"""What a repository may hold of a checkpoint; all but the first two may be lacking. Its codec lies in a folder of its
name, with files of the same names."""
LICENCES = {"CC BY 4.0": "cc-by-4.0", "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0"}
"""Licences of corpora, as the Hub's cards name them; any other one is `other`."""

_ADDRESS = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_address(name: str | Path) -> bool:
    """Whether a checkpoint is named as USER/NAME on the Hub: as no folder that is here, nor one beside others here."""
    text = str(name)
    return bool(_ADDRESS.fullmatch(text)) and not Path(text).exists() and not Path(text).parent.exists()


def fetch(address: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint of the Hub, fetched where it is not in the cache of `huggingface_hub` yet.

    `revision`: a branch, tag or commit; main if not given. Without a network the cached one is taken. Raises
    CheckpointError.
    """
    hub = _hub(f"{address}: no such folder, and to fetch it from the Hub")
    with _told(address):
        patterns = [*FILES, *(f"*/{name}" for name in FILES)]
        folder = hub.snapshot_download(
            address, revision=revision, allow_patterns=patterns, endpoint=os.environ.get("HF_ENDPOINT")
        )
    return Path(folder)


def push(folder: str | Path, address: str, *, private: bool = False, message: str | None = None) -> str:
    """Upload a checkpoint, and the codec it needs, to USER/NAME, which is made if need be; the address of the commit.

    The token is that of `hf auth login` or of HF_TOKEN. The card is given the head the Hub reads a licence from. Raises
    CheckpointError, CodecError, SettingsError.
    """
    folder = Path(folder)
    if not _ADDRESS.fullmatch(address):
        raise SettingsError(f"{address!r} is no address on the Hub; USER/NAME is needed")
    info = read_info(folder)
    files = _files(folder, info)
    hub = _hub("to push")
    operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
    with _told(address):
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        api.create_repo(address, private=private, exist_ok=True)
        done = api.create_commit(address, operations, commit_message=message or f"Upload {folder.name}")
    return str(done.commit_url)


def _files(folder: Path, info: CheckpointInfo) -> dict[str, str | bytes]:
    """What is uploaded, by its name there: paths, and the card with its head."""
    files: dict[str, str | bytes] = {name: str(folder / name) for name in FILES if (folder / name).is_file()}
    if WEIGHTS not in files:
        raise CheckpointError(f"{folder}: no {WEIGHTS} there; a checkpoint folder is needed")
    if CARD in files:
        try:
            card = (folder / CARD).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = reason(error) if isinstance(error, OSError) else str(error)
            raise CheckpointError(f"{folder / CARD} cannot be read: {said}") from error
        files[CARD] = (card if card.startswith("---\n") else _head(info) + card).encode()
    if codec := own_codec(info.codec, folder):
        files |= {f"{codec.name}/{file}": str(codec / file) for file in FILES if (codec / file).is_file()}
    return files


def _head(info: CheckpointInfo) -> str:
    licence = LICENCES.get(info.licence or "")
    lines = ["library_name: shortcut-gen", f"license: {licence or 'other'}"]
    if licence is None:
        lines.append(f"license_name: {re.sub(r'[^a-z0-9.]+', '-', (info.licence or 'not stated').lower()).strip('-')}")
    return "\n".join(["---", *lines, "---", "", ""])


def _hub(what: str) -> Any:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise CheckpointError(f"{what} needs the package huggingface-hub: pip install 'shortcut-gen[hub]'")
    import huggingface_hub

    return huggingface_hub


@contextmanager
def _told(address: str) -> Iterator[None]:
    """What goes wrong between here and the Hub, in one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(f"{address}: no such repository on the Hub, or none that this token may see") from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{address}: no such revision on the Hub") from error
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(f"{address}: neither a folder here nor cached, and the Hub cannot be reached") from error
    except _failures(errors.HfHubHTTPError) as error:
        raise CheckpointError(f"{address}: the Hub says: {str(error).strip() or type(error).__name__}") from error


def _failures(error: type[Exception]) -> tuple[type[Exception], ...]:
    """ValueError, OSError and what the Hub's transport raises, another package from one release to the next: a base."""
    return (ValueError, *(base for base in error.__bases__ if issubclass(base, Exception)))
