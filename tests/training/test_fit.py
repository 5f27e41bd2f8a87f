"""training.fit: budgets, schedules, signals, exact resume, and one clear line for what cannot be."""

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shortcut_gen.checkpoint import read_info
from shortcut_gen.errors import ConfigError
from shortcut_gen.media import read_score
from tests.shared.tiny_runs import ROOT, arguments, differences, train, write_corpus
from training import fit
from training.run import callbacks, start
from training.run.checkpoints import BEST, LAST, PREVIOUS, put_in_place, read_run_checkpoint
from training.run.lock import RunLock
from training.run.recipe import Budget, OptimizerConfig
from training.run.settings import quiet
from training.run.task import LanguageModelTask
from training.support import options as options_module

PIECES = {"train": [400, 90, 20], "validation": [300], "test": [120, 60]}
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
ALL_OPTIONS = (
    *("--model.optimizer.name", "muon", "--model.optimizer.ema", "0.9", "--model.optimizer.schedule", "constant"),
    *("--trainer.accumulate_grad_batches", "2", "--data.transpose", "2", "--data.crops_per_epoch", "28"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "data", PIECES)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The last checkpoint of a run that nothing cut short, made once for each set of options."""

    @functools.cache
    def run(*options: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole")
        write_corpus(folder / "data", PIECES)
        return train(folder, "whole", *options)

    return run


# What a run ends with -------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_it_promises(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--sample_every",
        "10",
        "--sample_seconds",
        "1",
        "--report_every",
        "5",
        "--trainer.val_check_interval",
        "5",
    )
    state = train(folder, "tiny", *options)
    out = capsys.readouterr().out
    for part in ("tokens/s", "MFU", "GiB", "left", "measured peak", "validation", "done: python -m training.export"):
        assert part in out
    run = folder / "runs/tiny"
    assert state["global_step"] == 20
    assert state["spent"]["tokens"] == 20 * 4 * 32
    hyperparameters = json.loads((run / "hyperparameters.json").read_text())
    assert hyperparameters["model"]["width"] == 16
    assert hyperparameters["optimizer"]["lr"] == 3e-3
    assert hyperparameters["data"]["context"] == hyperparameters["model"]["context"] == 32
    assert "warmup_steps: 3" in (run / "config.yaml").read_text()
    metrics = (run / "csv/version_0/metrics.csv").read_text()
    assert "train/loss" in metrics
    assert "val/loss" in metrics
    assert list((run / "tensorboard").glob("events.*"))
    assert (run / BEST).is_file()
    assert not list(run.rglob("*.part"))
    samples = sorted((run / "samples").glob("*.mid"))
    assert [path.name for path in samples] == [f"step-{step:07d}-{k}.mid" for step in (10, 20) for k in (0, 1)]
    read_score(samples[0])


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_every_optimiser_learns(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model.optimizer.name", name, "--model.optimizer.lr", "1e-2", "--budget.steps", "60")
    train(folder, "tiny", *options, "--report_every", "20", "--trainer.val_check_interval", "60")
    last = [line for line in capsys.readouterr().out.splitlines() if "validation" in line][-1]
    assert float(last.split("validation ")[1].split()[0]) < 4.0  # from ln 388 = 5.96; the rule leaves ln 3 = 1.1


def test_a_token_budget_ends_with_the_step_that_reaches_it(folder: Path) -> None:
    state = train(folder, "tiny", "--budget.steps", "null", "--budget.tokens", "1000", "--data.crop", "16")
    assert state["global_step"] == 16  # of 64 tokens
    assert state["spent"]["tokens"] == 1024


def test_a_time_budget_counts_over_restarts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]

    def step(self: Any, trainer: Any, *rest: Any) -> None:
        now[0] += 1.0
        original(self, trainer, *rest)

    original = callbacks.BudgetStop.on_train_batch_end
    monkeypatch.setattr(callbacks.BudgetStop, "on_train_batch_end", step)
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    budget = ("--budget.steps", "null", "--save_minutes", "1000", "--trainer.val_check_interval", "1000")
    first = train(folder, "tiny", *budget, "--budget.seconds", "4")
    assert first["global_step"] == 4
    now[0] += 5000
    second = train(folder, "tiny", *budget, "--budget.seconds", "10", "--resume", "auto")
    assert second["global_step"] == 10
    assert second["spent"]["seconds"] == 10


# Exact resume ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 5, 7, 12, 14])
def test_resuming_is_exact(folder: Path, whole: Callable[..., dict[str, Any]], stop: int) -> None:
    """Stopped in an epoch, at its end (an epoch is 3.5 steps), and where it validates (every 5)."""
    expected = whole(*ALL_OPTIONS, "--budget.steps", "15")
    train(folder, "cut", *ALL_OPTIONS, "--budget.steps", str(stop))
    cut = train(folder, "cut", *ALL_OPTIONS, "--budget.steps", "15", "--resume", "auto")
    for part in ("state_dict", "optimizer_states", "mean_weights"):
        assert not differences(expected[part], cut[part])
    assert expected["spent"]["tokens"] == cut["spent"]["tokens"]


def test_a_seed_decides_a_run(folder: Path, whole: Callable[..., dict[str, Any]]) -> None:
    one, again = whole()["state_dict"], train(folder)["state_dict"]
    other = train(folder, "other", "--seed_everything", "1")["state_dict"]
    assert not differences(one, again)
    assert differences(one, other)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_is_exact(folder: Path, whole: Callable[..., dict[str, Any]]) -> None:
    options = (*ALL_OPTIONS, "--model.optimizer.schedule", "cosine", "--save_every", "2", "--report_every", "1")
    expected = whole(*options)
    for line, resume in (("step 5 ", ()), ("step 12 ", ("--resume", "auto"))):
        command = [sys.executable, "-m", "training.fit", *arguments(folder, "cut", *options, *resume)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert any(text.startswith(line) for text in process.stdout)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    cut = train(folder, "cut", *options, "--resume", "auto")
    for part in ("state_dict", "optimizer_states", "mean_weights"):
        assert not differences(expected[part], cut[part])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hook", ["training_step", "validation_step"])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(
    folder: Path,
    whole: Callable[..., dict[str, Any]],
    number: signal.Signals,
    hook: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original: Callable[..., Any] = getattr(LanguageModelTask, hook)

    def interrupted(self: LanguageModelTask, batch: Any, batch_idx: int) -> Any:
        if hook == "validation_step" or self.trainer.global_step == 6:
            os.kill(os.getpid(), number)
        return original(self, batch, batch_idx)

    expected = whole()
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelTask, hook, interrupted)
        assert fit.main(arguments(folder, "cut", "--save_every", "1000")) == 128 + number
    assert f"stopped by {number.name}" in capsys.readouterr().out
    reached = {"training_step": 7, "validation_step": 10}[hook]
    assert read_run_checkpoint(folder / "runs/cut" / LAST)["global_step"] == reached
    cut = train(folder, "cut", "--resume", "auto")
    assert not differences(expected["state_dict"], cut["state_dict"])


def test_resuming_what_was_killed_before_its_first_checkpoint_starts_anew(
    folder: Path, whole: Callable[..., dict[str, Any]]
) -> None:
    assert not differences(whole()["state_dict"], train(folder, "tiny", "--resume", "auto")["state_dict"])


def test_another_recipe_is_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder, "tiny", "--budget.steps", "3")
    state = train(folder, "tiny", "--data.crop", "16", "--data.batch_size", "8", "--resume", "auto")
    assert "note: data had batch_size 4, crop None and now has batch_size 8, crop 16" in capsys.readouterr().out
    assert [phase["until_step"] for phase in state["run"]["before"]] == [3]
    assert state["run"]["before"][0]["data"]["batch_size"] == 4


def test_a_run_from_before_an_option_of_the_model_goes_on(folder: Path) -> None:
    train(folder, "tiny", "--budget.steps", "3")
    path = folder / "runs/tiny" / LAST
    state = torch.load(path, weights_only=True)
    del state["run"]["model"]["residual_mlps"]
    torch.save(state, path)
    assert train(folder, "tiny", "--budget.steps", "4", "--resume", "auto")["global_step"] == 4


def test_a_failed_save_leaves_the_one_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, "tiny", "--budget.steps", "3")
    before = (folder / "runs/tiny" / LAST).read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    monkeypatch.setattr(start, "_write_settings", lambda *_: None)
    assert fit.main(arguments(folder, "tiny", "--resume", "auto")) == 2
    assert capsys.readouterr().err.endswith("last.ckpt: cannot be written: No space left on device\n")
    assert (folder / "runs/tiny" / LAST).read_bytes() == before
    assert not list((folder / "runs").rglob("*.part"))


def test_tiny_gradients_do_not_slow_a_run_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Intel's processors numbers that are not normal made a run many times slower; nothing else is to notice."""
    seen, step = [], LanguageModelTask.training_step

    def watched(task: LanguageModelTask, *given: Any) -> torch.Tensor:
        seen.append((torch.tensor([1e-30]) * 1e-10).item())
        return step(task, *given)

    monkeypatch.setattr(LanguageModelTask, "training_step", watched)
    train(folder, "tiny", "--budget.steps", "1")
    assert seen == [0.0]
    assert (torch.tensor([1e-30]) * 1e-10).item() > 0


@pytest.mark.slow
def test_two_devices(folder: Path) -> None:
    options = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--save_every", "4", "--report_every", "1")
    command = [sys.executable, "-m", "training.fit", *arguments(folder, "tiny", *options, "--budget.steps", "8")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 8 ") == 1  # one device speaks
    state = read_run_checkpoint(folder / "runs/tiny" / LAST)
    assert state["spent"]["tokens"] == 8 * 2 * 4 * 32


def together(folder: Path, name: str, devices: int, *more: str) -> dict[str, Any]:
    """The last checkpoint of a run whose batches of eight are shared by so many gloo processes."""
    options = ("--data.batch_size", str(8 // devices), "--trainer.devices", str(devices), "--trainer.strategy", "ddp")
    command = [sys.executable, "-m", "training.fit", *arguments(folder, name, *options, *more)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return read_run_checkpoint(folder / "runs" / name / LAST)


def two_machines(folder: Path, name: str, *more: str) -> dict[str, Any]:
    """The same on two machines of one process each, as torchrun starts them."""
    options = ("--data.batch_size", "4", "--trainer.devices", "1", "--trainer.num_nodes", "2", *more)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--master-addr", "127.0.0.1", "--master-port", port]
    training = ["-m", "training.fit", *arguments(folder, name, "--trainer.strategy", "ddp", *options)]
    machines = [
        subprocess.Popen([*command, "--node-rank", rank, *training], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    said = [machine.communicate()[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    return read_run_checkpoint(folder / "runs" / name / LAST)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_is_the_same_on_one_device_on_two_machines_and_on_four_devices_and_then_two(tmp_path: Path) -> None:
    """But for the order of the sums. No piece is shorter than a crop, as a mean of means would weigh its ids more, and
    there is no dropout, which each device draws for itself.
    """
    write_corpus(tmp_path / "data", {"train": [400, 300], "validation": [300], "test": [120]})
    steady = (
        "--model.config.dropout",
        "0",
        "--model.optimizer.schedule",
        "constant",
    )  # no decay
    eight, four = ((*steady, "--budget.steps", steps) for steps in "84")
    whole = train(tmp_path, "one", "--data.batch_size", "8", *eight)
    others = {
        "machines": two_machines(tmp_path, "machines", *eight),
    }
    half = together(tmp_path, "resumed", 4, *four)
    others["resumed"] = together(tmp_path, "resumed", 2, *eight, "--resume", "auto")
    for name, other in others.items():
        assert other["spent"]["tokens"] == whole["spent"]["tokens"], name
        for key, weights in whole["state_dict"].items():
            torch.testing.assert_close(other["state_dict"][key], weights, rtol=1e-3, atol=1e-4, msg=f"{name} {key}")
    matrices = [key for key, weights in whole["state_dict"].items() if weights.dim() == 2]
    assert not any(torch.allclose(half["state_dict"][key], whole["state_dict"][key], rtol=1e-2) for key in matrices)


# What cannot be -------------------------------------------------------------------------------------------------------

BAD = {
    "unknown key": (("--model.config.wdth", "3"), "wdth"),
    "unknown key in a file": (("--config", "{folder}/bad.yaml"), "wdth"),
    "no such config": (("--config", "{folder}/none.yaml"), "none.yaml"),
    "not a YAML file": (("--config", "{folder}/broken.yaml"), "parsing config"),
    "no corpus": (("--data.path", "{folder}/none"), "none is no prepared corpus"),
    "heads": (("--model.config.heads", "3"), "not a multiple of its 3 heads"),
    "optimiser": (("--model.optimizer.name", "sgd"), "sgd"),
    "rate": (("--model.optimizer.lr", "-1"), "lr is -1"),
    "budget": (("--budget.steps", "0"), "steps is 0"),
    "no budget": (("--budget.steps", "null"), "no budget"),
    "name": (("--name", "../x"), "'../x'"),
    "nothing to resume from": (("--resume", "{folder}/none.ckpt"), "none.ckpt: no checkpoint"),
    "resume from no checkpoint": (("--resume", "{folder}/bad.yaml"), "cannot be read"),
    "vocabulary": (("--model.config.vocab_size", "100"), "388 ids but the model 100"),
}


@pytest.mark.parametrize(("options", "part"), BAD.values(), ids=BAD)
def test_what_cannot_be_takes_one_line(
    folder: Path, options: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.yaml").write_text("model: {config: {wdth: 3}}")
    (folder / "broken.yaml").write_text("model: [")
    assert fit.main(arguments(folder, "new", *(option.format(folder=folder) for option in options))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert part in error
    assert not (folder / "runs").exists()


def test_a_run_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder, "tiny", "--budget.steps", "2")
    assert fit.main(arguments(folder)) == 2
    assert "holds a run already; --resume auto goes on" in capsys.readouterr().err
    assert fit.main(arguments(folder, "tiny", "--resume", "auto", "--model.config.width", "32")) == 2
    assert "its model had width 16 and is now given width 32" in capsys.readouterr().err


# The recipe -----------------------------------------------------------------------------------------------------------


def test_schedules() -> None:
    def rates(**settings: Any) -> list[float]:
        recipe = OptimizerConfig(lr=1.0, **settings)
        return [round(recipe.rate(step, step / 10), 4) for step in range(11)]

    assert rates(schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75] + [1.0] * 8
    assert rates(schedule="halve") == [1.0] * 5 + [0.5] * 6
    cosine = rates(schedule="cosine", final_share=0.1)
    assert (cosine[0], cosine[5], cosine[10]) == (1.0, 0.55, 0.1)
    assert cosine == sorted(cosine, reverse=True)
    wsd = rates(schedule="wsd", decay_share=0.4, final_share=0.2)
    assert wsd == [1.0] * 7 + [0.8, 0.6, 0.4, 0.2]


def test_a_budget_is_spent_at_its_first_limit() -> None:
    budget = Budget(tokens=1000, steps=10, seconds=100.0)
    assert budget.progress(5, 100, 10.0) == 0.5
    assert budget.progress(5, 1000, 10.0) == 1.0
    assert budget.progress(5, 100, 150.0) == 1.5
    with pytest.raises(ConfigError, match="no budget"):
        Budget().check()


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_only_matrices_decay(name: Any) -> None:
    task = LanguageModelTask(optimizer=OptimizerConfig(name=name, weight_decay=0.1))
    groups = task.configure_optimizers().param_groups
    names = {id(parameter): key for key, parameter in task.model.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    kept = {names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]}
    assert decayed | kept == set(names.values())
    assert not decayed & kept
    assert {"embedding.weight", "positions.weight", "norm.weight", "shortcut.features.biases.0"} <= kept
    assert {"blocks.0.mlp.up.weight", "shortcut.features.weights.0"} <= decayed
    assert not any("norm" in key or "bias" in key for key in decayed)


def test_the_mean_weights_stand_in_and_step_back() -> None:
    task = LanguageModelTask(optimizer=OptimizerConfig(ema=0.5))
    own = task.model.norm.weight.detach().clone()
    for mean in task._mean:
        mean.fill_(3.0)
    with task.averaged() as model:
        assert not model.training
        assert bool((model.norm.weight == 3).all())
    assert model.training
    assert torch.equal(task.model.norm.weight, own)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet()  # as the command does: Lightning's own use of jsonargparse warns


# The configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "millions"), [("piano", (8, 15)), ("piano-paper", (7.22, 7.24)), ("piano-paper-baseline", (1.97, 1.99))]
)
def test_the_configs_build(folder: Path, config: str, millions: tuple[float, float]) -> None:
    options = ["--config", str(ROOT / f"training/configs/{config}.yaml"), "--data.path", str(folder / "data")]
    run = start.build([*options, "--runs", str(folder / "runs"), "--trainer.accelerator", "cpu"])
    assert millions[0] < run.task.model.num_parameters() / 1e6 < millions[1]
    assert run.folder.name == config


def test_the_shipped_demo_model_can_be_trained_further(folder: Path, root: Path) -> None:
    """With the configs that the README names."""
    shipped = root / "checkpoints/piano"
    if not shipped.is_dir():
        pytest.skip("no checkpoint is shipped yet")
    files = [str(ROOT / f"training/configs/{name}.yaml") for name in ("piano", "piano-small")]
    configs = [word for file in files for word in ("--config", file)]
    options = ["--data.path", str(folder / "data"), "--runs", str(folder / "runs"), "--trainer.accelerator", "cpu"]
    run = start.build([*configs, "--init", str(shipped), *options])
    assert run.task.model.num_parameters() == read_info(shipped).recipe["parameters"]


def test_the_papers_two_models_differ_in_the_taps_alone(folder: Path) -> None:
    runs = []
    for config in ("piano-paper", "piano-paper-baseline"):
        options = ["--config", str(ROOT / f"training/configs/{config}.yaml"), "--data.path", str(folder / "data")]
        start.build([*options, "--runs", str(folder / "runs"), "--trainer.accelerator", "cpu"])
        runs.append(json.loads((folder / "runs" / config / "hyperparameters.json").read_text()))
    one, other = runs
    assert one["model"].pop("taps") == [2, 4, 6, 8]
    assert other["model"].pop("taps") == []
    assert one.pop("parameters") > other.pop("parameters")
    assert one == other
    recipe = {key: one["optimizer"][key] for key in ("name", "lr", "schedule", "weight_decay", "ema")}
    assert recipe == {"name": "adam", "lr": 2e-4, "schedule": "halve", "weight_decay": 0.0, "ema": 0.0}


# What a kill or a bad disk leaves behind


@pytest.mark.parametrize("damage", ["cut", "zeros in the middle", "something else", "empty"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    folder: Path, whole: Callable[..., dict[str, Any]], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights at the end are those of a run that nothing went wrong with."""
    options = ("--save_every", "5", "--model.optimizer.schedule", "constant")
    train(folder, "cut", *options, "--budget.steps", "10")
    last, previous = (folder / "runs/cut" / name for name in (LAST, PREVIOUS))
    assert read_run_checkpoint(previous)["global_step"] == 5
    data = bytearray(last.read_bytes())
    if damage == "zeros in the middle":
        data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    last.write_bytes({"cut": data[:-200], "something else": b"x" * 999, "empty": b""}.get(damage, data))
    ended = train(folder, "cut", *options, "--resume", "auto")
    assert "going on from the one before, previous.ckpt" in capsys.readouterr().out
    straight = whole("--model.optimizer.schedule", "constant")
    assert differences(ended["state_dict"], straight["state_dict"]) == []


def test_two_damaged_checkpoints_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder, "cut", "--save_every", "5")
    for name in (LAST, PREVIOUS):
        (folder / "runs/cut" / name).write_bytes(b"x")
    assert fit.main(arguments(folder, "cut", "--resume", "auto")) == 2
    assert "last.ckpt: cannot be read as a run's checkpoint" in capsys.readouterr().err


def test_there_is_a_whole_newest_checkpoint_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two of the moves, what is found is the old one or the new one."""
    path, moves = tmp_path / "last.ckpt", 0
    original = Path.replace

    def watched(self: Path, target: Path) -> Path:
        nonlocal moves
        assert path.read_bytes() in (b"old", b"new")
        moves += 1
        out = original(self, target)
        assert path.read_bytes() in (b"old", b"new")
        return out

    path.write_bytes(b"old")
    part = tmp_path / "last.part"
    part.write_bytes(b"new")
    monkeypatch.setattr(Path, "replace", watched)
    put_in_place(part, path)
    assert moves == 2
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"last.ckpt": b"new", "previous.ckpt": b"old"}


def test_a_run_is_trained_by_one_process_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder)
    held = RunLock(folder / "runs/tiny")
    assert fit.main(arguments(folder, "tiny", "--resume", "auto")) == 2
    assert "is being trained by another process; wait for it" in capsys.readouterr().err
    held.release()
    assert fit.main(arguments(folder, "tiny", "--resume", "auto")) == 0
    assert not (folder / "runs/tiny/.lock").exists()


def test_no_time_is_left_of_a_budget_that_is_spent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder)
    assert fit.main(arguments(folder, "tiny", "--resume", "auto", "--budget.steps", "7", "--report_every", "1")) == 0
    assert "left -" not in capsys.readouterr().out


def test_the_short_help_names_what_the_whole_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit.main(["--help"]) == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) < 90
    quiet()
    with pytest.raises(SystemExit):
        fit.main(["--help-all"])
    whole = set(re.findall(r"--([a-z_.]+)", capsys.readouterr().out))
    ours = {name for name in whole if not name.startswith("trainer") and not name.endswith("help")}
    listed = {option.name for option in options_module.options()} | set(options_module.OTHERS)
    # Groups such as --data take a file; the short help leaves them out.
    assert ours - listed <= {"model", "data", "budget", "model.config", "model.optimizer", *options_module.LINKED}
    assert {option.name for option in options_module.options()} <= whole
    assert all(option.about for option in options_module.options())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data.batchsize", "3"], "there is no option --data.batchsize; did you mean --data.batch_size?"),
        (["--budgt.tokens=9"], "did you mean --budget.tokens?"),
        (["--zzz"], "there is no option --zzz (--help lists them)"),
    ],
)
def test_a_mistyped_option_is_refused_before_anything_slow(given: list[str], said: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "training.fit", *given]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert "error: " in done.stderr
    assert not re.search(r"\| +(torch|lightning)$", done.stderr, flags=re.MULTILINE)


def test_options_of_every_form_are_taken_for_known() -> None:
    known = ["--config", "a.yaml", "--data.path+=b", "--model.config.taps=[2]", "--trainer.precision", "--", "--zzz"]
    assert options_module.problem(known[:5]) == ""
    assert options_module.problem(["--model", "m.yaml", "--data", "d.yaml", "--trainer.logger.help"]) == ""
    assert options_module.problem(["-1", "value"]) == ""
