"""Several pages, tabs and browsers at one server, and those who ask it for what they should not."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.shared.pages import begin, fill, finish, shorter, speech, visit

pytestmark = pytest.mark.browser

FILE = 2
"""Where a run's values have the uploaded file."""


def test_two_pages_at_once_keep_to_themselves(page: Any, server: str) -> None:
    other = page.context.new_page()
    visit(other, server)
    shorter(page, seed=1)
    shorter(other, seed=2)
    page.click("#go")
    finish(other)
    page.wait_for_selector(".take audio")
    assert "seed 1" in page.locator(".take h2").inner_text()
    assert "seed 2" in other.locator(".take h2").inner_text()


def test_the_tabs_of_a_page_keep_each_others_results(page: Any) -> None:
    shorter(page)
    finish(page)
    heard = page.locator("#takes audio").get_attribute("src")
    tab = speech(page)
    shorter(page, tab=tab)
    finish(page, tab)
    assert page.request.get(f"{page.url.rstrip('/')}/{heard}").status == 200
    spoken = page.locator("#speech-takes audio").get_attribute("src")
    assert page.request.get(f"{page.url.rstrip('/')}/{spoken}").status == 200


def test_a_click_while_others_are_served_says_so_and_can_be_taken_back(page: Any, browser: Any, server: str) -> None:
    others = [browser.new_context().new_page() for _ in range(2)]
    for other in others:
        visit(other, server)
        begin(other, 120, 4)
        other.wait_for_function("document.querySelector('#status').textContent.includes('Generating')")
    page.click("#go")
    page.wait_for_function("document.querySelector('#status').textContent.includes('yours begins when')")
    page.click("#stop")
    page.wait_for_function("document.querySelector('#status').textContent.includes('Stopped before it began')")
    assert page.locator("#go:not([disabled])").count() == 1
    for other in others:
        other.click("#stop")
        other.context.close()


def test_four_tabs_of_one_browser_leave_each_other_connections(page: Any, server: str) -> None:
    """A browser opens six to a host. With --runs 2 two of the tabs are served, and two wait for their turn."""
    tabs = [page, *(page.context.new_page() for _ in range(3))]
    for other in tabs[1:]:
        visit(other, server)
    for each in tabs:
        fill(each, "seconds", 120)
        each.click("#go")
        each.wait_for_selector("#status .busy")
    for each in tabs[:2]:
        each.wait_for_function("window.pieces === undefined || window.pieces.length > 3")
    for each in reversed(tabs):
        each.click("#stop")
        each.wait_for_function("document.querySelector('#status').textContent.includes('Stopped')", timeout=10_000)
    for other in tabs[1:]:
        other.close()


def test_another_browser_ends_no_run_and_a_wrong_value_is_a_line(
    page: Any, browser: Any, server: str, log: Path
) -> None:
    """Through the page's own addresses, by someone who knows the hash of its page."""
    asked: list[dict[str, Any]] = []
    page.on("request", lambda r: asked.append(r.post_data_json) if "/queue/join" in r.url else None)
    shorter(page)
    finish(page)
    mine = asked[-1]
    join, predict = f"{server}/gradio_api/queue/join", f"{server}/gradio_api/run/predict"
    stranger = browser.new_context()
    stranger.request.get(server)
    for path in ("queue/join", "cancel", "reset"):
        answer = stranger.request.post(f"{server}/gradio_api/{path}", data=mine | {"event_id": "x"})
        assert answer.status == 403
    assert stranger.request.get(f"{server}/alive/{mine['session_hash']}").status == 403
    stranger.close()
    for place in range(len(mine["data"])):
        for wrong in (None, True, -1, 1e300, "x", "../..", "", 0.5):
            data = list(mine["data"])
            data[place] = wrong
            refused = place == FILE and wrong is not None
            assert page.request.post(join, data=mine | {"data": data}).status == (422 if refused else 200)
    for number in range(40):  # whatever events there are, given what they are not sent
        for values in ([], ["x"], ["x"] * 3, [None] * 4, [{}] * 5, [[]] * 10):
            answer = page.request.post(predict, data=mine | {"fn_index": number, "data": values})
            assert answer.status in (200, 404, 422), answer.text()
    shorter(page, seed=9)
    finish(page)
    assert "Traceback" not in log.read_text()


def test_a_request_that_is_refused_says_why_on_the_page(page: Any, log: Path) -> None:
    page.context.clear_cookies()
    page.click("#go")
    page.wait_for_selector(".refused[role=alert]")
    assert "cookie is missing; reload the page" in page.locator(".refused").inner_text()


def test_broken_requests_leave_no_traceback(server: str, log: Path) -> None:
    httpx = pytest.importorskip("httpx")
    form = b'--xx\r\nContent-Disposition: form-data; name="files"\r\n\r\na\r\n--xx--\r\n'
    with httpx.Client(base_url=server) as client:
        client.get("/")
        kind = {"Content-Type": "multipart/form-data; boundary=xx"}
        assert client.post("/gradio_api/upload", headers=kind, content=form).status_code == 400
        with contextlib.suppress(httpx.HTTPError):  # it breaks off, or waits for news that do not come
            client.get("/gradio_api/queue/data?session_hash=nothing1", timeout=5)
    assert "Traceback" not in log.read_text()
