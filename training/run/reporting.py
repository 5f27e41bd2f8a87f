"""What a run tells while it trains: a line of figures now and then, and samples to listen to."""

import logging
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import ShortcutGenError
from shortcut_gen.media import Audio, Score
from shortcut_gen.modalities.base import Tokenizer
from training.corpus.shards import IGNORED
from training.run.callbacks import BudgetStop, stepped
from training.run.task import LanguageModelTask

log = logging.getLogger(__name__)

PROBE_SIZES = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the square matrices whose product is timed as the device's peak."""


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of the fastest of several large matrix products.

    A CPU is timed by the processor time of torch's threads, so that other work on the machine does not lower its peak.
    """
    size = PROBE_SIZES.get(device.type, 1024)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    threads, clock = (torch.get_num_threads(), time.process_time) if device.type == "cpu" else (1, time.perf_counter)
    best = math.inf
    for _ in range(5):
        _wait(device)
        start = clock()
        a @ b
        _wait(device)
        best = min(best, (clock() - start) / threads)
    return 2 * size**3 / best


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: by the process, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Report(L.Callback):
    """Prints and logs loss, tokens per second, model FLOPs utilisation, peak memory and the time left.

    Utilisation is tokens/s × `ShortcutLM.flops_per_token` over a peak measured on this device when the run starts.
    """

    def __init__(self, budget: BudgetStop, every: int, length: int) -> None:
        self.budget = budget
        self.length = length
        self.every = every
        self.peak = 0.0
        self._losses: list[Tensor] = []
        self._start = (0, 0.0, 0.0)  # step, progress and time of the line before

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measures the device and prints what is about to run."""
        assert isinstance(pl_module, LanguageModelTask)
        half = "bf16" in str(trainer.precision)
        self.peak = trainer.world_size * measured_peak(pl_module.device, torch.bfloat16 if half else torch.float32)
        model = pl_module.model
        self._say(
            trainer,
            f"{model.num_parameters():,} parameters ({model.num_parameters(embedding=True):,} with embeddings), "
            f"{self.budget.tokens_per_step:,} tokens a step, "
            f"{model.flops_per_token(self.length) / 1e6:,.1f} MFLOPs a token; "
            f"measured peak {self.peak / 1e9:,.0f} GFLOP/s "
            f"({'bf16' if half else 'f32'} matrix product on {pl_module.device.type}, "
            f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)})",
        )
        if trainer.global_step:
            self._say(trainer, f"resumed after step {trainer.global_step:,}")
        self._mark(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line every so many steps."""
        self._losses.append(outputs["loss"].detach())
        if not stepped(trainer, batch_idx):
            return
        if trainer.global_step % self.every == 0 or trainer.should_stop:
            assert isinstance(pl_module, LanguageModelTask)
            self._line(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock of the throughput."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the validation's figures."""
        step, progress, start = self._start
        self._start = (step, progress, start + time.perf_counter() - self._paused)
        metrics = trainer.callback_metrics
        if "val/loss" in metrics:
            loss, accuracy = float(metrics["val/loss"]), float(metrics["val/accuracy"])
            self._say(trainer, f"step {trainer.global_step:,}: validation {loss:.4f} nats, accuracy {accuracy:.1%}")

    def _line(self, trainer: L.Trainer, task: LanguageModelTask) -> None:
        if not self._losses or trainer.global_step == self._start[0]:
            return
        loss = float(torch.stack(self._losses).mean()) * trainer.accumulate_grad_batches  # Lightning divided it
        step, before, start = self._start
        seconds = max(time.perf_counter() - start, 1e-9)
        speed = (trainer.global_step - step) * self.budget.tokens_per_step / seconds
        used = speed * task.model.flops_per_token(self.length) / self.peak
        memory = peak_memory(task.device)
        progress = self.budget.progress(trainer)
        left = seconds * max(1 - progress, 0.0) / (progress - before) if progress > before else math.nan
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        tokens = self.budget.tokens or 0
        self._say(
            trainer,
            f"step {trainer.global_step:,}  {tokens / 1e6:,.2f} M tokens ({min(progress, 1):.1%})  loss {loss:.4f}  "
            f"lr {rate:.2e}  {speed:,.0f} tokens/s  MFU {used:.0%}  {memory / 2**30:.2f} GiB  left {_clock(left)}",
        )
        figures = {
            "train/loss": loss,
            "train/lr": rate,
            "train/tokens": float(tokens),
            "speed/tokens_per_second": speed,
            "speed/mfu": used,
            "speed/peak_gib": memory / 2**30,
            "speed/seconds": self.budget.seconds,
        }
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
            logger.save()
        if not math.isfinite(loss):
            self._say(trainer, "the loss is not finite: a lower optimizer.lr or a longer warm-up may help")
        self._mark(trainer)

    def _mark(self, trainer: L.Trainer) -> None:
        self._losses.clear()
        self._start = (trainer.global_step, self.budget.progress(trainer), time.perf_counter())

    def _say(self, trainer: L.Trainer, text: str) -> None:
        if trainer.is_global_zero:
            print(text, flush=True)


class Samples(L.Callback):
    """Writes continuations of the first validation pieces every so many steps, with the weights as they are."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, every: int, seconds: float, count: int = 2) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.every = every
        self.seconds = seconds
        self.count = count
        self._prompts: list[tuple[int, ...]] = []

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Takes its prompts from the first validation batch."""
        if not self._prompts:
            rows = batch["inputs"][: self.count]
            for row, targets in zip(rows, batch["targets"], strict=False):
                ids = row[targets != IGNORED][: row.shape[0] // 2].tolist()
                self._prompts.append(tuple(ids[: len(ids) // self.tokenizer.frame * self.tokenizer.frame]))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Samples at its steps, on the first device alone."""
        if not stepped(trainer, batch_idx) or not trainer.is_global_zero or trainer.global_step % self.every:
            return
        assert isinstance(pl_module, LanguageModelTask)
        # No prompt before the first validation: from scratch.
        streams = [Stream(prompt=prompt, seed=0, variation=k) for k, prompt in enumerate(self._prompts or [()])]
        made: list[list[int]] = [[] for _ in streams]
        usual = self.tokenizer.usual.top_p
        params = SamplingParams(seconds=self.seconds, max_tokens=2048 * self.tokenizer.frame, top_p=usual)
        with pl_module.averaged() as model:
            for step in Sampler(model, self.tokenizer).stream(streams, params):
                for ids, token in zip(made, step, strict=True):
                    if token is not None:
                        ids.append(token)
        for number, (stream, ids) in enumerate(zip(streams, made, strict=True)):
            self._write(f"step-{trainer.global_step:07d}-{number}", [*stream.prompt, *ids])

    def _write(self, name: str, ids: list[int]) -> None:
        """A sample that cannot be written does not end a run of hours."""
        try:
            made = self.tokenizer.decode(ids)
            if isinstance(made, Score):
                self.folder.mkdir(parents=True, exist_ok=True)
                made.write(self.folder / f"{name}.mid")
            elif isinstance(made, Audio):
                self.folder.mkdir(parents=True, exist_ok=True)
                made.write(self.folder / f"{name}.wav")
        except (ShortcutGenError, OSError) as error:
            log.warning("sample %s was not written: %s", name, error)


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
