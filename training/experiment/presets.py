"""Whole experiments by name, for `python -m training.reproduce run --preset NAME`: several grids, run as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortcut_gen.errors import SettingsError
from training.experiment.grid import CONFIGS, GridConfig

FOLDER = Path("runs/reproduce")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A grid of a preset."""

    corpora: tuple[str, ...]
    arms: tuple[str, ...]
    overlay: tuple[str, ...]
    """Names of configs in training/configs, put behind every corpus's own; they hold the budget."""
    limit: int
    """Pieces of the test split to score: a novel is as long as sixty performances."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An experiment."""

    about: str
    parts: tuple[Part, ...]
    seeds: tuple[int, ...]
    points: int = 20
    """Validations of a run, where no others are asked for."""
    out: Path = FOLDER
    """Its folder, where no other is given."""

    def names(self, key: str) -> list[str]:
        """All corpora, or all arms, of its parts."""
        return list(dict.fromkeys(name for part in self.parts for name in getattr(part, key)))


_ARMS = ("baseline", "shortcut", "wide", "mlps", "shortcut-identity", "shortcut-middle", "value-residual")
PRESETS: dict[str, Preset] = {
    "paper": Preset(
        about="the paper's claims on music, speech and text, with controls, three seeds, 1 M tokens a run",
        parts=(
            Part(corpora=("maestro", "speech"), arms=_ARMS, overlay=("grid",), limit=20),
            Part(corpora=("novels-characters",), arms=_ARMS, overlay=("grid",), limit=1),
            Part(corpora=("novels-bpe",), arms=_ARMS, overlay=("grid", "grid-bpe"), limit=1),
            Part(
                corpora=("maestro",),
                arms=("strong", "strong-shortcut", "strong-wide", "strong-value"),
                overlay=("grid",),
                limit=20,
            ),
        ),
        seeds=(0, 1, 2),
    ),
    "quick": Preset(
        about="whether everything runs: four arms on MAESTRO, two seeds, 0.2 M tokens a run",
        parts=(
            Part(
                corpora=("maestro",),
                arms=("baseline", "shortcut", "wide", "value-residual"),
                overlay=("grid", "grid-quick"),
                limit=2,
            ),
        ),
        seeds=(0, 1),
        points=5,
        out=Path("runs/reproduce-quick"),  # apart from the runs that `keep` adds to the repository's records
    ),
}
FIXED = ("overlay", "budget", "limit")
"""Options that a preset decides: with others its runs would be other runs."""


def preset_of(name: str) -> Preset:
    """The preset of that name. Raises SettingsError."""
    if name not in PRESETS:
        raise SettingsError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def grids_of(
    name: str,
    corpora: Sequence[str] | None = None,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    **ways: Any,
) -> list[GridConfig]:
    """The grids of a preset.

    corpora, arms: only these of the preset's. seeds: these in place of the preset's. ways: how it is run, by the names
    of `GridConfig`, in place of the preset's points and folder; what is None is left to the preset.

    Raises SettingsError where there is no such preset, where a corpus or arm is none of its own, or where none is left.
    """
    preset = preset_of(name)
    for key, chosen in (("corpora", corpora), ("arms", arms)):
        own = preset.names(key)
        if wrong := [each for each in chosen or () if each not in own]:
            raise SettingsError(f"the preset {name} has no {wrong[0]!r} among its {key}, which are {', '.join(own)}")
    usual: dict[str, Any] = {"points": preset.points, "out": preset.out}
    ways = usual | {key: way for key, way in ways.items() if way is not None}
    made = []
    for part in preset.parts:
        left = [each for each in part.corpora if corpora is None or each in corpora]
        kept = [each for each in part.arms if arms is None or each in arms]
        if left and kept:
            overlay = tuple(CONFIGS / f"{config}.yaml" for config in part.overlay)
            grid = GridConfig(
                corpora=tuple(left),
                arms=tuple(kept),
                seeds=tuple(preset.seeds if seeds is None else seeds),
                overlay=overlay,
                limit=part.limit,
                **ways,
            )
            made.append(grid)
    if not made:
        raise SettingsError(f"the preset {name} has none of those arms on any of those corpora")
    return made


def check_fixed(name: str, given: dict[str, Any]) -> None:
    """Raises SettingsError where an option is given that the preset decides. given: those of FIXED, None if not."""
    for option in FIXED:
        if given[option] not in (None, (), []):
            raise SettingsError(
                f"--{option} is given, but the preset {name} decides it; give --corpora and --arms in place of --preset"
            )
