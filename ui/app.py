"""The page: a tab for every modality that has a checkpoint, between a header and a footer; its looks, its server."""

import inspect
import json
from collections.abc import Mapping
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Mount, Route

from shortcut_gen.media.render import renderer_name
from ui import alive, api, keyboard, live, notes, results, why
from ui.api import PLACE
from ui.asking import QUICK
from ui.ending import ending
from ui.guard import UPLOADED_BYTES, Guard, Policy
from ui.links import reader, tab_of
from ui.metrics import Metrics
from ui.models import Entry, Models
from ui.operate import Front, Operation
from ui.programs import Programs, files_of
from ui.registry import TABS, VOICES
from ui.rendered import Rendered
from ui.sessions import Sessions
from ui.states import PAGES, keep_little
from ui.tab import Tab
from ui.text import page as words
from ui.text import script
from ui.values import take_as_sent
from ui.waiting import waiting_clients

STATIC = Path(__file__).parent / "static"
SCRIPTS = (
    *("page.js", "keys.js", "live.js", "record.js", "takes.js"),
    *("pens.js", "notes.js", "depth.js", "heads.js", "why.js"),
    *("save.js", "sound.js", "roll.js"),  # the last draws with those before it
    *("keyboard-sound.js", "keyboard-take.js", "keyboard.js", "keyboard-record.js"),  # each needs those before it
)
STYLES = ("page.css", "takes.css", "keyboard.css")
QUEUE = 256
"""Of Gradio's own queue, or more where more may wait. `Sessions.ask` refuses long before, in words."""
STATUS_SECONDS = 10.0
"""Between two messages to each who waits in it of how many are before: unless that is said, Gradio sends one to each
whenever one is served, on the thread that answers all requests."""


def header(names: list[str]) -> str:
    """What the page is for, by the names of its tabs' tokenizers."""
    said = words.about([TABS[name].continues for name in names])
    return f"<header><h1>{words.TITLE}</h1><p>{said}</p></header>"


def _about(entry: Entry) -> str:
    """One model in a few words."""
    info = entry.info
    return words.model(
        entry.name, info.model.layers, info.model.width, info.corpus.get("name"), entry.loss, info.licence or None
    )


def footer(models: Mapping[str, Models]) -> str:
    """What plays here, and whose work it is."""
    entries = [entry for each in models.values() for entry in each.entries]
    said = [words.models([escape(_about(entry)) for entry in entries])]
    plain = ""
    if "piano" in models:
        renderer = renderer_name()
        said.append(words.renderer(escape(renderer)))
        if not renderer.startswith("FluidSynth"):
            plain = f" <b>{words.PLAIN}</b>"
    said += [escape(TABS[name].credit) for name in models if TABS[name].credit]
    return (
        f"<footer><p>{words.LOCAL}{plain}</p>"
        f"<details><summary>{words.MODELS_AND_SOUNDS}</summary><p>{' '.join(said)}</p></details></footer>"
    )


def build(models: Mapping[str, Models], sessions: Sessions) -> gr.Blocks:
    """The page for the models there are, by tokenizer, each of which has a tab."""
    take_as_sent()
    keep_little()
    # Uploads are Gradio's own files: looked over every quarter of an hour, gone after an hour.
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(900, 3600)) as page:
        gr.HTML(header(list(models)), elem_id="top")
        with gr.Tabs(elem_id="tabs") as tabs:
            for name, of_modality in models.items():
                with gr.Tab(TABS[name].title, id=name):
                    TABS[name].build(of_modality, sessions)
        gr.HTML(footer(models), elem_id="bottom")
        came = gr.Textbox(visible=False)

        def opened(query: str | None) -> Any:
            tab = tab_of(query or "", list(models))
            return gr.Tabs(selected=tab) if tab else gr.skip()

        page.load(opened, [came], [tabs], js=f"() => ({reader('')})()[0]", **QUICK)
        api.build(models, sessions)

        def unload(request: gr.Request) -> None:
            sessions.close(str(request.session_hash))

        page.unload(unload)
    page.state_session_capacity = PAGES
    page.queue(
        status_update_rate=STATUS_SECONDS,
        max_size=max(QUEUE, sessions.runs + sessions.most_waiting + 40),
        default_concurrency_limit=sessions.runs,
    )
    return page


