"""How the page fits the screen, is labelled and is set by the keyboard, in headless Chromium."""

import importlib.resources
from pathlib import Path
from typing import Any

import pytest

from tests.shared.pages import fill, finish, more, shorter, speech

pytestmark = pytest.mark.browser

AXE = Path(str(importlib.resources.files("axe_playwright_python"))) / "axe.min.js"


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_continue_and_stop_are_always_in_reach(page: Any, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    for where in ("0", "document.body.scrollHeight"):
        page.evaluate(f"scrollTo(0, {where})")
        page.wait_for_timeout(200)
        for button in ("#go", "#stop"):
            box = page.locator(button).bounding_box()
            assert 0 <= box["y"] <= height - box["height"]
    # At the end of the page they cover nothing.
    foot, bar = page.locator("#bottom details").bounding_box(), page.locator("#tabs .transport:visible").bounding_box()
    assert foot["y"] + foot["height"] <= bar["y"] or foot["y"] >= bar["y"] + bar["height"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_is_labelled(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.wait_for_selector("#go:not([disabled])")
    shorter(page)
    page.locator("#variations label", has_text="2").click()
    finish(page)
    check_looks(page, width)
    tab = speech(page)
    shorter(page, tab=tab)
    page.locator("#speech-variations label", has_text="2").click()
    finish(page, tab)
    check_looks(page, width)


def test_safer_and_bolder_stand_for_what_is_folded_away(page: Any) -> None:
    more(page)

    def numbers() -> list[str]:
        return [page.locator(f"#{name} input[type=number]").input_value() for name in ("temperature", "top-p")]

    assert numbers() == ["1", "0.98"]
    page.locator("#daring label", has_text="safer").click()
    page.wait_for_function("document.querySelector('#temperature input[type=number]').value === '0.9'")
    assert numbers() == ["0.9", "0.95"]
    fill(page, "temperature", 1)  # no word for this pair
    page.wait_for_function("!document.querySelector('#daring input:checked')")
    fill(page, "top-p", 0.98)
    page.wait_for_function(
        "document.querySelector('#daring input:checked').closest('label').innerText.includes('usual')"
    )


def check_looks(page: Any, width: int) -> None:
    """Nothing reaches over the side, and what can be used has a name for those who cannot see it."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('main input:not([type=file]), main button, main audio')]
            .filter(e => e.offsetParent && !(e.labels && e.labels.length) && !e.getAttribute('aria-label')
                && !e.textContent.trim() && !e.title)
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []
    # By script, as the page's Content-Security-Policy forbids an element of ours.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found["violations"]] == []


def test_the_picture_follows_the_slider_however_it_is_moved(page: Any) -> None:
    def seam() -> str:
        return str(page.locator("#prompt .seam").get_attribute("style"))

    before = seam()
    slider = page.locator("#used input[type=range]")
    slider.focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"document.querySelector('#prompt .seam').getAttribute('style') !== '{before}'")
    after = seam()
    field = page.locator("#used input[type=number]")
    field.fill("9999")
    field.press("Tab")
    page.wait_for_function("Number(document.querySelector('#used input[type=number]').value) < 30")
    page.wait_for_function("document.querySelectorAll('#prompt [role=alert]').length === 0")
    assert page.locator("#prompt .card").count() == 1
    fill(page, "used", 5)
    page.wait_for_function(
        f"(document.querySelector('#prompt .seam')?.getAttribute('style') ?? '{after}') !== '{after}'"
    )


def test_the_examples_are_one_group_for_the_keyboard(page: Any) -> None:
    page.locator("#examples input").first.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('#prompt').textContent.includes('Mozart')")
    assert page.evaluate("document.querySelectorAll('#examples input:checked').length") == 1
