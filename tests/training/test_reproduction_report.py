"""The report on the paper's claims, from records made up so that the answer is known."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shortcut_gen.errors import DataError
from shortcut_gen.network.config import ModelConfig
from training.experiment.arms import ARMS as NAMED
from training.experiment.arms import TRIALS
from training.experiment.kept import keep
from training.experiment.report.claims import FAILS, HOLDS, UNMATCHED, UNTESTED, claims, ends_lower
from training.experiment.report.compare import COSTS, savings, standing
from training.experiment.report.depth import read_readings, to_line
from training.experiment.report.lasting import fits, fitted, lasting, meeting
from training.experiment.report.page import write
from training.experiment.report.statistics import first_reached, loss_at, paired_test, saved, two_sided_p
from training.experiment.report.studies import Speed, Speeds, Study, read_results, read_speeds, studies

ARMS = list(NAMED)
SIZES = {"baseline": 1_980_000, "shortcut-identity": 2_000_000, "shortcut-middle": 3_300_000}
FLOPS = {"baseline": 16_000_000, "shortcut": 49_000_000, "wide": 51_000_000}
TOKENS = 5_000_000


def record(corpus: str, arm: str, seed: int, nll: float, **other: Any) -> dict[str, Any]:
    """A run whose validation loss falls in a straight line from 5 to its test NLL."""
    curve = [
        {"step": n, "tokens": n * TOKENS // 10, "seconds": n, "loss": 5 - (5 - nll) * n / 10, "accuracy": 0.1}
        for n in range(1, 11)
    ]
    made = {
        "arm": arm,
        "corpus": corpus,
        "seed": seed,
        "model": ModelConfig(feedforward=512 + len(arm)).to_dict(),
        "optimizer": {"name": "adam", "lr": 2e-4},
        "data": {"path": "data/x", "batch_size": 32},
        "budget": {"tokens": TOKENS},
        "precision": "32-true",
        "parameters": SIZES.get(arm, 7_230_000),
        "parameters_total": SIZES.get(arm, 7_230_000) + 100_000,
        "flops_per_token": FLOPS.get(arm, 40_000_000),
        "tokens": TOKENS,
        "steps": 10,
        "seconds": 10.0,
        "machine": {"device": "cpu", "name": "a machine", "threads": 1, "jobs": 2, "torch": "2.13.0"},
        "curve": curve,
        "nll": nll,
        "accuracy": 0.3,
        "scored_tokens": 1000,
        "split": "test",
        "limit": None,
    }
    return made | other


def grid(
    means: Mapping[str, float], seeds: Sequence[int] = (0, 1, 2), corpus: str = "maestro", noise: float = 0.01
) -> list[dict[str, Any]]:
    """Every arm with every seed, the seeds `noise` apart, the same for all arms."""
    return [record(corpus, arm, seed, mean + noise * seed) for arm, mean in means.items() for seed in seeds]


def save(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def studied(tmp_path: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[Study]]:
    """Records to studies, by way of the file."""
    return lambda records: studies(read_results(save(tmp_path / "results.jsonl", records), ARMS), ["maestro"], ARMS)


def words(found: Sequence[Study], folder: Path) -> list[str]:
    return [claim.verdict.word for claim in claims(found, Speeds(), folder)]


# --- statistics ---


@pytest.mark.parametrize(
    ("t", "freedom", "p"),
    [(12.706, 1, 0.05), (4.303, 2, 0.05), (3.182, 3, 0.05), (2.776, 4, 0.05), (3.747, 4, 0.02), (2.228, 10, 0.05)],
)
def test_p_is_that_of_the_tables_of_students_t(t: float, freedom: int, p: float) -> None:
    assert two_sided_p(t, freedom) == pytest.approx(p, rel=2e-3)
    assert two_sided_p(-t, freedom) == two_sided_p(t, freedom)


def test_the_paired_test_takes_out_what_the_seeds_share() -> None:
    test = paired_test([1.0, 2.0, 3.0], [1.1, 2.1, 3.12])
    assert test.mean == pytest.approx(-0.10667, abs=1e-5)
    assert test.p is not None and test.p < 0.01  # far less than the seeds lie apart
    assert paired_test([1.0], [2.0]).p is None
    assert paired_test([1.0, 2.0], [1.0, 2.0]).p == 1.0


def test_a_curve_is_read_between_its_points() -> None:
    points = [(1.0, 4.0), (2.0, 3.0), (3.0, 3.5), (4.0, 2.0)]
    assert first_reached(points, 3.25) == pytest.approx(1.75)
    assert first_reached(points, 4.5) == 1.0
    assert first_reached(points, 1.9) is None
    assert loss_at(points, 3.5) == pytest.approx(2.75)
    assert loss_at(points, 4.5) is None


def test_what_is_saved_counts_from_where_the_baseline_itself_got_there() -> None:
    falling = [(10.0, 4.0), (20.0, 3.0)]
    assert saved([(10.0, 3.0), (20.0, 2.0)], falling) == pytest.approx(0.5)
    assert saved([(10.0, 4.0), (20.0, 3.5)], falling) is None
    overfitted = [(10.0, 3.0), (20.0, 2.0), (40.0, 3.0)]  # its last loss it had at 10 already
    assert saved([(10.0, 3.0), (40.0, 2.5)], overfitted) == pytest.approx(0.0)


# --- verdicts ---

Studied = Callable[[Sequence[Mapping[str, Any]]], list[Study]]


def test_a_clear_win_over_every_arm_holds(studied: Studied, tmp_path: Path) -> None:
    means = {"baseline": 3.0, "shortcut": 2.0, "shortcut-identity": 2.9, "shortcut-middle": 2.8, "wide": 2.9}
    assert words(studied(grid(means)), tmp_path) == [HOLDS, HOLDS, UNTESTED, HOLDS, HOLDS, UNTESTED]


def test_a_win_that_a_wider_baseline_has_too_holds_only_without_matching(studied: Studied, tmp_path: Path) -> None:
    means = {"baseline": 3.0, "shortcut": 2.0, "shortcut-identity": 2.5, "wide": 1.99}
    found = claims(studied(grid(means)), Speeds(), tmp_path)
    assert [claim.verdict.word for claim in found] == [UNMATCHED, UNMATCHED, UNTESTED, UNMATCHED, UNTESTED, UNTESTED]
    assert "wide" in found[0].verdict.why


@pytest.mark.parametrize("shortcut", [2.99, 3.0, 3.5])
def test_a_difference_within_the_noise_or_upwards_does_not_hold(
    studied: Studied, tmp_path: Path, shortcut: float
) -> None:
    assert words(studied(grid({"baseline": 3.0, "shortcut": shortcut, "wide": 3.4})), tmp_path)[:2] == [FAILS, FAILS]


def test_nothing_is_said_about_size_where_no_arm_of_that_size_ran(studied: Studied, tmp_path: Path) -> None:
    assert words(studied(grid({"baseline": 3.0, "shortcut": 2.0})), tmp_path)[:2] == [UNTESTED, UNTESTED]
    small = [record("maestro", "wide", seed, 2.9 + seed / 100, parameters=4_000_000) for seed in range(3)]
    assert words(studied(grid({"baseline": 3.0, "shortcut": 2.0}) + small), tmp_path)[:2] == [UNTESTED, UNTESTED]


def test_one_seed_tests_nothing_and_two_are_marked(studied: Studied, tmp_path: Path) -> None:
    means = {"baseline": 3.0, "shortcut": 2.0, "wide": 2.9}
    assert set(words(studied(grid(means, seeds=[0])), tmp_path)) == {UNTESTED}
    first = claims(studied(grid(means, seeds=[0, 1])), Speeds(), tmp_path)[0].verdict
    assert (first.word, first.two_seeds) == (HOLDS, True)
    assert "two seeds" in str(first)


def test_seeds_that_only_one_arm_ran_with_are_left_out(studied: Studied, tmp_path: Path) -> None:
    records = [*grid({"baseline": 3.0, "shortcut": 2.0, "wide": 2.9}), record("maestro", "shortcut", 7, 9.0)]
    assert words(studied(records), tmp_path)[0] == HOLDS


def test_all_kinds_of_data_are_needed_unless_one_says_no(studied: Studied, tmp_path: Path) -> None:
    good, bad = {"baseline": 3.0, "shortcut": 2.0, "wide": 2.9}, {"baseline": 3.0, "shortcut": 3.1, "wide": 2.9}
    everywhere = grid(good) + grid(good, corpus="speech") + grid(good, corpus="novels-bpe")
    assert words(studied(everywhere), tmp_path)[2] == HOLDS
    assert words(studied(grid(good) + grid(good, corpus="speech")), tmp_path)[2] == UNTESTED
    assert words(studied(grid(good) + grid(bad, corpus="speech")), tmp_path)[:3] == [FAILS, FAILS, FAILS]


def test_of_two_budgets_the_larger_counts_and_the_runs_are_not_mixed(studied: Studied, tmp_path: Path) -> None:
    means = {"baseline": 3.0, "shortcut": 3.1, "wide": 2.9}
    small = [record | {"budget": {"tokens": 1000}, "tokens": 1000} for record in grid(means)]
    found = studied(small + grid({"baseline": 3.0, "shortcut": 2.0, "wide": 2.9}))
    assert [study.tokens for study in found] == [TOKENS, 1000]
    first = claims(found, Speeds(), tmp_path)[0]
    assert first.verdict.word == HOLDS
    assert [verdict.word for verdict in first.by_study] == [HOLDS, FAILS]


def test_shares_follow_the_cost_of_a_token_and_the_measured_speed(studied: Studied) -> None:
    study = studied(grid({"baseline": 3.0, "shortcut": 1.0}, seeds=[0, 1], noise=0.0))[0]
    arms = {"baseline": {"tokens_per_second": 100.0}, "shortcut": {"tokens_per_second": 40.0}}
    speeds = Speeds([Speed(corpus="maestro", machine={}, arms=arms)])
    assert savings(study, "shortcut", "tokens", speeds)[0] == pytest.approx(0.5)
    assert savings(study, "shortcut", "FLOPs", speeds)[1] == pytest.approx(1 - 0.5 * 49 / 16)
    assert savings(study, "shortcut", "seconds", speeds)[1] == pytest.approx(1 - 0.5 * 100 / 40)
    assert savings(study, "shortcut", "seconds", Speeds()) == {}


def test_a_win_beyond_the_paper_needs_a_rival_of_its_cost_and_three_seeds(studied: Studied) -> None:
    means = {"baseline": 3.0, "shortcut-current": 2.0, "wide": 2.9}
    size = COSTS["non-embedding parameters"]
    assert standing(studied(grid(means))[0], "shortcut-current", size)[0] == "wins"
    assert standing(studied(grid(means, seeds=[0, 1]))[0], "shortcut-current", size)[0].startswith("open")
    assert standing(studied(grid(means | {"wide": 1.995}))[0], "shortcut-current", size)[0] == "does not win"
    del means["wide"]
    assert standing(studied(grid(means))[0], "shortcut-current", size)[0] == "open"


def test_a_strong_baseline_has_rivals_of_its_own(studied: Studied, tmp_path: Path) -> None:
    """A plain model with rotary positions is no rival of a shortcut without them, and the other way round."""
    size, arms = COSTS["non-embedding parameters"], [*ARMS, *TRIALS]
    means = {"baseline": 3.0, "shortcut": 2.5, "wide": 2.8, "strong": 2.0, "strong-shortcut": 1.9, "strong-wide": 1.8}
    study = studies(read_results(save(tmp_path / "results.jsonl", grid(means)), arms), ["maestro"], arms)[0]
    assert standing(study, "shortcut", size)[0] == "wins"
    assert standing(study, "strong-shortcut", size)[0] == "does not win"
    assert ends_lower(study, "baseline").word == HOLDS
    strong = ends_lower(study, "strong", "strong-shortcut")
    assert strong.word == UNMATCHED and "strong-wide" in strong.why


# --- does it last ---


def falling(a: float, b: float, c: float) -> list[dict[str, float]]:
    """A run's curve on a power law, but 0.2 lower in the last third, where the rate decays."""
    places = [TOKENS * n // 20 for n in range(1, 21)]
    return [
        {"tokens": place, "loss": a + b * (place / 1e6) ** -c - (0.2 if place > 0.7 * TOKENS else 0.0)}
        for place in places
    ]


def test_a_fit_finds_the_law_and_where_two_of_them_meet(studied: Studied) -> None:
    """Before the decay alone; the lead of 0.4·t^-0.5 - 0.1 ends at 16 M tokens."""
    schedule = {"optimizer": {"schedule": "wsd", "decay_share": 0.3}}
    one = record("maestro", "baseline", 0, 2.0, curve=falling(2.0, 1.0, 0.5), **schedule)
    other = record("maestro", "wide", 0, 2.0, curve=falling(2.1, 0.6, 0.5), flops_per_token=32_000_000, **schedule)
    study = studied([one, other])[0]
    found = fits(study)
    assert (found["baseline"].a, found["baseline"].b, found["baseline"].c) == pytest.approx((2.0, 1.0, 0.5), abs=0.03)
    end = 0.7 * TOKENS
    assert meeting(found["wide"], found["baseline"], (1.0, 1.0), end) == pytest.approx(16e6, rel=0.05)
    assert meeting(found["baseline"], found["baseline"], (1.0, 2.0), end) is None  # the cheaper stays ahead for good
    rows = {row[0]: row[1:] for row in lasting(study, Speeds())}
    assert rows["`wide`"][4] == "at 4.6 times"
    assert rows["`wide`"][-1] == "not measured"


@pytest.mark.parametrize(
    "points",
    [
        [(n * 1e6, 3.0 - n / 10) for n in range(1, 6)],  # too few
        [(n * 1e6, 3.0 + n / 10) for n in range(1, 15)],  # rising
        [(n * 1e6, 5.0 - n / 10) for n in range(1, 15)],  # a straight line: no power describes it
    ],
)
def test_no_law_is_made_up(points: list[tuple[float, float]]) -> None:
    assert fitted(points) is None


# --- reading ---


def test_a_run_done_again_counts_once_and_the_later_record(studied: Studied) -> None:
    study = studied([record("maestro", "baseline", 0, 3.0), record("maestro", "baseline", 0, 2.5)])[0]
    assert study.values("baseline", [0]) == [2.5]


def test_a_run_that_diverged_is_named_and_kept_out_of_the_means(tmp_path: Path) -> None:
    records = [*grid({"baseline": 3.0, "shortcut": 2.0, "wide": 2.9}), record("maestro", "shortcut", 3, math.nan)]
    write(save(tmp_path / "results.jsonl", records), tmp_path / "speed.json", tmp_path / "docs/reproduction.md")
    text = (tmp_path / "docs/reproduction.md").read_text(encoding="utf-8")
    assert "3: diverged" in text
    assert "nan" not in text.lower()


def test_a_grid_of_nothing_but_diverged_runs_says_so(tmp_path: Path) -> None:
    write(
        save(tmp_path / "results.jsonl", [record("maestro", "shortcut", 0, math.nan)]),
        tmp_path / "speed.json",
        tmp_path / "reproduction.md",
    )
    text = (tmp_path / "reproduction.md").read_text(encoding="utf-8")
    assert "0: diverged" in text and text.count("**not tested here**") >= 6


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "holds no run"),
        ("\n\n", "holds no run"),
        ('{"arm": "baseline"', "line 1 is not a JSON object, perhaps cut short"),
        ("[]", "line 1 is not a JSON object"),
        ('{"arm": "baseline"}', "line 1: corpus is None"),
        (json.dumps(record("maestro", "tall", 0, 3.0)), "the arm 'tall' is not known; known are baseline, "),
        (json.dumps(record("maestro", "wide", 0, 3.0) | {"nll": "low"}), "nll is 'low'"),
        (json.dumps(record("maestro", "wide", True, 3.0)), "seed is True"),
        (json.dumps(record("maestro", "wide", 0, 3.0, curve=[{"tokens": 1}])), "the curve holds a point without"),
        (json.dumps(record("maestro", "wide", 0, 3.0, curve=[3])), "the curve holds a point without"),
        (json.dumps(record("maestro", "wide", 0, 3.0, parameters=0)), "of at least 1 are needed"),
        (json.dumps(record("maestro", "wide", 0, 3.0, model={"depth": 3})), "line 1: model config has the unknown key"),
    ],
)
def test_results_that_cannot_be_read_are_told_in_one_line(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(line)) as caught:
        read_results(path, ARMS)
    assert "\n" not in str(caught.value)


