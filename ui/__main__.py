"""`python -m ui`: serves the demo."""

import argparse
import importlib.util
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Before gradio and torch are imported: nothing goes over the network, and threads that wait do not spin.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from shortcut_gen import shipped
from shortcut_gen.errors import SettingsError, ShortcutGenError
from ui.sessions import RUNS_AT_ONCE, Sessions

if TYPE_CHECKING:
    from shortcut_gen.pipeline import Prompt
    from ui.guard import Policy
    from ui.models import Models

MOST_RUNS = 64
"""Continuations at a time: each has a thread."""


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ui", description="Serve the demo in a browser.")
    parser.add_argument(
        "--checkpoints", type=Path, metavar="DIR", help="folder of checkpoints; those shipped if not given"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on")
    parser.add_argument("--threads", type=int, default=1, help="threads of one run; 1 is best on two busy cores")
    parser.add_argument(
        "--engine", default="auto", help="torch, native (in C++), or auto: native where it was built, else torch"
    )
    parser.add_argument(
        "--hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of this server, as of a proxy's; IP addresses and localhost always are",
    )
    parser.add_argument(
        "--frames",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="pages that may show this one in a frame, such as https://example.org",
    )
    parser.add_argument("--https", action="store_true", help="it is reached by https alone: so is its cookie sent")
    parser.add_argument(
        "--runs", type=int, default=RUNS_AT_ONCE, help="continuations that are made at a time; others wait in line"
    )
    parser.add_argument(
        "--mcp", action="store_true", help="offer what programs can call by the Model Context Protocol too"
    )
    parser.add_argument("--precision", help="of the native engine's weights: f32, bf16 or int8")
    return parser.parse_args(arguments)


def check_port(host: str, port: int) -> None:
    """Raises SettingsError where nothing can listen there; Gradio would print a traceback."""
    if not 1 <= port <= 65535:
        raise SettingsError(f"port is {port}; a number from 1 to 65535 is needed")
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"port {port} of {host} cannot be used ({reason}); choose another with --port") from error


def check_mcp() -> None:
    """Raises SettingsError where the package of the Model Context Protocol is missing."""
    if importlib.util.find_spec("mcp") is None:
        raise SettingsError("--mcp needs the package mcp; install it by: pip install 'shortcut-gen[mcp]'")


def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted, leaving no files behind. Raises ShortcutGenError."""
    if arguments.mcp:
        check_mcp()
    check_port(arguments.host, arguments.port)
    if arguments.threads < 1:
        raise SettingsError(f"threads is {arguments.threads}; a whole number of at least 1 is needed")

    if not 1 <= arguments.runs <= MOST_RUNS:
        raise SettingsError(f"runs is {arguments.runs}; a whole number from 1 to {MOST_RUNS} is needed")
    sessions = Sessions(arguments.runs)
    # Uploads lie beside the results, so that all of it goes when the server ends; gradio reads this when imported.
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.uploads)
    # A container is stopped by SIGTERM: leave by the same door as Ctrl+C.
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        listen(arguments, sessions)
    finally:
        signal.signal(signal.SIGTERM, before)
        os.environ.pop("GRADIO_TEMP_DIR", None)
        sessions.clear()


def interrupt(*_: object) -> None:
    """What Ctrl+C does."""
    raise KeyboardInterrupt


def listen(arguments: argparse.Namespace, sessions: Sessions) -> None:
    """Build the page and serve it. The slow imports are here, after what can be refused at once."""
    import torch
    import uvicorn

    from shortcut_gen.decoding.engines import resolve
    from shortcut_gen.media import render
    from ui.app import application
    from ui.models import Models, find_checkpoints
    from ui.programs import connect_mcp
    from ui.registry import TABS

    torch.set_num_threads(arguments.threads)
    engine, precision = resolve(arguments.engine, arguments.precision)
    folder = arguments.checkpoints or shipped.checkpoints()
    found = find_checkpoints(folder)
    models = {name: Models(found[name], engine, precision) for name in TABS if name in found}
    if not models:
        raise SettingsError(f"{folder} holds checkpoints for {', '.join(found)}; the page shows {' and '.join(TABS)}")
    models = usable(models, {name: TABS[name].warm_up for name in models})
    # Two seconds that the first who listens does not wait for.
    threading.Thread(target=render.warm_up, daemon=True).start()
    app, page = application(models, sessions, policy_of(arguments), arguments.mcp)
    if arguments.mcp and page.mcp_server_obj is None:
        raise SettingsError(f"--mcp cannot be served: {page.mcp_error}")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=arguments.host,
            port=arguments.port,
            log_level="warning",
            ws="none",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)  # in a thread it leaves the signals to us
    thread.start()
    client = None
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        if server.started:
            print(f"The demo runs at {url(arguments.host, arguments.port)} (Ctrl+C ends it)", flush=True)
            if arguments.mcp:
                every = arguments.host in ("0.0.0.0", "::", "")
                client = connect_mcp(page, url("127.0.0.1" if every else arguments.host, arguments.port))
                print(f"MCP by {url(arguments.host, arguments.port)}/gradio_api/mcp/", flush=True)
        while thread.is_alive():
            thread.join(3600)
    finally:
        if client is not None:
            client.close()  # its threads would keep the process
        sessions.stop_all()  # a thread that still computes would keep the process, or take it down with a message
        server.should_exit = True
        thread.join(10)
        page.close(verbose=False)


def url(host: str, port: int) -> str:
    """Where a browser finds the page."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def policy_of(arguments: argparse.Namespace) -> "Policy":
    """Who may ask, by the command line. Raises SettingsError."""
    from ui.guard import Policy

    for origin in arguments.frames:
        if not re.fullmatch(r"https?://[0-9A-Za-z.*:\[\]-]+", origin):
            raise SettingsError(f"frames names {origin!r}; origins such as https://example.org are needed")
    for name in arguments.hosts:
        if not re.fullmatch(r"\*|[0-9A-Za-z._-]+", name):
            raise SettingsError(f"hosts names {name!r}; names such as demo.example.org, without a port, are needed")
    hosts = frozenset(name.lower() for name in (arguments.host, socket.gethostname(), *arguments.hosts))
    return Policy(hosts=hosts, frames=tuple(arguments.frames), secure=arguments.https)


def usable(models: "dict[str, Models]", prompts: "dict[str, Callable[[], Prompt]]") -> "dict[str, Models]":
    """The models that can be run, once each has been. One that cannot is named in the log, if there are others.

    Raises ShortcutGenError where none can, as where a speech model's codec is missing.
    """
    ready: dict[str, Models] = {}
    problems: list[ShortcutGenError] = []
    for name, each in models.items():
        try:
            each.warm_up(prompts[name]())
            ready[name] = each
        except ShortcutGenError as error:
            problems.append(error)
    if not ready:
        raise problems[0]
    for problem in problems:
        logging.warning("%s", problem)
    return ready


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        serve(parse_args(arguments))
    except ShortcutGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
