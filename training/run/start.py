"""A run from its command line to its end: built, resumed, trained."""

import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ArgumentError
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from shortcut_gen.checkpoint import load_checkpoint
from shortcut_gen.errors import ConfigError, ShortcutGenError
from shortcut_gen.files import reason, write_whole
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.places import place
from training.corpus.joined import JoinedCorpus
from training.corpus.shards import Corpus
from training.run.batches import CorpusDataModule
from training.run.callbacks import BudgetStop, PlainCheckpointIO, RunCheckpoint, Stopped
from training.run.checkpoints import LAST, newest, read_run_checkpoint
from training.run.lock import RunLock
from training.run.recipe import Budget, RunConfig
from training.run.reporting import Report, Samples
from training.run.settings import CONFIG, HYPERPARAMETERS, NO_MATTER, TrainingCLI, quiet, read_settings
from training.run.task import LanguageModelTask
from training.run.trials import KEY, read_config
from training.support.command_line import local
from training.support.machine import denormals_flushed

VERIFIED_BYTES = 2**29
"""Corpora up to this size are hashed before a run begins, which takes a second at most."""
CHECKED = ("model", "optimizer", "data", "corpus", "codec", "seed", "accumulate", "devices")
"""What decides the weights a run ends with, beside its budget."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run ready to start."""

    trainer: L.Trainer
    task: LanguageModelTask
    data: CorpusDataModule
    folder: Path
    stop: BudgetStop
    checkpoint: Path | None
    """What it resumes from."""
    lock: RunLock | None
    """What keeps a second start of it out."""


def build(arguments: Sequence[str]) -> Run:
    """The run that a command line describes. Raises ShortcutGenError and jsonargparse's ArgumentError."""
    cli = read_settings(arguments, TrainingCLI)
    options = RunConfig(**{field.name: cli.config[field.name] for field in dataclasses.fields(RunConfig)})
    budget = cli.config_init.budget
    budget.check()
    task, data, trainer = cli.model, cli.datamodule, cli.trainer
    task.seed = int(cli.config.seed_everything)
    corpus = data.corpus
    if corpus.vocab_size != task.config.vocab_size:
        raise ConfigError(
            f"the corpus has {corpus.vocab_size} ids but the model {task.config.vocab_size}; they must agree"
        )
    if trainer.is_global_zero:
        corpus.verify(VERIFIED_BYTES)  # a damaged shard is named now, not in the middle of a night
    folder = Path(options.runs) / options.name
    settings = {key: value for key, value in cli.config.data.as_dict().items() if key not in NO_MATTER}
    about = _about(task, corpus, budget, trainer) | {"data": settings}
    if options.sample_every and KEY in about["model"]:
        raise ConfigError("a trial's model has no decode cache to sample with; sample_every 0 is needed")
    lock = RunLock(folder) if trainer.is_global_zero else None
    try:
        if options.init:
            about["init"] = _start_from(options.init, task)
        checkpoint = _resume_from(options, folder, about)
    except BaseException:
        if lock:
            lock.release()
        raise
    stop = _add_callbacks(trainer, options, budget, folder, about)
    trainer.loggers = [TensorBoardLogger(folder, name="tensorboard", version=""), CSVLogger(folder, name="csv")]
    task.about = {"run": about}
    if trainer.is_global_zero:
        _write_settings(folder, cli.parser.dump(cli.config, skip_unset=False), about)
    return Run(trainer, task, data, folder, stop, checkpoint, lock)


def _about(
    task: LanguageModelTask, corpus: Corpus | JoinedCorpus, budget: Budget, trainer: L.Trainer
) -> dict[str, Any]:
    """What the run is, in plain values: for its folder, its checkpoints and, later, its model card."""
    return {
        "model": task.config.to_dict(),
        "optimizer": dataclasses.asdict(task.recipe) | {"betas": list(task.recipe.betas)},
        "budget": dataclasses.asdict(budget),
        "seed": task.seed,
        "corpus": {
            "name": corpus.name,
            "licence": corpus.licence,
            "source_sha256": corpus.source_sha256,
            "train_tokens": corpus.split("train").tokens,
        },
        "tokenizer": corpus.tokenizer,
        "codec": corpus.codec,
        "precision": str(trainer.precision),
        "gradient_clip": trainer.gradient_clip_val,
        "accumulate": trainer.accumulate_grad_batches,
        "devices": trainer.world_size,
        "parameters": task.model.num_parameters(),
    }


