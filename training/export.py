"""Make a checkpoint folder of a run: `python -m training.export runs/NAME checkpoints/NAME`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentError, auto_cli, set_parsing_settings

from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
from shortcut_gen.errors import CheckpointError, ShortcutGenError
from training.cards.model import joined_licences, write_card
from training.codec.export import export_codec
from training.run.checkpoints import BEST, LAST, model_of_run, read_run_checkpoint
from training.run.trials import KEY

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def export(
    run: Path,
    folder: Path,
    which: Literal["last", "best"] = "last",
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16",
) -> None:
    """Write model.safetensors, config.json and a model card.

    Args:
        run: Folder of the run, such as runs/piano, or one of its .ckpt files.
        folder: Checkpoint folder to write, such as checkpoints/piano. One that is there is replaced.
        which: The run's last checkpoint, or that of its lowest validation loss.
        dtype: Type of the stored weights.
    """
    path = run if run.suffix == ".ckpt" else run / (LAST if which == "last" else BEST)
    state = read_run_checkpoint(path)
    about = state["run"]
    if "model" not in about:  # a run of training.fit_codec
        export_codec(path, state, folder)
        return
    if trial := about["model"].get(KEY):
        raise CheckpointError(f"{path}: its model is a trial ({trial}), which nothing but training can run")
    model = model_of_run(path, state)
    corpus = dict(about["corpus"])
    info = CheckpointInfo(
        model=model.config,
        tokenizer=about["tokenizer"],
        codec=about.get("codec"),
        corpus=corpus,
        recipe=_recipe(state, which, dtype),
        licence=_licence(corpus, about.get("init", {})),
    )
    save_checkpoint(folder, model, info, DTYPES[dtype])
    write_card(folder, info)
    print(f"{folder}: {model.num_parameters(embedding=True):,} parameters after step {state['global_step']:,}")


def _licence(corpus: dict[str, Any], start: dict[str, Any]) -> str:
    """That of the corpus; and that of the weights the run started from, which binds what is made of them."""
    return joined_licences(start.get("licence"), corpus.get("licence"))


def _recipe(state: dict[str, Any], which: str, dtype: str) -> dict[str, Any]:
    """How the weights came to be: the run's settings, and how far it went."""
    about = state["run"]
    recipe = {key: value for key, value in about.items() if key not in ("model", "corpus", "tokenizer", "codec")}
    recipe |= state.get("spent", {"steps": state["global_step"]})
    mean = f", mean of decay {about['optimizer']['ema']:g}" if "mean_weights" in state else ""
    return recipe | {"weights": f"{which}{mean}, {dtype}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    try:
        arguments = None if arguments is None else list(arguments)
        auto_cli(export, args=arguments, prog="python -m training.export", exit_on_error=False)
    except (ShortcutGenError, ArgumentError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
