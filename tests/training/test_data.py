"""Crops: a pure function of seed and number, so that a run resumes exactly, on one device or several."""

import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.modalities import get_tokenizer
from tests.shared.tiny_runs import CODEC, write_speech
from training.corpus.shards import Corpus, ShardWriter, write_json
from training.run.batches import IGNORED, CorpusDataModule, CropLoader, Crops, WindowLoader

CONTEXT = 32
LENGTHS = {"train": [400, 33, 20, 2, 1, 0, 900], "validation": [100, 33, 32, 1], "test": [70]}


def music(length: int, seed: int) -> NDArray[np.uint16]:
    """Ids with many long waits, whose number stretching changes; 100 begins a piece, and 101 alone ends one."""
    rng = np.random.default_rng(seed)
    ids = np.where(rng.random(length) < 0.5, rng.integers(340, 356, length), rng.integers(40, 60, length))
    ids[:1] = 100
    ids[-1:] = 101
    return ids.astype(np.uint16)


def write_corpus(folder: Path, lengths: dict[str, list[int]]) -> Path:
    splits: dict[str, Any] = {}
    for split, pieces in lengths.items():
        with ShardWriter(folder, f"{split}/shard-00000.npy") as writer:
            for number, length in enumerate(pieces):
                writer.add(str(number), music(length, number + 10 * len(split)))
            splits[split] = {"shards": [writer.close().to_dict()]}
    head = {"format": 1, "corpus": "c", "tokenizer": "piano", "vocab_size": 388, "licence": "CC0", "skipped": []}
    write_json(folder / "manifest.json", {**head, "splits": splits})
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), LENGTHS)


def crops_of(corpus: Path, seed: int = 0, transpose: int = 0, stretch: float = 0.0, context: int = CONTEXT) -> Crops:
    split, tokenizer = Corpus.open(corpus).split("train"), get_tokenizer("piano")
    return Crops(split, tokenizer, context=context, batch_size=4, seed=seed, transpose=transpose, stretch=stretch)


def loader_of(corpus: Path, **settings: Any) -> CropLoader:
    return CropLoader(crops_of(corpus, 3, 3, 0.05), **{"batch_size": 4, "crops_per_epoch": 24, **settings})


def firsts(batches: Any) -> list[list[int]]:
    """What tells batches apart: a hash of each crop."""
    return [[hash(row.numpy().tobytes()) for row in batch["inputs"]] for batch in batches]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in ("inputs", "targets"))


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), number=st.integers(0, 2**62))
def test_a_crop_depends_on_seed_and_number_alone(corpus: Path, seed: int, number: int) -> None:
    crops = crops_of(corpus, seed, 3, 0.05)
    crop = crops.crop(number)
    crops.crop(number + 1)
    assert np.array_equal(crops.crop(number), crop)
    assert np.array_equal(crops_of(corpus, seed, 3, 0.05).crop(number), crop)


def test_other_seeds_and_numbers_give_other_crops(corpus: Path) -> None:
    drawn = Counter(crops_of(corpus, seed).crop(n).tobytes() for seed in range(10) for n in range(10))
    assert len(drawn) > 90


def test_every_place_is_drawn_alike(corpus: Path) -> None:
    """A piece is drawn in proportion to the places a crop can begin at: 368, 1, 1, 1 and 868; too short ones never."""
    crops = crops_of(corpus)
    places = sum(max(n - CONTEXT, 1) for n in LENGTHS["train"] if n >= 2)
    pieces = [ids.tobytes() for _, ids in Corpus.open(corpus).split("train")]
    counts = Counter(next(i for i, p in enumerate(pieces) if crops.crop(n).tobytes() in p) for n in range(3000))
    for piece, length in enumerate(LENGTHS["train"]):
        share = max(length - CONTEXT, 1) / places if length >= 2 else 0.0
        assert counts[piece] / 3000 == pytest.approx(share, abs=4 * (share / 3000) ** 0.5 + 0.001)


def test_first_and_last_ids_are_reached(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"train": [39]})
    ids = Corpus.open(corpus).split("train")[0][1].tolist()
    for variation in ((0, 0.0), (0, 0.05)):
        drawn = [crops_of(corpus, 0, *variation).crop(n) for n in range(200)]
        assert {len(crop) for crop in drawn} == {CONTEXT + 1}
        if not variation[1]:
            assert {tuple(crop) for crop in drawn} == {tuple(ids[k : k + 33]) for k in range(7)}
        assert any(crop[0] == 100 for crop in drawn)
        assert any(crop[-1] == 101 for crop in drawn)


