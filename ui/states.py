"""What Gradio keeps for each page that was ever open: little, here.

For a link to a page as it stands, which this page does not offer, Gradio describes all of a new page's components anew,
on the one thread that answers all requests (60 ms of a processor), and keeps the description with every value that the
page was sent (0.2 MB and its drawings), of ten thousand pages.
"""

from types import SimpleNamespace
from typing import Any

import gradio.state_holder
from gradio.state_holder import SessionState

PAGES = 1000
"""Pages whose changed components are kept; one that was forgotten goes on with the components as they were built."""


class PageState(SessionState):
    """Of a page its components as they have changed, and no description of them."""

    def __init__(self, blocks: Any) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))  # type: ignore[arg-type]

    def _update_config(self, key: int) -> None:
        """Nothing is described."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nor is what it holds."""


def keep_little() -> None:
    """Have Gradio keep no more than that, for the whole process: it makes these of the name in its module."""
    gradio.state_holder.SessionState = PageState  # type: ignore[misc]
