"""Train the codec: `python -m training.fit_codec --config training/configs/codec-16khz.yaml [--resume auto]`."""

import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from shortcut_gen.codec.folder import load_model, read_codec_info
from shortcut_gen.codec.harmonic.config import FRAME, SAMPLE_RATE, HarmonicConfig
from shortcut_gen.errors import CheckpointError, ConfigError, ShortcutGenError
from shortcut_gen.files import reason, write_whole
from training.codec.crops import Ahead, CropConfig, Crops
from training.codec.task import CROP_MARGIN, CodecTask, LossConfig, Prepared, prepared
from training.run.checkpoints import LAST, newest, put_in_place, read_run_checkpoint
from training.run.recipe import Budget, OptimizerConfig, check_run_name
from training.support.command_line import device_of
from training.support.machine import denormals_flushed
from training.support.memory import keep_freed_memory

METRICS = "metrics.jsonl"
HYPERPARAMETERS = "hyperparameters.json"


@dataclass(frozen=True, kw_only=True)
class CodecRunConfig:
    """Where a run lives, on what it runs and how often it reports and saves."""

    name: str = "codec"
    """Name of the run: its folder is RUNS/NAME."""
    runs: str = "runs"
    """Folder of all runs."""
    resume: str | None = None
    """`auto` goes on from the run's last checkpoint, or starts where there is none yet; or a checkpoint file."""
    init: str | None = None
    """A run's .ckpt file or a codec's folder, from whose codec the run starts, noise channels or not; random weights
    if not given."""
    corpus: str = "recordings"
    """What the recordings are called on the codec's card."""
    licence: str = "not stated"
    """Their licence."""
    seed: int = 0
    """Seed of weights, crops and dropout of codebooks."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto` for a GPU where there is one."""
    precision: Literal["32", "bf16"] = "32"
    """`bf16` runs encoder and decoder in bfloat16; the losses and the quantiser stay in float32."""
    report_every: int = 50
    """Steps between two lines of progress."""
    validate_every: int = 500
    """Steps between two validations."""
    save_minutes: float = 5.0
    """Minutes between two checkpoints."""

    def __post_init__(self) -> None:
        check_run_name(self.name)
        for name in ("report_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; a whole number of at least 1 is needed")
        if not self.save_minutes > 0:
            raise ConfigError(f"save_minutes is {self.save_minutes}; a number above 0 is needed")


