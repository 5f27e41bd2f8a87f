"""The page's layout: a tab for every modality that has a checkpoint. What happens on a click is in `handlers`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from shortcut_gen.render import renderer_name
from ui.cards import EMPTY
from ui.handlers import (
    DEFAULT_USED,
    MAX_SECONDS,
    MAX_SEED,
    MAX_VARIATIONS,
    NO_PROMPT,
    PianoHandlers,
)
from ui.models import Entry, Models
from ui.sessions import Sessions

STATIC = Path(__file__).parent / "static"
MAX_FILE_SIZE = "10mb"
"""A MIDI file of 200,000 notes takes under 2 MB."""
RUNS_AT_ONCE = 2
"""One run keeps one core busy."""
QUEUE = 16


@dataclass(frozen=True)
class Tab:
    """A modality's tab: its heading, and what lays it out."""

    title: str
    build: Callable[[Models, Sessions], None]


def _settings(models: Models, longest: float) -> tuple[Any, ...]:
    """The fields right of the prompt, in the order `PianoHandlers.run` takes them."""
    used = gr.Slider(
        1, longest, min(DEFAULT_USED, longest), step=0.5, label="How much of it to use (seconds)", elem_id="used"
    )
    seconds = gr.Slider(2, MAX_SECONDS, 20, step=1, label="How long to go on (seconds)", elem_id="seconds")
    variations = gr.Radio(
        list(range(1, MAX_VARIATIONS + 1)), value=1, label="Variations", elem_id="variations", type="value"
    )
    with gr.Row(elem_classes="pair"):
        temperature = gr.Slider(
            0, 2, 1.0, step=0.05, label="Temperature", info="Higher is bolder.", elem_id="temperature"
        )
        top_p = gr.Slider(0.05, 1, 0.95, step=0.01, label="Top-p", info="Lower is safer.", elem_id="top-p")
    with gr.Row(elem_classes="pair"):
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="seed")
        fresh = gr.Checkbox(True, label="A new seed each time", elem_id="fresh", container=False)
    names = [(entry.label, entry.name) for entry in models.entries]
    checkpoint = gr.Dropdown(
        names, value=models.default, label="Model", visible=len(names) > 1, filterable=False, elem_id="checkpoint"
    )
    return used, seconds, variations, temperature, top_p, fresh, seed, checkpoint


def piano_tab(models: Models, sessions: Sessions) -> None:
    """The piano tab."""
    do = PianoHandlers(models, sessions)
    first = next(iter(do.examples))
    labels = [(example.label, file) for file, example in do.examples.items()]
    labels.append(("No prompt\nthe model begins by itself", NO_PROMPT))
    choice = gr.Radio(labels, value=first, label="A beginning", elem_id="examples")
    with gr.Row(elem_id="columns"):
        with gr.Column(scale=4, min_width=300, elem_id="controls"):
            upload = gr.File(
                label="Or a MIDI file of your own (.mid)",
                file_types=[".mid", ".midi"],
                type="filepath",
                height=88,
                elem_id="upload",
            )
            fields = _settings(models, do.examples[first].seconds)
            used, seed = fields[0], fields[6]
            with gr.Row(elem_id="buttons"):
                go = gr.Button("Continue", variant="primary", min_width=120, elem_id="go")
                halt = gr.Button("Stop", interactive=False, min_width=120, elem_id="stop")
            line = gr.HTML("", elem_id="status")
        with gr.Column(scale=8, min_width=320, elem_id="stage"):
            card, _ = do._show(first, None, DEFAULT_USED)
            prompt = gr.HTML(card, elem_id="prompt")
            takes = gr.HTML(EMPTY, elem_id="takes")
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    choice.input(do.choose_example, [choice, used], [prompt, used, upload], **quick)
    upload.upload(do.choose_upload, [upload, choice, used], [prompt, used, choice, upload], **quick)
    upload.clear(do.clear_upload, [used], [prompt, used, choice], **quick)
    used.release(do.change_used, [choice, upload, used], [prompt], **quick)
    go.click(
        do.run,
        [choice, upload, *fields],
        [takes, line, seed, go, halt],
        show_progress="hidden",
        concurrency_limit=RUNS_AT_ONCE,
        api_visibility="private",
    )
    halt.click(do.stop, None, [line, halt], **quick)


