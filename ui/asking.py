"""What a request of the page says of it."""

import gradio as gr

from ui.guard import COOKIE


def page_of(request: gr.Request) -> str:
    """Which page asks: `ui.guard` has made sure that it is the page's own browser."""
    return str(request.session_hash)


def browser_of(request: gr.Request) -> str:
    """The browser's cookie; "" where there is none."""
    return str(getattr(request, "cookies", {}).get(COOKIE, ""))
