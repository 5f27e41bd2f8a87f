"""The codec: sound to codes and back, whole and chunk by chunk, ours and the official one."""

import json
import math
import os
import sys
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from shortcut_gen import codec as codec_room
from shortcut_gen.codec import encodec as codecs
from shortcut_gen.codec.base import Codec
from shortcut_gen.codec.encodec import OFFICIAL_FILE as FILE
from shortcut_gen.codec.encodec import EncodecCodec
from shortcut_gen.codec.finding import find_codec
from shortcut_gen.codec.folder import is_codec, read_codec_info, write_codec_info
from shortcut_gen.errors import CheckpointError, CodecError
from shortcut_gen.media import Audio
from tests.shared.small_models import official_weights, tiny_codec


def noise(seconds: float, rate: int = 16_000, channels: int = 1, seed: int = 0) -> Audio:
    """Noise that swells and fades, so that its codes vary."""
    count = round(seconds * rate)
    swell = np.sin(np.arange(count) / rate * 2.5) * 0.3
    return Audio((np.random.default_rng(seed).standard_normal((channels, count)) * swell).astype(np.float32), rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_codec(tmp_path_factory.mktemp("codecs") / "codec-tiny")


@pytest.fixture(scope="module")
def codec(folder: Path) -> EncodecCodec:
    return EncodecCodec(folder)


def worst(made: np.ndarray, truth: np.ndarray) -> float:
    """The largest difference, relative to the truth's peak."""
    assert made.shape == truth.shape
    return float(np.abs(made - truth).max() / np.abs(truth).max())


def package_encode(codec: EncodecCodec, audio: Audio) -> torch.Tensor:
    """The oracle: the package's own network over all of the sound at once."""
    sound = torch.from_numpy(audio.samples.mean(axis=0))
    sound = torch.nn.functional.pad(sound, (0, -len(sound) % codec.frame_samples))
    with torch.inference_mode():
        vectors = codec.model.encoder(sound[None, None])
        codes: torch.Tensor = codec.model.quantizer.vq.encode(vectors, n_q=codec.num_codebooks)[:, 0]
    return codes


def package_decode(codec: EncodecCodec, codes: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        sound: np.ndarray = codec.model.decode([(codes[None], None)])[0].numpy()
    return sound


# Shapes, rates and edges


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"),
    [(s, r, c) for s in (0.02, 0.1, 0.14, 3.333) for r, c in ((16_000, 1), (8_000, 1), (48_000, 2))]
    + [(61.0, 8_000, 1), (61.0, 48_000, 2)],
)
def test_any_length_rate_and_number_of_channels_gives_its_frames(
    codec: EncodecCodec, seconds: float, rate: int, channels: int
) -> None:
    audio = noise(seconds, rate, channels)
    codes = codec.encode(audio)
    assert codes.dtype == torch.int64
    assert codes.shape == (4, math.ceil(round(audio.duration * 50, 6)))
    sound = codec.decode(codes)
    assert sound.sample_rate == 16_000
    assert sound.samples.dtype == np.float32
    assert sound.samples.shape == (1, codes.shape[1] * 320)
    assert np.abs(sound.samples).max() <= 1.0


@pytest.mark.parametrize("rate", [6_000, 11_025, 22_050, 44_100, 44_099, 96_001, 192_000])
def test_odd_rates_are_brought_to_the_codecs(codec: EncodecCodec, rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)[None] * 0.5
    prepared = codec._prepared(Audio(tone, rate)).numpy()
    assert abs(len(prepared) - 16_000) <= 2
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(prepared)) / 16_000)
    assert np.abs(prepared - wanted)[200:-200].max() < 0.02  # the filter has less to see at the edges


def test_no_sound_has_no_frames(codec: EncodecCodec) -> None:
    codes = codec.encode(Audio(np.zeros((1, 0), np.float32), 44_100))
    assert codes.shape == (4, 0)
    assert codec.decode(codes).samples.shape == (1, 0)


def test_channels_are_mixed(codec: EncodecCodec) -> None:
    one = noise(1.0)
    two = Audio(np.concatenate([one.samples * 2, np.zeros_like(one.samples)]), one.sample_rate)
    assert torch.equal(codec.encode(one), codec.encode(two))


def test_loud_codes_are_clipped(folder: Path, tmp_path: Path) -> None:
    loud = EncodecCodec(folder)
    with torch.no_grad():
        loud.model.decoder.model[-1].conv.conv.weight.mul_(1e3)
    assert np.abs(loud.decode(torch.zeros(4, 30, dtype=torch.long)).samples).max() == 1.0


# The package's network, to the number


