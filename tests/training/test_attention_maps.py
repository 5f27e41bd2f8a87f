"""training.attention_maps: the attention taken apart is the model's own, no change sees the future, figures add up."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shortcut_gen.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from shortcut_gen.media import Audio
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Prompt
from tests.shared.small_models import VARIANTS, build, tiny_speech_checkpoint
from tests.shared.tiny_runs import write_corpus
from training import attention_maps
from training.attention.changes import View, average, changes, interval, outcome, past_orders, weighted
from training.attention.taps import enter, last_block, leave, mix, source_names, take_apart
from training.attention.use import explained, kinds_of, look

LENGTH = 20
KINDS = torch.arange(13) % 3
SHORTCUTS = [name for name, given in VARIANTS.items() if given.get("taps") != ()]
PROMPT = Path(__file__).resolve().parents[2] / "ui/examples/satie-gymnopedie.mid"


def exact(variant: str) -> ShortcutLM:
    return build(variant).double()


def windows(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 13, (count, LENGTH), generator=torch.Generator().manual_seed(seed))


def view_of(model: ShortcutLM, tokens: Tensor) -> View:
    entry = enter(model, tokens.unsqueeze(0))
    parts = take_apart(last_block(model).attention, entry.query, entry.sources, entry.step)
    generator = torch.Generator().manual_seed(0)
    return View(model=model, entry=entry, parts=parts, tokens=tokens, generator=generator)


@pytest.mark.parametrize("variant", SHORTCUTS)
@torch.inference_mode()
def test_the_parts_put_together_are_what_the_block_computes(variant: str) -> None:
    model, tokens = exact(variant), windows(2)
    attention = last_block(model).attention
    seen: list[Tensor] = []
    handle = attention.register_forward_hook(lambda module, given, out: seen.append(out))
    entry = enter(model, tokens)
    handle.remove()
    parts = take_apart(attention, entry.query, entry.sources, entry.step)
    attended = mix(parts.share, parts.read)
    torch.testing.assert_close(attention.out(attended.transpose(1, 2).flatten(2)), seen[0])
    torch.testing.assert_close(leave(model, entry, attended), model(tokens))
    torch.testing.assert_close(entry.logits, model(tokens), rtol=0, atol=0)
    assert last_block(model).attention is attention

    weights = parts.share.unsqueeze(-1) * parts.within  # (B, H, L, T, T)
    assert weights.shape[2] == len(source_names(model.config))
    torch.testing.assert_close(weights.sum(dim=(2, 4)), torch.ones_like(weights[:, :, 0, :, 0]))
    assert not weights.triu(1).any()


@pytest.mark.parametrize("variant", ["shortcut", "current", "rotary", "one-tap"])
@torch.inference_mode()
def test_no_change_lets_a_query_see_what_comes_later(variant: str) -> None:
    model, kinds = exact(variant), KINDS
    means = average(model, windows(3, seed=1), kinds, 3)
    one, other = windows(1)[0], windows(1)[0].clone()
    other[11:] = (other[11:] + 5) % 13
    todo = changes(model, means, kinds)
    assert len({(what, to) for what, to, _ in todo}) == len(todo) >= 5
    for what, to, how in todo:
        first, second = view_of(model, one), view_of(model, other)
        made = [leave(model, view.entry, how(view))[0] for view in (first, second)]
        torch.testing.assert_close(made[0][:11], made[1][:11], msg=f"{what}: {to}")
        assert not torch.allclose(made[0], first.entry.logits[0]), f"{what}: {to} changes nothing"


@torch.inference_mode()
def test_a_removed_tap_leaves_the_others_what_they_had_of_the_rest() -> None:
    model = exact("current")
    view = view_of(model, windows(1)[0])
    weights = view.parts.share.unsqueeze(-1) * view.parts.within  # (B, H, L, T, T)
    how = {(what, to): do for what, to, do in changes(model, average(model, windows(1), KINDS, 3), KINDS)}
    for number, name in enumerate(source_names(model.config)):
        left = weights.clone()
        left[:, :, number] = 0
        left /= left.sum(dim=(2, 4), keepdim=True)
        torch.testing.assert_close(how["removed", name](view), (left @ view.parts.values).sum(dim=2))


@torch.inference_mode()
def test_a_tap_replaced_by_what_it_always_is_changes_nothing() -> None:
    model = exact("rotary")
    view = view_of(model, windows(1)[0])
    view.entry.sources[:] = view.entry.sources[:, 3:4].clone()  # the same features at every position
    attention = last_block(model).attention
    parts = take_apart(attention, view.entry.query, view.entry.sources, view.entry.step)
    view = View(model=model, entry=view.entry, parts=parts, tokens=view.tokens, generator=view.generator)
    means = average(model, windows(1), KINDS, 3)
    object.__setattr__(means, "sources", view.entry.sources[0, 0])
    for what, to, how in changes(model, means, KINDS):
        if what == "replaced by its mean":
            torch.testing.assert_close(how(view), mix(parts.share, parts.read), msg=to)


@torch.inference_mode()
def test_depth_weights_given_as_they_are_change_nothing() -> None:
    view = view_of(exact("shortcut"), windows(1)[0])
    attended = weighted(lambda view: view.parts.share[0])(view)
    torch.testing.assert_close(attended, mix(view.parts.share, view.parts.read))


def test_a_shuffle_deals_out_the_past_and_nothing_else() -> None:
    orders = past_orders(9, torch.Generator().manual_seed(0))
    assert all(sorted(row[: t + 1].tolist()) == list(range(t + 1)) for t, row in enumerate(orders))
    assert any(row[: t + 1].tolist() != list(range(t + 1)) for t, row in enumerate(orders))


@torch.inference_mode()
def test_means_are_those_of_the_windows() -> None:
    model, given = exact("shortcut"), windows(3, seed=2)
    given[given == 12] = 0  # an id that never comes
    means = average(model, given, KINDS, 3)
    views = [view_of(model, tokens) for tokens in given]
    share = torch.stack([view.parts.share[0] for view in views])  # (N, H, L, T)
    torch.testing.assert_close(means.by_position, share.mean(dim=0))
    torch.testing.assert_close(means.by_head.sum(dim=-1), torch.ones(4).double())
    torch.testing.assert_close(means.weights.sum(dim=(1, 3)), torch.ones(4, LENGTH).double())
    of_kind = share.movedim(-1, 1)[KINDS[given] == 1]  # (tokens, H, L)
    expected = (of_kind.sum(dim=0) + means.by_head) / (len(of_kind) + 1)
    torch.testing.assert_close(means.by_kind[1].double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(means.by_token[12], means.by_kind[0])

    table = means.by_distance
    torch.testing.assert_close(table.sum(dim=(1, 3)), torch.ones(4, LENGTH).double())
    ratio = table[..., 7, :7] / table[..., 7, 1:8]
    torch.testing.assert_close(ratio, table[..., 12, 5:12] / table[..., 12, 6:13])


def test_what_explains_the_shares_is_told_from_what_does_not() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 10, 4000)
    share = rng.random((10, 2, 3)).astype(np.float32)[group]
    assert explained(share, group) == pytest.approx(1)
    noise = rng.random(share.shape).astype(np.float32)
    assert explained(noise, group) == pytest.approx(0, abs=0.01)
    assert explained(noise, rng.integers(0, 2000, 4000)) == pytest.approx(0, abs=0.05)  # many groups explain no more
    assert explained(noise[:5], np.arange(5)) is None


def test_an_outcome_is_the_mean_over_tokens_and_its_interval_over_pieces() -> None:
    tokens, pieces = np.array([10.0, 10, 10, 10]), np.array([0, 0, 1, 2])
    losses = np.array([10.0, 20, 30, 40])
    same, more = outcome(
        [("a", "x"), ("b", "y")], losses, np.stack([losses, losses + np.array([1, 1, 2, 3])], 1), tokens, pieces, 0
    )
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    assert more["difference"] == pytest.approx(7 / 40)
    assert more["nll"] == pytest.approx(107 / 40)
    assert 0.1 <= more["low"] < 7 / 40 < more["high"] <= 0.3
    values = np.random.default_rng(1).normal(1.0, 0.5, 400)
    low, high = interval(values, np.ones(400), 0)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 * 0.5 / 20, rel=0.2)  # ± 2 standard errors


def test_ids_are_of_the_kinds_that_the_tokenizer_has() -> None:
    tokenizer = PianoTokenizer()
    names, of_id = kinds_of(tokenizer)
    first = {"on": "note-on", "off": "note-off", "wait": "time-shift", "velocity": "velocity"}
    described = tokenizer.describe(range(tokenizer.vocab_size))
    assert [names[kind] for kind in of_id] == [first[text.split()[0]] for text in described]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "data", {"train": [40], "validation": [70, 90, 20], "test": [120, 33, 300, 64]})
    return tmp_path


def test_the_command_draws_and_writes_what_it_measured(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tiny_checkpoint), str(PROMPT), "--data", str(folder / "data"), "--window", "32", "--pieces", "3"]
    files = [str(folder / "new" / name) for name in ("heads.png", "data.png", "figures.json")]
    assert attention_maps.main([*command, "--plot", files[0], "--plot_data", files[1], "--json", files[2]]) == 0
    assert all(Path(name).read_bytes().startswith(b"\x89PNG") for name in files[:2])
    made = json.loads(Path(files[2]).read_text())
    prompt, data = made["prompt"], made["data"]
    assert (made["taps"], made["window"], prompt["tokens"]) == (["block 1", "block 2"], 32, 32)
    assert np.array(prompt["share_by_token"]).shape == (32, 4, 2)
    assert np.array(prompt["share"]) == pytest.approx(np.mean(prompt["share_by_token"], axis=0), abs=1e-4)
    assert set(prompt["kinds"]) <= {"note-on", "note-off", "time-shift", "velocity"}
    assert (data["windows"], data["pieces"], data["corpus"]) == (5, 3, "tiny")  # two of each, one of the piece of 33
    assert [group["name"] for group in data["by_kind_read"]] == ["time-shift"]
    assert sum(group["tokens"] for group in data["by_surprise"]) == data["tokens"] == 5 * 32
    order = [group["nll"] for group in data["by_surprise"]]
    assert order == sorted(order)
    for change in data["changes"]:
        assert change["nll"] - data["nll"] == pytest.approx(change["difference"], abs=1e-4)
        assert change["low"] <= change["difference"] <= change["high"]
    out = capsys.readouterr().out
    for text in (f"{data['nll']:.4f}", "removed: block 1", "depth weights fixed: by position", "head 4"):
        assert text in out
    assert attention_maps.main([*command, "--json", str(folder / "again.json")]) == 0
    assert json.loads((folder / "again.json").read_text()) == made


def test_a_prompt_alone_is_enough(folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attention_maps.main([str(tiny_checkpoint), str(PROMPT), "--json", str(folder / "a.json")]) == 0
    made = json.loads((folder / "a.json").read_text())
    loaded = load_checkpoint(tiny_checkpoint)
    ids = torch.tensor(loaded.tokenizer.encode(Prompt.from_file(PROMPT).media)[:129])  # type: ignore[arg-type]
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(loaded.model(ids[None, :-1])[0], ids[1:])
        use, *_ = look(loaded.model, ids)
    assert made["prompt"]["nll"] == pytest.approx(float(loss), abs=1e-4)
    assert np.array(made["prompt"]["share_by_token"]) == pytest.approx(use.share[0], abs=1e-4)
    assert "data" not in made
    assert made["prompt"]["changes"] == []
    assert "change " not in capsys.readouterr().out


def test_speech_is_split_by_codebook(tmp_path: Path) -> None:
    checkpoint = tiny_speech_checkpoint(tmp_path / "speech")
    time = np.arange(16_000) / 16_000
    Audio(np.sin(2 * np.pi * 200 * time)[None].astype(np.float32), 16_000).write(tmp_path / "prompt.wav")
    out = str(tmp_path / "a.json")
    assert attention_maps.main([str(checkpoint), str(tmp_path / "prompt.wav"), "--window", "31", "--json", out]) == 0
    made = json.loads(Path(out).read_text())
    assert made["window"] == 30
    assert made["prompt"]["kinds"] == ["codebook 1", "codebook 2"] * 15


def test_text_is_read_as_the_text_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ModelConfig(vocab_size=27, context=32, layers=2, width=16, heads=2, feedforward=32, taps=(1,))
    info = CheckpointInfo(model=config, tokenizer="characters")
    save_checkpoint(tmp_path / "text", ShortcutLM(config), info)
    (tmp_path / "prompt.txt").write_text("so it was " * 1000)
    command = [str(tmp_path / "text"), str(tmp_path / "prompt.txt"), "--json", str(tmp_path / "a.json")]
    assert attention_maps.main(command) == 0
    made = json.loads((tmp_path / "a.json").read_text())["prompt"]
    assert made["kinds"][:7] == ["letter", "letter", "space", "letter", "letter", "space", "letter"]
    assert made["tokens"] == 32
    (tmp_path / "prompt.txt").write_bytes(b"\xff\xfe")
    assert attention_maps.main(command) == 2
    assert "is not text in UTF-8" in capsys.readouterr().err


BAD = {
    "no checkpoint": (["{folder}/none", "{prompt}"], "no config.json there"),
    "no taps": (["{folder}/baseline", "{prompt}"], "a shortcut model is needed"),
    "no prompt": (["{tiny}", "{folder}/none.mid"], "none.mid"),
    "prompt of another kind": (["{tiny}", "{folder}/data/manifest.json"], "manifest.json"),
    "no corpus": (["{tiny}", "{prompt}", "--data", "{folder}/none"], "is no prepared corpus"),
    "no such split": (["{tiny}", "{prompt}", "--data", "{folder}/data", "--split", "tst"], "no split 'tst'"),
    "short pieces": (["{tiny}", "{prompt}", "--data", "{folder}/data"], "a shorter --window"),
    "long window": (["{tiny}", "{prompt}", "--window", "129"], "the model's context of 128"),
    "no window": (["{tiny}", "{prompt}", "--window", "1"], "at least 2 is needed"),
    "one piece": (["{tiny}", "{prompt}", "--pieces", "1"], "at least 2 is needed"),
    "no picture": (["{tiny}", "{prompt}", "--plot", "{folder}/a.doc"], "ends in .png"),
    "a folder": (["{tiny}", "{prompt}", "--json", "{folder}"], "is a folder"),
    "no place": (["{tiny}", "{prompt}", "--plot", "{folder}/data/manifest.json/a.png"], "cannot be made"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_said_in_one_line(
    case: str, folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if case == "no taps":
        config = ModelConfig(context=32, layers=2, width=16, heads=2, feedforward=32, taps=())
        save_checkpoint(folder / "baseline", ShortcutLM(config), CheckpointInfo(model=config, tokenizer="piano"))
    arguments, complaint = BAD[case]
    places = {"folder": folder, "tiny": tiny_checkpoint, "prompt": PROMPT}
    assert attention_maps.main([text.format(**places) for text in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert complaint in error
