"""Training of the codec: the command, its resuming, and the parts that a codec's quality hangs on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from shortcut_gen.errors import ConfigError, DataError
from shortcut_gen.modalities.encodec_model import CodecConfig, build
from training.codec_data import Ahead, CropConfig, Crops, scan
from training.codec_init import WAVEFORM, initialise_scales
from training.codec_losses import Balancer, MultiScaleMel, discriminator_loss, generator_losses
from training.codec_quantizer import draw_levels, initialise, quantize, revive
from training.fit_codec import build as build_run
from training.fit_codec import main
from training.run.checkpoints import LAST, read_run_checkpoint

TINY = CodecConfig(filters=2, lstm_layers=1, dimension=8, codebooks=4, cardinality=16)
TINY_OPTIONS = [
    *("--codec.filters=2", "--codec.lstm_layers=1", "--codec.dimension=8", "--codec.codebooks=4"),
    *("--codec.cardinality=16", "--data.batch_size=2", "--data.seconds=0.2", "--data.validation_crops=2"),
    *("--losses.quantize_after=2", "--losses.adversary_from=0.5", "--losses.adversary_filters=1"),
    *("--threads=1", "--device=cpu", "--report_every=2", "--validate_every=4", "--optimizer.lr=1e-3"),
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of three kinds of file, rate and number of channels, one shorter than a crop."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for number, (rate, channels, suffix) in enumerate([(16_000, 1, "wav"), (8_000, 2, "flac"), (48_000, 1, "ogg")] * 2):
        seconds = 0.05 if number == 5 else 1.0
        time_axis = np.arange(round(seconds * rate)) / rate
        tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * time_axis) + 0.01 * rng.standard_normal(len(time_axis))
        soundfile.write(folder / f"{number}.{suffix}", np.stack([tone] * channels, axis=1), rate)
    return folder


def options(recordings: Path, runs: Path, *more: str) -> list[str]:
    return [*TINY_OPTIONS, f"--data.folders=[{recordings}]", f"--runs={runs}", "--name=c", *more]


def test_a_resumed_run_ends_with_the_weights_of_one_never_stopped(recordings: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(options(recordings, whole, "--budget.steps=8")) == 0
    run = build_run(options(recordings, parts, "--budget.steps=8"))
    step = run.task.step

    def stop_at_five(*arguments: object) -> dict[str, float]:
        if run.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)  # type: ignore[arg-type]

    run.task.step = stop_at_five  # type: ignore[method-assign,assignment]
    run.fit()
    assert run.step == 5 and run.signalled == signal.SIGTERM
    assert main(options(recordings, parts, "--budget.steps=8", "--resume=auto")) == 0
    first, second = (read_run_checkpoint(folder / "c" / LAST) for folder in (whole, parts))
    assert first["step"] == second["step"] == 8
    for part in ("codec", "discriminator"):
        for name, value in first["state_dict"][part].items():
            assert torch.equal(value, second["state_dict"][part][name]), name


def test_a_killed_process_leaves_a_checkpoint_and_its_figures(recordings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "training.fit_codec"]
    command += options(recordings, tmp_path, "--budget.seconds=120", "--save_minutes=0.001")
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        path = tmp_path / "c" / LAST
        waited = time.monotonic()
        while not path.exists() and time.monotonic() - waited < 100:
            time.sleep(0.1)
        process.kill()
    state = read_run_checkpoint(path)
    assert state["step"] >= 1 and state["run"]["codec"] == TINY.to_dict()


def test_the_log_tells_how_the_run_goes(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(recordings, tmp_path, "--budget.steps=8", "--licence=CC BY 4.0")) == 0
    lines = [json.loads(line) for line in (tmp_path / "c" / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"train", "validation"}
    assert {"mel@1", "mel@2", "mel@4", "used@1"} <= set(lines[-1])
    assert any("adversarial" in line and "discriminator" in line for line in lines)
    assert json.loads((tmp_path / "c" / "hyperparameters.json").read_text())["corpus"]["licence"] == "CC BY 4.0"
    assert "training.export" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budget.steps=2", "--data.folders=[]"], "data.folders names no folder"),
        (["--budget.steps=2", "--data.folders=[nowhere]"], "nowhere: no such folder"),
        ([], "the run has no budget"),
        (["--budget.tokens=5"], "budget.tokens is for language models"),
        (["--budget.steps=2", "--codec.cardinality=1000"], "cardinality is 1000; a power of 2"),
        (["--budget.steps=2", "--data.seconds=0"], "data.seconds is 0"),
        (["--budget.steps=2", "--losses.mel=-1"], "losses.mel is -1"),
        (["--budget.steps=2", "--resume=nothing.ckpt"], "no checkpoint to resume from"),
        (["--budget.steps=2", "--name=a/b"], "a name without slashes"),
        (["--budget.steps=2", "--losses.adversary_seconds=0.05"], "would hear 800 samples"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(options(recordings, tmp_path, *more)) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_a_run_is_not_overwritten(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(recordings, tmp_path, "--budget.steps=1")) == 0
    assert main(options(recordings, tmp_path, "--budget.steps=1")) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(options(recordings, tmp_path, "--budget.steps=2", "--resume=auto", "--codec.filters=3")) == 2
    assert "another shape" in capsys.readouterr().err


def test_a_frozen_encoder_keeps_its_tokens(recordings: Path, tmp_path: Path) -> None:
    assert main(options(recordings, tmp_path, "--budget.steps=4")) == 0
    before = read_run_checkpoint(tmp_path / "c" / LAST)["state_dict"]["codec"]
    frozen = ["--losses.freeze_encoder=true", f"--init={tmp_path / 'c' / LAST}", "--name=d"]
    assert main(options(recordings, tmp_path, "--budget.steps=3", *frozen)) == 0
    after = read_run_checkpoint(tmp_path / "d" / LAST)["state_dict"]["codec"]
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {name for name in before if name.startswith(("encoder.", "quantizer."))} <= same
    assert any(name.startswith("decoder.") for name in set(before) - same)


def test_a_discriminator_that_learns_alone_does_not_move_the_codec(recordings: Path, tmp_path: Path) -> None:
    ends = {}
    for name, from_, alone in (("without", 1, 0), ("alone", 0, 9), ("listening", 0, 1)):
        more = [f"--name={name}", f"--losses.adversary_from={from_}", f"--losses.adversary_alone={alone}"]
        part = "--losses.adversary_seconds=0.15"
        assert main(options(recordings, tmp_path, "--budget.steps=4", part, *more)) == 0
        ends[name] = read_run_checkpoint(tmp_path / name / LAST)["state_dict"]
    last = "decoder.model.0.conv.conv.weight"
    assert torch.equal(ends["without"]["codec"][last], ends["alone"]["codec"][last])
    assert not torch.equal(ends["without"]["codec"][last], ends["listening"]["codec"][last])
    for name in ("alone", "listening"):
        before, after = ends["without"]["discriminator"], ends[name]["discriminator"]
        assert any(not torch.equal(value, after[key]) for key, value in before.items())


def test_a_run_that_starts_from_another_keeps_its_entries(recordings: Path, tmp_path: Path) -> None:
    assert main(options(recordings, tmp_path, "--budget.steps=4")) == 0
    before = read_run_checkpoint(tmp_path / "c" / LAST)["state_dict"]["codec"]
    more = [f"--init={tmp_path / 'c' / LAST}", "--name=d", "--losses.quantize_after=0", "--losses.revive_below=0"]
    assert main(options(recordings, tmp_path, "--budget.steps=1", *more)) == 0
    after = read_run_checkpoint(tmp_path / "d" / LAST)["state_dict"]["codec"]
    name = "quantizer.vq.layers.0._codebook.embed"
    moved = (after[name] - before[name]).norm() / before[name].norm()
    assert 0 < moved < 0.2  # followed one batch, not drawn anew


def crops(recordings: Path, **changes: object) -> Crops:
    config = {"folders": (str(recordings),), "batch_size": 8, "seconds": 0.5, "mix": 0.5, "gain_db": (0.0, 20.0)}
    return Crops(CropConfig(**config | changes), 16_000, seed=3)  # type: ignore[arg-type]


def test_crops_depend_on_seed_and_number_alone(recordings: Path) -> None:
    first, second = crops(recordings), crops(recordings, cache_gib=0.0)
    for number in (5, 2):
        assert torch.equal(first.batch(number), second.batch(number))
    assert not torch.equal(first.batch(2), first.batch(5))
    assert torch.equal(first.validation(), second.validation())
    ahead = Ahead(first, 2)
    assert torch.equal(ahead.take(), second.batch(2)) and torch.equal(ahead.take(), second.batch(3))
    ahead.close()


def test_crops_are_at_one_rate_within_full_scale(recordings: Path) -> None:
    batch = torch.cat([crops(recordings).batch(number) for number in range(4)])
    assert batch.shape == (32, 1, 8000) and batch.dtype == torch.float32
    assert float(batch.abs().amax()) <= 1.0
    assert float(batch.abs().amax(dim=-1).amin()) > 0  # even the short file is heard
    held = {file.path for file in crops(recordings).validation_files}
    assert held and not held & {file.path for file in crops(recordings).files}


def test_crops_hear_what_prompts_hear(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a file of unknown length, of one scaled as whole numbers, of one that is no sound at all."""
    tone = (0.3 * np.sin(np.arange(32_000) / 7)).astype(np.float32)
    soundfile.write(tmp_path / "piped.flac", tone, 16_000)
    data = bytearray((tmp_path / "piped.flac").read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    (tmp_path / "piped.flac").write_bytes(data)
    soundfile.write(tmp_path / "scaled.wav", tone * 32_768, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "nan.wav", np.where(tone > 0.2, np.nan, tone), 16_000, subtype="FLOAT")
    found = scan(tmp_path)
    assert [(recording.path.name, recording.seconds) for recording in found] == [
        ("piped.flac", 2.0),
        ("scaled.wav", 2.0),
    ]
    heard = crops(tmp_path, mix=0.0, gain_db=(0.0, 0.0))
    for batch in (heard.batch(0), heard.validation()):
        assert batch.abs().amax(dim=-1).flatten().tolist() == pytest.approx([0.3] * len(batch), abs=1e-3)
    said = [record.getMessage() for record in caplog.records]
    assert (
        sum("nan.wav holds samples that are no numbers" in line for line in said) == 2
    )  # as often as it was looked for
    assert sum("scaled.wav: samples of up to 9,830 are taken for whole numbers" in line for line in said) == 1


def test_a_folder_without_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("no sound")
    with pytest.raises(DataError, match="no recording there that can be read"):
        crops(tmp_path)


@torch.no_grad()
def test_first_scales_pass_sound_through(recordings: Path) -> None:
    torch.manual_seed(0)
    codec = build(CodecConfig(filters=4, lstm_layers=1, dimension=16, codebooks=1, cardinality=16))
    batch = crops(recordings).batch(0)
    before = float(codec.decoder(codec.encoder(batch)).std())
    initialise_scales(codec, batch)
    after = codec.decoder(codec.encoder(batch))
    assert before < 0.1 * WAVEFORM or before > 2 * WAVEFORM  # torch's own scales are far off
    assert float(after.std()) == pytest.approx(WAVEFORM, rel=0.01)
    assert float(codec.encoder(batch).std()) == pytest.approx(1.0, rel=0.01)


def test_levels_left_out_are_left_out() -> None:
    torch.manual_seed(1)
    quantizer = build(TINY).quantizer
    initialise(quantizer, torch.randn(500, 8), torch.Generator().manual_seed(0))
    quantizer.eval()
    vectors = torch.randn(4, 8, 10, requires_grad=True)
    made = quantize(quantizer, vectors, torch.tensor([1, 2, 3, 4]))
    assert made.codes.shape == (4, 4, 10)
    for row, levels in enumerate((1, 2, 3, 4)):
        wanted = quantizer.decode(made.codes[:levels, row : row + 1])
        assert torch.allclose(made.vectors[row : row + 1], wanted, atol=1e-5)
    assert torch.equal(made.codes, quantizer.encode(vectors.detach(), 50))
    (gradient,) = torch.autograd.grad(made.vectors.sum(), vectors)
    assert torch.equal(gradient, torch.ones_like(vectors))  # straight through


def test_first_entries_come_from_the_data() -> None:
    data = torch.randn(2000, 8) * 5 + 20
    quantizer = build(TINY).quantizer
    initialise(quantizer, data, torch.Generator().manual_seed(0))
    quantizer.eval()
    vectors = data.reshape(4, 500, 8).transpose(1, 2)
    errors = [float(quantize(quantizer, vectors, torch.full((4,), n)).error) for n in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True) and errors[0] < 0.8 and errors[-1] < 0.4


def test_an_unused_entry_comes_back_to_life_and_stays() -> None:
    torch.manual_seed(0)
    quantizer = build(TINY).quantizer
    vectors = torch.randn(4, 8, 200)
    initialise(quantizer, vectors.transpose(1, 2).flatten(0, 1), torch.Generator().manual_seed(0))
    book = quantizer.vq.layers[0]._codebook
    book.embed[3] = book.embed_avg[3] = 1000.0
    book.cluster_size[3] = 0.0
    assert revive(quantizer, vectors, 0.1, torch.Generator().manual_seed(0)) == 1
    quantizer.train()
    for _ in range(3):
        quantize(quantizer, vectors, torch.full((4,), 4))
    used = quantize(quantizer, vectors, torch.full((4,), 4)).codes[0].unique()
    assert 3 in used.tolist() and float(book.embed[3].abs().max()) < 10


def test_levels_are_drawn_within_range_and_seeded() -> None:
    draws = draw_levels(4000, 8, 0.25, torch.Generator().manual_seed(0))
    assert int(draws.min()) == 1 and int(draws.max()) == 8
    assert torch.equal(draws, draw_levels(4000, 8, 0.25, torch.Generator().manual_seed(0)))
    assert 0.38 < float((draws == 8).float().mean()) < 0.5  # 0.25 + 0.75 * (1/8 + 1/16 ...) within its spread
    assert set(draws.tolist()) == set(range(1, 9))


def test_the_balancer_gives_each_loss_its_share_whatever_its_scale() -> None:
    balancer = Balancer({"small": 1.0, "large": 3.0})
    made = torch.zeros(2, 1, 50, requires_grad=True)
    small, large = torch.zeros(2, 1, 50), torch.zeros(2, 1, 50)
    small[..., 0], large[..., 1] = 1e-6, 1e6
    gradient = balancer.gradient({"small": (made * small).sum(), "large": (made * large).sum()}, made)
    assert gradient[0, 0, 0] == pytest.approx(0.25, rel=1e-3)
    assert gradient[0, 0, 1] == pytest.approx(0.75, rel=1e-3)
    half = balancer.gradient({"small": (made * small).sum(), "large": (made * large).sum()}, made, {"large": 0.0})
    assert half[0, 0, 0] == pytest.approx(1.0, rel=1e-3) and half[0, 0, 1] == 0
    other = Balancer({"small": 1.0, "large": 3.0})
    other.load_state_dict(balancer.state_dict())
    assert other.norms == balancer.norms


def test_losses_know_equal_from_different() -> None:
    torch.manual_seed(0)
    mel = MultiScaleMel(16_000)
    sound = 0.1 * torch.randn(2, 1, 8000)
    assert float(mel(sound, sound)) == 0.0
    assert 0 < float(mel(sound * 0.9, sound)) < float(mel(sound * 0.1, sound))
    assert float(discriminator_loss([torch.full((2, 3), 2.0)], [torch.full((2, 3), -2.0)])) == 0.0
    assert float(discriminator_loss([torch.zeros(2, 3)], [torch.zeros(2, 3)])) == 2.0
    maps = [[torch.ones(2, 3)]]
    adversarial, features = generator_losses(([torch.zeros(1)], maps), ([torch.full((1,), 2.0)], [[torch.zeros(2, 3)]]))
    assert float(adversarial) == 0.0 and float(features) == pytest.approx(1.0)


def test_a_codec_config_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="sample_rate is 16001"):
        CodecConfig(sample_rate=16_001)
    with pytest.raises(ConfigError, match="filters is 0"):
        CodecConfig(filters=0)
    assert CodecConfig.from_dict(CodecConfig(ratios=(5, 4, 4, 4)).to_dict()).frame_rate == 50.0
    with pytest.raises(ConfigError, match="unknown key 'size'"):
        CodecConfig.from_dict({"size": 3})
