"""The front of the demo's server with something simple behind it."""

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from ui.guard import Policy
from ui.metrics import Metrics
from ui.operate import Front, Operation
from ui.sessions import Sessions

UPLOAD = "/gradio_api/upload"
JOIN = "/gradio_api/queue/join"


async def everything(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads what it is sent, and says from whom; a body that breaks off is its own fault."""
    request = Request(scope, receive)
    try:
        size = len(await request.body())
    except ClientDisconnect:
        size = -1
    except Exception:
        await Response("Gradio's own words", 500)(scope, receive, send)
        raise
    answer = {"client": scope["client"][0], "path": scope["path"], "scheme": scope["scheme"], "size": size}
    answer["host"] = request.headers.get("x-forwarded-host", "")
    await PlainTextResponse(json.dumps(answer))(scope, receive, send)


def front(sessions: Sessions, policy: Policy | None = None, **changes: Any) -> Front:
    policy = policy or Policy(hosts=frozenset({"demo.example.org"}))
    return Front(everything, sessions, Metrics(sessions, {}), Operation(**changes), policy, {})


def asks(app: Front, address: str = "127.0.0.1") -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:7860", client=(address, 5000), follow_redirects=False)


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values, these in the order of their names."""
    families = text_string_to_metric_families(text)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}
