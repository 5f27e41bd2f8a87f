"""What a finished run of a grid came to, in RUN/score.json: `python -m training.experiment.score RUN`.

training.reproduce runs it behind every run: the score of the last checkpoint on the test split, the validation curve
and the seconds of training out of the run's log, and the machine.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser

from shortcut_gen.errors import DataError
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.network.model import ShortcutLM
from training.corpus.shards import IGNORED, write_json
from training.run.batches import CorpusDataModule
from training.run.checkpoints import LAST, model_of_run, read_run_checkpoint
from training.run.settings import CONFIG, Settings, quiet, read_settings
from training.scoring.likelihood import EvaluationSettings, figures
from training.support.command_line import run
from training.support.machine import machine
from training.support.memory import keep_freed_memory

SCORE = "score.json"
Point = dict[str, float]


def score_run(folder: Path, split: str = "test", limit: int | None = None) -> dict[str, Any]:
    """The figures of a finished run. Raises ShortcutGenError where the run or its corpus cannot be read."""
    settings = read_settings(["--config", str(folder / CONFIG)], Settings).config.as_dict()
    state = read_run_checkpoint(folder / LAST)
    steps, tokens = int(state["global_step"]), int(state["spent"]["tokens"])
    model = model_of_run(folder / LAST, state).eval()
    del state
    cpu = settings["trainer"]["accelerator"] == "cpu" or not torch.cuda.is_available()
    model.to("cpu" if cpu else "cuda")
    data = CorpusDataModule(**settings["data"] | {"workers": 0})
    frame = get_tokenizer(data.corpus.tokenizer, data.corpus.codec).frame
    half = "bf16" in str(settings["trainer"]["precision"])
    curve, seconds = read_log(folder, tokens / steps)
    if not curve or curve[-1]["step"] != steps:  # it was stopped in its last validation
        last: Point = {"step": steps, "tokens": tokens, "seconds": seconds}
        curve.append(last | validate(model, data, half))
    scoring = EvaluationSettings(split=split, limit=limit, precision="bf16" if half else "fp32")
    result = figures(model, data.corpus.split(split), scoring, frame)
    return {
        **{"tokens": tokens, "steps": steps, "seconds": round(seconds, 2), "curve": curve},
        **{"nll": result["nll"], "accuracy": result["accuracy"], "scored_tokens": result["tokens"]},
        **{"split": split, "limit": limit, "machine": machine()},
    }


def read_log(folder: Path, tokens_per_step: float) -> tuple[list[Point], float]:
    """The validation curve and the seconds of training in a run's CSV logs, one of each start of the run.

    Seconds are those of the lines of progress, which leave validation and the time between two starts out. What a start
    logged behind the place from which the next one went on was done again and is left out.
    """
    speeds: dict[int, float] = {}  # tokens per second up to a step, from the line before
    losses: dict[int, tuple[float, float]] = {}
    for log in sorted(folder.glob("csv/version_*/metrics.csv"), key=lambda log: int(log.parent.name.split("_")[1])):
        with log.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        new_speeds = {int(row["step"]): float(row[key]) for row in rows if row.get(key := "speed/tokens_per_second")}
        new_losses = {  # Lightning counts the steps of its own lines from 0
            int(row["step"]) + 1: (float(row["val/loss"]), float(row["val/accuracy"]))
            for row in rows
            if row.get("val/loss")
        }
        first = min((*new_speeds, *new_losses), default=sys.maxsize)
        speeds = {step: value for step, value in speeds.items() if step < first} | new_speeds
        losses = {step: value for step, value in losses.items() if step < first} | new_losses
    if not speeds:
        raise DataError(f"{folder} has no line of progress in its log; a finished run is needed")
    steps = [0, *sorted(speeds)]
    spent = [(step - before) * tokens_per_step / speeds[step] for before, step in zip(steps, steps[1:], strict=False)]
    ends = np.concatenate(([0.0], np.cumsum(spent)))
    curve = []
    for step in sorted(losses):
        seconds = round(float(np.interp(step, steps, ends)), 2)
        loss, accuracy = losses[step]
        point = {"step": step, "tokens": round(step * tokens_per_step), "seconds": seconds}
        curve.append(point | {"loss": loss, "accuracy": accuracy})
    return curve, float(ends[-1])


def validate(model: ShortcutLM, data: CorpusDataModule, half: bool) -> Point:
    """Mean loss in nats per token and accuracy over the validation windows, as training.run.task has them."""
    device = model.embedding.weight.device
    loss, hits, count = 0.0, 0, 0
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        for batch in data.val_dataloader():
            targets = batch["targets"].to(device).flatten()
            logits = model(batch["inputs"].to(device)).flatten(0, 1).float()  # (B*T, V)
            loss += float(F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum"))
            hits += int((logits.argmax(-1) == targets)[targets != IGNORED].sum())
            count += int((targets != IGNORED).sum())
    return {"loss": loss / max(count, 1), "accuracy": hits / max(count, 1)}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m training.experiment.score", description=__doc__, exit_on_error=False)
    parser.add_argument("run", type=Path, help="Folder of the run.")
    parser.add_argument("--split", default="test", help="Split to score.")
    parser.add_argument("--limit", type=int | None, default=None, help="Pieces of it to score; all if not given.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads.")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    quiet()

    def do(values: dict[str, Any]) -> None:
        torch.set_num_threads(values["threads"])
        write_json(values["run"] / SCORE, score_run(values["run"], values["split"], values["limit"]))

    return run(_parser, do, arguments)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
