"""Batches for training: random crops of pieces, each a pure function of the seed and its number in the run.

So there is nothing to remember but how many crops have been taken: a run that is killed and resumed, in the middle of
an epoch, with or without workers, on one device or several, goes on with the very crops it would have had.
"""

import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from shortcut_gen.errors import DataError, SettingsError
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.base import Tokenizer
from training.corpus.joined import JoinedCorpus, open_corpus
from training.corpus.shards import IGNORED, Corpus, Split, spread

_MARGIN = 16

Batch = dict[str, Tensor]
"""inputs and targets, (B, T) int64 each; targets are the inputs one step later."""


class Crops(Dataset[Batch]):
    """Batches of random crops; batch k of any rank is the crops from number `first` on.

    Args:
        split: Pieces to draw from; each is drawn in proportion to the number of places a crop can begin at.
        tokenizer: Varies the crops; says where they may begin.
        context: Tokens of a crop that are read.
        batch_size: Crops of a batch.
        seed: Chooses the crops.
        transpose: Semitones a crop is moved by at most, up or down.
        stretch: Share a crop is made slower or faster by at most.
    """

    def __init__(
        self,
        split: Split,
        tokenizer: Tokenizer,
        *,
        context: int,
        batch_size: int,
        seed: int,
        transpose: int,
        stretch: float,
    ) -> None:
        self._split, self._tokenizer = split, tokenizer
        self._context, self._batch_size, self._seed = context, batch_size, seed
        self._transpose, self._stretch = transpose, stretch
        lengths = np.array([piece.tokens for piece in split.pieces], np.int64)
        # One id alone has no target; of a piece no longer than the context there is one crop. Crops begin at frames,
        # and the last one ends with the piece, if need be short of an id or two.
        self._frame = tokenizer.frame
        starts = np.where(lengths >= 2, -(-np.maximum(lengths - context - 1, 0) // self._frame) + 1, 0)
        self._ends = np.cumsum(starts)
        if not len(starts) or not self._ends[-1]:
            raise DataError(f"{split.folder} has no piece of two tokens or more to train on")

    def __getitem__(self, first: int) -> Batch:
        return _batch([self.crop(first + k) for k in range(self._batch_size)], self._context)

    def crop(self, number: int) -> NDArray[np.uint16]:
        """Crop number `number` of the run: context + 1 ids, or fewer where the whole piece has no more."""
        # Philox gives every key a stream of its own: no crop depends on those before it.
        key = np.array([self._seed, number], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key))
        place = int(rng.integers(self._ends[-1]))
        index = int(np.searchsorted(self._ends, place, side="right"))
        start = (place - (int(self._ends[index - 1]) if index else 0)) * self._frame
        _, ids = self._split[index]
        if not self._transpose and not self._stretch:
            return ids[start : start + self._context + 1]
        return self._vary(ids, start, rng)

    def _vary(self, ids: NDArray[np.uint16], start: int, rng: np.random.Generator) -> NDArray[np.uint16]:
        """The varied crop at start. Stretching changes how many ids there are, so more are read than are kept."""
        need = self._context + 1
        before, after = 0, need + int(need * self._stretch) + _MARGIN
        state = rng.bit_generator.state
        while True:
            rng.bit_generator.state = state  # the same variation at every try
            low, high = max(start - before, 0), min(start + after, len(ids))
            varied = self._tokenizer.augment(ids[low:high], rng, self._transpose, self._stretch)
            if len(varied) >= need:
                return varied[:need] if low == start else varied[-need:]
            if high < len(ids):
                after *= 2
            elif low > 0:  # close to the end of the piece: the crop ends where the piece does
                before = 2 * before + need - len(varied) + _MARGIN
            else:
                return varied


def _batch(crops: list[NDArray[np.uint16]], context: int) -> Batch:
    """Crops of up to context + 1 ids, padded on the right."""
    inputs = np.zeros((len(crops), context), np.int64)  # (B, T)
    targets = np.full((len(crops), context), IGNORED, np.int64)  # (B, T)
    for row, crop in enumerate(crops):
        inputs[row, : len(crop) - 1] = crop[:-1]
        targets[row, : len(crop) - 1] = crop[1:]
    return {"inputs": torch.from_numpy(inputs), "targets": torch.from_numpy(targets)}


class CropLoader:
    """An endless stream of crops that Lightning can save and go on with, even in the middle of an epoch.

    An epoch is so many batches of the stream; the next one goes on where it ended. Of the crops of a step, rank r of W
    takes the r-th batch. It is no DataLoader, so that Lightning puts no sampler of its own in.

    Args:
        crops: Batches by the number of their first crop.
        batch_size: Crops of a batch.
        crops_per_epoch: Crops of an epoch, over all devices.
        rank: Number of this device.
        world_size: Devices.
        workers: Processes that make batches; 0 makes them in this one.
        taken: Crops taken so far, over all devices.
    """

    def __init__(
        self,
        crops: Crops,
        *,
        batch_size: int,
        crops_per_epoch: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        taken: int = 0,
    ) -> None:
        self._crops, self._workers = crops, workers
        self._batch_size, self._step = batch_size, batch_size * world_size
        self._rank = rank
        self._batches = max(crops_per_epoch // self._step, 1)
        self._taken = taken

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        start = self._taken + self._rank * self._batch_size
        firsts = range(start, start + self._batches * self._step, self._step)
        loader = DataLoader(
            self._crops,
            batch_size=None,
            sampler=firsts,
            num_workers=self._workers,
            prefetch_factor=4 if self._workers else None,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # or it would draw from the one that training draws from
        )
        for batch in loader:
            # Counted when it is handed out, not when a worker makes it: that is what a checkpoint must know.
            self._taken += self._step
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many crops have been taken; the same on every device."""
        return {"taken": self._taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the crops of a saved state."""
        self._taken = int(state["taken"])


class WindowLoader:
    """Batches of windows of `context` tokens that do not overlap, the same in every run.

    With a limit, so many of them at even distances through the whole split, so that each piece has its share. Each
    device takes every W-th window, none twice.

    Args:
        split: Pieces to score.
        context: Tokens of a window.
        batch_size: Windows of a batch.
        limit: Windows in all; None takes all there are.
        frame: Ids that stand together: windows begin at multiples of it, and their length is rounded down to one.
        rank: Number of this device.
        world_size: Devices.
    """

    def __init__(
        self,
        split: Split,
        *,
        context: int,
        batch_size: int,
        limit: int | None = None,
        frame: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        context = max(context // frame, 1) * frame
        self._split, self._context, self._batch_size = split, context, batch_size
        places = [
            (index, start)
            for index, piece in enumerate(split.pieces)
            for start in range(0, max(piece.tokens - 1, 0), context)
        ]
        places = [places[index] for index in spread(len(places), limit)]
        if len(places) < world_size:  # all score all, as none may be left with nothing to do
            rank, world_size = 0, 1
        self._places = places[rank::world_size]
        self._batches = math.ceil(math.ceil(len(places) / world_size) / batch_size)

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, self._batches * self._batch_size, self._batch_size):
            places = self._places[first : first + self._batch_size]
            crops = [self._split[index][1][start : start + self._context + 1] for index, start in places]
            # All devices have as many batches, if need be one with no target: they ask each other at each.
            yield _batch(crops or [np.zeros(1, np.uint16)], self._context)


class CorpusDataModule(L.LightningDataModule):
    """Crops of a prepared corpus to train on, and windows of it to validate on.

    Args:
        path: Folder of the corpus, made by training.prepare, or its URL; or a list of them, to train on all.
        context: Tokens that the model reads at most.
        crop: Tokens of a crop, where fewer than the context: with rotary positions, short crops first and whole ones
            last learn more in the same time.
        batch_size: Crops of a batch, on each device.
        seed: Chooses the crops. The same seed gives the same crops whatever the model.
        transpose: Semitones a crop is moved by at most, up or down; 0 leaves it as it was played.
        stretch: Share a crop is made slower or faster by at most, such as 0.05; 0 leaves it.
        crops_per_epoch: Crops of an epoch over all devices; as many as fill the training split once if not given.
        workers: Processes that make batches on each device; 0 makes them in the training process.
        validation_windows: Windows to validate on, spread over all pieces; all there are if not given.
    """

    def __init__(
        self,
        path: list[str] | str,
        context: int = 512,
        batch_size: int = 16,
        seed: int = 0,
        transpose: int = 0,
        stretch: float = 0.0,
        crops_per_epoch: int | None = None,
        workers: int = 0,
        validation_windows: int | None = 256,
        crop: int | None = None,
    ) -> None:
        super().__init__()
        _check("context", context, context >= 1, "a whole number of at least 1")
        _check("crop", crop, crop is None or 1 <= crop <= context, f"a whole number from 1 to the context of {context}")
        _check("batch_size", batch_size, batch_size >= 1, "a whole number of at least 1")
        _check("seed", seed, 0 <= seed < 2**64, "a whole number from 0 to 2**64 - 1")
        _check("transpose", transpose, 0 <= transpose <= 24, "a whole number of semitones from 0 to 24")
        _check("stretch", stretch, 0 <= stretch <= 0.5, "a share from 0 to 0.5")
        for name, value in (("crops_per_epoch", crops_per_epoch), ("validation_windows", validation_windows)):
            _check(name, value, value is None or value >= 1, "a whole number of at least 1")
        _check("workers", workers, workers >= 0, "a whole number of at least 0")
        self.save_hyperparameters(logger=False)
        self._batch_size, self._context, self._workers = batch_size, crop or context, workers
        self._windows = validation_windows
        self._crops_per_epoch = crops_per_epoch
        self._path, self._seed, self._transpose, self._stretch = path, seed, transpose, stretch
        self._loader: CropLoader | None = None
        self._taken = 0
        self._corpus: Corpus | JoinedCorpus | None = None

    @property
    def corpus(self) -> Corpus | JoinedCorpus:
        """The corpus, or all of them joined, opened at first use. Raises DataError, SettingsError."""
        if self._corpus is None:
            corpus = open_corpus(self._path)
            tokenizer = get_tokenizer(corpus.tokenizer, corpus.codec)
            if (self._transpose or self._stretch) and not tokenizer.augments:
                raise SettingsError(
                    f"transpose is {self._transpose} and stretch {self._stretch}, but {corpus.tokenizer} ids can be "
                    "neither moved nor stretched; 0 is needed for both"
                )
            if self._context < tokenizer.frame:
                frame = tokenizer.frame
                raise SettingsError(
                    f"the crop or context is {self._context}; at least {frame}, the ids of a frame, are needed"
                )
            self._corpus, self._tokenizer = corpus, tokenizer
        return self._corpus

    def train_dataloader(self) -> CropLoader:
        """Crops, going on behind those taken before."""
        split = self.corpus.split("train")
        crops = Crops(
            split,
            self._tokenizer,
            context=self._context,
            batch_size=self._batch_size,
            seed=self._seed,
            transpose=self._transpose,
            stretch=self._stretch,
        )
        rank, world_size = self._place()
        self._loader = CropLoader(
            crops,
            batch_size=self._batch_size,
            crops_per_epoch=self._crops_per_epoch or max(split.tokens // self._context, 1),
            rank=rank,
            world_size=world_size,
            workers=self._workers,
            taken=self.state_dict()["taken"],
        )
        return self._loader

    def val_dataloader(self) -> WindowLoader | list[Any]:
        """Windows of the validation split; nothing where that split is empty."""
        return self._windows_of("validation", self._windows)

    def test_dataloader(self) -> WindowLoader | list[Any]:
        """All windows of the test split."""
        return self._windows_of("test", None)

    def _windows_of(self, name: str, limit: int | None) -> WindowLoader | list[Any]:
        rank, world_size = self._place()
        split = self.corpus.split(name)
        windows = WindowLoader(
            split,
            context=self._context,
            batch_size=self._batch_size,
            limit=limit,
            frame=self._tokenizer.frame,
            rank=rank,
            world_size=world_size,
        )
        return windows if len(windows) else []

    def _place(self) -> tuple[int, int]:
        """This device's number, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def state_dict(self) -> dict[str, int]:
        """How many crops have been taken.

        Lightning restores the loader's own state in the middle of an epoch only; this one counts at its end, too.
        """
        return self._loader.state_dict() if self._loader else {"taken": self._taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the crops of a saved state."""
        self._taken = int(state["taken"])
        if self._loader:
            self._loader.load_state_dict(state)


def _check(name: str, value: object, ok: bool, need: str) -> None:
    if not ok:
        raise SettingsError(f"{name} is {value}; {need} is needed")
