"""The rules by which each claim of the paper is judged. `RULES` says in words, for the report, what is done here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.experiment.arms import EQUAL_SIZE
from training.experiment.report.compare import (
    DEVIATIONS,
    TOLERANCE,
    Axis,
    compare,
    of_equal_size,
    savings,
)
from training.experiment.report.depth import LEAST_SHARE, LEAST_WORTH, Reading
from training.experiment.report.paper import SOONER, modality
from training.experiment.report.statistics import pooled_sd, summarise
from training.experiment.report.studies import Speeds, Study

Word = Literal["holds", "holds only without parameter matching", "does not hold", "not tested here"]
HOLDS: Word = "holds"
UNMATCHED: Word = "holds only without parameter matching"
FAILS: Word = "does not hold"
UNTESTED: Word = "not tested here"
WORST_FIRST: tuple[Word, ...] = (FAILS, UNMATCHED, HOLDS)
MODALITIES = ("music", "speech", "text")
ATTENTION = "attention.md"
"""The page of training.attention_maps, beside the report."""

RULES = (
    "*Lower* means: over the seeds that both arms ran with, the mean test NLL is lower by more than "
    f"{DEVIATIONS:g} pooled standard deviations (the root of the mean of the two variances, n - 1). One seed has no "
    "deviation and tests nothing. Two seeds tell a deviation only to within a factor of thirty or so, so a verdict "
    "from two is marked and not to be leaned on.",
    f"*Of equal size* are the arms {', '.join(EQUAL_SIZE)} whose non-embedding parameters are within {TOLERANCE:.0%} "
    "of shortcut's.",
    "**holds**: shortcut is lower than the arm that the claim names and than every arm of equal size that ran. "
    "**holds only without parameter matching**: lower than the arm named, but not than every one of equal size. "
    "**does not hold**: not lower than the arm named; that may also be a difference too small for so few seeds or so "
    "short a run to show. **not tested here**: an arm is missing, fewer than two seeds "
    "ran, or shortcut is lower than the arm named but no arm of equal size ran.",
    "Claims 1, 4 and 5 name baseline, shortcut-identity and shortcut-middle.",
    "Claim 2 is about the share of tokens that shortcut saves on the way to the baseline's last validation loss. It "
    f"holds where that share is at least {SOONER[0]:.0%} on average and above 0 in every seed, and larger by more than "
    f"{DEVIATIONS:g} pooled standard deviations than what each arm of equal size saves (nothing, in a seed in which "
    "that arm never gets there); it holds only without parameter matching where an arm of equal size saves as much. "
    "FLOPs and seconds decide nothing here and are named beside it.",
    "Claim 3 is claim 1 on every kind of data: it does not hold as soon as claim 1 fails on one kind, is not tested "
    "where one kind did not run, and is otherwise the worst of the three.",
    "Claim 6 is about checkpoints, and judged by `training.attention_maps`: the last block's share of each tap is "
    "fixed to its mean at the position in the window, whatever the token. It holds on a checkpoint where that raises "
    f"the NLL by at least {LEAST_SHARE:.0%} of what all taps are worth to it (the rise with their features replaced by "
    "their means), with the 95% interval above 0; the worst checkpoint counts. One to which its taps are worth less "
    f"than {LEAST_WORTH:g} nats a token has not learnt to use them, and is left out.",
    "Over several corpora the worst verdict counts, leaving out those without a test. Where one corpus ran under "
    "several settings, the one of the most tokens counts.",
)


@dataclass(frozen=True)
class Verdict:
    """A verdict, the figures behind it, and whether it rests on two seeds alone."""

    word: Word
    why: str
    two_seeds: bool = False

    def __str__(self) -> str:
        return f"**{self.word}**" + (" (two seeds)" if self.two_seeds else "")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the verdict over all studies, and that of each one, in their order."""

    text: str
    verdict: Verdict
    by_study: Sequence[Verdict] = ()