def theme() -> gr.themes.Base:
    """Fonts of the reader's own machine, ink and paper; the rest is in static/page.css."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace"]
    base = gr.themes.Base(neutral_hue="stone", radius_size="sm", font=sans, font_mono=mono)
    colours = {
        "body_background_fill": "var(--paper)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--faint)",
        "background_fill_primary": "var(--sheet)",
        "border_color_primary": "var(--rule)",
        "block_background_fill": "transparent",
        "block_border_color": "var(--rule)",
        "block_info_text_color": "var(--faint)",
        "block_title_text_color": "var(--ink)",
        "block_label_text_color": "var(--ink)",
        "block_label_background_fill": "transparent",
        "input_background_fill": "var(--sheet)",
        "input_border_color": "var(--rule)",
        "slider_color": "var(--old)",
        "color_accent": "var(--old)",
        "checkbox_background_color_selected": "var(--old)",
        "checkbox_border_color_selected": "var(--old)",
        "checkbox_border_color": "var(--faint)",
        "checkbox_label_background_fill": "var(--sheet)",
        "checkbox_label_background_fill_selected": "var(--sheet)",
        "checkbox_label_background_fill_hover": "var(--sheet)",
        "checkbox_label_border_color": "var(--rule)",
    }
    # The variables change with the scheme, so that light and dark can share one set.
    known = inspect.signature(base.set).parameters
    dark = {f"{name}_dark": value for name, value in colours.items() if f"{name}_dark" in known}
    return base.set(**colours, **dark)


def _scripts() -> str:
    """The scripts, each a function that is called once when the page is there, with the words that they need."""
    functions = ",\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    told = json.dumps(script.WORDS, ensure_ascii=False)
    fill = "const filled = (text, values) => text.replace(/{(\\w+)}/g, (_, name) => values[name]);"
    start = "for (const start of starts) start();"
    ready = "if (document.readyState === 'loading') addEventListener('DOMContentLoaded', begin); else begin();"
    return (
        f"(() => {{ const words = {told}; {fill} const starts = [\n{functions}\n];"
        f" const begin = () => {{ {start} }}; {ready} }})();"
    )


def let_in(app: FastAPI) -> None:
    """Spare Gradio, mounted in an application, its own look at who comes, for which each request goes to a thread and
    back: who may come was settled before (`ui.operate`).
    """

    async def anybody() -> None:
        pass

    for mounted in (route.app for route in app.routes if isinstance(route, Mount)):
        if isinstance(mounted, FastAPI):
            for look in (look for route in mounted.routes for look in getattr(route, "dependencies", ())):
                if getattr(look.dependency, "__name__", "") == "login_check":
                    mounted.dependency_overrides[look.dependency] = anybody


def application(
    models: Mapping[str, Models],
    sessions: Sessions,
    policy: Policy,
    mcp: bool = False,
    operation: Operation | None = None,
    uploaded_bytes: int = UPLOADED_BYTES,
) -> tuple[Front, gr.Blocks]:
    """(the guarded page as an ASGI application, the page). mcp: offer the endpoints by MCP too. operation: how it is
    run, as for localhost if not said. uploaded_bytes: of uploads that are kept."""
    operation = operation or Operation()
    page = build(models, sessions)

    def served(name: str, text: str) -> Route:
        async def answer(_: object) -> Response:
            return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

        return Route(f"/static/{name}", answer)

    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        routes=[
            live.route(sessions.live),
            notes.route(sessions.run_of),
            why.route(sessions.run_of, models),
            alive.route(sessions.alive, sessions.close),
            results.route(sessions.result, sessions.made),
            *keyboard.routes(),
            served("page.js", _scripts()),
            served("alive.js", (STATIC / "alive.js").read_text(encoding="utf-8")),
        ],
    )
    gr.mount_gradio_app(
        app,
        page,
        "/",
        theme=theme(),
        css_paths=[STATIC / name for name in STYLES],
        head='<script src="static/page.js"></script>',
        allowed_paths=[str(sessions.files.results), str(VOICES)],
        max_file_size=operation.most_upload,
        root_path=operation.root_path or None,
        footer_links=[],
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=mcp,
        run_history=False,
        show_error=True,
    )
    let_in(app)

    @cache
    def inputs() -> dict[int, list[bool]]:
        # Those without a function are the page's script's alone. Asked for with every click, and always the same.
        return {number: files_of(event.inputs) for number, event in page.fns.items() if event.fn is not None}

    starts = {
        number
        for number, event in page.fns.items()
        if event.concurrency_id == PLACE or getattr(event.fn, "__name__", "") == Tab.begin.__name__
    }

    def begins(event: int) -> None:
        if sessions.draining and event in starts:
            raise ending()

    programs = Programs(page, mcp, operation.limits.runs)
    rendered = Rendered(app)
    guard = Guard(rendered, policy, sessions.files.uploads, inputs, programs, begins, uploaded_bytes)
    sessions.watch = metrics = Metrics(sessions, models)
    front = Front(guard, sessions, metrics, operation, policy, models)
    front.render, front.waiting = rendered.render, partial(waiting_clients, page)
    return front, page
