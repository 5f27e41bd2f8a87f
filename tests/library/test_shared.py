"""Rows of many requests in one batch: the ids they would have alone, a queue in order, nobody who waits for ever."""

import threading
import time
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from shortcut_gen import Checkpoint, CheckpointInfo, Note, Pipeline, Prompt, Score
from shortcut_gen.decoding import native
from shortcut_gen.decoding.engines import Decoding, Engine
from shortcut_gen.decoding.native import NativeEngine
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.decoding.shared import Request, SharedSampler
from shortcut_gen.decoding.turns import COHORT_STEPS, Cohort, pieces
from shortcut_gen.errors import CheckpointError, SettingsError
from shortcut_gen.modalities import get_tokenizer
from tests.shared.streams import ids_of, model, sampler

needs_library = pytest.mark.skipif(native.problem() is not None, reason=native.problem() or "")
ENGINES = ["torch", "static", *(pytest.param(name, marks=needs_library) for name in ("f32", "bf16", "int8"))]
PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)
LONG = PROMPT * 40


def finish(request: Request) -> list[list[int]]:
    with request:
        made: list[list[int]] = []
        done: tuple[bool, ...] = (False,)
        while not all(done):
            new, done = request.take()
            made = [before + some for before, some in zip(made or [[] for _ in new], new, strict=True)]
    return made