@settings(deadline=None)
@given(number=st.integers(0, 10**6), context=st.integers(1, 64), stretch=st.sampled_from([0.0, 0.05, 0.5]))
def test_crops_fill_the_context_where_the_piece_is_long_enough(
    corpus: Path, number: int, context: int, stretch: float
) -> None:
    crop = crops_of(corpus, 1, 3, stretch, context).crop(number)
    assert 2 <= len(crop) <= context + 1
    if context <= 15:  # no piece of two ids or more but "3" is shorter, and stretching leaves most of them
        assert len(crop) == context + 1 or len(crop) <= 4
    assert crop.max() < 388


def test_short_pieces_are_padded(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"train": [20]})
    batch = crops_of(corpus)[0]
    ids = torch.from_numpy(Corpus.open(corpus).split("train")[0][1].astype(np.int64))
    assert torch.equal(batch["inputs"][0, :19], ids[:-1])
    assert torch.equal(batch["targets"][0, :19], ids[1:])
    assert (batch["targets"][:, 19:] == IGNORED).all()
    assert batch["inputs"].shape == batch["targets"].shape == (4, CONTEXT)
    assert batch["inputs"].dtype == batch["targets"].dtype == torch.int64


def test_targets_are_the_inputs_one_later(corpus: Path) -> None:
    batch = crops_of(corpus, 0, 3, 0.05)[0]
    full = (batch["targets"] != IGNORED).all(1)
    assert full.any()
    assert torch.equal(batch["inputs"][full, 1:], batch["targets"][full, :-1])


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two tokens or more"):
        crops_of(write_corpus(tmp_path, {"train": [1, 0]}))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_it_was(corpus: Path, workers: int) -> None:
    whole = loader_of(corpus)
    expected = [batch for _ in range(2) for batch in whole]
    assert len(expected) == 12
    cut = loader_of(corpus, workers=workers)
    for batch, _ in zip(expected[:4], cut, strict=False):
        assert batch
    state = cut.state_dict()  # taken while workers are ahead
    assert state["taken"] in (16, 20)  # zip may have taken one more
    resumed = loader_of(corpus, workers=workers)
    resumed.load_state_dict({"taken": 16})
    rest = list(resumed)
    assert all(same(a, b) for a, b in zip(rest, expected[4:10], strict=True))


def test_workers_ahead_do_not_count(corpus: Path) -> None:
    loader = loader_of(corpus, workers=2)
    batches = iter(loader)
    for taken in (4, 8, 12):
        next(batches)
        assert loader.state_dict() == {"taken": taken}


