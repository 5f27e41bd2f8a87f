"""Checkpoints that are not on this machine: USER/NAME on the Hugging Face Hub, or the URL of a folder."""

import os
import re
from pathlib import Path

from shortcut_gen import hub
from shortcut_gen.codec.encodec import OFFICIAL
from shortcut_gen.errors import CheckpointError
from shortcut_gen.files import parse_json
from shortcut_gen.folder import CONFIG, MAX_CONFIG_BYTES
from shortcut_gen.places import Store, Url, fetch, is_url

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}")


def folder_of(name: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint: the one that is named, or that in a cache of what is on the Hub or at a URL.

    Raises CheckpointError.
    """
    if isinstance(name, str) and is_url(name):
        return at_url(Url(name))
    if hub.is_address(os.fspath(name)):
        return hub.fetch(os.fspath(name))
    return Path(name)


def at_url(url: Url) -> Path:
    """The folder in the cache of a checkpoint at a URL, copied there where it has changed. Raises CheckpointError.

    Files of known names alone are copied (`hub.FILES`), and those of its codec, out of the folder of the codec's name
    in the checkpoint's or else beside it.
    """
    store = Store(url, CheckpointError)
    config = store.read(CONFIG, MAX_CONFIG_BYTES)
    if config is None:
        store.names()  # says so where the bucket is not there
        raise CheckpointError(f"{url}: no {CONFIG} there; a checkpoint folder is needed")
    files = [(store, name, name) for name in hub.FILES]
    if (codec := _codec(config)) is not None:
        places = [url / codec, *([url.parent / codec] if url.parent else [])]
        for at in (Store(place, CheckpointError) for place in places):
            if at.info(CONFIG) is not None:
                files += [(at, name, f"{codec}/{name}") for name in hub.FILES]
                break
    return fetch(url, files, CheckpointError)


def _codec(config: bytes) -> str | None:
    """The name of the folder of a codec of ours, if a config.json names one; what else is wrong there is told later."""
    try:
        codec = parse_json(config)["codec"]
        name = codec["name"]
    except (ValueError, KeyError, TypeError):
        return None
    plain = isinstance(name, str) and name != OFFICIAL and _NAME.fullmatch(name)
    return name if plain else None