@pytest.mark.parametrize("seconds", [0.05, 0.2, 5.0, 61.0])
def test_chunks_encode_and_decode_as_the_package_does_at_once(codec: EncodecCodec, seconds: float) -> None:
    audio = noise(seconds)
    codes = codec.encode(audio)
    assert (codes == package_encode(codec, audio)).float().mean() > 0.999  # but for ties
    assert worst(codec.decode(codes).samples, package_decode(codec, codes)) < 1e-5
    assert len(codes[0].unique()) > 3 or seconds < 1


@pytest.mark.parametrize("ratios", [(5, 4, 4, 4), (2, 1, 3)])
def test_other_ratios_and_layers_stream_as_well(tmp_path: Path, ratios: tuple[int, ...]) -> None:
    codec = EncodecCodec(tiny_codec(tmp_path / "other", ratios=ratios, lstm_layers=2, sample_rate=3840))
    audio = noise(0.5, 3840)
    codes = codec.encode(audio)
    assert codes.shape[1] == math.ceil(1920 / math.prod(ratios))
    assert (codes == package_encode(codec, audio)).float().mean() > 0.99
    with codec.decoder() as stream:
        made = [stream.push(part) for part in codes.split(3, dim=1)]
        made.append(stream.finish())
    assert worst(np.concatenate(made)[None], package_decode(codec, codes)) < 1e-5


def test_samples_that_may_not_be_written_to_are_read(codec: EncodecCodec) -> None:
    audio = noise(0.5)
    audio.samples.setflags(write=False)
    assert codec.encode(audio).shape == (4, 25)


def test_memory_does_not_grow_with_length(codec: EncodecCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "CHUNK_SECONDS", 2.0)
    longest = 0

    def look(_: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal longest
        longest = max(longest, inputs[0].shape[0] * inputs[0].shape[-1], output.shape[0] * output.shape[-1])

    hooks = [net.model[0].conv.register_forward_hook(look) for net in (codec.model.encoder, codec.model.decoder)]
    hooks += [codec.model.decoder.model[-1].conv.register_forward_hook(look)]
    audio = noise(30.0)
    codes = codec.encode_many([audio, audio, noise(20.0)])
    codec.decode(codes[0])
    assert 10_000 < longest < 2.2 * 16_000
    for hook in hooks:
        hook.remove()
    monkeypatch.undo()
    assert (codes[0] == codec.encode(audio)).float().mean() > 0.999


def test_many_sounds_are_encoded_as_each_alone(codec: EncodecCodec) -> None:
    sounds = [noise(s, r, seed=k) for k, (s, r) in enumerate([(1, 16_000), (25, 16_000), (0.06, 16_000), (3, 22_050)])]
    sounds.append(Audio(np.zeros((1, 0), np.float32), 16_000))
    for audio, codes in zip(sounds, codec.encode_many(sounds), strict=True):
        alone = codec.encode(audio)
        assert codes.shape == alone.shape
        assert not codes.numel() or (codes == alone).float().mean() > 0.99
    assert codec.encode_many([]) == []


# Decoding while codes arrive


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 2**31))
def test_decoding_in_any_chunks_equals_decoding_at_once(
    codec: EncodecCodec, sizes: list[int], levels: int, seed: int
) -> None:
    codes = torch.randint(0, 16, (levels, sum(sizes)), generator=torch.Generator().manual_seed(seed))
    with codec.decoder() as stream:
        parts = [stream.push(part) for part in codes.split(sizes, dim=1)]
        parts.append(stream.finish())
    made = np.concatenate(parts)
    if not codes.shape[1]:
        assert not len(made)
        return
    assert worst(made[None], package_decode(codec, codes)) < 1e-5


def test_once_started_every_frame_sounds_at_once(codec: EncodecCodec) -> None:
    codes = codec.encode(noise(2.0))
    stream = codec.decoder()
    lengths = [len(stream.push(codes[:, at : at + 1])) for at in range(30)]
    assert lengths == [0] * 6 + [7 * 320] + [320] * 23


def test_the_state_is_what_joins_the_chunks(codec: EncodecCodec) -> None:
    """Were it lost, the sound would differ: so the tests above can tell."""
    codes = codec.encode(noise(4.0))
    whole, late = codec.decode(codes).samples, codec.decode(codes[:, 100:]).samples
    assert worst(late[:, 20 * 320 :], whole[:, 120 * 320 :]) > 1e-3


def test_there_is_no_click_where_chunks_meet(codec: EncodecCodec) -> None:
    codes = codec.encode(noise(4.0))
    whole = codec.decode(codes).samples[0]
    stream = codec.decoder()
    made = np.concatenate([stream.push(part) for part in codes.split(10, dim=1)])
    seams = np.arange(3200, len(made), 3200)
    jumps = np.abs(np.diff(made))
    assert np.abs(jumps[seams - 1] - np.abs(np.diff(whole))[seams - 1]).max() < 1e-5 * np.abs(whole).max()


