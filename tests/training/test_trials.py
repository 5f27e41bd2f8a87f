"""Trials beyond the paper: where each begins, what it costs, and its way from an arm through training to a score."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from shortcut_gen.errors import ConfigError, SettingsError
from shortcut_gen.network.cache import DecodeCache
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM, Step
from tests.shared.tiny_runs import arguments, write_corpus
from tests.training.test_reproduce import InProcess, command
from training import export, fit, reproduce
from training.experiment.arms import ARMS, KNOWN, TRIALS, described, family, is_control, model_of, sizes
from training.experiment.results import read
from training.run.checkpoints import LAST, model_of_run, read_run_checkpoint
from training.run.task import LanguageModelTask
from training.run.trial_parts import over_depth
from training.run.trials import Trial, TrialConfig, TrialLM, build, read_config, with_trial

PAPER = ModelConfig()
SMALL = ModelConfig(
    **dict(vocab_size=13, context=12, layers=5, width=16, heads=2, feedforward=24, feature_hidden=20),  # type: ignore[arg-type]
    **dict(taps=(2, 4), shortcut_heads=4),  # type: ignore[arg-type]
)
OF_THE_STACK = (
    *("depth", "value-residual", "extra-heads", "depth-value", "muddformer-kv", "extra-heads-value", "additive-taps"),
    *("additive-taps-value", "value-embeddings", "value-residual-heads", "head-gates", "x0"),
)
"""Trials that begin as the baseline, but for shares of values, which begin in the middle."""
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*")


def made(name: str, base: ModelConfig = SMALL) -> TrialLM | ShortcutLM:
    torch.manual_seed(0)
    return build(model_of(name, base)).eval()


def perturbed(model: ShortcutLM) -> ShortcutLM:
    with torch.no_grad():  # weights far from their small or empty start, so that every path counts
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def shares_of(model: ShortcutLM) -> list[torch.nn.Parameter]:
    return [value for name, value in model.named_parameters() if name.endswith("shares")]


def tokens() -> torch.Tensor:
    return torch.randint(0, 13, (2, 12), generator=torch.Generator().manual_seed(1))


# --- where a trial begins ---


@pytest.mark.parametrize("position", ["learned", "rotary"])
@pytest.mark.parametrize("name", OF_THE_STACK)
def test_a_trial_of_the_stack_begins_as_the_baseline_of_the_same_seed(name: str, position: str) -> None:
    base = replace(SMALL, position=position)
    model, baseline = made(name, base), made("baseline", base)
    with torch.no_grad():
        for shares in shares_of(model):  # these begin in the middle, not at the baseline
            assert set(shares.tolist()) == {0.5}
            other, own = shares.view(2, -1)
            other.zero_()
            own.fill_(1.0)
        torch.testing.assert_close(model(tokens()), baseline(tokens()))
        assert not torch.allclose(perturbed(model)(tokens()), perturbed(baseline)(tokens()))


def test_the_shares_weigh_the_first_blocks_values_and_a_blocks_own() -> None:
    model, baseline = perturbed(made("value-residual")), made("baseline")
    baseline.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        for shares in shares_of(model):
            shares.copy_(torch.tensor([0.0, 2.0]))
        for block in baseline.blocks[1:]:
            block.attention.keys_values.weight[16:] *= 2
            block.attention.keys_values.bias[16:] *= 2
        torch.testing.assert_close(model(tokens()), baseline(tokens()))
        model.blocks[3].attention.value_shares.copy_(torch.tensor([1.0, 0.0]))
    model(tokens()).sum().backward()
    gradient = model.blocks[3].attention.keys_values.weight.grad
    assert gradient is not None and gradient[:16].any() and not gradient[16:].any()  # of the keys, not of the values


def test_attention_over_depth_mixes_the_values_of_one_position() -> None:
    """Against the sum written out; and a block that finds all keys alike takes the mean of the values."""
    generator = torch.Generator().manual_seed(3)
    query, *others = (torch.randn(2, 5, 3, 4, generator=generator) for _ in range(7))
    keys, values = others[:3], others[3:]
    mixed = over_depth(query, keys, values)
    scores = torch.tensor([float(query[1, 4, 2] @ key[1, 4, 2]) / 2 for key in keys]).softmax(0)
    expected = sum(weight * value[1, 4, 2] for weight, value in zip(scores, values, strict=True))
    torch.testing.assert_close(mixed[1, 4, 2], expected)
    torch.testing.assert_close(over_depth(query, keys[:1] * 3, values), sum(values) / 3)


def test_attention_over_depth_reads_the_blocks_below() -> None:
    model = perturbed(made("depth-attention"))
    before = model(tokens())
    below, above = model.blocks[0].attention.keys_values, model.blocks[1].attention.keys_values
    assert build(model_of("depth-attention", SMALL)).num_parameters() == made("baseline").num_parameters()
    logits = model(tokens())
    torch.testing.assert_close(logits, before)
    gradient = torch.autograd.grad(logits.sum(), [below.weight, above.weight])
    with torch.no_grad():
        for block in model.blocks[1:]:  # keys that no query likes: the first block's values alone are left
            block.attention.keys_values.weight[:16].zero_()
            block.attention.keys_values.bias[:16].zero_()
            block.attention.query.weight.zero_()
            block.attention.query.bias.fill_(-1e3)
        model.blocks[0].attention.keys_values.weight[:16].zero_()
        model.blocks[0].attention.keys_values.bias[:16].fill_(-1e3)
    left = torch.autograd.grad(model(tokens()).sum(), above.weight)[0]
    assert gradient[1][16:].any() and not left[16:].any()


def test_added_taps_read_what_a_block_added_and_not_the_stream() -> None:
    model = perturbed(made("additive-taps"))
    assert isinstance(model, TrialLM)
    heads = model.extra["added"]
    outputs = [torch.randn(2, 12, 16) for _ in range(5)]
    moved = [output + 7 * torch.ones(16).cumsum(0) for output in outputs]  # the same steps on another stream
    x, step = torch.randn(2, 12, 16), Step(torch.arange(12).unsqueeze(0), None)
    torch.testing.assert_close(heads(x, outputs, step), heads(x, moved, step), atol=1e-4, rtol=1e-4)
    outputs[3] += torch.randn(2, 12, 16)  # block 4, a tap, is blamed for the step from there
    assert not torch.allclose(heads(x, outputs, step), heads(x, moved, step))


@pytest.mark.parametrize(("strong", "plain"), [("strong", "baseline"), ("swiglu", "baseline")])
def test_a_gated_baseline_is_as_large_as_the_plain_one(strong: str, plain: str) -> None:
    for base in (PAPER, replace(PAPER, width=64, heads=4, feedforward=256)):
        one, other = sizes(model_of(strong, base), 512), sizes(model_of(plain, base), 512)
        assert abs(one[0] / other[0] - 1) < 0.02 and abs(one[2] / other[2] - 1) < 0.02


def test_the_strong_arms_are_one_family_of_their_own() -> None:
    wide, shortcut = (sizes(model_of(f"strong-{name}", PAPER), 512) for name in ("wide", "shortcut"))
    assert abs(wide[0] / shortcut[0] - 1) < 0.1
    names = [name for name in KNOWN if family(name) == "strong"]
    assert names == ["strong", "strong-shortcut", "strong-wide", "strong-value"]
    for name in names:
        model = model_of(name, PAPER)
        assert (model.position, model.activation) == ("rotary", "swiglu")
    assert family("shortcut") == family("matched:shortcut") == ""


def test_norms_of_its_own_begin_as_one_for_all() -> None:
    model, plain = made("current-identity"), made("current-identity")
    plain = ShortcutLM(ModelConfig.from_dict({k: v for k, v in model.config.to_dict().items() if k != "trial"})).eval()
    assert isinstance(model, TrialLM) and model.shortcut is not None and plain.shortcut is not None
    plain.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(model(tokens()), plain(tokens()))
    with torch.no_grad():
        model.shortcut.features_norms[1].weight.mul_(3)
    assert not torch.allclose(model(tokens()), plain(tokens()))


def test_one_map_for_all_taps_is_a_map_of_each_with_the_same_weights() -> None:
    model = made("shared-256")
    plain = ShortcutLM(ModelConfig.from_dict({k: v for k, v in model.config.to_dict().items() if k != "trial"})).eval()
    assert model.shortcut is not None and plain.shortcut is not None
    state = {name: value.clone() for name, value in model.state_dict().items() if "shortcut.biases" not in name}
    for kind in ("weight", "bias"):
        state[f"shortcut.features_norm.{kind}"] = state.pop(f"shortcut.features_norms.0.{kind}")
    for name in [name for name in state if "features.weights" in name or "features.biases" in name]:
        state[name] = state[name].expand(2, -1, -1)
    plain.load_state_dict(state)
    torch.testing.assert_close(model(tokens()), plain(tokens()))
    with torch.no_grad():
        model.shortcut.biases[1].add_(torch.randn(16))
    assert not torch.allclose(model(tokens()), plain(tokens()))


# --- what holds of every trial ---


@pytest.mark.parametrize("name", TRIALS)
def test_nothing_is_seen_of_later_tokens_and_all_is_trained(name: str) -> None:
    model = perturbed(made(name)).double()
    ids = tokens()
    changed = ids.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 13
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], atol=1e-12, rtol=0)
    assert not torch.allclose(before[:, 7:], after[:, 7:])
    F.cross_entropy(before.flatten(0, 1), ids.flatten()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", TRIALS)
def test_a_trials_config_comes_back_and_decides_its_weights(name: str) -> None:
    config = model_of(name, SMALL)
    assert read_config(config.to_dict()) == config
    other, again = build(config), build(read_config(config.to_dict()))
    again.load_state_dict(other.state_dict())
    task = LanguageModelTask(config)
    grouped = [p for group in task.configure_optimizers().param_groups for p in group["params"]]
    assert len(grouped) == len(list(task.model.parameters()))


def test_no_trial_is_the_librarys_config() -> None:
    assert with_trial(SMALL, None) is SMALL
    assert with_trial(SMALL, Trial()) is SMALL
    empty = TrialConfig(**{**vars(SMALL)})
    assert empty.to_dict() == SMALL.to_dict()
    assert read_config(empty.to_dict()) == SMALL
    assert type(build(empty)) is ShortcutLM
    assert all(type(model_of(name, SMALL)) is ModelConfig for name in ARMS)


@pytest.mark.parametrize(
    ("base", "trial", "says"),
    [
        ({}, {"depth": "stream"}, "no taps"),
        ({"taps": ()}, {"source_norms": True}, "taps are needed"),
        ({"features": "identity"}, {"shared_features": True}, "needs features mlp"),
        ({"taps": (), "residual": "literal"}, {"depth": "stream"}, "residual prenorm"),
        ({"taps": ()}, {"extra_heads": 2, "extra_taps": (5,)}, "valid values are 1 to 4"),
        ({"taps": ()}, {"extra_heads": 2}, "both or neither"),
        ({"taps": ()}, {"depth": "sideways"}, "one of none, stream, qkv"),
        ({"taps": ()}, {"width": 3}, "unknown key 'width'"),
        ({"taps": ()}, {"extra_taps": 5}, "wrong type"),
        ({"taps": ()}, {"added_taps": (0,)}, "added_taps are \\(0,\\); valid values are 1 to 4"),
        ({}, {"depth_attention": True}, "no taps"),
        ({"taps": ()}, {"head_gates": 1}, "true or false is needed"),
        ({"taps": (), "value_residual": True}, {"head_shares": True}, "takes the place of value_residual"),
    ],
)
def test_what_cannot_be_a_trial(base: dict[str, Any], trial: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        with_trial(replace(SMALL, **base), Trial.from_dict(trial))


def test_a_trial_has_no_cache() -> None:
    model = made("depth")
    with pytest.raises(ConfigError, match="no decode cache"):
        model(tokens(), DecodeCache.create(model.config, batch=2))


# --- what it costs ---

D, T = 128, 512
ONE_MAP = (D * 128 + 128) + (128 * 128 + 128) + (128 * D + D)
MAP_256 = (D * 256 + 256) + (256 * 256 + 256) + (256 * D + D)
FULL_MAP = (D * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * D + D)
SOURCES = 3 * (2 * D * D + D * T)  # the last block reads four keys a position
SUMS = 9 + 10 + 11
ADDED = (4 * 2 * D + 4 * (D * D + D), 2 * D * D + 4 * 2 * D * D + 4 * D * T)
GATED = (10 * (3 * D * 344 + 2 * 344 - 2 * D * 512 - 512), 10 * (3 * D * 344 - 2 * D * 512))
COSTS = {  # beside the baseline's: parameters, and multiplications forward with attention's D a key
    "current-small": (4 * ONE_MAP + 2 * D, 4 * (3 * D * 128) + 4 * 2 * D * D + 4 * D * T),
    "current-identity": (5 * 2 * D, 4 * 2 * D * D + 4 * D * T),
    "identity-value": (5 * 2 * D + 18, 4 * 2 * D * D + 4 * D * T + 13 * 2 * D),
    "shared-256": (MAP_256 + 5 * D + 2 * D, 4 * (2 * D * 256 + 256 * 256) + 4 * 2 * D * D + 4 * D * T),
    "depth": (SUMS * (D + 1), SUMS * 2 * D),
    "value-residual": (9 * 2, 9 * 2 * D),
    "shortcut-value": (4 * FULL_MAP + 2 * D + 9 * 2, 4 * (2 * D * 1024 + 1024 * 1024) + SOURCES + 12 * 2 * D),
    "extra-heads": (
        2 * (4 * 2 * D + (D + 1) * 64 + (D + 1) * 128 + 64 * D + D),
        2 * (D * 64 + 4 * D * 128 + 64 * D + 4 * 64 * T),
    ),
    "depth-value": (SUMS * (D + 1) + 18, SUMS * 2 * D + 9 * 2 * D),
    "muddformer-kv": (3 * 10 * (D + 1), 3 * 10 * 2 * D),
    "depth-attention": (0, 2 * D * 55),
    "depth-attention-value": (18, 2 * D * 55 + 9 * 2 * D),
    "additive-taps": ADDED,
    "additive-taps-value": (ADDED[0] + 18, ADDED[1] + 9 * 2 * D),
    "value-embeddings": (388 * D + 20, 10 * 2 * D),
    "value-residual-heads": (9 * 2 * 8, 9 * 2 * D),
    "head-gates": (10 * (D + 1) * 8, 10 * (D * 8 + D)),
    "x0": (9, 9 * D),
    "swiglu": GATED,
    "strong": GATED,
    "strong-value": (GATED[0] + 18, GATED[1] + 9 * 2 * D),
}
COSTS["extra-heads-value"] = (COSTS["extra-heads"][0] + 18, COSTS["extra-heads"][1] + 9 * 2 * D)
COSTS["strong-shortcut"] = (
    COSTS["shortcut-value"][0] - 18 + GATED[0],
    COSTS["shortcut-value"][1] - 12 * 2 * D + GATED[1],
)


@pytest.mark.parametrize("name", [name for name in TRIALS if name != "strong-wide"])
def test_parameters_and_flops_are_all_counted(name: str) -> None:
    baseline, trial = sizes(model_of("baseline", PAPER), T), sizes(model_of(name, PAPER), T)
    assert (trial[0] - baseline[0], trial[2] - baseline[2]) == (COSTS[name][0], 6 * COSTS[name][1])


@pytest.mark.parametrize("name", [*TRIALS, "shortcut", "shortcut-identity"])
def test_a_control_is_the_smallest_that_is_no_smaller(name: str) -> None:
    trial, control = sizes(model_of(name, PAPER), T), model_of(f"matched:{name}", PAPER)
    assert replace(control, feedforward=512) == model_of("baseline", PAPER)
    for place in (0, 2):
        assert sizes(control, T)[place] >= trial[place]
    smaller = sizes(replace(control, feedforward=control.feedforward - 8), T)
    assert smaller[0] < trial[0] or smaller[2] < trial[2]


def test_the_report_knows_every_trial() -> None:
    assert len({described(name) for name in KNOWN}) == len(KNOWN)
    with pytest.raises(SettingsError, match="unknown arm 'depths'"):
        described("depths")
    assert [is_control(name) for name in ("depth", "matched:depth", "wide", "shortcut")] == [False, True, True, False]
    assert len(set(KNOWN)) == len(KNOWN)


# --- from an arm to a score ---


def test_a_trial_and_its_control_through_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "JobRunner", InProcess)
    write_corpus(tmp_path / "data", {"train": [400, 90], "validation": [300], "test": [120, 60]})
    (tmp_path / "overlay.yaml").write_text(f"data:\n  path: {tmp_path / 'data'}\n")
    arms = ["depth-value", "matched:depth-value"]
    words = command(tmp_path, "--seeds", "0", "--budget.steps", "2", arms=arms)
    assert reproduce.main(words) == 0
    trial, control = read(tmp_path / "out/results.jsonl")
    assert (trial["arm"], control["arm"]) == tuple(arms)
    assert trial["model"]["trial"] == {"depth": "stream"}
    assert trial["model"]["value_residual"] is True
    assert "trial" not in control["model"]
    for key in ("parameters", "flops_per_token"):
        assert control[key] >= trial[key]
    assert 0 < trial["nll"] < 20
    assert reproduce.main(words) == 0  # nothing is left to do
    assert "2 done, 0 to run" in capsys.readouterr().out
    monkeypatch.setattr("training.experiment.report.page.draw", lambda *_: None)
    results, page = tmp_path / "out/results.jsonl", tmp_path / "report.md"
    assert reproduce.main(["report", "--results", str(results), "--out", str(page)]) == 0
    report = " ".join(page.read_text().split())
    assert "`matched:depth-value` (baseline with feed-forward layers that make it no smaller" in report

    (run,) = (tmp_path / "out/runs").glob("maestro-depth-value-0-*")
    state = read_run_checkpoint(run / LAST)
    assert isinstance(model_of_run(run / LAST, state), TrialLM)
    assert export.main([str(run), str(tmp_path / "checkpoint")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "its model is a trial" in error
    assert not (tmp_path / "checkpoint").exists()


def test_a_trial_is_no_base_of_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "overlay.yaml").write_text("model: {config: {taps: []}, trial: {depth: stream}}\n")
    assert reproduce.main([*command(tmp_path, "--budget.steps", "2"), "--dry_run"]) == 2
    assert "in a grid trials are arms" in capsys.readouterr().err


def test_a_trial_goes_on_as_the_same_trial_and_samples_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "data", {"train": [400], "validation": [300]})
    options = ["--model.config.taps=[]", '--model.trial={"depth": "qkv"}', "--budget.steps"]
    assert fit.main(arguments(tmp_path, "kv", *options, "1")) == 0
    assert fit.main(arguments(tmp_path, "kv", *options, "2", "--resume", "auto")) == 0
    capsys.readouterr()
    other = ["--model.config.taps=[]", "--budget.steps", "3", "--resume", "auto"]
    assert fit.main(arguments(tmp_path, "kv", *other)) == 2
    assert "its model had trial {'depth': 'qkv'} and is now given trial None" in capsys.readouterr().err
    assert fit.main(arguments(tmp_path, "heard", *options, "1", "--sample_every", "1")) == 2
    assert "sample_every 0 is needed" in capsys.readouterr().err