def until(condition: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "this did not come about"
        time.sleep(0.002)


REQUESTS: list[tuple[list[Stream], SamplingParams]] = [
    ([Stream(prompt=PROMPT, seed=5, variation=k) for k in range(2)], SamplingParams(max_tokens=120, top_p=0.9)),
    ([Stream(prompt=LONG, seed=1)], SamplingParams(max_tokens=70, temperature=1.3, top_k=40)),
    ([Stream(prompt=(), seed=4)], SamplingParams(max_tokens=50, min_p=0.02)),
    ([Stream(prompt=PROMPT[:4], seed=2)], SamplingParams(max_tokens=90, temperature=0)),
    ([Stream(prompt=PROMPT[:7], seed=k) for k in range(3)], SamplingParams(seconds=6.0, temperature=0.8)),
    ([Stream(prompt=LONG[:57], seed=9)], SamplingParams(max_tokens=1)),
]


@pytest.mark.parametrize("rows", [3, 16])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_row_has_the_ids_that_it_has_alone(engine: str, rows: int) -> None:
    """Of its own settings and length, far past the window, as rows come, wait, slide and leave."""
    alone = sampler(engine)
    want = [ids_of(alone.stream(streams, params), len(streams)) for streams, params in REQUESTS]
    shared = SharedSampler(alone, rows)
    shared._decoding = alone.engine.decoding(rows)
    shared._decoding.near = 90  # type: ignore[misc]  so that cohorts take turns
    requests = []
    for number, (streams, params) in enumerate(REQUESTS):
        requests.append(shared.submit(streams, params))
        if number % 2:
            requests[0].take()  # the next join a batch that runs
    for request, ids in zip(requests[1:], want[1:], strict=True):
        assert finish(request) == ids
    finish(requests[0])
    assert [seat.row.ids[len(PROMPT) :] for seat in requests[0]._seats] == want[0]
    until(lambda: shared.load == (0, 0))
    assert shared._worker is None


@needs_library
@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_window_read_in_pieces_has_the_very_numbers_of_one_read_at_once(
    precision: native.Precision, threads: int
) -> None:
    """And a row's step those it has alone, with any number beside it: no bit differs."""
    lm = model(context=512)
    for level in native.LEVELS[: native.LEVELS.index(native.machine_level()) + 1]:
        engine = NativeEngine(lm, precision=precision, threads=threads, level=level)
        beside = min(engine.most_rows, 20)
        shared, alone = engine.decoding(beside), engine.decoding(1)
        for row in range(beside):
            shared.read(row, [(7 * row + at) % 388 for at in range(20 * row + 1)])
        for length in (3, 50, 97, 130, 289, 500):
            tokens = [(11 * at) % 388 for at in range(length)]
            start = 0
            for end in pieces(length, shared.piece):
                logits = shared.read(2, tokens[start:end], start=start)
                start = end
            assert torch.equal(logits, alone.read(0, tokens))
            for token in (5, 300):
                several = shared.step([token] * beside)[2].clone()
                assert torch.equal(several, alone.step([token])[0])


def test_rows_whose_caches_do_not_fit_together_have_their_turns_in_even_cohorts() -> None:
    lengths = {0: 100, 1: 300, 3: 200, 4: 100, 6: 300}
    cohort = Cohort()
    assert cohort.choose(lengths, 1000) == set(lengths)
    assert cohort.choose({2: 5000}, 1000) == {2}
    turns = [cohort.choose(lengths, 600) for _ in range(4 * COHORT_STEPS)]
    assert turns[::COHORT_STEPS] == [{0, 1, 3}, {0, 4, 6}, {1, 3}, {0, 4, 6}]
    assert turns[:COHORT_STEPS] == [{0, 1, 3}] * COHORT_STEPS
    del lengths[0]
    assert cohort.choose(lengths, 600) == {1, 3}
    del lengths[3]  # who ends leaves the others of the cohort to go on
    assert cohort.choose(lengths, 600) == {1}
    counts = dict.fromkeys(range(16), 0)
    for step in range(320 * COHORT_STEPS):
        for place in cohort.choose({place: 100 + 40 * place + step // 100 for place in counts}, 2000):
            counts[place] += 1
    assert max(counts.values()) < 1.2 * min(counts.values())


def test_pieces_are_even() -> None:
    assert pieces(97, 96) == [48, 97]
    assert pieces(96, 96) == [96]
    assert pieces(1, 64) == [1]
    for length in range(65, 700):
        ends = [0, *pieces(length, 64)]
        sizes = [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)]
        assert (sum(sizes), ends[-1]) == (length, length)
        assert 32 <= min(sizes) <= max(sizes) <= 64


class Slow:
    """An engine whose decodings keep a list of what they do, and wait where they are told to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.precision, self.most_rows, self.choose = "slow", "f32", engine.most_rows, engine.choose
        self.done: list[tuple[str, int]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.spoilt: SamplingParams | None = None
        self.broken: Exception | None = None

    def decoding(self, batch: int) -> Decoding:
        made, slow = self._engine.decoding(batch), self

        class Watched:
            piece = 16

            def __getattr__(self, name: str) -> object:
                return getattr(made, name)

            def read(self, row: int, tokens: Sequence[int], *, start: int = 0) -> Tensor:
                assert slow.go_on.wait(10)
                slow.done.append(("read", len(tokens)))
                return made.read(row, tokens, start=start)

            def draw(self, tokens: Sequence[int], *given: object) -> list[int]:
                assert slow.go_on.wait(10)
                slow.done.append(("step", len(tokens)))
                if slow.broken:
                    raise slow.broken
                chosen = made.draw(tokens, *given)  # type: ignore[arg-type]
                return [-1 if one is slow.spoilt else token for one, token in zip(given[1], chosen, strict=True)]  # type: ignore[call-overload]

        return Watched()  # type: ignore[return-value]


def watched(rows: int, context: int = 48) -> tuple[Slow, SharedSampler]:
    plain = sampler(context=context)
    slow = Slow(plain.engine)
    return slow, SharedSampler(Sampler(plain.model, plain.tokenizer, slow), rows)  # type: ignore[arg-type]


def test_a_long_prompt_holds_the_others_up_by_a_piece_at_a_time() -> None:
    slow, shared = watched(2, context=400)
    with shared.submit([Stream(prompt=PROMPT)], SamplingParams(max_tokens=100)) as playing:
        playing.take()
        with shared.submit([Stream(prompt=LONG)], SamplingParams(max_tokens=5)) as long:
            until(lambda: long.take()[0][0])  # it may say nothing yet where a busy machine takes its time
    pieces_read = [at for at, (what, count) in enumerate(slow.done) if what == "read" and count > len(PROMPT)]
    assert len(pieces_read) == 23  # 360 tokens
    for before, after in zip(pieces_read[:-1], pieces_read[1:], strict=True):
        assert slow.done[before + 1 : after] == [("step", 1)]


def test_equal_prompts_of_a_request_are_read_once() -> None:
    slow, shared = watched(4)
    finish(shared.submit([Stream(prompt=PROMPT, variation=k) for k in range(4)], SamplingParams(max_tokens=4)))
    assert slow.done == [("read", len(PROMPT)), *[("step", 4)] * 3]


def test_rows_wait_in_order_and_can_be_asked_for_their_place() -> None:
    slow, shared = watched(2)
    slow.go_on.clear()
    requests = [shared.submit([Stream(prompt=PROMPT, seed=k)], SamplingParams(max_tokens=10 + k)) for k in range(5)]
    assert [request.queue for request in requests] == [0, 0, 1, 2, 3]
    assert shared.load == (2, 3)
    assert requests[4].take(100)[0] == ([],)  # told at first that it waits
    requests[3].close()
    assert [request.queue for request in requests] == [0, 0, 1, 0, 2]
    assert requests[4].take(100) == (([],), (False,))
    slow.go_on.set()
    for number in (4, 0, 1, 2):
        assert len(finish(requests[number])[0]) == 10 + number
    until(lambda: shared.load == (0, 0))


def test_an_abandoned_request_frees_its_rows_within_a_second() -> None:
    shared = SharedSampler(sampler(), rows=2)
    endless = SamplingParams(seconds=80_000)
    stream = shared.stream([Stream(prompt=PROMPT, seed=k) for k in range(2)], endless)
    next(stream)
    after = shared.submit([Stream(prompt=PROMPT)], SamplingParams(max_tokens=3))
    assert after.queue == 1
    began = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert len(finish(after)[0]) == 3
    assert time.monotonic() - began < 1
    dropped = shared.submit([Stream(prompt=PROMPT)], endless)
    dropped.take()
    dropped.close()
    until(lambda: shared.load == (0, 0), 1)


def test_a_request_that_nobody_takes_from_is_paused_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from shortcut_gen.decoding import shared as module

    monkeypatch.setattr(module, "AHEAD", 20)
    slow, shared = watched(2)
    params = SamplingParams(max_tokens=70)
    want = ids_of(sampler().stream([Stream(prompt=PROMPT)], params))
    request = shared.submit([Stream(prompt=PROMPT)], params)
    until(lambda: len(request._seats[0].new) == 20)
    time.sleep(0.05)
    assert [what for what, _ in slow.done].count("step") == 19
    assert len(finish(shared.submit([Stream(prompt=PROMPT)], SamplingParams(max_tokens=9)))[0]) == 9
    assert finish(request) == want
    with shared.submit([Stream(prompt=PROMPT)], params) as eager:
        until(lambda: len(eager.take(1000)[0][0]) >= 20)  # asked for more than is ever there at once


def test_an_error_ends_its_row_alone() -> None:
    slow, shared = watched(4)
    params = SamplingParams(max_tokens=60)
    want = ids_of(sampler().stream([Stream(prompt=PROMPT)], params))
    good = shared.submit([Stream(prompt=PROMPT)], params)
    slow.spoilt = SamplingParams(max_tokens=61)
    bad = shared.submit([Stream(prompt=PROMPT), Stream(prompt=PROMPT[:3])], slow.spoilt)
    outside = shared.submit([Stream(prompt=(*PROMPT, 5000))], params)
    with pytest.raises(CheckpointError, match=r"^the model's weights give logits that are no numbers"):
        finish(bad)
    with pytest.raises(IndexError):
        finish(outside)
    assert finish(good) == want
    until(lambda: shared.load == (0, 0))
    assert finish(shared.submit([Stream(prompt=PROMPT)], params)) == want


def test_a_step_that_fails_is_said_to_all_and_the_next_request_plays() -> None:
    slow, shared = watched(2)
    params = SamplingParams(max_tokens=30)
    requests = [shared.submit([Stream(prompt=PROMPT, seed=k)], params) for k in range(2)]
    slow.broken = MemoryError("there is not enough memory for a pass of the native engine")
    for request in requests:
        with pytest.raises(MemoryError, match="not enough memory for a pass"):
            finish(request)
    slow.broken = None
    assert len(finish(shared.submit([Stream(prompt=PROMPT)], params))[0]) == 30


@pytest.mark.parametrize("engine", ENGINES[:1] + ENGINES[-1:])
def test_many_listeners_who_come_and_go(engine: str) -> None:
    """Threads that begin, give up, drop their generators and go on, at random: the others' ids are untouched."""
    plain = sampler(engine)
    shared = SharedSampler(plain, rows=4)
    params = SamplingParams(max_tokens=40, top_p=0.95)
    want = {seed: ids_of(plain.stream([Stream(prompt=PROMPT, seed=seed)], params)) for seed in range(12)}
    wrong: list[object] = []

    def listen(seed: int) -> None:
        choices = torch.Generator().manual_seed(seed)
        for _ in range(4):
            stream = shared.stream([Stream(prompt=PROMPT, seed=seed)], params)
            if torch.rand((), generator=choices) < 0.4:
                for _ in range(int(torch.randint(1, 30, (), generator=choices))):
                    next(stream)
                del stream
            elif (made := ids_of(stream)) != want[seed]:
                wrong.append((seed, made))

    threads = [threading.Thread(target=listen, args=(seed,)) for seed in want]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
    until(lambda: shared.load == (0, 0))


def pipelines() -> list[Pipeline]:
    lm = model()
    info = CheckpointInfo(model=lm.config, tokenizer="piano")
    checkpoint = Checkpoint(model=lm, tokenizer=get_tokenizer("piano"), info=info)
    return [Pipeline(checkpoint, "torch", share=share) for share in (0, 2)]


def test_a_pipeline_that_shares_gives_what_one_that_does_not_gives() -> None:
    plain, sharing = pipelines()
    score = Score(notes=tuple(Note(pitch=60 + i, velocity=60, start=0.5 * i, end=0.5 * i + 0.8) for i in range(9)))
    prompts = [Prompt(media=score, seconds=2.0), Prompt(media=score), Prompt.empty()]
    params = SamplingParams(max_tokens=70, seed=9)
    want = [*plain.stream(prompts, params, variations=2, every_tokens=8)][-1]
    seen = [*sharing.stream(prompts, params, variations=2, every_tokens=8)]
    assert [made.ids for made in seen[-1].continuations] == [made.ids for made in want.continuations]
    assert seen[-1].done == (True,) * 6
    assert sharing.shared is not None
    assert seen[0].queue == 1 and seen[-1].queue == 0
    assert {sum(map(bool, progress.done)) for progress in seen} >= {0, 2, 6}
    assert sharing.continue_prompt(prompts[0], params, variation=1).ids == want.continuations[1].ids
    stream = sharing.stream(prompts, SamplingParams(seconds=80_000))
    next(stream)
    del stream
    until(lambda: sharing.shared is not None and sharing.shared.load == (0, 0), 1)


def test_a_batch_without_rows_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^-1 rows are to be shared; a whole number of at least 1 is needed$"):
        SharedSampler(sampler(), rows=-1)