def claims(studies: Sequence[Study], speeds: Speeds, folder: Path, readings: Sequence[Reading] = ()) -> list[Claim]:
    """The verdicts on the paper's six claims. folder: where the report will lie."""
    first = _claim(
        "The shortcut model ends lower than the baseline", lambda study: ends_lower(study, "baseline"), studies
    )
    return [
        first,
        _claim("It reaches the baseline's loss 30–49% sooner", lambda study: sooner(study, speeds), studies),
        Claim("Both on music, speech and text alike", everywhere(studies, first.by_study)),
        _claim(
            "The taps need their MLPs: without them the model is worse",
            lambda study: ends_lower(study, "shortcut-identity"),
            studies,
        ),
        _claim(
            "Taps at several depths are better than one in the middle",
            lambda study: ends_lower(study, "shortcut-middle"),
            studies,
        ),
        Claim("How deep the last block looks varies with the token", _attention(folder, readings)),
    ]


def _attention(folder: Path, readings: Sequence[Reading]) -> Verdict:
    """Claim 6, from what was measured on checkpoints."""
    there = (folder / ATTENTION).is_file()
    place = f": see [{ATTENTION}]({ATTENTION})" if there else ""
    if not readings:
        return Verdict(
            UNTESTED, f"these runs cannot tell; `training.attention_maps` measures it on a checkpoint{place}"
        )
    telling = [reading for reading in readings if reading.tells]
    word = UNTESTED if not telling else HOLDS if all(reading.needed for reading in telling) else FAILS
    words = {True: HOLDS, False: FAILS}
    seen = "; ".join(f"{each} ({words[each.needed] if each.tells else 'too little to tell'})" for each in readings)
    return Verdict(word, f"with depth fixed by position the NLL rises, {seen}{place}")


def _claim(text: str, judge: Callable[[Study], Verdict], studies: Sequence[Study]) -> Claim:
    by_study = [judge(study) for study in studies]
    return Claim(text, _worst(list(_deciding(studies, by_study).items())), by_study)


def _deciding(studies: Sequence[Study], verdicts: Sequence[Verdict]) -> dict[str, Verdict]:
    """A verdict for each corpus: of the setting with the most tokens that tested the claim at all."""
    chosen: dict[str, tuple[int, Verdict]] = {}
    for study, verdict in zip(studies, verdicts, strict=True):
        rank = study.tokens if verdict.word != UNTESTED else -1
        if study.corpus not in chosen or rank > chosen[study.corpus][0]:
            chosen[study.corpus] = (rank, verdict)
    return {corpus: verdict for corpus, (_, verdict) in chosen.items()}


