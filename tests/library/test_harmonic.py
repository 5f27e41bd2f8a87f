"""The codec with a harmonic source: chunks equal the whole, codes in and out, and one line for what cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcut_gen.codec.base import Codec
from shortcut_gen.codec.finding import find_codec, open_codec
from shortcut_gen.codec.folder import CodecInfo, read_codec_info, save_codec
from shortcut_gen.codec.harmonic import source
from shortcut_gen.codec.harmonic.codec import HarmonicCodec
from shortcut_gen.codec.harmonic.config import FRAME, SAMPLE_RATE, HarmonicConfig
from shortcut_gen.codec.harmonic.features import features, with_margins
from shortcut_gen.codec.harmonic.network import HarmonicNetwork
from shortcut_gen.codec.harmonic.streams import EncoderStream
from shortcut_gen.errors import CheckpointError, CodecError, ConfigError
from shortcut_gen.media import Audio
from tests.shared.sounds import speechlike

CONFIG = HarmonicConfig(
    encoder_width=16, width=16, blocks=2, dimension=8, codebooks=4, cardinality=16, noise_channels=2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codec") / "codec-small"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = HarmonicNetwork(CONFIG)
        network.quantizer.entries.normal_()
        with torch.no_grad():  # voices come and go, at changing pitches
            network.decoder.pitch.weight.mul_(8)
            network.decoder.head.bias[: source.BINS] = -1.0
    save_codec(path, network, CodecInfo(config=CONFIG, architecture="harmonic", licence="Apache-2.0"))
    return path


@pytest.fixture(scope="module")
def codec(folder: Path) -> HarmonicCodec:
    opened = open_codec(folder, codebooks=3)
    assert isinstance(opened, HarmonicCodec)
    return opened


def test_it_fulfils_the_contract(codec: HarmonicCodec) -> None:
    assert isinstance(codec, Codec)
    identity = codec.identity()
    assert {identity[key] for key in ("sample_rate", "frame_rate", "cardinality", "num_codebooks")} == {
        16000,
        50,
        16,
        3,
    }
    assert len(identity["sha256"]) == 64


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.5, 1.234])
def test_codes_have_a_frame_for_every_fiftieth_of_a_second_begun(codec: HarmonicCodec, seconds: float) -> None:
    sound = Audio(speechlike(2)[None, : round(seconds * SAMPLE_RATE)], SAMPLE_RATE)
    codes = codec.encode(sound)
    frames = -(-sound.samples.shape[1] // FRAME)
    assert codes.shape == (3, frames)
    back = codec.decode(codes)
    assert back.samples.shape == (1, frames * FRAME)
    assert np.abs(back.samples).max() <= 1
    assert np.abs(back.samples).max() > 1e-3


@pytest.mark.parametrize("sizes", [[1], [3, 1, 7], [2, 50], [200]])
def test_chunks_sound_as_the_whole(codec: HarmonicCodec, sizes: list[int]) -> None:
    codes = torch.randint(16, (2, 150), generator=torch.Generator().manual_seed(0))
    whole = codec.decode(codes).samples[0]
    parts, at, turn = [], 0, 0
    with codec.decoder() as stream:
        while at < codes.shape[1]:
            parts.append(stream.push(codes[:, at : at + sizes[turn % len(sizes)]]))
            at += sizes[turn % len(sizes)]
            turn += 1
        lag = codes.shape[1] * FRAME - sum(map(len, parts))
        parts.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-3)  # full scale, and wild pitches
    assert lag <= 0.16 * SAMPLE_RATE


@pytest.mark.parametrize("size", [FRAME, 5 * FRAME + 17, 40_000])
def test_chunks_are_encoded_as_the_whole(codec: HarmonicCodec, size: int) -> None:
    sound = torch.from_numpy(speechlike(2))[None]
    encoder = codec.network.encoder
    with torch.inference_mode():
        whole = encoder(features(with_margins(sound)))
        stream = EncoderStream(encoder, 1)
        starts = range(0, sound.shape[1], size)
        parts = [stream.push(sound[:, at : at + size], last=at + size >= sound.shape[1]) for at in starts]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=0)


def test_the_same_codes_sound_the_same(codec: HarmonicCodec) -> None:
    codes = torch.randint(16, (3, 40), generator=torch.Generator().manual_seed(1))
    assert np.array_equal(codec.decode(codes).samples, codec.decode(codes).samples)


def test_a_closed_stream_takes_no_more(codec: HarmonicCodec) -> None:
    with codec.decoder() as stream:
        assert len(stream.push(torch.zeros(1, 0, dtype=torch.long))) == 0
        assert len(stream.finish()) == 0
    with pytest.raises(ValueError, match="closed"):
        stream.push(torch.zeros(1, 1, dtype=torch.long))


@pytest.mark.parametrize(
    ("codes", "said"),
    [(torch.full((3, 2), 16), "0 to 15 are needed"), (torch.zeros(4, 2, dtype=torch.long), "1 to 3 rows")],
)
def test_codes_without_an_entry_are_refused(codec: HarmonicCodec, codes: torch.Tensor, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        codec.decode(codes)


def test_a_model_finds_its_codec_by_encoder_and_codebooks(folder: Path, tmp_path: Path) -> None:
    """Another decoder says the same ids better; another encoder says other ids."""
    settings = open_codec(folder, codebooks=2).identity() | {"codebooks": 2}
    assert find_codec(settings, folder.parent).num_codebooks == 2
    with pytest.raises(CodecError, match="another codec than the model was trained with"):
        find_codec(settings | {"sha256": "0" * 64}, folder.parent)


def test_a_folder_says_its_architecture(folder: Path, tmp_path: Path) -> None:
    assert read_codec_info(folder).architecture == "harmonic"
    values = json.loads((folder / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    for change, said in (
        ({"architecture": "vocoder"}, "architecture is 'vocoder'; one of encodec, harmonic"),
        ({"codec": values["codec"] | {"width": 10**9}}, "codec width is 1000000000"),
        ({"codec": values["codec"] | {"depth": 1}}, "unknown key 'depth'"),
    ):
        (other / "config.json").write_text(json.dumps(values | change))
        with pytest.raises(CheckpointError, match=said):
            open_codec(other)


@pytest.mark.parametrize("change", [{"kernel": 1}, {"codebooks": 0}, {"width": 2.0}, {"noise_channels": -1}])
def test_a_config_that_cannot_be_built_says_why(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        HarmonicConfig(**change)  # type: ignore[arg-type]


def test_flat_filters_give_the_source_back() -> None:
    given = torch.randn(1, 12 * 160, generator=torch.Generator().manual_seed(0))
    flat = torch.ones(1, 11, source.BINS)
    halves = source.shaped(given, torch.zeros_like(given), flat + 0j, flat)
    torch.testing.assert_close(source.overlapped(halves), given[:, 160:-160], atol=1e-5, rtol=0)


def test_a_voice_has_unit_power_and_its_pitch() -> None:
    nodes = torch.full((1, 101), 125.0)
    pulses = source.pulses(source.phases(nodes, torch.ones(1, 101), SAMPLE_RATE), nodes, torch.ones(1, 101))[0]
    assert float(pulses.square().mean()) == pytest.approx(1, abs=0.01)
    spectrum = torch.fft.rfft(pulses).abs()  # a bin a Hz
    assert set((spectrum > 0.1 * spectrum.max()).nonzero().flatten().tolist()) == set(range(125, 7_626, 125))
