"""Training of the codec: the command, its resuming, and the parts that a codec's quality hangs on."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from shortcut_gen.codec.finding import open_codec
from shortcut_gen.codec.harmonic import source
from shortcut_gen.codec.harmonic.config import SAMPLE_RATE, HarmonicConfig
from shortcut_gen.codec.harmonic.features import MARGIN, autocorrelation
from shortcut_gen.codec.harmonic.quantizer import ResidualQuantizer
from training.codec.crops import Ahead, CropConfig, Crops
from training.codec.losses import energy_distance, total_distance
from training.codec.quantizer import EntryMeans, quantize
from training.codec.targets import targets
from training.codec.task import CROP_MARGIN
from training.export import main as export
from training.fit_codec import build as build_run
from training.fit_codec import main
from training.run.checkpoints import LAST, read_run_checkpoint

TINY = HarmonicConfig(
    encoder_width=8, encoder_blocks=1, width=8, blocks=1, fine_blocks=1, dimension=4, codebooks=4, cardinality=16
)
TINY_OPTIONS = [
    *(f"--codec.{name}={value}" for name, value in TINY.to_dict().items()),
    *("--data.batch_size=2", "--data.seconds=0.2", "--data.validation_crops=2", "--losses.quantize_after=2"),
    *("--threads=1", "--device=cpu", "--report_every=2", "--validate_every=4", "--optimizer.name=muon"),
    *("--optimizer.ema=0.9",),
]


def voice(seconds: float, pitch: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Harmonics that fall off, with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * k * pitch * time + k) / k for k in range(1, int(0.4 * rate / pitch)))
    return (0.1 * tone + 0.002 * np.random.default_rng(0).standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of three kinds of file, rate and number of channels, one shorter than a crop."""
    folder = tmp_path_factory.mktemp("recordings")
    for number, (rate, channels, suffix) in enumerate([(16_000, 1, "wav"), (8_000, 2, "flac"), (48_000, 1, "ogg")] * 2):
        tone = voice(0.1 if number == 5 else 1.0, 100 + 40 * number, rate)
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
    assert run.step == 5
    assert run.signalled == signal.SIGTERM
    assert main(options(recordings, parts, "--budget.steps=8", "--resume=auto")) == 0
    first, second = (read_run_checkpoint(folder / "c" / LAST) for folder in (whole, parts))
    assert first["step"] == second["step"] == 8
    for part in ("codec", "weights", "means"):
        for name, value in first["state_dict"][part].items():
            assert torch.equal(value, second["state_dict"][part][name]), name


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(recordings, tmp_path, "--budget.steps=4", "--save_minutes=1e-9")) == 0
    (tmp_path / "c" / LAST).write_bytes(b"x")
    assert main(options(recordings, tmp_path, "--budget.steps=6", "--resume=auto")) == 0
    assert "going on from the one before, previous.ckpt" in capsys.readouterr().out
    assert read_run_checkpoint(tmp_path / "c" / LAST)["step"] == 6


def test_a_second_stage_leaves_what_ids_mean(recordings: Path, tmp_path: Path) -> None:
    """The decoder alone learns, with noise channels of its own; the exported codec speaks the first one's ids."""
    assert main(options(recordings, tmp_path, "--budget.steps=6")) == 0
    more = ("--budget.steps=4", f"--init={tmp_path}/c/{LAST}", "--losses.freeze_encoder=true", "--name=second")
    assert main(options(recordings, tmp_path, *more, "--codec.noise_channels=3")) == 0
    for name in ("c", "second"):
        assert export([str(tmp_path / name), str(tmp_path / f"codec-{name}")]) == 0
    first, second = (open_codec(tmp_path / f"codec-{name}") for name in ("c", "second"))
    assert first.identity()["sha256"] == second.identity()["sha256"]
    states = [read_run_checkpoint(tmp_path / name / LAST)["state_dict"]["codec"] for name in ("c", "second")]
    assert not torch.equal(states[0]["decoder.head.weight"], states[1]["decoder.head.weight"])
    assert "harmonic" in (tmp_path / "codec-second/config.json").read_text()
    assert "noise_channels" in (tmp_path / "codec-second/README.md").read_text()


