"""The settings of a run: the command line of training.fit, read; with or without building what it describes."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from training.run.batches import CorpusDataModule
from training.run.recipe import Budget, RunConfig
from training.run.task import LanguageModelTask

DESCRIPTION = "Train a model: `python -m training.fit --config training/configs/piano.yaml [--resume auto]`."
CONFIG = "config.yaml"
HYPERPARAMETERS = "hyperparameters.json"
"""Files of a run's folder: its command line, and what it came to."""
NO_MATTER = ("path", "workers", "validation_windows")
"""Settings of the data that do not decide the weights a run ends with."""
TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "precision": "32-true",
    "max_epochs": -1,
    "gradient_clip_val": 1.0,
    "val_check_interval": 500,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
    "log_every_n_steps": 50,
}
"""Lightning's settings where a config says nothing. Checkpoints, progress and the ends of runs are our callbacks'."""


class TrainingCLI(LightningCLI):
    """LightningCLI with a run's name, folder and budget; one seed and one context for model and data."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run's own settings and ties together what must agree."""
        parser.add_class_arguments(RunConfig, None)
        parser.add_class_arguments(Budget, "budget")
        parser.link_arguments("model.config.context", "data.context")
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Lightning's own warns when a list is given while sys.argv is not empty, as it is under pytest."""
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Threads before anything runs."""
        if self.config.threads:
            torch.set_num_threads(self.config.threads)


Read = TypeVar("Read", bound=TrainingCLI)


class Settings(TrainingCLI):
    """The settings of a command line, in `config`, with nothing built from them."""

    def before_instantiate_classes(self) -> None:
        """Leaves the threads as they are."""

    def instantiate_classes(self) -> None:
        """Builds nothing."""


def read_settings(arguments: Sequence[str] | None, kind: type[Read]) -> Read:
    """A command line, read. Raises jsonargparse's ArgumentError."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return kind(
        LanguageModelTask,
        CorpusDataModule,
        args=list(arguments) if arguments is not None else None,
        run=False,
        save_config_callback=None,
        seed_everything_default=0,
        trainer_defaults=TRAINER_DEFAULTS,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        parser_kwargs={
            "exit_on_error": False,
            "description": "Train a model: python -m training.fit --config training/configs/piano.yaml [--resume auto]",
        },
    )


def quiet() -> None:
    """Keeps Lightning's tips and notices out of the output; its errors stay."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