def test_missing_results_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: no such file"):
        write(tmp_path / "results.jsonl", tmp_path / "speed.json", tmp_path / "out.md")


def test_two_models_of_one_arm_are_refused(studied: Studied) -> None:
    other = record("maestro", "wide", 1, 3.0)
    other["model"] = other["model"] | {"feedforward": 999}
    with pytest.raises(DataError, match="wide with two models"):
        studied([record("maestro", "wide", 0, 3.0), other])


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"corpora": {}}', '{"measured": [{"corpus": "x", "machine": {}, "speeds": {"wide": {"rounds": 3}}}]}'],
)
def test_broken_speeds_are_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"speed\.json is not what training\.reproduce speed writes"):
        read_speeds(path)


# --- the page ---


def test_the_page_names_what_ran_and_nothing_else(tmp_path: Path) -> None:
    records = grid({"baseline": 3.0, "shortcut": 2.0, "wide": 2.9}, seeds=[0, 1])
    arms = {
        arm: {"tokens_per_second": speed, "spread": 0.02, "rounds": 5}
        for arm, speed in (("baseline", 100.0), ("shortcut", 40.0))
    }
    speeds = [{"corpus": "maestro", "machine": {"name": "a machine"}, "speeds": arms}]
    (tmp_path / "speed.json").write_text(json.dumps({"measured": speeds}), encoding="utf-8")
    out = tmp_path / "docs" / "reproduction.md"
    write(save(tmp_path / "results.jsonl", records), tmp_path / "speed.json", out)
    text = out.read_text(encoding="utf-8")
    pictures = re.findall(r"\]\((images/[^)]+\.png)\)", text)
    assert pictures == ["images/reproduction.png", "images/reproduction-maestro.png"]
    assert text.index("images/reproduction.png") < text.index("## Verdicts")  # the picture comes first
    assert all((out.parent / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    ran, missing = text.split("## What did not run")
    assert "`mlps`" not in ran and "shortcut-middle" in missing and "text8" in missing
    assert "| WikiText-103 | `baseline` | 3.95, 31.78% | did not run (128 wide) |" in ran
    assert "2.0050 ± 0.0071" in ran and "100 ± 2%" in ran
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) >= 7
    for rows in tables:
        assert len({row.count("|") for row in rows.splitlines()}) == 1, rows


def test_the_page_is_the_same_for_the_same_runs(tmp_path: Path) -> None:
    results = save(tmp_path / "results.jsonl", grid({"baseline": 3.0, "shortcut": 2.0}, corpus="speech"))
    out = tmp_path / "reproduction.md"
    write(results, tmp_path / "speed.json", out)
    first = (out.read_bytes(), (tmp_path / "images/reproduction-speech.png").read_bytes())
    write(results, tmp_path / "speed.json", out)
    assert (out.read_bytes(), (tmp_path / "images/reproduction-speech.png").read_bytes()) == first


def test_the_page_of_what_is_kept_is_that_of_the_runs(tmp_path: Path) -> None:
    """Byte for byte, runs, speeds and readings alike, in whatever order they were kept."""
    base = ModelConfig().to_dict()
    runs = [record | {"base": base, "nll": record["nll"] + 1e-7} for record in grid({"baseline": 3.0, "shortcut": 2.0})]
    results, out, kept = save(tmp_path / "results.jsonl", runs), tmp_path / "page.md", tmp_path / "kept.jsonl"
    arms = {arm: {"tokens_per_second": 7.0, "spread": 0.02, "rounds": 5} for arm in ("baseline", "shortcut")}
    entry = {"corpus": "maestro", "base": base, "precision": "32-true", "machine": {"name": "m"}, "speeds": arms}
    (tmp_path / "speed.json").write_text(json.dumps({"measured": [entry]}))
    readings = [looked_at(tmp_path, "good", 0.005, 0.003, 0.035)]
    write(results, tmp_path / "speed.json", out, readings)
    first = out.read_bytes()
    text = " ".join(out.read_text().split())
    assert "| 7 ± 2% |" in text and "good on maestro" in text and "128 wide" in text
    keep(kept, runs[3:])
    keep(kept, runs[:4], [entry, *map(to_line, read_readings(readings))])
    write(tmp_path / "none.jsonl", tmp_path / "none.json", out, kept=kept)
    assert out.read_bytes() == first
    small = base | {"width": 64}
    write(save(results, [run | {"base": small} for run in runs]), tmp_path / "none.json", out, kept=kept)
    text = out.read_text()
    assert "128 wide" in text and "64 wide" in text  # two bases are two studies
    assert text.count("| 7 ± 2% |") == 2  # and the speeds are of one of them


def looked_at(folder: Path, name: str, rise: float, low: float, taps: float) -> Path:
    """What training.attention_maps writes of a checkpoint, as far as the report reads it."""
    changes = [
        {"change": "depth weights fixed", "of": "by position", "difference": rise, "low": low, "high": 2 * rise - low},
        {"change": "replaced by its mean", "of": "all", "difference": taps, "low": taps, "high": taps},
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"checkpoint": name, "data": {"corpus": "maestro", "changes": changes}}))
    return path