def test_a_codec_without_its_run_is_trained_further(recordings: Path, tmp_path: Path) -> None:
    """From its folder alone, as it is shipped: the ids stay what they were, and the card tells both parts."""
    assert main(options(recordings, tmp_path, "--budget.steps=6", "--codec.noise_channels=3")) == 0
    assert export([str(tmp_path / "c"), str(tmp_path / "shipped")]) == 0
    more = ("--budget.steps=2", f"--init={tmp_path}/shipped", "--losses.freeze_encoder=true", "--name=further")
    assert main(options(recordings, tmp_path, *more, "--codec.noise_channels=3")) == 0
    assert export([str(tmp_path / "further"), str(tmp_path / "new")]) == 0
    before, after = (open_codec(tmp_path / name) for name in ("shipped", "new"))
    assert before.identity()["sha256"] == after.identity()["sha256"]
    recipe = json.loads((tmp_path / "new" / "config.json").read_text())["recipe"]
    assert [part["spent"]["steps"] for part in recipe["before"]] == [6] and recipe["steps"] == 2


def test_what_no_codec_starts_from_is_said(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"run": {}, "state_dict": {"model.x": torch.zeros(1)}}, tmp_path / "model.ckpt")
    (tmp_path / "empty").mkdir()
    for given, said in (
        ("model.ckpt", "is of a language model's run"),
        ("empty", "config.json"),
        ("no", "no such file"),
    ):
        assert main(options(recordings, tmp_path, "--budget.steps=1", f"--init={tmp_path / given}")) == 2
        assert said in capsys.readouterr().err


