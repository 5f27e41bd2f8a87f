"""`python -m ui`: serves the demo."""

import argparse
import asyncio
import gc
import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

# Before gradio and torch are imported: nothing goes over the network, and threads that wait do not spin.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Gradio sets matplotlib's backend around each event, where there is matplotlib; looking for one would take a while.
os.environ.setdefault("MPLBACKEND", "agg")

from shortcut_gen import shipped
from shortcut_gen.errors import SettingsError, ShortcutGenError
from ui import logs, memory
from ui.options import check, is_open, operation_of, parse_args, policy_of
from ui.sessions import Sessions
from ui.storage import TEMPORARY_SECONDS, Tidying, remove_dead

if TYPE_CHECKING:
    from shortcut_gen.pipeline import Prompt
    from ui.guard import Policy
    from ui.models import Models
    from ui.operate import Front, Operation

log = logging.getLogger("ui.main")

SWITCH_SECONDS = 0.001
"""After which a thread that makes music lets the one that answers requests go on; Python's own are 5 ms, each time it
waits for the network."""


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


class Signals:
    """What SIGTERM does: before anyone is served it ends the command, then it asks for an end, the second time for one
    at once."""

    def __init__(self) -> None:
        self.serving = self.asked = False

    def __call__(self, *_: object) -> None:
        """A signal has come."""
        if not self.serving or self.asked:
            raise KeyboardInterrupt
        self.asked = True


def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted, leaving no files behind. Raises ShortcutGenError."""
    if arguments.mcp:
        check_mcp()
    check_port(arguments.host, arguments.port)
    check(arguments)
    memory.few_heaps()  # before there are threads
    policy, operation = policy_of(arguments), operation_of(arguments)
    removed = remove_dead()
    stored = int(arguments.max_stored * 1024**2)
    sessions = Sessions(arguments.runs, arguments.max_queue, operation.limits.runs, stored // 2)
    sessions.most_seconds = arguments.max_seconds
    # Uploads lie beside the results, so that all of it goes when the server ends; gradio reads this when imported.
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.files.uploads)
    tempfile.tempdir = str(sessions.files.temporary)  # what libraries write in passing goes with it
    sys.setswitchinterval(SWITCH_SECONDS)
    signals = Signals()
    before = signal.signal(signal.SIGTERM, signals)
    try:
        with logs.written(arguments.log_format):
            if removed:
                log.warning("the files of %d servers that were killed were removed", removed)
            if operation.accounts is not None and is_open(arguments) and not arguments.https:
                log.warning("passwords can be read on the way unless TLS is before this; where it is, say --https")
            listen(arguments, sessions, policy, operation, stored // 2, signals)
    finally:
        signal.signal(signal.SIGTERM, before)
        os.environ.pop("GRADIO_TEMP_DIR", None)
        tempfile.tempdir = None
        sessions.clear()


def listen(
    arguments: argparse.Namespace,
    sessions: Sessions,
    policy: "Policy",
    operation: "Operation",
    uploaded_bytes: int,
    signals: Signals,
) -> None:
    """Build the page and serve it. The slow imports are here, after what can be refused at once."""
    import gradio.queueing
    import gradio.routes
    import torch
    import uvicorn

    from shortcut_gen.decoding.engines import resolve
    from shortcut_gen.media import synthesizer
    from ui.app import application
    from ui.clients import HERE, within
    from ui.ending import drain
    from ui.guard import UPLOADED_SECONDS
    from ui.models import Models, find_checkpoints
    from ui.programs import connect_mcp
    from ui.registry import TABS
    from ui.serving import Connection

    logs.quiet(gradio.queueing, gradio.routes)
    torch.set_num_threads(arguments.threads)
    engine, precision = resolve(arguments.engine, arguments.precision)
    folder = arguments.checkpoints or shipped.checkpoints()
    found = find_checkpoints(folder)
    models = {name: Models(found[name], engine, precision) for name in TABS if name in found}
    if not models:
        raise SettingsError(f"{folder} holds checkpoints for {', '.join(found)}; the page shows {' and '.join(TABS)}")
    models = usable(models, {name: TABS[name].warm_up for name in models})
    # Two seconds that the first who listens does not wait for.
    threading.Thread(target=synthesizer.warm_up, daemon=True).start()
    app, page = application(models, sessions, policy, arguments.mcp, operation, uploaded_bytes)
    logging.getLogger().addHandler(app.metrics.faults)
    app.starting = arguments.mcp
    go_ahead(app, url(arguments.host, arguments.port))
    if arguments.mcp and page.mcp_server_obj is None:
        raise SettingsError(f"--mcp cannot be served: {page.mcp_error}")

    class Limited(Connection):
        exempt = staticmethod(lambda peer: within(peer, (*HERE, *operation.proxies)))

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=arguments.host,
            port=arguments.port,
            log_level="warning",
            log_config=None,  # what it says is written as all else is
            http=Limited,
            ws="none",
            server_header=False,
            proxy_headers=False,  # uvicorn believes every proxy on this machine; `ui.clients` those that were named
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)  # in a thread it leaves the signals to us
    thread.start()
    client = None
    tidying = Tidying(lambda: sessions.tidy(UPLOADED_SECONDS, TEMPORARY_SECONDS))
    freeing = Tidying(memory.GivingBack(), memory.LOOK_SECONDS)
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        if server.started:
            say(arguments, f"The demo runs at {url(arguments.host, arguments.port)} (Ctrl+C ends it)")
            if arguments.mcp:
                every = arguments.host in ("0.0.0.0", "::", "")
                here = url("127.0.0.1" if every else arguments.host, arguments.port)
                client = connect_mcp(page, here, operation.inside)
                say(arguments, f"MCP by {url(arguments.host, arguments.port)}/gradio_api/mcp/")
        app.starting = False
        signals.serving = True
        while thread.is_alive() and not signals.asked:
            thread.join(0.2)
        if signals.asked:
            log.info("the server takes nothing more and ends")
            done = drain(sessions, arguments.drain, lambda: len(page._queue), lambda: app.last)
            log.info("all that was taken is made" if done else "what was not made in time was handed back")
    finally:
        if client is not None:
            client.close()  # its threads would keep the process
        tidying.close()
        freeing.close()
        sessions.stop_all()  # a thread that still computes would keep the process, or take it down with a message
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # answers that end now are no fault
        server.should_exit = True
        thread.join(10)
        page.close(verbose=False)


def go_ahead(app: "Front", address: str) -> None:
    """Do what the first visitor would wait for, and all others with them: none is answered meanwhile."""
    if importlib.util.find_spec("matplotlib") is not None:
        importlib.import_module("matplotlib")  # Gradio imports it at the first click
    if app.render is not None:
        asyncio.run(app.render(address.partition("//")[2]))
    # Half a million objects that stay: looking through them for what is gone would hold everything up again and again.
    gc.collect()
    gc.freeze()


def say(arguments: argparse.Namespace, line: str) -> None:
    """A line for who has started the server; where programs read what it writes, one of the log."""
    if arguments.log_format == "json":
        log.info("%s", line)
    else:
        print(line, flush=True)


def url(host: str, port: int) -> str:
    """Where a browser finds the page."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


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
