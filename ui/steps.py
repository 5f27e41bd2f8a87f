"""What was made on a page before: its steps shown again, and brought back after a reload."""

import time
from typing import Any

import gradio as gr

from shortcut_gen.errors import ShortcutGenError
from ui.asking import browser_of, page_of
from ui.html import status
from ui.sessions import Run, Sessions
from ui.takes import neighbour, step_of, tree, where

CLOSES_WITHIN = 1.5
"""Seconds in which a page that was reloaded is noticed to be closed."""


class Steps:
    """What a tab does about the steps of its pages."""

    name: str
    sessions: Sessions

    def show_step(self, which: str | None, request: gr.Request) -> tuple[Any, Any, Any]:
        """A step of the tree was chosen: its number, or "back" or "forward". Returns (variations, tree, status)."""
        page = page_of(request)
        steps, shown = self.sessions.steps(page, self.name), self.sessions.shown(page, self.name)
        try:
            if which in ("back", "forward"):
                step = neighbour(steps, shown, 1 if which == "forward" else -1)
            else:
                step = step_of(steps, where(which)[0])
            drawing = self.drawn(step)
        except ShortcutGenError as error:
            return gr.skip(), gr.skip(), status(str(error), "error")
        self.sessions.show(page, self.name, step)
        return drawing, self._tree(page), ""

    def restore(self, request: gr.Request) -> tuple[Any, Any]:
        """(variations, tree) of the page before, where this one was reloaded."""
        page = page_of(request)
        until = time.monotonic() + CLOSES_WITHIN
        while self.sessions.adopt(page, browser_of(request), self.name) and time.monotonic() < until:
            time.sleep(0.1)
        shown = self.sessions.shown(page, self.name)
        return (self.drawn(shown), self._tree(page)) if shown else (gr.skip(), gr.skip())

    def drawn(self, step: Run) -> str:
        """What the page shows of a step; one that was opened from a file is drawn now. Raises ShortcutGenError."""
        if step.draw is not None:
            with self.sessions.files.reading():
                step.drawing, step.draw = step.draw(), None
        return step.drawing

    def _tree(self, page: str) -> str:
        return tree(self.sessions.steps(page, self.name), self.sessions.shown(page, self.name))
