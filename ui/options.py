"""The command line of `python -m ui`: what there is to say, and what is made of it. docs/operating.md has the table."""

import argparse
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shortcut_gen.errors import SettingsError
from ui.sessions import RUNS_AT_ONCE, WAITING_RUNS

if TYPE_CHECKING:
    from ui.guard import Policy
    from ui.operate import Operation

MOST_RUNS = 64
"""Continuations at a time: each has a thread."""
MOST_WAITING = 10_000
LEAST_SECONDS = 2.0
"""As in `ui.settings`, which imports Gradio, and that is too early here."""
LEAST_STORED = 64
"""MB of files."""


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ui", description="Serve the demo in a browser.")
    add = parser.add_argument
    add("--checkpoints", type=Path, metavar="DIR", help="folder of checkpoints; those shipped if not given")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
    add("--port", type=int, default=7860, help="port to listen on")
    add("--threads", type=int, default=1, help="threads of one run; 1 is best on two busy cores")
    add("--engine", default="auto", help="torch, native (in C++), or auto: native where it was built, else torch")
    add("--precision", help="of the native engine's weights: f32, bf16 or int8")
    add("--mcp", action="store_true", help="offer what programs can call by the Model Context Protocol too")
    _add_internet(parser)
    _add_limits(parser)
    return parser.parse_args(arguments)


def _add_internet(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may come")
    add = group.add_argument
    add(
        "--allowed-hosts",
        "--hosts",
        dest="hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of this server, as of a proxy's; IP addresses and localhost always are",
    )
    add(
        "--frames",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="pages that may show this one in a frame, such as https://example.org",
    )
    add("--https", action="store_true", help="it is reached by https alone: so is its cookie sent")
    add("--root-path", default="", metavar="PATH", help="under which a proxy shows the page, such as /piano")
    add(
        "--proxies",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="addresses or networks of proxies whose X-Forwarded-For is believed",
    )
    add("--auth", type=Path, metavar="FILE", help="names and hashes of passwords, made by python -m ui.auth")
    add(
        "--metrics-from",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="addresses or networks that may read /metrics, beside this machine",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how much there is", "0 is no limit of a client")
    add = group.add_argument
    add("--runs", type=int, default=RUNS_AT_ONCE, help="continuations that are made at a time; others wait in line")
    add("--max-queue", type=int, default=WAITING_RUNS, metavar="N", help="continuations that wait at most")
    add("--max-seconds", type=float, metavar="S", help="how long one can go on; a tab's own limit if not given")
    add("--max-upload", type=float, default=50, metavar="MB", help="size of one upload")
    add("--max-stored", type=float, default=4096, metavar="MB", help="files that are kept, uploads and results")
    add("--per-client", type=int, metavar="N", help="continuations of one address that are made or wait; 4 if open")
    add("--rate", type=int, metavar="N", help="requests of one address within a minute; 3000 if open")
    add("--client-uploads", type=int, metavar="N", help="uploads of one address within an hour; 120 if open")
    add("--client-stored", type=float, metavar="MB", help="uploads of one address that are kept; 256 if open")
    add("--drain", type=float, default=6.0, metavar="S", help="seconds that SIGTERM leaves for what is being made")
    add("--log-format", choices=("text", "json"), default="text", help="lines for people, or a JSON object a line")


def check(arguments: argparse.Namespace) -> None:
    """Raises SettingsError where a number is out of range."""
    _within("threads", arguments.threads, 1, 1024)
    _within("runs", arguments.runs, 1, MOST_RUNS)
    _within("max-queue", arguments.max_queue, 0, MOST_WAITING)
    _within("drain", arguments.drain, 0, 3600)
    _within("max-upload", arguments.max_upload, 0.01, 1024)
    _within("max-stored", arguments.max_stored, LEAST_STORED, 1e6)
    if arguments.max_seconds is not None:
        _within("max-seconds", arguments.max_seconds, LEAST_SECONDS, 120)
    for name in ("per_client", "rate", "client_uploads", "client_stored"):
        if getattr(arguments, name) is not None:
            _within(name.replace("_", "-"), getattr(arguments, name), 0, 1e6)
    if arguments.max_stored < 4 * arguments.max_upload:
        raise SettingsError(
            f"max-stored is {arguments.max_stored:g} MB; at least {4 * arguments.max_upload:g} are needed "
            f"where an upload has {arguments.max_upload:g}"
        )


def _within(name: str, value: float, low: float, high: float) -> None:
    kind = "whole number" if isinstance(value, int) else "number"
    if low <= value <= high:
        return
    if name == "threads":
        raise SettingsError(f"threads is {value}; a whole number of at least 1 is needed")
    raise SettingsError(f"{name} is {value:g}; a {kind} from {low:,g} to {high:,.0f} is needed")


def is_open(arguments: argparse.Namespace) -> bool:
    """Whether others than this machine are served: it listens for them, or a proxy passes them on."""
    from ui.clients import LOOPBACK, within

    return bool(arguments.proxies) or not (arguments.host == "localhost" or within(arguments.host, LOOPBACK))


def policy_of(arguments: argparse.Namespace) -> "Policy":
    """Who may ask, by the command line. Raises SettingsError."""
    from ui.guard import Policy

    for origin in arguments.frames:
        if not re.fullmatch(r"https?://[0-9A-Za-z.*:\[\]-]+", origin):
            raise SettingsError(f"frames names {origin!r}; origins such as https://example.org are needed")
    for name in arguments.hosts:
        if not re.fullmatch(r"\*|[0-9A-Za-z._-]+", name):
            raise SettingsError(
                f"allowed-hosts names {name!r}; names such as demo.example.org, without a port, are needed"
            )
    hosts = frozenset(name.lower() for name in (arguments.host, socket.gethostname(), *arguments.hosts))
    root = root_of(arguments)
    return Policy(hosts=hosts, frames=tuple(arguments.frames), secure=arguments.https, path=f"{root}/")


def root_of(arguments: argparse.Namespace) -> str:
    """The path of the page, with a slash before and none behind it. Raises SettingsError."""
    root = "/" + arguments.root_path.strip("/")
    if root != "/" and not re.fullmatch(r"(/[0-9A-Za-z._~-]+)+", root):
        raise SettingsError(f"root-path is {arguments.root_path!r}; a path such as /piano is needed")
    return root.rstrip("/")


def operation_of(arguments: argparse.Namespace) -> "Operation":
    """How the server is run, by the command line. Raises SettingsError."""
    from ui.auth import Accounts
    from ui.clients import LOOPBACK, OPEN, Limits, networks
    from ui.operate import Operation

    usual = OPEN if is_open(arguments) else Limits()

    def chosen(value: float | None, otherwise: int | None, each: int = 1) -> int | None:
        return otherwise if value is None else int(value * each) or None

    limits = replace(
        usual,
        runs=chosen(arguments.per_client, usual.runs),
        rate=chosen(arguments.rate, usual.rate),
        uploads=chosen(arguments.client_uploads, usual.uploads),
        stored=chosen(arguments.client_stored, usual.stored, 1024**2),
    )
    return Operation(
        limits=limits,
        proxies=networks(arguments.proxies, "proxies"),
        readers=(*LOOPBACK, *networks(arguments.metrics_from, "metrics-from")),
        accounts=Accounts.read(arguments.auth) if arguments.auth else None,
        root_path=root_of(arguments),
        most_upload=int(arguments.max_upload * 1024**2),
    )
