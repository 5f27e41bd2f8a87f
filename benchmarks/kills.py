"""Killed at any moment: `python -m benchmarks.kills [--times 50] [--what training prepare generate] [--json FILE]`.

So many SIGKILLs each in training, preparing and generating (tiny models and corpora), a third of them while a file is
half written or not yet in its place; each time the same command goes on, and what comes of it is compared with a run
that was let be: weights and optimiser bit for bit, shards and files byte for byte, and nothing left over. Then a disk
that is full, one that cannot be written to, and a newest checkpoint that is damaged. Ends with 1 where something
differs.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

from benchmarks.killing.disks import DISKS, damaged_checkpoints
from benchmarks.killing.rounds import Killer, Outcome
from benchmarks.killing.scenarios import SCENARIOS, make_inputs
from benchmarks.killing.starter import Starter
from benchmarks.measuring.timing import about, command, describe, progress, table
from shortcut_gen.errors import SettingsError, ShortcutGenError
from training.corpus.shards import write_json
from training.support.command_line import listed

Name = Literal["training", "prepare", "generate"]


class UnequalError(ShortcutGenError):
    """Something did not end as it should."""


def bad_disks(name: str, killer: Killer, expected: dict[str, str], work: Path) -> list[dict[str, str]]:
    """What became of one command on each bad disk."""
    rows = []
    for trouble, tried in DISKS.items():
        how, problem = tried(killer, expected, work)
        rows.append({"what": name, "trouble": trouble, "how": how, "problem": problem})
        progress(f"{name}, {trouble}: {problem or 'as it should be'}")
    if name == "training":
        for damage, problem in damaged_checkpoints(killer, expected, work):
            rows.append({"what": name, "trouble": "damaged newest checkpoint", "how": damage, "problem": problem})
            progress(f"{name}, newest checkpoint {damage}: {problem or 'as it should be'}")
    return rows


def _show(outcomes: Sequence[Outcome], rows: Sequence[dict[str, str]]) -> None:
    if outcomes:
        cells = [["", "kills", "inside a write", "starts", "runs compared", "equal"]]
        cells += [[o.what, *map(str, (o.kills, o.inside, o.starts, o.runs, o.equal))] for o in outcomes]
        print(table(cells), flush=True)
        for outcome in outcomes:
            if outcome.aside:
                print(f"{outcome.what}: best.ckpt is another one in {outcome.aside} of {outcome.runs} runs")
    if rows:
        print()
        print(table([["", "trouble", "how", "then"]] + [
            [row["what"], row["trouble"], row["how"], row["problem"] or "a line, then the same result"] for row in rows
        ]), flush=True)  # fmt: skip


def main(
    times: int = 50,
    what: list[Name] = list(SCENARIOS),  # type: ignore[assignment]  # noqa: B006
    disks: bool = True,
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Kill, resume, compare.

    Args:
        times: Kills of each command; 0 for none.
        what: Commands that are killed.
        disks: Try bad disks and damaged checkpoints too.
        seed: Of the moments, as far as the machine repeats them.
        json: File to write.
    """
    if times < 0:
        raise SettingsError(f"times is {times}; a whole number of at least 0 is needed")
    if not hasattr(os, "fork"):
        raise SettingsError("this system has no fork; Linux or macOS is needed")
    machine = about(("lightning",))
    print(describe(machine), flush=True)
    outcomes: list[Outcome] = []
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        with redirect_stdout(sys.stderr):
            make_inputs(work / "inputs")
        for name in dict.fromkeys(what):
            scenario = SCENARIOS[name]
            with Starter(scenario.modules) as starter:
                killer = Killer(scenario, starter, work / "inputs", work / name, seed)
                expected = killer.unkilled()
                if times:
                    outcomes.append(killer.rounds(name, times, expected, progress))
                if disks:
                    rows += bad_disks(name, killer, expected, work / name)
    _show(outcomes, rows)
    faults = [f"{o.what}, {fault}" for o in outcomes for fault in o.faults]
    faults += [f"{row['what']}, {row['trouble']}, {row['how']}: {row['problem']}" for row in rows if row["problem"]]
    if json:
        values: dict[str, Any] = {"machine": machine, "times": times, "seed": seed}
        write_json(json, values | {"kills": [o.to_dict() for o in outcomes], "disks": rows, "faults": faults})
    if faults:
        raise UnequalError(f"{len(faults)} faults: {'; '.join(faults)}")


def arguments(given: Sequence[str]) -> list[str]:
    """`--what a b` as the parser takes it: `--what [a,b]`."""
    return listed(given, "--what")


if __name__ == "__main__":
    sys.exit(command(main, arguments(sys.argv[1:])))