@given(world=st.integers(1, 5), epochs=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_devices_share_the_crops(corpus: Path, world: int, epochs: int) -> None:
    crops = crops_of(corpus, 3, 3, 0.05)
    loaders = [loader_of(corpus, rank=rank, world_size=world) for rank in range(world)]
    taken = [[batch for _ in range(epochs) for batch in loader] for loader in loaders]
    assert {len(batches) for batches in taken} == {epochs * (24 // (4 * world))}
    in_order = [taken[rank][step] for step in range(len(taken[0])) for rank in range(world)]
    assert all(same(batch, crops[4 * number]) for number, batch in enumerate(in_order))
    assert len({loader.state_dict()["taken"] for loader in loaders}) == 1  # one device's state serves all


def test_loading_draws_no_shared_randomness(corpus: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader_of(corpus))
    assert torch.equal(torch.get_rng_state(), before)


def windows_of(corpus: Path, **settings: Any) -> WindowLoader:
    split = Corpus.open(corpus).split("validation")
    return WindowLoader(split, **{"context": CONTEXT, "batch_size": 3, **settings})


def test_windows_score_every_token_once(corpus: Path) -> None:
    loader = windows_of(corpus)
    batches = list(loader)
    assert len(batches) == len(loader) == 2
    scored = torch.cat([batch["targets"][batch["targets"] != IGNORED] for batch in batches])
    expected = np.concatenate([ids[1:] for _, ids in Corpus.open(corpus).split("validation")])
    assert scored.tolist() == expected.tolist()


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_devices_share_the_windows_in_as_many_batches(corpus: Path, world: int, size: int) -> None:
    expected = [row for batch in firsts(windows_of(corpus)) for row in batch]
    shares = [list(windows_of(corpus, rank=r, world_size=world, batch_size=size)) for r in range(world)]
    assert len({len(batches) for batches in shares}) == 1  # they wait for each other at every batch
    scored = [batch for batches in shares for batch in batches if (batch["targets"] != IGNORED).any()]
    assert sorted(row for batch in firsts(scored) for row in batch) == sorted(expected)


def test_no_device_is_left_without_windows(corpus: Path) -> None:
    assert all(len(windows_of(corpus, limit=2, rank=rank, world_size=4)) for rank in range(4))


@settings(deadline=None)
@given(limit=st.integers(1, 8))
def test_limited_windows_are_spread(corpus: Path, limit: int) -> None:
    every = [row for batch in firsts(windows_of(corpus)) for row in batch]
    some = [row for batch in firsts(windows_of(corpus, limit=limit)) for row in batch]
    assert len(some) == min(limit, len(every)) == len(set(some))
    places = [every.index(row) for row in some]
    assert places == sorted(places)
    gaps = np.diff([-1, *places, len(every)])
    assert gaps.max() <= -(-len(every) // limit) + 1


class Recorder(L.LightningModule):
    """Notes the batches it is trained on, and checkpoints at one of them."""

    def __init__(self, stop: int | None = None, path: Path | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[bytes] = []
        self.stop, self.path = stop, path

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["inputs"].numpy().tobytes())
        return self.weight**2

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        assert batch["inputs"].shape[1] == CONTEXT

    def on_train_batch_end(self, *_: Any) -> None:
        if len(self.seen) == self.stop:
            self.trainer.save_checkpoint(self.path)
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module: Recorder, corpus: Path, resume: Path | None = None, workers: int = 0, **options: Any) -> list[bytes]:
    data = CorpusDataModule(
        str(corpus),
        context=CONTEXT,
        batch_size=4,
        seed=5,
        transpose=3,
        stretch=0.05,
        crops_per_epoch=20,
        workers=workers,
    )
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = L.Trainer(accelerator="cpu", devices=1, num_sanity_val_steps=0, **quiet, **options)  # type: ignore[arg-type]
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module.seen


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*is not writable.*")
@pytest.mark.parametrize("budget", [{"max_epochs": 3}, {"max_steps": 14}])
@pytest.mark.parametrize("stop", [1, 4, 5, 6, 10, 13])
def test_lightning_resumes_at_any_step(corpus: Path, tmp_path: Path, stop: int, budget: dict[str, int]) -> None:
    whole = fit(Recorder(), corpus, **budget)  # type: ignore[arg-type]
    assert len(set(whole)) == len(whole) == (15 if "max_epochs" in budget else 14)
    path = tmp_path / "cut.ckpt"
    first = fit(Recorder(stop, path), corpus, **budget)  # type: ignore[arg-type]
    second = fit(Recorder(), corpus, path, workers=2 * (stop == 4), **budget)  # type: ignore[arg-type]
    assert first + second == whole


DEVICES = textwrap.dedent("""
    import sys, lightning as L, torch
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from tests.training.test_data import CONTEXT, Recorder
    from training.run.batches import CorpusDataModule

    corpus, out, stop, resume = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
    module = Recorder(stop or None, out.with_suffix(".ckpt"))
    data = CorpusDataModule(str(corpus), context=CONTEXT, batch_size=4, seed=5, crops_per_epoch=24)
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_steps=7, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0)
    trainer.fit(module, datamodule=data, ckpt_path=resume[0] if resume else None, weights_only=True)
    out.with_suffix(f".{trainer.global_rank}").write_bytes(b"".join(module.seen))
""")


@pytest.mark.slow
def test_two_devices_resume(corpus: Path, tmp_path: Path, root: Path) -> None:
    """Under ddp each device goes on with its own crops; together they read what one device would."""
    script = tmp_path / "devices.py"
    script.write_text(DEVICES)

    def train(out: str, stop: int, *resume: Path) -> list[bytes]:
        command = [sys.executable, script, root / "tests", corpus, tmp_path / out, str(stop), *resume]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [(tmp_path / f"{out}.{rank}").read_bytes() for rank in (0, 1)]

    first = train("cut", 4)
    second = train("rest", 0, tmp_path / "cut.ckpt")
    batches = CropLoader(crops_of(corpus, 5), batch_size=4, crops_per_epoch=56)
    in_order = [batch["inputs"].numpy().tobytes() for batch in batches]
    whole = [a + b for a, b in zip(first, second, strict=True)]
    assert whole == [b"".join(in_order[rank::2]) for rank in (0, 1)]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:Total length of `list`")
def test_an_empty_validation_split_is_passed_over(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"train": [400], "validation": [], "test": []})
    assert len(fit(Recorder(), corpus, max_steps=2)) == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("context", 0),
        ("batch_size", 0),
        ("seed", -1),
        ("transpose", -1),
        ("stretch", float("nan")),
        ("stretch", 0.6),
        ("crops_per_epoch", 0),
        ("workers", -1),
        ("validation_windows", 0),
    ],
)
def test_settings_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(SettingsError, match=rf"{setting} is .*{value}.* is needed"):
        CorpusDataModule("data", **{setting: value})  # type: ignore[arg-type]


def test_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared corpus"):
        CorpusDataModule(str(tmp_path)).train_dataloader()


