"""Drives the real page in headless Chromium: how long it goes on, and Continue and Stop by a key."""

from typing import Any

import pytest

from tests.shared.pages import fill

pytestmark = pytest.mark.browser

FOCUS = "(document.activeElement.closest('[id]') || {}).id"


def test_continue_and_stop_by_a_key_leave_the_focus_where_it_was(page: Any) -> None:
    assert page.locator("#go").get_attribute("aria-keyshortcuts") == "Control+Enter Meta+Enter"
    assert page.locator("#stop").get_attribute("title") == "Escape"
    fill(page, "seconds", 120)
    for place in ("#used input[type=number]", "#examples input", "#go"):
        page.locator(place).first.focus()
        before = page.evaluate(FOCUS)
        page.keyboard.press("Control+Enter")
        page.wait_for_function("document.querySelector('#status').textContent.includes('Generating')")
        page.keyboard.press("Escape")
        page.wait_for_function("document.querySelector('#status').textContent.includes('Stopped')")
        page.wait_for_function("!document.querySelector('#go').disabled")
        assert page.evaluate(FOCUS) == before