def test_the_log_tells_how_the_run_goes(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options(recordings, tmp_path, "--budget.steps=8", "--licence=CC BY 4.0")) == 0
    lines = [json.loads(line) for line in (tmp_path / "c" / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"train", "validation"}
    assert {"near@1", "near@2", "near@4", "used@1"} <= set(lines[-1])
    assert json.loads((tmp_path / "c" / "hyperparameters.json").read_text())["corpus"]["licence"] == "CC BY 4.0"
    assert "training.export" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budget.steps=2", "--data.folders=[]"], "data.folders names no folder"),
        (["--budget.steps=2", "--data.folders=[nowhere]"], "nowhere: no such folder"),
        ([], "the run has no budget"),
        (["--budget.tokens=5"], "budget.tokens is for language models"),
        (["--budget.steps=2", "--codec.kernel=1"], "kernel is 1; at least 2"),
        (["--budget.steps=2", "--codec.width=0"], "codec width is 0"),
        (["--budget.steps=2", "--data.seconds=0"], "data.seconds is 0"),
        (["--budget.steps=2", "--data.seconds=0.21"], "whole frames of 0.02 s"),
        (["--budget.steps=2", "--data.weights=[1,2]"], "data.weights is (1.0, 2.0)"),
        (["--budget.steps=2", "--losses.phase=-1"], "losses.phase is -1"),
        (["--budget.steps=2", "--resume=nothing.ckpt"], "no checkpoint to resume from"),
        (["--budget.steps=2", "--name=a/b"], "a name without slashes"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(options(recordings, tmp_path, *more)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "c").exists()


# Targets, losses, quantiser, crops


@pytest.mark.parametrize("pitch", [75.0, 110.0, 180.0, 333.0])
def test_the_pitch_of_a_voice_is_found(pitch: float) -> None:
    sound = torch.from_numpy(voice(1.0, pitch))[None]
    found = targets(sound, autocorrelation(sound))
    middle = slice(10, -10)
    assert found.voiced[0, middle].mean() > 0.95
    error = (found.pitch[0, middle] / pitch).log().abs() * 1200 / math.log(2)  # cents
    assert float(error.max()) < 8


def test_noise_has_no_pitch() -> None:
    sound = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    assert float(targets(sound, autocorrelation(sound)).voiced.mean()) < 0.1


def test_a_source_at_the_targets_is_in_step_with_the_voice() -> None:
    """What the decoder is given while it trains lies on the voice's own fundamental."""
    sound = torch.from_numpy(voice(1.0, 120.0))[None]
    found = targets(sound, autocorrelation(sound))
    nodes, voices = (torch.cat((x, x[:, -1:]), dim=1) for x in (found.pitch, found.voiced))
    pulses = source.pulses(found.phase, nodes, voices)[0, 3200:-3200]
    own = sound[0, MARGIN : MARGIN + found.pitch.shape[1] * 160][3200:-3200]
    time = torch.arange(len(own)) / SAMPLE_RATE
    carrier = torch.exp(-2j * math.pi * 120.0 * time)
    angle = torch.angle((pulses * carrier).sum() / (own * carrier).sum())
    assert abs(float(angle)) < math.pi  # a number at all
    drift = [
        float(torch.angle(((pulses * carrier)[part].sum()) / ((own * carrier)[part].sum())))
        for part in (slice(0, 2000), slice(-2000, None))
    ]
    assert abs(math.remainder(drift[0] - drift[1], 2 * math.pi)) < 0.3


def test_the_energy_distance_is_least_for_draws_of_the_real_thing() -> None:
    noise = torch.randn(12, 8000, generator=torch.Generator().manual_seed(1))
    real, draws, louder = noise[:4], noise[4:], 2 * noise[4:]
    for window in (1024, 128):
        right = float(energy_distance(real, draws, window)[0])
        assert right < float(energy_distance(real, louder, window)[0])
        assert right < float(energy_distance(real, noise[4:8].repeat(2, 1), window)[0])  # draws that do not vary
    assert total_distance(real, real) == 0


def test_entries_follow_their_vectors_and_unused_ones_come_back() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 5 * torch.randn(16, 4, generator=generator)
    vectors = centres[torch.randint(16, (4000,), generator=generator)] + 0.01 * torch.randn(
        4000, 4, generator=generator
    )
    quantizer = ResidualQuantizer(2, 16, 4)
    means = EntryMeans(quantizer)
    means.start(quantizer, vectors, generator)
    quantizer.entries[0, 3] = 1e3  # lost far away
    means.sums[0, 3], means.counts[0, 3] = 1e3, 1.0
    for step in range(400):
        batch = vectors[torch.randint(4000, (200,), generator=generator)].view(4, 50, 4)
        quantize(quantizer, batch, torch.tensor([2] * 4), means, generator if step % 10 == 0 else None)
    left = vectors - quantizer.decode(quantizer.encode(vectors[None], 2))[0]
    assert float(left.square().mean()) < 0.3
    assert float(quantizer.entries[0, 3].abs().max()) < 100


def test_a_level_less_leaves_more(recordings: Path) -> None:
    quantizer = ResidualQuantizer(4, 16, 4)
    vectors = torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(0))
    EntryMeans(quantizer).start(quantizer, vectors.flatten(0, 1), torch.Generator().manual_seed(0))
    rows = [quantize(quantizer, vectors, torch.tensor([levels] * 3)).vectors for levels in (1, 2, 4)]
    errors = [float((vectors - row).square().mean()) for row in rows]
    assert errors[0] > errors[1] > errors[2]


def test_crops_depend_on_their_number_alone(recordings: Path) -> None:
    config = CropConfig(folders=(str(recordings),), batch_size=3, seconds=0.2)
    one, other = (Crops(config, SAMPLE_RATE, seed=4, margin=CROP_MARGIN) for _ in range(2))
    _ = other.batch(0)
    assert torch.equal(one.batch(7), other.batch(7))
    assert one.batch(7).shape == (3, 3200 + 2 * CROP_MARGIN)
    assert not torch.equal(one.batch(7), one.batch(8))
    assert float(one.batch(7).abs().max()) <= 1


def test_ahead_gives_what_was_asked_for_in_order() -> None:
    ahead = Ahead(lambda number: number * 10, 5)
    try:
        assert [ahead.take() for _ in range(6)] == [50, 60, 70, 80, 90, 100]
    finally:
        ahead.close()
