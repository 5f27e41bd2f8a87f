"""The words of the page are in `ui/text`, and nowhere else.

Two ways to look: by reading the code for what looks like a sentence, and by building the page with every word of
`ui/text` in brackets, so that what has none comes from somewhere else.
"""

import ast
import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr
import pytest

import ui.text
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.modalities.piano import NOTE_OFF, TIME_SHIFT, VELOCITY, PianoTokenizer
from shortcut_gen.pipeline import Continuation, Prompt
from ui.app import STATIC, build
from ui.examples.listing import load_examples
from ui.models import Models
from ui.performance import finished
from ui.piano import PianoTab
from ui.registry import TABS
from ui.sessions import Sessions
from ui.takes import tree
from ui.text import form, keyboard, page, pictures, runs, script

UI = Path(ui.text.__file__).parents[1]
PROGRAMS = {
    *("__main__.py", "guard.py", "bodies.py", "api.py", "harp.py", "programs.py", "models.py", "live.py"),
    *("auth.py", "clients.py", "logs.py", "metrics.py", "operate.py", "options.py", "storage.py"),
}
"""What the command line, programs and logs are told is no word of the page; `ui/text/__init__.py` says so."""
SENTENCE = re.compile(r"[A-Za-z]+[,:;]? [a-z]{2,}|[a-z]{2,}[.] [A-Z]|[A-Z][a-z]+\.$")
NO_WORDS = {
    *("out-of-sight where", "out-of-sight onward-go", "out-of-sight show-step", "more shortcuts"),  # classes
    *("status error refused", "status error microphone-said", "button picture"),
    *(" sound file; ", "shortcut-gen take", "private, max-age=3600", "no such sample", "there is no such sample"),
    *("waited in vain", "const gains = String(text || '').split(',')", "for (const start of starts) start();"),
}
NO_TEXT = re.compile(r"^[.#(<]|^ [a-z-]+=|\[[a-z=-]+|input, |^§§?(px|<)|=>|^if \(|data-unused|\bspan\b")
"""How selectors, pieces of HTML, fonts and scripts look."""
JS = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`""", re.DOTALL)


def of_python(source: str) -> Iterator[str]:
    """The strings of a module that are no docstrings; what is put into them is §."""
    module, within = ast.parse(source), set[int]()
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            within.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            within |= {id(each) for each in node.values}
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else "§" for each in node.values)
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
            yield node.value


def of_script(source: str) -> Iterator[str]:
    """The same of a script, without its comments."""
    for found in JS.finditer(source):
        if found[0][0] != "/":
            yield re.sub(r"\$\{[^{}]*\}", "§", found[0][1:-1])


def sentences(found: Iterator[str]) -> list[str]:
    plain = ((each, re.sub("<[^>]*>", " ¶ ", each)) for each in found)
    return [each for each, text in plain if SENTENCE.search(text) and each not in NO_WORDS and not NO_TEXT.search(text)]


def test_the_search_finds_what_it_is_to_find() -> None:
    """A literal word for the reader in any of the forms in which there were some."""
    python = ['x = "a word"', 'x = f"{n} notes kept"', 'say("Stopping.")', 'f"<b>{x}</b> of variation {n}"']
    assert [bool(sentences(of_python(each))) for each in python] == [True, True, True, True]
    js = ['x = "Copy it now"', "x = `${n} are kept`", 'say("Stopping.")', "// a comment, no words"]
    assert [bool(sentences(of_script(each))) for each in js] == [True, True, True, False]
    assert written('x.textContent = "Loud";') == ['"Loud"']


@pytest.mark.parametrize(
    "module", [path for path in sorted(UI.glob("*.py")) if path.name not in PROGRAMS], ids=lambda path: path.name
)
def test_no_module_has_a_sentence_of_its_own(module: Path) -> None:
    assert sentences(of_python(module.read_text(encoding="utf-8"))) == []


def written(source: str) -> list[str]:
    """Letters in quotes that a script makes the text, the title or the label of an element."""
    put = re.findall(
        r'(?:textContent|innerHTML|\.title|placeholder) = ([^;]*);|setAttribute\("(?:aria-label|title)", ([^;]*)\);',
        source,
    )
    quoted = (each for value in put for part in value for each in re.findall(r'"[^"]*"|`[^`]*`', part))
    return [each for each in quoted if re.search("[A-Za-z]{2}", re.sub(r"\$\{[^{}]*\}", "", each))]


@pytest.mark.parametrize("file", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_no_script_has_a_sentence_or_a_label_of_its_own(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert sentences(of_script(source)) == []
    assert [
        each for each in written(source) if "querySelector" not in each and each not in ('"\\n"', '".examples"')
    ] == []


def test_the_scripts_and_their_words_fit() -> None:
    """What a script names is there, and what is there is named."""
    source = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.js"))
    named = set(re.findall(r"\bwords\.(\w+)\.(\w+)", source))
    there = {(part, name) for part, entries in script.WORDS.items() for name in entries}
    assert named <= there
    by_key = {(part, name) for part, name in there if re.search(rf"words\.{part}\[", source)}
    assert there - named - by_key == set()
    assert not re.search(">[^<$&]*[A-Za-z]", (STATIC / "keyboard.html").read_text(encoding="utf-8"))


MODULES = (form, keyboard, page, pictures, runs)


def bracketed(value: Any) -> Any:
    """A word of the page, or all of several, in brackets."""
    if isinstance(value, str):
        return f"⟦{value}⟧"
    if isinstance(value, dict):
        return {key: bracketed(each) for key, each in value.items()}
    return tuple(bracketed(each) for each in value) if isinstance(value, tuple) else value


@pytest.fixture
def brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word of the page in brackets, what functions make of numbers too."""
    for module in MODULES:
        for name, value in list(vars(module).items()):
            if name.startswith("_") or isinstance(value, ModuleType):
                continue
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                monkeypatch.setattr(module, name, in_brackets(value))
            elif name.isupper() and name != "NAMES":
                monkeypatch.setattr(module, name, bracketed(value))


def in_brackets(function: Callable[..., str]) -> Callable[..., str]:
    return lambda *values, **named: f"⟦{function(*values, **named)}⟧"


def outside(text: str) -> str:
    """What of a text, or of HTML as it is read and heard, has no brackets."""
    heard = " ".join(re.findall(r'(?:aria-label|title)="([^"]*)"', text))
    text = unescape(f"{re.sub('<[^>]*>', ' ', text)} {heard}")
    while (shorter := re.sub("⟦[^⟦⟧]*⟧", " ", text)) != text:
        text = shorter
    return text.strip()


def told(config: dict[str, Any]) -> Iterator[str]:
    """All that Gradio is told to show."""
    for component in config["components"]:
        props = component["props"]
        shown = props.get("visible", True) is not False
        for name in ("label", "info", "placeholder"):
            if (
                shown
                and props.get(name)
                and props.get("show_label", True)
                and component["type"] not in ("html", "state")
            ):
                yield props[name]
        if component["type"] in ("button", "html"):
            yield str(props.get("value") or "")
        for label, *_ in props.get("choices") or []:
            yield str(label)


def test_all_that_the_page_shows_comes_from_its_words(brackets: None, models: Models, sessions: Sessions) -> None:
    data = {part for each in load_examples() for part in (*each.label.split("\n"), each.name)}
    data |= {*models.names, *(entry.title for entry in TABS.values())}  # taken from the words when it was imported

    async def made() -> gr.Blocks:  # within a loop, as Gradio leaves open each that it makes itself
        return build({"piano": models}, sessions)

    found = {outside(text) for text in told(asyncio.run(made()).get_config_file())}
    # What values of endpoints for programs are called: 1st, 2nd, by Gradio.
    strange = {each for each in found if re.search("[A-Za-z]{2}", each) and not re.fullmatch(r"\d+[a-z]{2}", each)}
    assert {each for each in strange if not any(part in each for part in data)} == set()


def test_all_that_is_said_of_a_run_comes_from_the_words(brackets: None, do: PianoTab, sessions: Sessions) -> None:
    ids = (VELOCITY + 20, 60, TIME_SHIFT + 49, NOTE_OFF + 60, 64, TIME_SHIFT + 99, NOTE_OFF + 64)
    made = Continuation(
        prompt=Prompt(media=None, name="§"),
        prompt_ids=ids,
        ids=ids,
        seed=1,
        variation=0,
        params=SamplingParams(seconds=2.0),
        tokenizer=PianoTokenizer(),
    )
    steps = []
    for _ in range(2):
        run = sessions.start_run("page", "piano")
        assert run is not None
        run.parent = (1, 1) if steps else None
        performance = do.perform(run, do.models.pipeline(), made.params, 1, heard=False)
        growing = performance.draw([made], [False])[0]
        performance.finish([made])
        drawing = finished(run, performance, [made], sessions, "piano")
        sessions.finish_step(run, [made], drawing)
        texts = [drawing, growing.figure, growing.facts, growing.prompt, performance.outcome([made], True, 1.0)]
        assert [each for each in map(outside, texts) if re.search("[A-Za-z]{2}", each)] == []
        steps.append(run)
    assert outside(tree(sessions.steps("page", "piano"), steps[-1])).split() == ["1", "2"]
    card = do.show("page", next(iter(do.examples)), None)[0]
    assert not re.search("[A-Za-z]{2}", outside(card).replace("J. S. Bach, Prelude in C major, BWV 846", ""))
