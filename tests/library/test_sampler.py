"""The decode loop, against a naive one that recomputes everything at every step."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from shortcut_gen.decoding import engines
from shortcut_gen.decoding.engines import TorchDecoding
from shortcut_gen.decoding.sampler import DROPPED, Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams, draw, filter_logits
from shortcut_gen.errors import SettingsError
from shortcut_gen.modalities import get_tokenizer
from shortcut_gen.modalities.base import Tokenizer
from shortcut_gen.modalities.piano import TIME_SHIFT, PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM

PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)


def model(**changes: object) -> ShortcutLM:
    torch.manual_seed(3)
    shape = dict(context=48, layers=4, width=16, heads=2, feedforward=32, taps=(1, 2), feature_hidden=16)
    lm = ShortcutLM(ModelConfig(**{**shape, "shortcut_heads": 4, **changes}))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return lm.eval()


def speech(codebooks: int) -> Tokenizer:
    """A tokenizer whose ids stand in frames; its codec is never asked for."""
    shape = {"name": "none", "sample_rate": 16_000, "frame_rate": 50.0, "cardinality": 12, "num_codebooks": 4}
    return get_tokenizer("speech", shape | {"sha256": "0", "codebooks": codebooks})


def run(
    lm: ShortcutLM,
    streams: Sequence[Stream],
    params: SamplingParams,
    tokenizer: Tokenizer | None = None,
    dropped: float = DROPPED,
) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in streams]
    for step in Sampler(lm, tokenizer or PianoTokenizer(), dropped=dropped).stream(streams, params):
        for ids, token in zip(made, step, strict=True):
            if token is not None:
                ids.append(token)
    return made


def naive(
    lm: ShortcutLM,
    stream: Stream,
    params: SamplingParams,
    count: int,
    tokenizer: Tokenizer | None = None,
    kept: int | None = None,
) -> list[int]:
    """The oracle: no cache, one stream, the whole window read again for every id."""
    tokenizer = tokenizer or PianoTokenizer()
    entropy = np.random.SeedSequence([stream.seed, stream.variation]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
    ids, grammar = list(stream.prompt), tokenizer.grammar()
    for token in ids:
        grammar.advance(token)
    context = lm.config.context
    window = tokenizer.clip(ids, context - 1)
    for _ in range(count):
        with torch.inference_mode():
            logits = lm(torch.tensor([window]))[:, -1]
        if (allowed := grammar.allowed()) is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        if params.temperature == 0:
            token = int(logits.argmax())
        else:
            uniform = torch.rand((), generator=generator, dtype=torch.float64)
            token = int(draw(filter_logits(logits, params), uniform.unsqueeze(0)))
        ids.append(token)
        grammar.advance(token)
        window = tokenizer.clip(ids, kept or context // 2) if len(window) == context else [*window, token]
    return ids[len(stream.prompt) :]


@pytest.mark.parametrize("changes", [{}, {"taps": ()}, {"position": "rotary"}, {"attend_current": True}])
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.9}, {"temperature": 1.3, "top_k": 40}])
def test_same_ids_as_the_naive_loop_far_past_the_window(changes: dict[str, object], settings: dict[str, float]) -> None:
    lm = model(**changes)
    params = SamplingParams(max_tokens=160, **settings)  # type: ignore[arg-type]
    streams = [Stream(prompt=PROMPT, seed=5, variation=k) for k in range(3)]
    streams.append(Stream(prompt=PROMPT[:4], seed=5))
    made = run(lm, streams, params)
    for stream, ids in zip(streams, made, strict=True):
        assert ids == naive(lm, stream, params, 160)


@pytest.mark.parametrize("codebooks", [1, 2, 4])
def test_same_ids_as_the_naive_loop_where_ids_stand_in_frames(codebooks: int) -> None:
    """The window slides to the start of a frame, and a row's turn follows its place in the stream."""
    tokenizer = speech(codebooks)
    lm = model(vocab_size=12 * codebooks, context=50)
    params = SamplingParams(max_tokens=160, top_p=0.9)
    prompts = [tuple(3 + 12 * (at % codebooks) for at in range(length)) for length in (12, 9, 80, 131)]
    streams = [Stream(prompt=prompt, seed=5, variation=k) for k, prompt in enumerate(prompts)]
    for stream, ids in zip(streams, run(lm, streams, params, tokenizer), strict=True):
        assert ids == naive(lm, stream, params, 160, tokenizer)
        first = len(stream.prompt)
        assert [token // 12 for token in ids] == [at % codebooks for at in range(first, first + 160)]


@pytest.mark.parametrize(("dropped", "kept"), [(0.25, 36), (0.75, 12), (1 / 48, 47), (0.001, 47), (0.999, 1)])
def test_same_ids_as_the_naive_loop_whatever_share_a_slide_drops(dropped: float, kept: int) -> None:
    lm, params = model(), SamplingParams(max_tokens=160, top_p=0.9)
    stream = Stream(prompt=PROMPT, seed=5)
    made = run(lm, [stream], params, dropped=dropped)
    assert made == [naive(lm, stream, params, 160, kept=kept)]
    # Until the window is full there is nothing to drop.
    assert made[0][: 48 - len(PROMPT)] == run(lm, [stream], params)[0][: 48 - len(PROMPT)]


@pytest.mark.parametrize("dropped", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_cannot_be_dropped_is_refused(dropped: float) -> None:
    with pytest.raises(SettingsError, match="dropped is"):
        Sampler(model(), PianoTokenizer(), dropped=dropped)


def test_a_length_in_seconds_has_the_same_frames_whatever_came_before() -> None:
    tokenizer, lm = speech(2), model(vocab_size=24)
    streams = [Stream(prompt=(3, 15) * frames) for frames in range(1, 60)]
    assert any((frames + 10) / 50 - frames / 50 < 0.2 for frames in range(1, 60))  # as rounding has it
    assert {len(ids) for ids in run(lm, streams, SamplingParams(seconds=0.2), tokenizer)} == {20}


def test_a_variation_does_not_depend_on_its_company() -> None:
    lm = model()
    params = SamplingParams(max_tokens=120)
    together = run(lm, [Stream(prompt=PROMPT, seed=1, variation=k) for k in range(4)], params)
    for k in (0, 3):
        assert run(lm, [Stream(prompt=PROMPT, seed=1, variation=k)], params) == [together[k]]
    assert len({tuple(ids) for ids in together}) == 4
    assert run(lm, [Stream(prompt=PROMPT, seed=2)], params) != [together[0]]


def test_every_id_obeys_the_grammar() -> None:
    for ids in run(model(), [Stream(prompt=PROMPT, seed=s) for s in range(4)], SamplingParams(max_tokens=300)):
        grammar = PianoTokenizer().grammar()
        for token in PROMPT:
            grammar.advance(token)
        for token in ids:
            assert grammar.allowed()[token]
            grammar.advance(token)


def test_length_in_seconds_is_reached_and_not_passed_by_more_than_a_shift() -> None:
    tokenizer = PianoTokenizer()
    params = SamplingParams(seconds=7.5)
    for ids in run(model(), [Stream(prompt=PROMPT, seed=s) for s in range(3)], params):
        seconds = tokenizer.seconds(ids)
        assert 7.5 <= seconds < 8.5
        assert tokenizer.seconds(ids[:-1]) < 7.5
        assert TIME_SHIFT <= ids[-1] < 356


def test_without_a_prompt() -> None:
    made = run(model(), [Stream(prompt=(), seed=4, variation=k) for k in range(2)], SamplingParams(max_tokens=50))
    assert [len(ids) for ids in made] == [50, 50]
    assert made == run(
        model(), [Stream(prompt=(), seed=4, variation=k) for k in range(2)], SamplingParams(max_tokens=50)
    )
    assert PianoTokenizer().decode(made[0]).notes


def test_a_prompt_longer_than_the_window() -> None:
    lm = model()
    long = PROMPT * 20
    params = SamplingParams(max_tokens=60)
    assert run(lm, [Stream(prompt=long, seed=2)], params) == [naive(lm, Stream(prompt=long, seed=2), params, 60)]


def test_closing_the_stream_stops_it() -> None:
    calls = 0
    lm = model()

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    lm.register_forward_hook(count)
    stream = Sampler(lm, PianoTokenizer()).stream([Stream(prompt=PROMPT)], SamplingParams(max_tokens=10_000))
    next(stream)
    stream.close()
    assert calls == 1


def test_a_tokenizer_of_another_size_is_refused() -> None:
    with pytest.raises(SettingsError, match="20 ids but the tokenizer 388"):
        Sampler(model(vocab_size=20), PianoTokenizer())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("changes", [{}, {"taps": ()}, {"position": "rotary"}], ids=["shortcut", "baseline", "rotary"])
def test_logits_equal_full_recomputation_while_the_window_slides(
    changes: dict[str, object], batch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law of the caches, past the window: every step's logits, against the window read anew without a cache."""
    lm, tokenizer = model(**changes).to(dtype), PianoTokenizer()
    seen: list[list[torch.Tensor]] = [[] for _ in range(batch)]

    class Recorded(TorchDecoding):
        def read(self, row: int, tokens: Sequence[int], *, start: int = 0) -> torch.Tensor:
            logits = super().read(row, tokens, start=start)
            seen[row].append(logits[0].clone())
            return logits

        def step(self, tokens: Sequence[int], rows: Sequence[int] | None = None) -> torch.Tensor:
            logits = super().step(tokens, rows)
            for row, line in zip(range(batch) if rows is None else rows, logits, strict=True):
                seen[row].append(line.clone())
            return logits

    monkeypatch.setattr(engines, "TorchDecoding", Recorded)
    streams = [Stream(prompt=PROMPT[: 9 - k], seed=k) for k in range(batch)]
    made = run(lm, streams, SamplingParams(max_tokens=70))
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for row, (stream, ids) in enumerate(zip(streams, made, strict=True)):
        window = list(stream.prompt)
        slides = 0
        for step, token in enumerate(ids):
            with torch.inference_mode():
                whole = lm(torch.tensor([window]))[0, -1]
            torch.testing.assert_close(seen[row][step], whole, atol=tolerance, rtol=tolerance)
            past = [*stream.prompt, *ids[: step + 1]]
            slides += len(window) == 48
            window = tokenizer.clip(past, 24) if len(window) == 48 else [*window, token]
        assert slides >= 1
