"""Whether a page is open: it says so now and then, and once that it is closed, over requests that end at once.

Gradio would have each page hold a connection, of which a browser opens six to a host: with a few tabs no click was
heard. `static/alive.js` is the page's side; the guard has seen that it is the page's own browser that speaks.
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def route(opened: Callable[[str], None], closed: Callable[[str], None]) -> Route:
    """GET says that a page is open, POST that it is closed."""

    async def answer(request: Request) -> Response:
        page = request.path_params["page"]
        if request.method == "POST":
            closed(page)
        else:
            opened(page)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    return Route("/alive/{page}", answer, methods=["GET", "POST"])
