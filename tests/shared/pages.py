"""What tests do on the page, in playwright's words."""

from pathlib import Path
from typing import Any

NEW_NOTES = """() => [...document.querySelectorAll('.take .roll')].reduce((sum, roll) => sum
    + window.figures.scene(roll).notes.filter(({ start }) => start >= Number(roll.dataset.seam)).length, 0)"""
"""How many notes the rolls show behind their seams."""


def visit(page: Any, server: str) -> None:
    """Opens the page, and waits until it can be used."""
    page.goto(server)
    page.wait_for_selector("#go:not([disabled])")


def fill(page: Any, name: str, value: float) -> None:
    field = page.locator(f"#{name} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def shorter(page: Any, seed: int = 5, tab: str = "") -> None:
    """Four seconds after four, from a fixed seed."""
    fill(page, f"{tab}used", 4)
    fill(page, f"{tab}seconds", 4)
    more(page, tab)
    page.locator(f"#{tab}fresh input").uncheck()
    fill(page, f"{tab}seed", seed)


def more(page: Any, tab: str = "") -> None:
    """Opens the settings that are folded at first."""
    if not page.locator(f"#{tab}fresh input").count():
        page.locator(f"#{tab}more").get_by_text("More settings").click()
        unfolded(page, f"#{tab}seed input")


def unfolded(page: Any, field: str) -> None:
    """Waits for a field that has just been opened: Gradio gives it its value a moment after it is there, whatever was
    typed by then."""
    page.wait_for_selector(field)
    settled(page, f"document.querySelector('{field}').value")


def begin(page: Any, seconds: float, variations: int, tab: str = "") -> None:
    """A run of so many variations of so many seconds."""
    fill(page, f"{tab}seconds", seconds)
    page.locator(f"#{tab}variations label", has_text=str(variations)).click()
    page.click(f"#{tab}go")


def finish(page: Any, tab: str = "") -> None:
    # What an earlier run left must not be taken for this one's.
    page.evaluate("document.querySelectorAll('.take audio').forEach(audio => audio.remove())")
    page.click(f"#{tab}go")
    page.wait_for_function(
        f"!document.querySelector('#{tab}go').disabled && document.querySelector('#{tab}takes .take audio')"
    )


def speech(page: Any) -> str:
    """Opens the speech tab; returns the beginning of its ids."""
    page.get_by_role("tab", name="Speech").click()
    page.wait_for_selector("#speech-go:not([disabled])")
    return "speech-"


def look_inside(page: Any, tab: str = "") -> None:
    """Opens the fold that shows the layers of a finished take."""
    page.locator(f"#{tab}takes .inside > summary").click()
    page.wait_for_selector(f"#{tab}takes .views .key .told")


def settled(page: Any, expression: str) -> Any:
    """What it says once it has said the same for half a second: what is opened is drawn a moment later."""
    same, value = 0, page.evaluate(expression)
    while same < 5:
        page.wait_for_timeout(100)
        before, value = value, page.evaluate(expression)
        same = same + 1 if value == before else 0
    return value


def download(page: Any, label: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator(".take .listen a:visible", has_text=label).first.click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def save_take(page: Any, folder: Path) -> Path:
    """The file of the steps so far."""
    with page.expect_download() as waiting:
        page.locator(".together a", has_text="Save take").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path