def _worst(verdicts: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The worst of the verdicts of several corpora (or kinds of data) that were tested."""
    why = "; ".join(f"{name} {verdict.word}" for name, verdict in verdicts)
    for word in WORST_FIRST:
        if same := [verdict for _, verdict in verdicts if verdict.word == word]:
            alone = verdicts[0][1].why if len(verdicts) == 1 else why
            return Verdict(word, alone, all(verdict.two_seeds for verdict in same))
    return Verdict(UNTESTED, verdicts[0][1].why if len(verdicts) == 1 else why)


def everywhere(studies: Sequence[Study], verdicts: Sequence[Verdict]) -> Verdict:
    """Claim 3, from claim 1's verdicts of every study."""
    kinds: dict[str, list[tuple[str, Verdict]]] = {kind: [] for kind in MODALITIES}
    for corpus, verdict in _deciding(studies, verdicts).items():
        kinds.setdefault(modality(corpus), []).append((corpus, verdict))
    judged = [(kind, _worst(kinds[kind])) for kind in MODALITIES if kinds[kind]]
    judged = [(kind, verdict) for kind, verdict in judged if verdict.word != UNTESTED]
    worst = _worst(judged)
    untested = [kind for kind in MODALITIES if kind not in dict(judged)]
    seen = "; ".join(f"{kind} {verdict.word}" for kind, verdict in judged)
    if untested and worst.word != FAILS:
        return Verdict(UNTESTED, f"no test on {', '.join(untested)}" + (f" ({seen})" if seen else ""))
    why = seen + (f"; not tested on {', '.join(untested)}" if untested else "")
    return Verdict(worst.word, why, worst.two_seeds)


def ends_lower(study: Study, than: str, own: str = "shortcut") -> Verdict:
    """Whether shortcut, or its like on another baseline, ends lower than an arm, and than every arm of equal size."""
    if missing := [arm for arm in (own, than) if arm not in study.runs]:
        return Verdict(UNTESTED, f"{' and '.join(missing)} did not run")
    difference = compare(study, own, than)
    if difference is None:
        return Verdict(UNTESTED, f"fewer than two seeds ran with both {own} and {than}")
    why, two = f"{own} is {difference} than {than}", difference.test.count == 2
    if not difference.lower:
        return Verdict(FAILS, why, two)
    equal = {arm: compare(study, own, arm) for arm in of_equal_size(study, own)}
    tested = {arm: result for arm, result in equal.items() if result is not None}
    if not tested:
        return Verdict(UNTESTED, f"{why}; but no arm of equal size ran with two seeds or more")
    hardest, closest = max(tested.items(), key=lambda item: item[1].test.mean)
    lower = all(result.lower for result in tested.values())
    two = any(result.test.count == 2 for result in tested.values())
    return Verdict(
        HOLDS if lower else UNMATCHED, f"{why}; against {hardest}, the strongest of equal size, {closest}", two
    )


def sooner(study: Study, speeds: Speeds) -> Verdict:
    """Whether shortcut reaches the baseline's last validation loss as much sooner as the paper says, by tokens."""
    if missing := [arm for arm in ("shortcut", "baseline") if arm not in study.runs]:
        return Verdict(UNTESTED, f"{' and '.join(missing)} did not run")
    shares = savings(study, "shortcut", "tokens", speeds)
    if len(shares) < 2:
        return Verdict(UNTESTED, "fewer than two seeds ran with both shortcut and baseline and kept their curves")
    two = len(shares) == 2
    reached = [share for share in shares.values() if share is not None]
    if len(reached) < len(shares):
        return Verdict(FAILS, f"the baseline's loss was reached in {len(reached)} of {len(shares)} seeds", two)
    why = f"shortcut saves {spread(reached)} of the tokens{_elsewhere(study, speeds)}"
    if summarise(reached).mean < SOONER[0] or min(reached) <= 0:
        return Verdict(FAILS, why, two)
    tested = {arm: savings(study, arm, "tokens", speeds) for arm in of_equal_size(study)}
    tested = {arm: theirs for arm, theirs in tested.items() if len(shares.keys() & theirs.keys()) >= 2}
    if not tested:
        return Verdict(UNTESTED, f"{why}; but no arm of equal size ran with two seeds or more")
    beaten, words = True, []
    for arm, theirs in tested.items():
        seeds = sorted(shares.keys() & theirs.keys())
        own, other = [shares[seed] or 0.0 for seed in seeds], [theirs[seed] or 0.0 for seed in seeds]
        gain = summarise(own).mean - summarise(other).mean
        beaten &= gain > DEVIATIONS * pooled_sd(own, other)
        two |= len(seeds) == 2
        words.append(f"{arm} {spread(other)}")
    return Verdict(HOLDS if beaten else UNMATCHED, f"{why}; of equal size: {', '.join(words)}", two)


def _elsewhere(study: Study, speeds: Speeds) -> str:
    """The shares of FLOPs and seconds that shortcut saves, for the reader."""
    said = ""
    axes: tuple[Axis, ...] = ("FLOPs", "seconds")
    for axis in axes:
        shares = [share for share in savings(study, "shortcut", axis, speeds).values() if share is not None]
        said += f", {spread(shares)} of the {axis}" if shares else f" (no speed was measured: no share of {axis})"
    return said


def spread(shares: Sequence[float]) -> str:
    """Shares as `mean ± sd` in percent."""
    total = summarise(shares)
    return percent(total.mean) + ("" if total.sd is None else f" ± {100 * total.sd:.0f}")


def percent(share: float) -> str:
    """A share in whole percent, with a true minus sign."""
    return f"{100 * share:.0f}%".replace("-", "−")