def test_a_closed_stream_takes_no_more(codec: EncodecCodec) -> None:
    with codec.decoder() as stream:
        stream.push(torch.zeros(4, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="closed"):
        stream.push(torch.zeros(4, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (torch.full((2, 3), 16), r"codes run from 16 to 16; 0 to 15 are needed"),
        (torch.full((2, 3), -1), "codes run from -1"),
        (torch.zeros(5, 3), r"codes have shape \(5, 3\); 1 to 4 rows are needed"),
        (torch.zeros(3), r"codes have shape \(3,\)"),
        (torch.zeros(0, 3), "1 to 4 rows"),
    ],
)
def test_codes_without_an_entry_are_refused(codec: EncodecCodec, codes: torch.Tensor, said: str) -> None:
    for take in (codec.decode, codec.decoder().push):
        with pytest.raises(CodecError, match=said):
            take(codes)


# The folder


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises((CodecError, CheckpointError)) as caught:
        EncodecCodec(path, **settings)
    text = str(caught.value)
    assert "\n" not in text
    return text


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_codec_says_who_it_is(folder: Path) -> None:
    codec = EncodecCodec(folder, codebooks=2)
    assert isinstance(codec, Codec)
    who = codec.identity()
    assert len(who.pop("sha256")) == 64
    assert who == {
        "name": "codec-tiny",
        "sample_rate": 16_000,
        "frame_rate": 50.0,
        "cardinality": 16,
        "num_codebooks": 2,
    }
    assert codec.encode(noise(1.0)).shape == (2, 50)
    assert torch.equal(codec.encode(noise(1.0)), EncodecCodec(folder).encode(noise(1.0))[:2])


def test_the_hash_is_of_the_weights_alone(tmp_path: Path) -> None:
    folder = tiny_codec(tmp_path / "codec-tiny")
    before = EncodecCodec(folder).identity()
    info = read_codec_info(folder)
    write_codec_info(folder, type(info)(config=info.config, figures={"stoi": 0.9}, licence="CC0"))
    assert read_codec_info(folder).figures == {"stoi": 0.9}
    assert EncodecCodec(folder).identity() == before
    state = load_file(folder / "model.safetensors")
    assert {value.dtype for name, value in state.items() if "embed" in name} == {torch.float32}
    assert {value.dtype for name, value in state.items() if "embed" not in name} == {torch.float16}
    name = "quantizer.vq.layers.3._codebook.embed"
    save_file(state | {name: state[name] + 1}, folder / "model.safetensors")
    assert EncodecCodec(folder).identity()["sha256"] != before["sha256"]


def test_every_damage_of_a_folder_has_its_line(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tiny_codec(tmp_path / "codec-tiny")
    assert is_codec(folder)
    assert not is_codec(tiny_checkpoint)
    assert not is_codec(tmp_path)
    assert "is no codec: encodec_24khz or a folder" in refusal(tmp_path / "nowhere")
    assert "is no codec's; a folder such as" in refusal(tiny_checkpoint)
    assert "4 codebooks and 5 are asked for; 1 to 4 can be used" in refusal(folder, codebooks=5)
    assert "0 are asked for" in refusal(folder, codebooks=0)
    assert "only encodec_24khz takes it" in refusal(folder, weights=folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    state, text = load_file(weights), config.read_text()
    for changes, said in (
        ({"format": 2}, "format is not 1"),
        ({"figures": 3}, "figures is a int"),
        ({"codec": 3}, "codec is a int"),
        ({"author": "me"}, "unknown key 'author'"),
        ({"codec": {"depth": 3}}, "unknown key 'depth'"),
        ({"codec": {"cardinality": 17}}, "cardinality is 17; a power of 2 is needed"),
        ({"codec": {"ratios": "wide"}}, "ratios is ('w', 'i'"),
        ({"codec": {"ratios": 5}}, "codec: "),
    ):
        edit(config, **changes)
        assert said in refusal(folder)
        config.write_text(text)
    edit(config, codec=json.loads(text)["codec"] | {"filters": 4})
    assert "has shape" in refusal(folder)
    config.write_text(text)
    name = "encoder.model.0.conv.conv.bias"
    save_file(state | {name: torch.full_like(state[name], torch.nan)}, weights)
    assert "not finite" in refusal(folder)
    save_file({key: value for key, value in state.items() if key != name}, weights)
    assert f"lacks the tensor {name}" in refusal(folder)
    weights.write_bytes(weights.read_bytes()[:500])
    assert "perhaps cut short" in refusal(folder)
    weights.unlink()
    assert "no model.safetensors there" in refusal(folder)


def test_a_codec_is_found_beside_its_model_and_must_be_the_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "models" / "speech"
    model.mkdir(parents=True)
    first = tiny_codec(tmp_path / "checkpoints" / "codec-tiny")
    wanted = EncodecCodec(first).identity() | {"codebooks": 2}
    assert find_codec(wanted, model).num_codebooks == 2  # in ./checkpoints
    beside = tiny_codec(model.parent / "codec-tiny")
    state = load_file(beside / "model.safetensors")
    name = "encoder.model.0.conv.conv.bias"
    save_file(state | {name: state[name] + 1}, beside / "model.safetensors")
    with pytest.raises(CodecError, match=r"models/codec-tiny is another codec than .*: its sha256 is \w{12}\.\.\.; "):
        find_codec(wanted, model)  # the one beside the model comes first
    with pytest.raises(CodecError, match=r"its cardinality is 16; 1024 is needed"):
        find_codec(wanted | {"cardinality": 1024}, model)
    with pytest.raises(CodecError, match=r"the codec codec-other is not there .*; its folder is needed"):
        find_codec(wanted | {"name": "codec-other"}, model)


def test_without_the_package_one_line_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(codec_room, "network", raising=False)
    monkeypatch.delitem(sys.modules, "shortcut_gen.codec.network", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "encodec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "encodec", None)
    assert "needs the packages encodec and torchaudio" in refusal(folder)
    assert "needs the packages encodec and torchaudio" in refusal(Path("encodec_24khz"))


# The official model, with random weights of its shape


@pytest.fixture(scope="module")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_weights(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def official(official_file: Path) -> EncodecCodec:
    return EncodecCodec("encodec_24khz", weights=official_file)


def test_the_official_model_from_a_file(official: EncodecCodec) -> None:
    who = official.identity()
    assert (who["name"], who["sample_rate"], who["frame_rate"]) == ("encodec_24khz", 24_000, 75.0)
    assert (who["cardinality"], who["num_codebooks"]) == (1024, 32)
    audio = noise(0.5, 24_000)
    codes = official.encode(audio)
    assert codes.shape == (32, 38)
    assert torch.equal(codes, package_encode(official, audio))
    whole = package_decode(official, codes)
    assert worst(official.decode(codes).samples, whole) < 1e-5
    stream = official.decoder()
    made = np.concatenate([stream.push(part) for part in codes.split(9, dim=1)])
    assert worst(made[None], whole) < 1e-4


@pytest.mark.parametrize("codebooks", [1, 2, 3, 8])
def test_the_number_of_codebooks_sets_the_bandwidth(
    official: EncodecCodec, monkeypatch: pytest.MonkeyPatch, codebooks: int
) -> None:
    """Bandwidths in between are the next one's first codebooks, as each codebook codes what those before it left."""
    monkeypatch.setattr(official, "num_codebooks", codebooks)
    audio = noise(0.2, 24_000)
    codes = official.encode(audio)
    assert codes.shape == (codebooks, 15)
    bandwidth = next(b for b in official.model.target_bandwidths if b >= 0.75 * codebooks)
    official.model.set_target_bandwidth(bandwidth)
    with torch.inference_mode():
        [(wanted, _)] = official.model.encode(torch.from_numpy(audio.samples)[None])
    assert torch.equal(codes, wanted[0, :codebooks])


def test_the_official_weights_are_downloaded_safely(official_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def download(url: str, **options: Any) -> Any:
        asked.update(options, url=url)
        return torch.load(official_file, weights_only=True)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    assert EncodecCodec(codebooks=8).num_codebooks == 8
    assert asked["url"].endswith(FILE)
    assert asked["weights_only"] is True
    assert asked["check_hash"] is True


def test_where_there_is_no_network_one_line_says_how_to_get_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    text = refusal(Path("encodec_24khz"))
    assert f"get {FILE} of EnCodec's release and put it into {tmp_path / 'hub' / 'checkpoints'} or checkpoints/" in text
    assert "pass it as weights=" in text
    assert "no route" in text


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("evil",)


def test_what_is_not_the_official_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.th"
    assert "w.th: cannot be read as EnCodec's weights" in refusal(Path("encodec_24khz"), weights=path)
    path.write_text("weights")
    assert "w.th: cannot be read as EnCodec's weights" in refusal(Path("encodec_24khz"), weights=path)
    torch.save({"weights": Evil()}, path)
    assert "w.th: cannot be read as EnCodec's weights" in refusal(Path("encodec_24khz"), weights=path)
    assert not (tmp_path / "evil").exists()
    torch.save([1, 2], path)
    assert "holds no weights by name" in refusal(Path("encodec_24khz"), weights=path)
    torch.save({"a": torch.zeros(3)}, path)
    assert "lacks the tensor decoder.model.0.conv.conv.bias and" in refusal(Path("encodec_24khz"), weights=path)


def test_every_architecture_that_a_folder_may_name_is_opened() -> None:
    from shortcut_gen.codec.finding import OPENERS
    from shortcut_gen.codec.folder import ARCHITECTURES

    assert set(OPENERS) == set(ARCHITECTURES)
