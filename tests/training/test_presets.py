"""Presets of training.reproduce: which runs they are, how options go with them, and what they leave apart."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from shortcut_gen.errors import SettingsError
from tests.shared.tiny_runs import CONFIG, ROOT, write_corpus
from tests.training.test_reproduce import PIECES, InProcess
from training import reproduce
from training.experiment import grid as grid_module
from training.experiment.grid import GridCorpus, corpora_of, runs_of
from training.experiment.presets import PRESETS, Part, Preset, grids_of
from training.experiment.results import finished, kept, read

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """data is a tiny corpus, overlay.yaml names it."""
    write_corpus(tmp_path / "data", PIECES)
    (tmp_path / "overlay.yaml").write_text(f"data:\n  path: {tmp_path / 'data'}\n")
    return tmp_path


def test_the_papers_runs() -> None:
    grids = grids_of("paper")
    runs = Counter(
        (corpus, arm, seed) for grid in grids for corpus in grid.corpora for arm in grid.arms for seed in grid.seeds
    )
    assert set(runs.values()) == {1}
    assert len(runs) == (4 * 7 + 4) * 3
    assert {corpus for corpus, *_ in runs} == {"maestro", "speech", "novels-characters", "novels-bpe"}
    assert {corpus for corpus, arm, _ in runs if arm.startswith("strong")} == {"maestro"}
    limits = {corpus: grid.limit for grid in grids for corpus in grid.corpora}
    assert limits == {"maestro": 20, "speech": 20, "novels-characters": 1, "novels-bpe": 1}
    overlays = {corpus: [path.stem for path in grid.overlay] for grid in grids for corpus in grid.corpora}
    assert overlays["maestro"] == ["grid"] and overlays["novels-bpe"] == ["grid", "grid-bpe"]
    assert {grid.out for grid in grids} == {Path("runs/reproduce")} and {grid.points for grid in grids} == {20}


def test_what_the_repository_keeps_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever changes a run's identity would let hours of training count for nothing."""
    records = kept(ROOT / "docs/reproduction.jsonl")
    data = {record["corpus"]: record["data"] for record in records}
    monkeypatch.setattr(GridCorpus, "folders", property(lambda self: [self.name]))
    monkeypatch.setattr(GridCorpus, "train_tokens", lambda self: data[self.name]["train_tokens"])
    monkeypatch.setattr(grid_module, "open_corpus", lambda folders: SimpleNamespace(name=data[folders[0]]["corpus"]))
    runs = [run for grid in grids_of("paper", corpora=list(data)) for run in runs_of(grid, corpora_of(grid))]
    first = [record for record in records if record["budget"] == {"tokens": 1_000_000}]
    assert len(finished(records, runs)) == len(first) > 0


def test_what_is_given_chooses_among_a_presets_own_or_takes_its_place(tmp_path: Path) -> None:
    grids = grids_of("paper", corpora=["maestro"], arms=["wide", "strong"], seeds=[5], out=tmp_path, points=3, jobs=2)
    assert [(grid.corpora, grid.arms) for grid in grids] == [(("maestro",), ("wide",)), (("maestro",), ("strong",))]
    assert all((grid.seeds, grid.points, grid.out, grid.jobs) == ((5,), 3, tmp_path, 2) for grid in grids)
    with pytest.raises(SettingsError, match="none of those arms on any of those corpora"):
        grids_of("paper", corpora=["speech"], arms=["strong"])


REFUSED = {
    "unknown": (["--preset", "papr"], "unknown preset 'papr'; known are paper, quick"),
    "corpus": (["--preset", "quick", "--corpora", "text8"], "no 'text8' among its corpora, which are maestro"),
    "arm": (["--preset", "quick", "--arms", "mlps"], "no 'mlps' among its arms, which are baseline, shortcut, wide"),
    "overlay": (["--preset", "quick", "--overlay", "training/configs/cpu.yaml"], "--overlay is given, but the preset"),
    "budget": (["--preset", "quick", "--budget.steps", "3"], "--budget is given, but the preset quick decides it"),
    "limit": (["--preset", "paper", "--limit", "3"], "--limit is given, but the preset paper decides it"),
    "points": (["--preset", "paper", "--points", "0"], "points is 0"),
}


@pytest.mark.parametrize(("words", "says"), REFUSED.values(), ids=REFUSED)
def test_what_a_preset_refuses_takes_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.main(["run", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error
    assert not (tmp_path / "out").exists()


def test_several_grids_run_as_one_seed_by_seed_and_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "steps.yaml").write_text("budget:\n  steps: 2\n")
    overlay = (str(CONFIG.with_suffix("")), str(folder / "overlay"), str(folder / "steps"))
    parts = [Part(corpora=("maestro",), arms=(arm,), overlay=overlay, limit=1) for arm in ("mlps", "baseline")]
    monkeypatch.setitem(PRESETS, "tiny", Preset(about="", parts=tuple(parts), seeds=(1, 0), points=1))
    monkeypatch.setattr(reproduce, "JobRunner", InProcess)
    words = ["run", "--preset", "tiny", "--out", str(folder / "out"), "--kept", str(folder / "kept.jsonl")]
    assert reproduce.main([*words, "--seeds", "1"]) == 0
    assert reproduce.main(words) == 0
    assert "2 done, 2 to run" in capsys.readouterr().out
    order = [(record["seed"], record["arm"]) for record in read(folder / "out/results.jsonl")]
    assert order == [(1, "mlps"), (1, "baseline"), (0, "mlps"), (0, "baseline")]


def test_a_quick_trial_is_never_taken_for_the_papers(folder: Path) -> None:
    """Neither as finished nor as comparable, and it lies where `keep` does not look."""
    (quick,) = grids_of("quick")
    paper = grids_of("paper")[0]
    assert quick.out != paper.out
    quick, paper = (replace(grid, overlay=(*grid.overlay, folder / "overlay.yaml")) for grid in (quick, paper))
    (trial,), (whole, *_) = corpora_of(quick), corpora_of(replace(paper, corpora=("maestro",)))
    assert trial.shared() != whole.shared() and trial.tokens and whole.tokens and trial.tokens < whole.tokens / 4
    records = [run.identity() for run in runs_of(quick, [trial])]
    assert not finished(records, runs_of(paper, [whole]))
