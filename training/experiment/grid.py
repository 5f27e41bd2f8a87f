"""The grid of training.reproduce: which runs there are, what identifies each, and the command that makes it."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.network.config import ModelConfig
from training.corpus.joined import open_corpus
from training.experiment.arms import model_of, sizes
from training.run.recipe import Budget
from training.run.settings import NO_MATTER, Settings, read_settings
from training.run.trials import KEY

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
CORPORA = {
    "maestro": "piano-paper",
    "speech": "speech-paper",
    "text8": "text8-paper",
    "wikitext103": "wikitext103-paper",
    "novels-characters": "novels-characters-paper",
    "novels-bpe": "novels-bpe-paper",
}
"""Corpora by name, and the config in training/configs of the paper's shortcut model on each."""
SPLIT = "test"
"""What finished runs are scored on."""


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """A grid of runs, and how it is run."""

    corpora: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: Budget = field(default_factory=Budget)
    """The same for every run; that of the configs where it has no limit."""
    overlay: tuple[Path, ...] = ()
    """Configs put behind every corpus's own, such as training/configs/cpu.yaml."""
    out: Path = Path("runs/reproduce")
    jobs: int = 1
    """Runs at a time."""
    threads: int = 1
    """CPU threads of a run."""
    limit: int | None = None
    """Pieces of the test split to score; all if not given."""
    points: int = 20
    """Validations of a run."""

    def __post_init__(self) -> None:
        for name in ("corpora", "arms", "seeds"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        for name in ("jobs", "threads", "limit", "points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}; a whole number of at least 1 is needed")
        if wrong := [seed for seed in self.seeds if not 0 <= seed < 2**32]:
            raise SettingsError(f"a seed is {wrong[0]}; whole numbers from 0 to 2**32 - 1 are needed")


@dataclass(frozen=True)
class GridCorpus:
    """One corpus of a grid: what all its runs share."""

    name: str
    grid: GridConfig
    arguments: tuple[str, ...]
    """The part of training.fit's command line that says all of it."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What training.fit makes of the arguments. Raises jsonargparse's ArgumentError."""
        values: dict[str, Any] = read_settings(self.arguments, Settings).config.as_dict()
        return values

    @property
    def base(self) -> ModelConfig:
        """The shortcut model. Raises SettingsError where a config makes it a trial: trials are arms."""
        if self.settings["model"]["trial"]:
            raise SettingsError("model.trial is set in a config; in a grid trials are arms")
        return ModelConfig(**self.settings["model"]["config"])

    @property
    def precision(self) -> str:
        """In which runs compute, as Lightning names it."""
        return str(self.settings["trainer"]["precision"])

    @property
    def length(self) -> int:
        """Tokens of a crop."""
        data = self.settings["data"]
        return int(data["crop"] or self.base.context)

    @property
    def budget(self) -> Budget:
        """The budget of each run."""
        return Budget(**self.settings["budget"])

    @property
    def steps(self) -> int | None:
        """Steps of each run; None where the budget is of seconds alone."""
        budget, accumulate = self.budget, self.settings["trainer"]["accumulate_grad_batches"]
        by_tokens = math.ceil((budget.tokens or 0) / (self.settings["data"]["batch_size"] * self.length * accumulate))
        return min((steps for steps in (by_tokens, budget.steps) if steps), default=None)

    @property
    def tokens(self) -> int | None:
        """Tokens of each run; None where the budget is of seconds alone."""
        step = self.settings["data"]["batch_size"] * self.length * self.settings["trainer"]["accumulate_grad_batches"]
        return self.steps * step if self.steps else None

    @property
    def folders(self) -> list[str]:
        """Folders of the prepared corpus."""
        path = self.settings["data"]["path"]
        return [path] if isinstance(path, str) else list(path)

    def train_tokens(self) -> int:
        """Tokens of the training split. Raises DataError where the corpus cannot be trained and tested on."""
        corpus = open_corpus(self.folders)
        if corpus.vocab_size != self.base.vocab_size:
            raise DataError(
                f"{corpus.folder} has {corpus.vocab_size} ids, the model for {self.name} {self.base.vocab_size}; "
                "they must agree"
            )
        for split in ("train", "validation", SPLIT):
            if not corpus.split(split).tokens:
                raise DataError(f"{corpus.folder} has nothing in its {split} split; all three are needed")
        return corpus.split("train").tokens

    def shared(self) -> dict[str, Any]:
        """What decides the weights a run ends with beside its model and seed, in plain values."""
        settings = self.settings
        optimizer, trainer = dict(settings["model"]["optimizer"]), settings["trainer"]
        optimizer |= {"gradient_clip": trainer["gradient_clip_val"], "accumulate": trainer["accumulate_grad_batches"]}
        data = {key: value for key, value in settings["data"].items() if key not in (*NO_MATTER, "seed")}
        data |= {"context": self.base.context, "validation_windows": settings["data"]["validation_windows"]}
        data |= {"corpus": open_corpus(self.folders).name, "train_tokens": self.train_tokens()}
        budget = {key: value for key, value in asdict(self.budget).items() if value is not None}
        shared = {"optimizer": optimizer, "data": data, "budget": budget, "precision": self.precision}
        plain: dict[str, Any] = json.loads(json.dumps(shared))
        return plain


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run of a grid."""

    corpus: GridCorpus
    arm: str
    seed: int
    model: ModelConfig
    shared: dict[str, Any]

    @property
    def label(self) -> str:
        """What a reader calls it."""
        return f"{self.corpus.name} {self.arm} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Its folder: other settings have another, so that nothing goes on with a run that is not the same."""
        text = json.dumps([self.model.to_dict(), self.shared], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        arm = self.arm.replace(":", "-")  # no sign for a file's name everywhere
        return self.corpus.grid.out / "runs" / f"{self.corpus.name}-{arm}-{self.seed}-{digest}"

    def identity(self) -> dict[str, Any]:
        """The part of its record that says which run it is."""
        run = {"arm": self.arm, "corpus": self.corpus.name, "seed": self.seed, "model": self.model.to_dict()}
        run |= {"base": self.corpus.base.to_dict()}  # what the arms were made from: only those of one base compare
        return run | self.shared | {"split": SPLIT, "limit": self.corpus.grid.limit}

    def sizes(self) -> dict[str, int]:
        """Parameters and FLOPs per token, as its record has them."""
        keys = ("parameters", "parameters_total", "flops_per_token")
        return dict(zip(keys, sizes(self.model, self.corpus.length), strict=True))

    def arguments(self) -> list[str]:
        """The command line of training.fit."""
        base, mine = self.corpus.base.to_dict(), self.model.to_dict()
        trial = mine.pop(KEY, None)
        model = [
            f"--model.config.{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in mine.items()
            if value != base[key]
        ]
        model += [f"--model.{KEY}={json.dumps(trial)}"] if trial else []
        place = ["--runs", str(self.folder.parent), "--name", self.folder.name, "--resume", "auto"]
        return [*self.corpus.arguments, *place, "--seed_everything", str(self.seed), *self._validation(), *model]

    def _validation(self) -> list[str]:
        """Validations at even distances, the last one at the end, where training.fit validates anyway."""
        corpus, points = self.corpus, self.corpus.grid.points
        if corpus.steps:
            every = str(math.ceil(corpus.steps / points) * corpus.settings["trainer"]["accumulate_grad_batches"])
        else:
            assert corpus.budget.seconds is not None
            minutes, seconds = divmod(math.ceil(corpus.budget.seconds / points), 60)
            hours, minutes = divmod(minutes, 60)
            every = f"{hours // 24:02d}:{hours % 24:02d}:{minutes:02d}:{seconds:02d}"
        return ["--trainer.val_check_interval", every]


def corpora_of(grid: GridConfig) -> list[GridCorpus]:
    """The corpora of a grid with their settings read. Raises SettingsError, ConfigError, ArgumentError."""
    made = []
    for name in grid.corpora:
        if name not in CORPORA:
            raise SettingsError(f"unknown corpus {name!r}; known are {', '.join(CORPORA)}")
        configs = [CONFIGS / f"{CORPORA[name]}.yaml", *grid.overlay]
        arguments = [word for config in configs for word in ("--config", str(config))]
        arguments += ["--threads", str(grid.threads), "--sample_every", "0"]
        if any(value is not None for value in asdict(grid.budget).values()):
            for key, value in asdict(grid.budget).items():
                arguments += [f"--budget.{key}", "null" if value is None else str(value)]
        corpus = GridCorpus(name, grid, tuple(arguments))
        corpus.budget.check()
        if corpus.settings["trainer"]["devices"] not in (1, "1"):
            devices = corpus.settings["trainer"]["devices"]
            raise SettingsError(f"trainer.devices is {devices}; 1 is needed for a run of a grid")
        for arm in grid.arms:
            model_of(arm, corpus.base)
        made.append(corpus)
    return made


def runs_of(grid: GridConfig, corpora: Sequence[GridCorpus]) -> list[GridRun]:
    """Every run, seed by seed, so that an early stop leaves whole comparisons. Raises DataError, ConfigError."""
    shared = {corpus.name: corpus.shared() for corpus in corpora}
    return [
        GridRun(corpus=corpus, arm=arm, seed=seed, model=model_of(arm, corpus.base), shared=shared[corpus.name])
        for seed in grid.seeds
        for corpus in corpora
        for arm in grid.arms
    ]


def plan(corpora: Sequence[GridCorpus]) -> str:
    """The runs of some corpora's grids as a table, with what they cost."""
    wide = max([20, *(len(arm) + 2 for corpus in corpora for arm in corpus.grid.arms)])
    head = f"{'corpus':20}{'arm':{wide}}{'params':>9}{'with emb.':>11}{'MFLOPs/token':>14}{'runs':>6}"
    lines, cost, runs = [head + f"{'M tokens':>10}{'epochs':>8}{'PFLOPs':>10}"], 0.0, 0
    notes: dict[str, None] = {}
    for corpus in corpora:
        try:
            available = corpus.train_tokens()
        except DataError as error:
            available = 0
            notes[f"{corpus.name} cannot run yet: {error}"] = None
        count = len(corpus.grid.seeds)
        for arm in corpus.grid.arms:
            own, total, flops = sizes(model_of(arm, corpus.base), corpus.length)
            line = f"{corpus.name:20}{arm:{wide}}{own / 1e6:>7.2f} M{total / 1e6:>9.2f} M{flops / 1e6:>14.1f}{count:>6}"
            if corpus.tokens:
                epochs = f"{corpus.tokens / available:.2f}" if available else "?"
                spent = corpus.tokens * flops * count
                line += f"{corpus.tokens / 1e6:>10.2f}{epochs:>8}{spent / 1e15:>10,.1f}"
                cost += spent
            else:
                line += f"{f'{corpus.budget.seconds:g} s':>10}"
            lines.append(line)
            runs += count
    last = f"{runs} runs" + (f", {cost / 1e15:,.1f} PFLOPs of training" if cost else "")
    return "\n".join([*lines, last, *notes])