def _start_from(folder: str, task: LanguageModelTask) -> dict[str, Any]:
    """Put a checkpoint's weights into the model; what they are, for the card. Raises CheckpointError, ConfigError."""
    loaded = load_checkpoint(local(place(folder)))
    free = {"context", "dropout"} if task.config.position == "rotary" else {"dropout"}  # no weight depends on these
    given, wanted = (
        {key: value for key, value in config.to_dict().items() if key not in free}
        for config in (loaded.model.config, task.config)
    )
    if given != wanted:
        before, now = _difference(given, wanted)
        raise ConfigError(f"{folder}: its model has {before} and the run's {now}; the same is needed to start from it")
    task.start_from(loaded.model)
    return {"checkpoint": Path(folder).name, "corpus": loaded.info.corpus, "licence": loaded.info.licence}


def _resume_from(options: RunConfig, folder: Path, about: dict[str, Any]) -> Path | None:
    if options.resume is None:
        if (folder / LAST).exists():
            raise ConfigError(f"{folder} holds a run already; --resume auto goes on with it, --name starts another")
        return None
    if options.resume == "auto":
        found = newest(folder)
        if found is None:
            return None  # killed before its first checkpoint: from the start again
        path, state = found
    else:
        path = Path(options.resume)
        if not path.is_file():
            raise ConfigError(f"{path}: no checkpoint to resume from; `auto` or a run's .ckpt file is needed")
        state = read_run_checkpoint(path)
    stored = dict(state["run"])
    if "model" in stored:  # a run begun before the model had some option has that option's default
        stored["model"] = read_config(stored["model"]).to_dict()
    changed = [key for key in CHECKED if any(_difference(stored.get(key), about[key]))]
    for key in changed:
        before, now = _difference(stored.get(key), about[key])
        if key == "model":
            raise ConfigError(f"{path}: its model had {before} and is now given {now}; the same is needed to go on")
        print(f"note: {key} had {before} and now has {now}: from here on it is another run", flush=True)
    about["before"] = list(stored.get("before", []))
    if changed:
        phase = {key: stored.get(key) for key in changed}
        about["before"].append({"until_step": state["global_step"], **phase})
    return path


def _difference(before: Any, now: Any) -> tuple[str, str]:
    """The parts of two settings that differ, as text; a setting that is not there is one that is None."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ("", "") if before == now else (str(before), str(now))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and key not in NO_MATTER]
    old, new = (", ".join(f"{key} {side.get(key)}" for key in keys) for side in (before, now))
    return old, new


def _add_callbacks(
    trainer: L.Trainer, options: RunConfig, budget: Budget, folder: Path, about: dict[str, Any]
) -> BudgetStop:
    length = about["data"].get("crop") or about["data"]["context"]
    stop = BudgetStop(budget, about["data"]["batch_size"] * length)
    ours: list[L.Callback] = [stop, RunCheckpoint(folder, options.save_every, options.save_minutes)]
    ours.append(Report(stop, options.report_every, length))
    if options.sample_every:
        tokenizer = get_tokenizer(about["tokenizer"], about["codec"])
        ours.append(Samples(folder / "samples", tokenizer, options.sample_every, options.sample_seconds))
    trainer.strategy.checkpoint_io = PlainCheckpointIO()
    trainer.callbacks.extend(ours)  # type: ignore[attr-defined]
    return stop


def _write_settings(folder: Path, config: str, about: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: the run's folder cannot be made: {reason(error)}") from error
    for name, text in ((CONFIG, config), (HYPERPARAMETERS, json.dumps(about, indent=2) + "\n")):
        write_whole(folder / name, text.encode(), ConfigError)


def run(arguments: Sequence[str]) -> int:
    """Builds a run and trains; 0 when the budget is spent, 2 where something cannot be, 143 or 130 after a signal."""
    quiet()
    made, number = None, None
    try:
        made = build(arguments)
        if made.checkpoint is None and made.trainer.is_global_zero:
            print(f"starting {made.folder}", flush=True)
        with denormals_flushed():
            made.trainer.fit(made.task, datamodule=made.data, ckpt_path=made.checkpoint, weights_only=True)
        number = made.stop.signalled
    except (ShortcutGenError, ArgumentError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except Stopped as stopped:
        number = stopped.signal
    except KeyboardInterrupt:  # before the run took the signals, or a second one
        number = signal.SIGINT
    finally:
        if made and made.lock:
            made.lock.release()
    if made is None or made.trainer.is_global_zero:
        if number:
            print(f"stopped by {signal.Signals(number).name}; --resume auto goes on", flush=True)
        elif made:
            print(f"done: python -m training.export {made.folder} checkpoints/{made.folder.name}", flush=True)
    return 128 + number if number else 0
