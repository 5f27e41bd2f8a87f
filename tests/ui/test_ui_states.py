"""What is kept for each page: components that have changed, and neither descriptions nor what the page was sent."""

import asyncio
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI
from gradio.state_holder import StateHolder

from ui.app import let_in
from ui.states import PageState, keep_little


def test_pages_have_their_own_components_and_keep_nothing_of_what_they_were_sent() -> None:
    asyncio.run(_visit())  # all within a loop, as Gradio leaves open each that it makes itself


async def _visit() -> None:
    keep_little()
    with gr.Blocks() as page:
        text, number = gr.Textbox("as built"), gr.Number(1)

        def change(said: str, given: float) -> tuple[str, object]:
            return said * 1000, gr.Number(given + 1, interactive=False)

        text.change(change, [text, number], [text, number], queue=False)
    holder = StateHolder()
    holder.set_blocks(page)
    for name in ("one", "two"):
        answer = await page.process_api(page.fns[0], ["long ", 3], holder[name])
        assert answer["data"][0] == "long " * 1000
        assert answer["data"][1]["value"] == 4
    one, two = holder["one"], holder["two"]
    assert isinstance(one, PageState)
    assert one[number._id].interactive is False
    assert number.interactive is None and one[number._id] is not two[number._id]
    assert one[text._id] is text
    assert "long long" not in str(one.config_values)
    assert text._id not in one.config_values


def test_gradio_does_not_look_once_more_who_comes_in_a_thread_for_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []

    async def in_a_thread(does: Any, *given: Any, **named: Any) -> Any:
        called.append(does.__name__)
        return does(*given, **named)

    monkeypatch.setattr("fastapi.dependencies.utils.run_in_threadpool", in_a_thread)

    async def visit(spared: bool) -> int:
        with gr.Blocks() as page:
            gr.Textbox("as built")
        app = FastAPI()
        gr.mount_gradio_app(app, page, "/", ssr_mode=False)
        if spared:
            let_in(app)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            assert (await client.get("/config")).json()["components"]
            assert (await client.get("/gradio_api/info")).status_code == 200
        return len(called)

    assert asyncio.run(visit(False)) == 2
    called.clear()
    assert asyncio.run(visit(True)) == 0