TABS: dict[str, Tab] = {"piano": Tab("Piano", piano_tab)}
"""By tokenizer; a modality joins the page by a line here and a checkpoint."""


def _header() -> str:
    return (
        "<header><h1>shortcut-gen</h1><p>Give it the beginning of a piano performance, and it plays on. A small "
        "Transformer writes the notes one event at a time; its last layer looks back into the layers before it.</p>"
        "</header>"
    )


def _about(entry: Entry) -> str:
    """One model in a few words."""
    name, loss = entry.info.corpus.get("name"), entry.info.figures.get("test", {}).get("nll")
    facts = [f"{entry.info.model.layers} layers of width {entry.info.model.width}"]
    facts += [f"trained on {name}"] if name else []
    facts += [f"test loss {loss:.2f} nats per token"] if isinstance(loss, int | float) else []
    facts += [f"weights {entry.info.licence}"] if entry.info.licence else []
    return f"{entry.name}: {', '.join(facts)}"


def _footer(entries: list[Entry]) -> str:
    renderer = renderer_name()
    plain = "" if renderer.startswith("FluidSynth") else " <b>FluidSynth is not installed, so the sound is plainer.</b>"
    models = "; ".join(escape(_about(entry)) for entry in entries)
    return (
        f"<footer><p>Models: {models}. Sound: {escape(renderer)}.{plain} Everything is computed on this machine; "
        "nothing is sent elsewhere.</p></footer>"
    )


def build(found: Mapping[str, list[Entry]], sessions: Sessions) -> tuple[gr.Blocks, dict[str, Models]]:
    """The page for the checkpoints that were found, and their models."""
    models = {name: Models(entries) for name, entries in found.items() if name in TABS}
    # Uploads are Gradio's own files: looked over every quarter of an hour, gone after an hour.
    with gr.Blocks(title="shortcut-gen", analytics_enabled=False, delete_cache=(900, 3600)) as page:
        gr.HTML(_header(), elem_id="top")
        with gr.Tabs(elem_id="tabs"):
            for name, of_modality in models.items():
                with gr.Tab(TABS[name].title, id=name):
                    TABS[name].build(of_modality, sessions)
        gr.HTML(_footer([entry for each in models.values() for entry in each.entries]), elem_id="bottom")

        def unload(request: gr.Request) -> None:
            sessions.close(str(request.session_hash))

        page.unload(unload)
    page.queue(max_size=QUEUE, default_concurrency_limit=RUNS_AT_ONCE)
    return page, models


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
        "checkbox_label_background_fill": "var(--sheet)",
        "checkbox_label_background_fill_selected": "var(--sheet)",
        "checkbox_label_background_fill_hover": "var(--sheet)",
        "checkbox_label_border_color": "var(--rule)",
    }
    # The variables change with the scheme, so that light and dark can share one set.
    known = inspect.signature(base.set).parameters
    dark = {f"{name}_dark": value for name, value in colours.items() if f"{name}_dark" in known}
    return base.set(**colours, **dark)


def launch_settings(sessions: Sessions) -> dict[str, Any]:
    """What `Blocks.launch` is given besides host and port."""
    return {
        "theme": theme(),
        "css_paths": STATIC / "page.css",
        "js": (STATIC / "page.js").read_text(encoding="utf-8"),
        "allowed_paths": [str(sessions.results)],
        "max_file_size": MAX_FILE_SIZE,
        "footer_links": [],
        "share": False,
        "quiet": True,
        "ssr_mode": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "run_history": False,
    }
