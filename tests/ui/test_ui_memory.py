"""What is free goes back to the system, where the allocator is glibc's."""

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ui import memory
from ui.memory import GivingBack, few_heaps, resident

Block = NDArray[np.uint8]
glibc = pytest.mark.skipif(not few_heaps(), reason="the allocator is not glibc's")
BLOCKS, BYTES = 1500, 60_000
"""Under the 128 kB from which a block has memory of its own."""


@pytest.fixture
def strewn() -> list[Block]:
    """Of 90 MB that a thread made, each tenth block, which keeps its heap from shrinking."""
    kept: list[Block] = []

    def make() -> None:
        kept.extend([np.ones(BYTES, np.uint8) for _ in range(BLOCKS)][::10])

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return kept


@glibc
def test_what_is_free_between_what_lives_goes_back(strewn: list[Block]) -> None:
    before = resident()
    GivingBack()()
    assert before - resident() > BLOCKS * BYTES // 2
    assert all(block.all() for block in strewn)


@glibc
def test_nothing_is_done_while_the_process_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    most = memory.GROWN_BYTES
    sizes = iter([100 + most, 101 + most, 90, 60, 61 + most, 70])
    given_back: list[int] = []

    class Library:
        def malloc_trim(self, left: int) -> None:
            given_back.append(left)

    look = GivingBack()
    look._least = 100
    monkeypatch.setattr(memory, "_glibc", Library)
    monkeypatch.setattr(memory, "resident", lambda: next(sizes))
    counts = []
    for _ in range(4):
        look()
        counts.append(len(given_back))
    assert counts == [0, 1, 1, 2]  # the last from the least that it was since the first


def test_another_allocator_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert not few_heaps()
    GivingBack()()


def test_a_system_that_does_not_say_how_large_a_process_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATM", tmp_path / "nothing")
    assert resident() == 0
    GivingBack()()