class CodecRun:
    """A run of the codec from its config to its last checkpoint."""

    def __init__(
        self,
        options: CodecRunConfig,
        config: HarmonicConfig,
        data: CropConfig,
        losses: LossConfig,
        recipe: OptimizerConfig,
        budget: Budget,
    ) -> None:
        budget.check()
        if budget.tokens is not None:
            raise ConfigError("budget.tokens is for language models; budget.steps or budget.seconds is needed")
        if options.threads:
            torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self.options = options
        self.budget = budget
        self.folder = Path(options.runs) / options.name
        if data.seconds * SAMPLE_RATE % FRAME:
            raise ConfigError(f"data.seconds is {data.seconds}; whole frames of {FRAME / SAMPLE_RATE} s are needed")
        self.crops = Crops(data, SAMPLE_RATE, options.seed, CROP_MARGIN)
        self.task = CodecTask(
            config, losses, recipe, torch.device(device_of(options.device)), options.precision == "bf16"
        )
        self.about: dict[str, Any] = {
            "codec": config.to_dict(),
            "losses": asdict(losses),
            "optimizer": asdict(recipe) | {"betas": list(recipe.betas)},
            "data": asdict(data)
            | {"folders": list(data.folders), "gain_db": list(data.gain_db), "weights": list(data.weights)},
            "corpus": {
                "name": options.corpus,
                "licence": options.licence,
                "hours": round(self.crops.hours, 3),
                "files": len(self.crops.files),
            },
            "budget": asdict(budget),
            "seed": options.seed,
            "precision": options.precision,
            "parameters": self.task.num_parameters,
        }
        self.step = 0
        self.signalled: int | None = None
        self._seconds_before = 0.0
        self._started = time.monotonic()
        self._start_from_files()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far, over all its starts."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the budget spent."""
        return self.budget.progress(self.step, 0, self.seconds)

    def _start_from_files(self) -> None:
        last = self.folder / LAST
        if self.options.resume is None:
            if last.exists():
                raise ConfigError(
                    f"{self.folder} holds a run already; --resume auto goes on with it, --name starts another"
                )
        else:
            path = Path(self.options.resume)
            if self.options.resume == "auto":
                found = newest(self.folder)
            else:
                found = (path, read_run_checkpoint(path)) if path.is_file() else None
            if found:
                self._resume(*found)
                return
            if self.options.resume != "auto":
                raise ConfigError(f"{path}: no checkpoint to resume from; `auto` or a run's .ckpt file is needed")
        if self.options.init:
            weights, before = _start(Path(self.options.init))
            try:
                self.task.take(weights)
            except ConfigError as error:
                raise ConfigError(f"{self.options.init}: {error}") from error
            self.about["before"] = [*before.get("before", []), _phase(before)]

    def _resume(self, path: Path, state: dict[str, Any]) -> None:
        self._same_codec(path, state)
        self.task.load_state_dict(state["state_dict"])
        self.step, self._seconds_before = state["step"], state["seconds"]
        if "before" in state["run"]:
            self.about["before"] = state["run"]["before"]
        changed = [
            key for key in ("losses", "optimizer", "data", "seed", "precision") if state["run"][key] != self.about[key]
        ]
        if changed:
            self.about.setdefault("before", []).append(_phase(state["run"]))
            print(f"note: {', '.join(changed)} changed: from here on it is another run", flush=True)
        print(f"resumed after step {self.step:,}", flush=True)

    def _same_codec(self, path: Path, state: dict[str, Any]) -> None:
        if state["run"].get("codec") != self.about["codec"]:
            raise ConfigError(f"{path}: its codec has another shape than the run's; the same is needed to go on")

    def fit(self) -> None:
        """Trains until the budget is spent or a signal comes. Raises ShortcutGenError."""
        self._write_settings()
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        ahead = Ahead(self._prepared, self.step)
        try:
            self._loop(ahead)
        finally:
            ahead.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _prepared(self, number: int) -> Prepared:
        return prepared(self.crops.batch(number))

    def _loop(self, ahead: Ahead[Prepared]) -> None:
        task, options = self.task, self.options
        validation = prepared(self.crops.validation())
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        mark, saved = (self.step, time.monotonic()), time.monotonic()
        self._say(
            f"{self.about['parameters']:,} parameters, {self.crops.hours:.2f} h in {len(self.crops.files):,} files, "
            f"{options.precision}, {torch.get_num_threads()} thread(s), {task.device}"
        )
        while self.progress < 1 and not self.signalled:
            generator = torch.Generator().manual_seed((self.options.seed * 0x9E3779B97F4A7C15 + self.step) % 2**63)
            if self.step == task.losses.quantize_after and not task.quantizing:
                needed = max(1, math.ceil(8 * task.config.cardinality / self._frames_a_batch()))
                task.start_quantizer([self._prepared(self.step + k) for k in range(needed)], generator)
            figures = task.step(ahead.take(), self.step, self.progress, generator)
            self.step += 1
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1
            if self.step % options.report_every == 0:
                now = time.monotonic()
                speed = (self.step - mark[0]) * self.crops.config.batch_size * self.crops.config.seconds
                means = {name: value / counts[name] for name, value in sums.items()}
                self._report("train", means | {"audio_seconds_a_second": speed / (now - mark[1])})
                sums, counts, mark = {}, {}, (self.step, now)
            if self.step % options.validate_every == 0 or self.progress >= 1:
                self._report("validation", task.validate(validation))
            if time.monotonic() - saved >= 60 * options.save_minutes:
                self._save()
                saved = time.monotonic()
        self._save()

    def _frames_a_batch(self) -> int:
        return self.crops.config.batch_size * round(self.crops.config.seconds * SAMPLE_RATE / FRAME)

    def _report(self, kind: str, figures: dict[str, float]) -> None:
        values = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._say(f"step {self.step:,} ({min(self.progress, 1):.1%})  {kind}: {values}")
        line = {"step": self.step, "seconds": round(self.seconds, 1), "kind": kind} | figures
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        path = self.folder / LAST
        spent = {"steps": self.step, "seconds": round(self.seconds, 1)}
        state = {
            "run": self.about | {"spent": spent},
            "state_dict": self.task.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, part)
            put_in_place(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(f"{path}: cannot be written: {reason(error)}") from error

    def _write_settings(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder}: the run's folder cannot be made: {reason(error)}") from error
        write_whole(self.folder / HYPERPARAMETERS, (json.dumps(self.about, indent=2) + "\n").encode(), ConfigError)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signalled:  # asked twice: give way at once
            raise KeyboardInterrupt
        self.signalled = number

    def _say(self, text: str) -> None:
        print(text, flush=True)


def _start(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights to start from, and what their run was. Raises ShortcutGenError."""
    if not path.is_dir():
        state = read_run_checkpoint(path)
        if "codec" not in state["state_dict"]:
            raise ConfigError(f"{path} is of a language model's run; a codec's .ckpt file or folder is needed")
        return state["state_dict"]["codec"], state["run"]
    info = read_codec_info(path)
    if info.architecture != "harmonic":
        raise ConfigError(f"{path} is a codec of another kind, {info.architecture}; a harmonic one is needed")
    weights: dict[str, torch.Tensor] = load_model(path).state_dict()
    return weights, info.recipe


def _phase(run: dict[str, Any]) -> dict[str, Any]:
    """What an earlier part of a run was, for the card."""
    kept = ("losses", "optimizer", "data", "seed", "precision", "spent")
    return {key: run.get(key) for key in kept}


def parser() -> ArgumentParser:
    """The command line: one config file or several, and the same names as options."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    out = ArgumentParser(prog="training.fit_codec", description=__doc__, exit_on_error=False)
    out.add_argument("--config", action="config", help="Config file; a later one changes an earlier one.")
    out.add_class_arguments(CodecRunConfig, None)
    for cls, name in (
        (HarmonicConfig, "codec"),
        (CropConfig, "data"),
        (LossConfig, "losses"),
        (OptimizerConfig, "optimizer"),
        (Budget, "budget"),
    ):
        out.add_class_arguments(cls, name)
    return out


def build(arguments: Sequence[str] | None = None) -> CodecRun:
    """The run that a command line describes. Raises ShortcutGenError and jsonargparse's ArgumentError."""
    made = parser()
    given = made.parse_args(list(arguments) if arguments is not None else None)
    parts = made.instantiate(given)
    options = CodecRunConfig(**{name: given[name] for name in CodecRunConfig.__dataclass_fields__})
    return CodecRun(options, parts.codec, parts.data, parts.losses, parts.optimizer, parts.budget)


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds and trains; 0 when the budget is spent, 2 where something cannot be, 143 or 130 after a signal."""
    try:
        run = build(arguments)
        with denormals_flushed():
            run.fit()
    except (ShortcutGenError, ArgumentError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if run.signalled:
        print(f"stopped by {signal.Signals(run.signalled).name}; --resume auto goes on", flush=True)
        return 128 + run.signalled
    print(f"done: python -m training.export {run.folder} checkpoints/{run.folder.name}", flush=True)
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
