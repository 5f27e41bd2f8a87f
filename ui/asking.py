"""How the page asks: what a request says of it, and how events are wired that only draw."""

from typing import Any

import gradio as gr

from ui.guard import COOKIE

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How events that only draw are wired."""


def page_of(request: gr.Request) -> str:
    """Which page asks: `ui.guard` has made sure that it is the page's own browser."""
    return str(request.session_hash)


def browser_of(request: gr.Request) -> str:
    """The browser's cookie; "" where there is none."""
    return str(getattr(request, "cookies", {}).get(COOKIE, ""))


def address_of(request: gr.Request) -> str:
    """From where it asks (`ui.clients`); "" where that is not known."""
    client = getattr(request, "client", None)
    return str(getattr(client, "host", ""))