# Speech: frames of several ids, and corpora joined -------------------------------------------------------------------


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    return write_speech(folder / "a", {"train": [100, 17, 9, 1], "validation": [40, 3], "test": [20]})


@settings(deadline=None)
@given(number=st.integers(0, 10**6), context=st.integers(2, 41))
def test_crops_begin_at_frames(speech: Path, number: int, context: int) -> None:
    module = CorpusDataModule(str(speech), context=context, batch_size=1, seed=number)
    for crop in next(iter(module.train_dataloader()))["inputs"].tolist():
        assert all(token // 16 == place % 2 for place, token in enumerate(crop) if any(crop[place:]))


@pytest.mark.parametrize("context", [8, 7, 2])
def test_every_frame_of_a_piece_is_reached(tmp_path: Path, context: int) -> None:
    corpus = Corpus.open(write_speech(tmp_path, {"train": [20]}))
    tokenizer = get_tokenizer("speech", corpus.codec)
    crops = Crops(corpus.split("train"), tokenizer, context=context, batch_size=1, seed=0, transpose=0, stretch=0.0)
    ids = corpus.split("train")[0][1].tolist()
    drawn = {tuple(crops.crop(number)) for number in range(400)}
    starts = range(0, 2 * -(-(len(ids) - context - 1) // 2) + 1, 2)
    assert drawn == {tuple(ids[start : start + context + 1]) for start in starts}
    assert any(crop[-1] == ids[-1] for crop in drawn)


@pytest.mark.parametrize("context", [8, 9, 31])
def test_windows_begin_at_frames_and_score_every_token_once(speech: Path, context: int) -> None:
    module = CorpusDataModule(str(speech), context=context, batch_size=3, validation_windows=None)
    batches = list(module.val_dataloader())
    assert all((batch["inputs"][:, 0] < 16).all() for batch in batches)
    scored = torch.cat([batch["targets"][batch["targets"] != IGNORED] for batch in batches])
    expected = np.concatenate([ids[1:] for _, ids in module.corpus.split("validation")])
    assert scored.tolist() == expected.tolist()


def test_corpora_are_joined(speech: Path, tmp_path: Path) -> None:
    other = write_speech(tmp_path / "b", {"train": [50, 60], "test": [5]}, licence="Apache-2.0", corpus="b")
    module = CorpusDataModule([str(speech), str(other)], context=8)
    joined = module.corpus
    assert (joined.name, joined.licence) == ("speech + b", "CC BY 4.0 and Apache-2.0")
    assert (joined.tokenizer, joined.vocab_size, joined.codec) == ("speech", 32, CODEC)
    for split in ("train", "test", "validation"):
        parts = [Corpus.open(folder) for folder in (speech, other)]
        pieces = [
            (name, ids.tolist())
            for part in parts
            if split in part.manifest["splits"]
            for name, ids in part.split(split)
        ]
        assert [(name, ids.tolist()) for name, ids in joined.split(split)] == pieces
        assert joined.split(split).tokens == sum(len(ids) for _, ids in pieces)
    with pytest.raises(DataError, match="no split 'dev'; it has train, validation, test"):
        joined.split("dev")
    seen = {tuple(row) for batch in module.train_dataloader() for row in batch["inputs"].tolist()}
    for folder in (speech, other):
        of_one = {
            tuple(ids[start : start + 8].tolist())
            for _, ids in Corpus.open(folder).split("train")
            for start in range(0, len(ids) - 8, 2)
        }
        assert len(seen & of_one) > 3


def test_what_cannot_be_joined(speech: Path, corpus: Path, tmp_path: Path) -> None:
    other = write_speech(tmp_path / "b", {"train": [50]}, {**CODEC, "sha256": "f" * 64})
    for folders, says in (
        ([speech, corpus], "holds piano ids and .* speech ids of codec-tiny .*, 2 codebooks; the same are needed"),
        ([speech, other], "codec-tiny .ffffffffffff., 2 codebooks and .*000000"),
        ([speech, speech], "named twice"),
        ([], "no corpus is named"),
        ([speech, tmp_path], "no prepared corpus"),
    ):
        with pytest.raises(DataError, match=says):
            CorpusDataModule([str(folder) for folder in folders]).train_dataloader()


@pytest.mark.parametrize("change", [{"transpose": 2}, {"stretch": 0.1}])
def test_speech_can_be_neither_moved_nor_stretched(speech: Path, change: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="can be neither moved nor stretched; 0 is needed for both"):
        CorpusDataModule(str(speech), context=8, **change).train_dataloader()


def test_a_crop_shorter_than_a_frame(speech: Path) -> None:
    with pytest.raises(SettingsError, match="at least 2, the ids of a frame,"):
        CorpusDataModule(str(speech), context=1).train_dataloader()
