"""What a run is made of besides the model: the optimiser's settings, the learning-rate schedule and the budget."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from shortcut_gen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser and learning-rate schedule. The schedule is as long as the run's budget."""

    name: Literal["adam", "adamw", "muon"] = "adamw"
    """`muon` orthogonalises the updates of the weight matrices and leaves the rest to AdamW."""
    lr: float = 1e-3
    """Highest learning rate. Muon's updates are scaled to the size of AdamW's, so that one rate serves both."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of Adam's two moments."""
    momentum: float = 0.95
    """Nesterov momentum of the matrices under `muon`."""
    weight_decay: float = 0.0
    """Decoupled decay of the weight matrices; norms, biases and embeddings never decay."""
    schedule: Literal["constant", "halve", "cosine", "wsd"] = "cosine"
    """`halve`: half the rate after half the budget (the paper). `cosine`: down to `final_share` over the whole budget.
    `wsd`: warm-up, stable, then a straight line down to `final_share` over the last `decay_share` of the budget."""
    warmup_steps: int = 0
    """Steps over which the rate rises from 0."""
    final_share: float = 0.0
    """Where `cosine` and `wsd` end, as a share of `lr`."""
    decay_share: float = 0.2
    """Share of the budget that `wsd` spends going down."""
    ema: float = 0.0
    """Decay of a running mean of the weights, used to validate, to sample and to export; 0 keeps none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        _check(self, "lr", self.lr > 0 and math.isfinite(self.lr), "a number above 0")
        _check(self, "weight_decay", 0 <= self.weight_decay < 1, "a number from 0 up to, not including, 1")
        _check(self, "warmup_steps", self.warmup_steps >= 0, "a whole number of at least 0")
        _check(self, "betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 up to, not including, 1")
        for name in ("momentum", "ema"):
            _check(self, name, 0 <= getattr(self, name) < 1, "a number from 0 up to, not including, 1")
        for name in ("final_share", "decay_share"):
            _check(self, name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")

    def rate(self, step: int, progress: float) -> float:
        """The learning rate of a step, counted from 0, once a share `progress` of the budget is spent."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.lr * warmup * self._share(min(max(progress, 0.0), 1.0))

    def _share(self, progress: float) -> float:
        if self.schedule == "halve":
            return 0.5 if progress >= 0.5 else 1.0
        if self.schedule == "cosine":
            return self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "wsd" and self.decay_share and progress > 1 - self.decay_share:
            return 1 - (1 - self.final_share) * (progress - 1 + self.decay_share) / self.decay_share
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a run ends: after the step that reaches the first of the limits."""

    tokens: int | None = None
    """Tokens read, over all devices."""
    steps: int | None = None
    """Optimiser steps."""
    seconds: float | None = None
    """Wall-clock time of training, validation included; the time between a kill and a resume does not count."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            _check(self, field.name, value is None or value > 0, "a number above 0")

    def check(self) -> None:
        """Raises ConfigError where the budget has no limit at all."""
        if self.tokens is None and self.steps is None and self.seconds is None:
            raise ConfigError("the run has no budget; budget.tokens, budget.steps or budget.seconds is needed")

    def progress(self, step: int, tokens: int, seconds: float) -> float:
        """The share spent; 1 or more when the run is over."""
        spent = ((step, self.steps), (tokens, self.tokens), (seconds, self.seconds))
        return max((value / limit for value, limit in spent if limit is not None), default=0.0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run lives and how often it reports, saves and samples."""

    name: str = "run"
    """Name of the run: its folder is RUNS/NAME."""
    runs: str = "runs"
    """Folder of all runs."""
    resume: str | None = None
    """`auto` goes on from the run's last checkpoint, or starts where there is none yet; or a checkpoint file."""
    init: str | None = None
    """Checkpoint folder, or its URL, with the weights that the run starts from; random weights if not given."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its own choice. On two busy cores one thread is often the fastest."""
    report_every: int = 50
    """Steps between two lines of progress."""
    save_every: int = 500
    """Steps between two checkpoints."""
    save_minutes: float = 10.0
    """Minutes after which a checkpoint is written in any case."""
    sample_every: int = 0
    """Steps between two sets of sample continuations in RUNS/NAME/samples; 0 writes none."""
    sample_seconds: float = 15.0
    """Length of a sample continuation, in seconds of music or speech."""

    def __post_init__(self) -> None:
        check_run_name(self.name)
        for name in ("report_every", "save_every"):
            _check(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        for name in ("threads", "sample_every"):
            _check(self, name, getattr(self, name) >= 0, "a whole number of at least 0")
        for name in ("save_minutes", "sample_seconds"):
            _check(self, name, getattr(self, name) > 0, "a number above 0")


def check_run_name(name: str) -> None:
    """Raises ConfigError where a run cannot have that name: it becomes a folder's."""
    if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise ConfigError(f"the run's name is {name!r}; a name without slashes or a leading dot is needed")


def _check(config: object, name: str, ok: bool, need: str) -> None:
    if not ok:
        raise ConfigError(f"{name} is {getattr(config, name)}; {need} is needed")
