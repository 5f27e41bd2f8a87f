"""Bodies of requests in JSON, and refusals: what `ui.guard` reads and answers."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Message, Receive

BODY_BYTES = 64 * 1024
"""Of a request in JSON; the page's own have about one."""


class RefusalError(Exception):
    """A request that is not let in: its status and a line."""

    def __init__(
        self, status: int, line: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """body: what is answered, where that is not the line alone. headers: what goes with it, such as Retry-After."""
        super().__init__(line)
        self.status, self.body, self.headers = status, body, dict(headers or {})


def refused(refusal: RefusalError, program: bool) -> JSONResponse:
    """The answer. program: it goes to one, not to the page."""
    if refusal.body is not None:
        return JSONResponse(refusal.body, refusal.status, headers=refusal.headers)
    detail: Any = str(refusal)
    if program and refusal.status == 422:  # the form in which gradio_client shows the line
        detail = [{"__type__": "validate", "is_valid": False, "parameter_name": "request", "message": detail}]
    return JSONResponse({"detail": detail, "error": str(refusal)}, refusal.status, headers=refusal.headers)


async def read(receive: Receive, most: int = BODY_BYTES) -> tuple[Any, Receive]:
    """A body in JSON, and what gives it again. Raises RefusalError."""
    data = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RefusalError(400, "the request broke off")
        data += message.get("body", b"")
        if len(data) > most:
            raise RefusalError(413, f"the request has more than {most:,} bytes")
        if not message.get("more_body"):
            break
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise RefusalError(422, "the request is no JSON") from None
    return body, again(data, receive)


def again(data: bytes, receive: Receive) -> Receive:
    """What gives a body once more, then what comes after it."""
    given = False

    async def once_more() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": data, "more_body": False}

    return once_more
