"""What a request is for, in a word of a fixed list: for the metrics, the log, and the limits of one client."""

import re

from ui.guard import API

_KINDS = (
    ("page", re.compile(r"/")),
    ("health", re.compile(r"/healthz")),
    ("metrics", re.compile(r"/metrics")),
    ("upload", re.compile(rf"{API}/upload/?")),
    ("mcp", re.compile(rf"{API}/mcp/?")),
    ("call", re.compile(rf"{API}/call/.*")),
    ("event", re.compile(rf"{API}/(queue/join|run/predict|cancel|reset)/?")),
    ("news", re.compile(rf"{API}/(queue/data|heartbeat/.*|upload_progress)|/alive/.*")),
    ("sound", re.compile(r"/live/.*")),
    ("notes", re.compile(r"/(notes|why)/.*")),
    ("result", re.compile(rf"/results/.*|{API}/file=.*")),
    (
        "asset",
        re.compile(
            rf"/(assets|static|svelte|keyboard)/.*|/(config|theme\.css|manifest\.json|favicon\.ico)|{API}/(info|config|theme\.css|startup-events|app_id).*"
        ),
    ),
)


def kind_of(path: str) -> str:
    """What a request is for, in a word of a fixed list."""
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(path)), "other")
