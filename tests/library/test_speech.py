"""Speech as ids: frames never part, the grammar keeps the turns, the sound comes back while ids arrive."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shortcut_gen import Pipeline, Prompt, Sampler, SamplingParams, Stream
from shortcut_gen.codec.encodec import EncodecCodec
from shortcut_gen.decoding.engines import TorchDecoding
from shortcut_gen.errors import CheckpointError, CodecError, ConfigError, MediaError, PromptError, SettingsError
from shortcut_gen.media import Audio, Note, Score
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.modalities.speech import SpeechTokenizer
from tests.shared.small_models import tiny_codec, tiny_speech_checkpoint

SETTINGS: dict[str, Any] = {
    "name": "codec-tiny",
    "sample_rate": 16_000,
    "frame_rate": 50.0,
    "cardinality": 16,
    "num_codebooks": 4,
    "sha256": "0" * 64,
}


def unheard() -> Any:
    raise AssertionError("the codec was loaded where no sound was asked for")


def mute(codebooks: int) -> SpeechTokenizer:
    return SpeechTokenizer(unheard, codebooks, SETTINGS)


def voice(seconds: float, rate: int = 16_000, channels: int = 1) -> Audio:
    """Something that changes as it goes on."""
    count = round(seconds * rate)
    swell = np.sin(np.arange(count) / rate * 2.5 + 0.5) * 0.3
    return Audio((np.random.default_rng(0).standard_normal((channels, count)) * swell).astype(np.float32), rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of two and of four codebooks, their codec beside them."""
    folder = tmp_path_factory.mktemp("models")
    tiny_speech_checkpoint(folder / "two", 2, context=32)
    tiny_speech_checkpoint(folder / "four", 4, context=34)
    return folder


@pytest.fixture(scope="module")
def codec(folder: Path) -> EncodecCodec:
    return EncodecCodec(folder / "codec-tiny")


CODEBOOKS = st.integers(1, 4)
IDS = st.lists(st.integers(0, 63), max_size=60)


def legal(codebooks: int, length: int, seed: int = 0) -> list[int]:
    """Ids that obey the grammar."""
    rng = np.random.default_rng(seed)
    return [int(rng.integers(16)) + 16 * (at % codebooks) for at in range(length)]


# Ids