def test_claim_6_is_judged_by_what_was_measured_on_checkpoints(studied: Studied, tmp_path: Path) -> None:
    """Needed is what surely costs something, and a tenth of what the taps are worth; the worst checkpoint counts of
    those to which its taps are worth something."""
    needed = looked_at(tmp_path, "good", 0.005, 0.003, 0.035)
    unsure = looked_at(tmp_path, "unsure", 0.005, -0.001, 0.035)
    little = looked_at(tmp_path, "little", 0.003, 0.002, 0.035)
    unused = looked_at(tmp_path, "unused", 0.0001, -0.0001, 0.0099)
    found = studied(grid({"baseline": 2.5, "shortcut": 2.4}))
    words = [
        claims(found, Speeds(), tmp_path, read_readings(files))[-1].verdict
        for files in ([needed], [needed, unsure], [little], [], [unused], [needed, unused])
    ]
    assert [verdict.word for verdict in words] == [HOLDS, FAILS, FAILS, UNTESTED, UNTESTED, HOLDS]
    assert all("+0.0001 (-0.0001 to +0.0003) of the 0.0099" in each.why for each in words[4:])
    assert "good on maestro: +0.0050 (+0.0030 to +0.0070) of the 0.0350" in words[1].why


@pytest.mark.parametrize("text", ["no json", "[1]", '{"checkpoint": "x", "data": {"corpus": "y", "changes": []}}'])
def test_another_kind_of_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"^[^\n]*figures\.json [^\n]* is needed$"):
        read_readings([path])
