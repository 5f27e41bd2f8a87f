"""What keeps a run going and ends it well: the budget, and checkpoints that survive a kill at any moment."""

import io
import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from shortcut_gen.errors import CheckpointError
from training.run.checkpoints import BEST, LAST, put_in_place
from training.run.recipe import Budget
from training.run.task import LanguageModelTask


def stepped(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the batch just read ended a step; an epoch's last batch does, however many were accumulated."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or batch_idx + 1 == trainer.num_training_batches


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """A signal came during validation, when the checkpoint of the step before it is on disk already."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


class BudgetStop(L.Callback):
    """Keeps count of the budget, and stops the run when it is spent or at SIGTERM and SIGINT.

    The step under way is finished, the run writes its checkpoint and, unless a signal asked it to hurry, validates.
    """

    def __init__(self, budget: Budget, tokens_per_batch: int) -> None:
        self.budget = budget
        self.tokens_per_step = tokens_per_batch  # until setup knows of accumulation and of other devices
        self.tokens: int | None = None
        self.signalled: int | None = None
        self._seconds_before = 0.0
        self._started = 0.0
        self._handlers: dict[int, Any] = {}

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far, over all its starts."""
        return self._seconds_before + (time.monotonic() - self._started if self._started else 0.0)

    def progress(self, trainer: L.Trainer) -> float:
        """Share of the budget spent."""
        return self.budget.progress(trainer.global_step, self.tokens or 0, self.seconds)

    def spent(self, trainer: L.Trainer) -> dict[str, Any]:
        """Steps, tokens and seconds so far."""
        return {"steps": trainer.global_step, "tokens": self.tokens or 0, "seconds": round(self.seconds, 1)}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Learns how many tokens a step reads."""
        self.tokens_per_step *= trainer.accumulate_grad_batches * trainer.world_size

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock and takes the signals; a budget spent by an earlier start ends the run at once."""
        self._started = time.monotonic()
        if self.tokens is None:
            self.tokens = trainer.global_step * self.tokens_per_step
        for number in (signal.SIGTERM, signal.SIGINT):
            # Lightning's own handlers end the run by an exception, in the middle of whatever is under way.
            self._handlers[number] = signal.signal(number, self._on_signal)
        if self.progress(trainer) >= 1:
            trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tells the task how far the run is."""
        assert isinstance(pl_module, LanguageModelTask)
        pl_module.progress = self._agreed(trainer, self.progress(trainer))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops when the budget is spent, on every device at the same step."""
        if not stepped(trainer, batch_idx):
            return
        assert self.tokens is not None
        self.tokens += self.tokens_per_step
        assert isinstance(pl_module, LanguageModelTask)
        pl_module.about["spent"] = self.spent(trainer)
        state = self._agreed(trainer, 2.0 if self.signalled else 1.0 if self.progress(trainer) >= 1 else 0.0)
        if state >= 2:
            self.signalled = self.signalled or signal.SIGTERM
            trainer.limit_val_batches = 0  # a machine that asks to stop gives seconds, not minutes
        if state >= 1:
            trainer.should_stop = True

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Leaves a validation at a signal. Raises Stopped."""
        if self._agreed(trainer, float(self.signalled or 0)):
            self.signalled = self.signalled or signal.SIGTERM
            raise Stopped(self.signalled)

    def _agreed(self, trainer: L.Trainer, value: float) -> float:
        """The largest value of any device."""
        if trainer.world_size == 1:
            return value
        return float(trainer.strategy.reduce(torch.tensor(value, device=trainer.strategy.root_device), reduce_op="max"))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signalled:  # asked twice: give way at once
            raise KeyboardInterrupt
        self.signalled = number

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives the signals back."""
        self._give_back()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def state_dict(self) -> dict[str, Any]:
        """Seconds and tokens spent so far. A batch may have had another size in an earlier start of the run."""
        return {"seconds": self.seconds, "tokens": self.tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on from there."""
        self._seconds_before, self.tokens = state_dict["seconds"], state_dict.get("tokens")


class PlainCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint where it is told to.

    Lightning's own goes by the system's temporary folder: another disk, which may be full while this one has room, and
    in which each killed run would leave a whole checkpoint for ever.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises OSError."""
        buffer = io.BytesIO()  # torch ends the process where it meets a full disk itself
        torch.save(checkpoint, buffer)
        with Path(path).open("wb") as file:
            file.write(buffer.getbuffer())


class RunCheckpoint(L.Callback):
    """Writes the run's last checkpoint every so many steps and minutes and at the end, and keeps the one before and the
    best one.

    Each is written beside its place and moved there, so that a kill leaves the one before. The saved state is that
    between two steps: weights, optimiser, counters; data order and randomness follow from the counters.
    """

    def __init__(self, folder: Path, every_steps: int, every_minutes: float) -> None:
        self.folder = folder
        self.every_steps = every_steps
        self.every_seconds = 60 * every_minutes
        self.best_loss = math.inf
        self._best_is_new = False
        self._saved_step = -1
        self._saved_at = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock of the saves."""
        self._saved_at = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Writes the best checkpoint here, where the weights are the run's own again after validation."""
        self._write_best(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves when steps or minutes have passed and before a validation, which may take long.

        Never between the parts of an accumulated step: their gradients are not saved.
        """
        if not stepped(trainer, batch_idx):
            return
        late = trainer.strategy.broadcast(time.monotonic() - self._saved_at >= self.every_seconds)
        validates = trainer.val_check_batch and (trainer.fit_loop.total_batch_idx + 1) % trainer.val_check_batch == 0
        if late or validates or trainer.global_step % self.every_steps == 0 or trainer.should_stop:
            self._write_last(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes a loss lower than all before."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not trainer.sanity_checking and float(loss) < self.best_loss:
            self.best_loss, self._best_is_new = float(loss), True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last step's checkpoint is there already; its validation may have made it the best."""
        self._write_best(trainer)

    def _write_last(self, trainer: L.Trainer) -> None:
        if trainer.global_step != self._saved_step:
            self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
            self._write(trainer, LAST, weights_only=False)

    def _write_best(self, trainer: L.Trainer) -> None:
        if self._best_is_new:
            self._best_is_new = False
            self._write(trainer, BEST, weights_only=True)

    def _write(self, trainer: L.Trainer, name: str, weights_only: bool) -> None:
        path = self.folder / name
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(part, weights_only=weights_only)
            if trainer.is_global_zero:
                put_in_place(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error
        trainer.strategy.barrier("checkpoint in place")

    def state_dict(self) -> dict[str, Any]:
        """The lowest validation loss."""
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.best_loss = state_dict["best_loss"]