@given(CODEBOOKS, st.integers(0, 30), st.integers(0, 2**31))
def test_codes_become_ids_interleaved_in_time_and_back(codebooks: int, frames: int, seed: int) -> None:
    tokenizer = mute(codebooks)
    codes = torch.randint(0, 16, (codebooks, frames), generator=torch.Generator().manual_seed(seed))
    ids = tokenizer.from_codes(codes)
    assert len(ids) == codebooks * frames
    for at, token in enumerate(ids):
        assert token == 16 * (at % codebooks) + int(codes[at % codebooks, at // codebooks])
    assert torch.equal(tokenizer.to_codes(ids), codes)
    assert torch.equal(tokenizer.to_codes(ids + ids[: codebooks - 1]), codes)  # a frame that is not whole


@given(CODEBOOKS, IDS, st.integers(0, 70))
def test_a_clip_begins_at_a_frame_and_keeps_what_it_can(codebooks: int, ids: list[int], n: int) -> None:
    clipped = mute(codebooks).clip(ids, n)
    assert len(clipped) <= n
    assert clipped == ids[len(ids) - len(clipped) :]
    assert not clipped or (len(ids) - len(clipped)) % codebooks == 0
    assert len(clipped) > n - codebooks or clipped == ids
    assert clipped or not ids or n < codebooks


@given(CODEBOOKS, IDS, st.floats(-1, 2))
def test_a_head_holds_the_whole_frames_of_its_time(codebooks: int, ids: list[int], seconds: float) -> None:
    tokenizer = mute(codebooks)
    head = tokenizer.head(ids, seconds)
    assert head == ids[: len(head)]
    assert len(head) % codebooks == 0
    assert tokenizer.seconds(head) <= max(seconds, 0) + 1e-6
    following = ids[: len(head) + codebooks]
    assert len(following) < len(head) + codebooks or tokenizer.seconds(following) > seconds


def test_a_head_of_a_number_of_frames_has_that_number() -> None:
    ids = legal(2, 400)
    for frames in range(1, 200):
        assert len(mute(2).head(ids, frames / 50)) == 2 * frames


@given(CODEBOOKS, IDS)
def test_the_grammar_gives_each_codebook_its_turn(codebooks: int, ids: list[int]) -> None:
    tokenizer = mute(codebooks)
    grammar = tokenizer.grammar()
    for at, token in enumerate(ids):
        allowed = grammar.allowed()
        if codebooks == 1:
            assert allowed is None
        else:
            assert allowed is not None
            level = at % codebooks
            assert allowed.nonzero().flatten().tolist() == list(range(16 * level, 16 * (level + 1)))
        grammar.advance(token)
        assert grammar.seconds == tokenizer.seconds(ids[: at + 1])


@given(CODEBOOKS, st.floats(0, 1, exclude_max=True))
def test_without_a_prompt_it_begins_with_the_coarsest_codebook(codebooks: int, uniform: float) -> None:
    [first] = mute(codebooks).start(uniform)
    assert first == int(uniform * 16)


def test_the_vocabulary_and_the_frame_follow_the_codebooks() -> None:
    paper = SpeechTokenizer(unheard, 1, SETTINGS | {"cardinality": 1024})
    assert (paper.vocab_size, paper.frame) == (1024, 1)
    assert (mute(4).vocab_size, mute(4).frame) == (64, 4)
    ids = np.array(legal(4, 40), np.uint16)
    np.testing.assert_array_equal(mute(4).augment(ids, np.random.default_rng(0), 6, 0.1), ids)


@pytest.mark.parametrize(
    "tokenizer",
    [*map(get_tokenizer, ("piano", "characters", "gpt2")), mute(1), mute(2), mute(4)],
    ids=["piano", "characters", "gpt2", *"124"],
)
def test_every_tokenizer_keeps_the_contract(tokenizer: Tokenizer) -> None:
    assert isinstance(tokenizer, Tokenizer)
    grammar, rng = tokenizer.grammar(), np.random.default_rng(1)
    ids = list(tokenizer.start(0.5))
    for token in ids:
        grammar.advance(token)
    while len(ids) < 200:
        allowed = grammar.allowed()
        choices = np.arange(tokenizer.vocab_size) if allowed is None else allowed.nonzero().flatten().numpy()
        ids.append(int(rng.choice(choices)))
        grammar.advance(ids[-1])
    assert max(ids) < tokenizer.vocab_size
    assert grammar.seconds == pytest.approx(tokenizer.seconds(ids))
    whole = ids[: len(ids) // tokenizer.frame * tokenizer.frame]
    assert tokenizer.seconds(tokenizer.head(ids, 1.0)) <= 1.0
    assert tokenizer.head(ids, 1e4) == whole
    assert (len(ids) - len(tokenizer.clip(ids, 99))) % tokenizer.frame == 0
    assert tokenizer.clip(ids, 0) == []
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in tokenizer.suffixes)


# Sound


@pytest.mark.parametrize("codebooks", [1, 2, 4])
def test_sound_becomes_ids_and_ids_sound(codec: EncodecCodec, codebooks: int) -> None:
    tokenizer = SpeechTokenizer(codec, codebooks)
    ids = tokenizer.encode(voice(1.01, 44_100, 2))
    assert len(ids) == 51 * codebooks
    assert torch.equal(tokenizer.to_codes(ids), codec.encode(voice(1.01, 44_100, 2))[:codebooks])
    sound = tokenizer.decode([*ids, *ids[: codebooks - 1]])
    assert (sound.sample_rate, sound.samples.shape) == (16_000, (1, 51 * 320))
    np.testing.assert_array_equal(sound.samples, codec.decode(tokenizer.to_codes(ids)).samples)
    assert tokenizer.decode([]).samples.shape == (1, 0)
    assert tokenizer.decode([0] * (codebooks - 1)).samples.shape == (1, 0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=12), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_ids_that_arrive_bit_by_bit_sound_as_all_at_once(
    codec: EncodecCodec, sizes: list[int], codebooks: int, seed: int
) -> None:
    tokenizer = SpeechTokenizer(codec, codebooks)
    ids = legal(codebooks, sum(sizes), seed)
    ends = np.cumsum(sizes)
    with tokenizer.sound() as sound:
        parts = [sound.push(ids[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
        parts.append(sound.finish())
    whole = tokenizer.decode(ids).samples[0]
    made = np.concatenate(parts)
    assert made.shape == whole.shape
    np.testing.assert_allclose(made, whole, atol=1e-5 * max(np.abs(whole).max(initial=0.0), 1e-9))


@pytest.mark.parametrize(
    ("media", "said"),
    [
        (voice(0.05), r"lasts 0\.05 s; at least 0\.5 s are needed"),
        (Audio(np.zeros((1, 0), np.float32), 16_000), r"lasts 0\.00 s"),
        (Audio(np.zeros((2, 16_000), np.float32), 16_000), "the sound is silent; speech is needed"),
        (Audio(np.full((1, 16_000), 0.3, np.float32), 16_000), "the sound is silent"),
        (Audio(np.full((1, 16_000), np.nan, np.float32), 16_000), "samples that are no numbers"),
        (Audio(np.full((1, 16_000), np.inf, np.float32), 16_000), "samples that are no numbers"),
        (Score(notes=(Note(pitch=60, velocity=60, start=0, end=1),)), "holds notes, not sound"),
    ],
)
def test_what_cannot_be_continued_is_refused_in_one_line(media: Any, said: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PromptError, match=said):
            mute(2).encode(media)


# Settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"codebooks": 5}, "5 codebooks are asked for, but codec-tiny is used with 4"),
        ({"codebooks": 0}, "codebooks is 0; a number above 0 is needed"),
        ({"codebooks": True}, "codebooks is True"),
        ({"codebooks": "2"}, "codebooks is '2'"),
        ({"cardinality": -16}, "cardinality is -16"),
        ({"frame_rate": None}, "frame_rate is None"),
        ({"sha256": 3}, "sha256 is 3; a text is needed"),
        ({"author": "me"}, "unknown key 'author'"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        get_tokenizer("speech", SETTINGS | {"codebooks": 2} | changes)


def test_each_modality_says_whether_it_needs_a_codec() -> None:
    with pytest.raises(ConfigError, match="codec is missing; speech needs"):
        get_tokenizer("speech")
    with pytest.raises(ConfigError, match="piano needs none"):
        get_tokenizer("piano", SETTINGS)
    tokenizer = get_tokenizer("speech", SETTINGS | {"codebooks": 2})
    assert isinstance(tokenizer, SpeechTokenizer)
    assert tokenizer.settings == SETTINGS | {"codebooks": 2}
    assert tokenizer.grammar().allowed() is not None  # no codec is there, and none is needed for this
    with pytest.raises(CodecError, match="the codec codec-tiny is not there"):
        tokenizer.encode(voice(1.0))


# The whole way


@pytest.mark.parametrize(("name", "codebooks"), [("two", 2), ("four", 4)])
def test_a_recording_is_continued(folder: Path, tmp_path: Path, name: str, codebooks: int) -> None:
    path = tmp_path / "voice.mp3"  # a name that is wrong
    soundfile.write(path, voice(4.0, 22_050, 2).samples.T, 22_050, format="FLAC")
    pipeline = Pipeline.from_pretrained(folder / name)
    result = pipeline.continue_prompt(Prompt.from_file(path, seconds=1.5), SamplingParams(seconds=3.0, seed=1))
    assert result.prompt.media.duration == pytest.approx(1.5, abs=0.001)  # type: ignore[union-attr]
    assert result.seam_seconds == 1.5
    assert result.seconds == 4.5
    assert len(result.ids) == 150 * codebooks
    assert [token // 16 for token in result.ids] == list(range(codebooks)) * 150
    sound = result.audio()
    assert (sound.sample_rate, sound.samples.shape) == (16_000, (1, 72_000))
    assert result.media is sound
    with pytest.raises(SettingsError, match="a continuation of speech has no score"):
        _ = result.score


def test_only_the_part_of_a_recording_that_is_used_is_encoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.from_pretrained(folder / "two")
    heard: list[float] = []
    encode = EncodecCodec.encode

    def listen(self: EncodecCodec, audio: Audio) -> torch.Tensor:
        heard.append(audio.duration)
        return encode(self, audio)

    monkeypatch.setattr(EncodecCodec, "encode", listen)
    ids = pipeline.encode(Prompt(media=voice(5.0, 8_000), seconds=1.0))
    assert heard == [1.0]
    assert len(ids) == 100
    with pytest.raises(PromptError, match=r"voice\.wav: the sound lasts 0\.10 s; at least"):
        pipeline.encode(Prompt(media=voice(5.0), seconds=0.1, name="voice.wav"))


def test_speech_from_no_prompt(folder: Path) -> None:
    result = Pipeline.from_pretrained(folder / "two").continue_prompt(Prompt.empty(), SamplingParams(seconds=0.5))
    assert (result.seam_seconds, result.seconds) == (0.0, 0.5)
    assert len(result.ids) == 50
    assert result.audio().samples.shape == (1, 8_000)


@pytest.mark.parametrize(("name", "codebooks", "context"), [("two", 2, 32), ("four", 4, 34)])
def test_every_window_that_the_model_reads_begins_at_a_frame(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, codebooks: int, context: int
) -> None:
    pipeline = Pipeline.from_pretrained(folder / name, engine="torch")
    windows: list[list[int]] = []
    read = TorchDecoding.read

    def watch(self: TorchDecoding, row: int, tokens: Sequence[int]) -> torch.Tensor:
        windows.append(list(tokens))
        return read(self, row, tokens)

    monkeypatch.setattr(TorchDecoding, "read", watch)
    prompts = [tuple(legal(codebooks, length)) for length in (5 * codebooks, 40 * codebooks, 3 * codebooks + 1)]
    streams = [Stream(prompt=prompt, seed=k) for k, prompt in enumerate(prompts)]
    made: list[list[int]] = [list(prompt) for prompt in prompts]
    for step in pipeline.sampler.stream(streams, SamplingParams(max_tokens=4 * context)):
        for ids, token in zip(made, step, strict=True):
            assert token is not None
            ids.append(token)
    assert len(windows) > 15  # each of the three has slid several times
    for window in windows:
        assert 0 < len(window) < context
        assert window[0] < 16
    for ids in made:  # the turns go on across every slide, and from a prompt that ends within a frame
        assert [token // 16 for token in ids] == [at % codebooks for at in range(len(ids))]


def test_a_codec_of_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    from shortcut_gen.checkpoint import read_info, write_info

    model = tiny_speech_checkpoint(tmp_path / "speech", 2)
    info = read_info(model)
    assert info.codec is not None
    write_info(model, type(info)(**vars(info) | {"codec": info.codec | {"cardinality": 32}}))
    with pytest.raises(CheckpointError, match="the model has 32 ids but the speech tokenizer 64; they must agree"):
        Pipeline.from_pretrained(model)
    write_info(model, type(info)(**vars(info) | {"codec": None}))
    with pytest.raises(CheckpointError, match=r"config\.json: codec is missing; speech needs"):
        Pipeline.from_pretrained(model)
    write_info(model, info)
    pipeline = Pipeline.from_pretrained(model)
    other = tiny_codec(tmp_path / "codec-tiny", sample_rate=24_000)  # in place of the one it was trained with
    with pytest.raises(CodecError, match=f"{other} is another codec than .*: its sample_rate is 24000; 16000 is"):
        pipeline.encode(Prompt(media=voice(1.0)))


def test_a_codec_is_no_language_model(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a codec; the checkpoint of a language model is needed"):
        Pipeline.from_pretrained(folder / "codec-tiny")


def test_a_window_must_hold_two_frames(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="context is 7 ids; at least two frames of 4"):
        Pipeline.from_pretrained(tiny_speech_checkpoint(folder / "narrow", 4, context=7))
    model = Pipeline.from_pretrained(folder / "two").model
    model.config = type(model.config)(**model.config.to_dict() | {"context": 3})
    with pytest.raises(SettingsError, match="context is 3 ids; at least two frames of 2"):
        Sampler(model, get_tokenizer("speech", SETTINGS | {"codebooks": 2}))


@pytest.mark.parametrize("kind", ["mp4", "text"])
def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "voice.wav"
    path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(100) if kind == "mp4" else b"Good morning, dear listeners\n")
    said = "is an MP4 or QuickTime file" if kind == "mp4" else "is text"
    with pytest.raises(MediaError, match=said) as caught:
        Prompt.from_file(path, seconds=3.0)
    assert "\n" not in str(caught.value)
