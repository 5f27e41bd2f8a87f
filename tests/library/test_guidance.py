"""Guidance by the prompt: what it computes, on every engine, alone and beside others, and what is refused."""

import pytest
import torch

from shortcut_gen.decoding import native, sampling
from shortcut_gen.decoding.depth import DepthLog
from shortcut_gen.decoding.guidance import GuidedDecoding
from shortcut_gen.decoding.native.engine import Precision
from shortcut_gen.decoding.sampler import Row, Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.decoding.shared import SharedSampler
from shortcut_gen.errors import SettingsError
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.model import ShortcutLM
from tests.shared.streams import ids_of, model, sampler

CONTEXT = 200
PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72) * 30
needs_library = pytest.mark.skipif(native.problem() is not None, reason=native.problem() or "")
ENGINES = ["torch", "static", *(pytest.param(name, marks=needs_library) for name in ("f32", "int8"))]


@pytest.fixture(scope="module")
def lm() -> ShortcutLM:
    return model(CONTEXT)


@torch.inference_mode()
def slowly(lm: ShortcutLM, stream: Stream, params: SamplingParams) -> list[int]:
    """What guidance is, without a cache: both windows read whole for every id."""
    row, kept = Row(stream, 0, params, PianoTokenizer()), Sampler(lm, PianoTokenizer()).kept
    window = row.window(CONTEXT, kept)
    twin = row.blind(window)
    row.read = True
    while not row.ended:
        own, others = (lm(torch.tensor([ids]))[0, -1] for ids in (window, twin))
        logits = (own + params.guidance * (own - others))[None]
        token = sampling.choose(logits, [row.grammar.allowed()], params, [row.drawing()])[0]
        row.take(token)
        window, twin = [*window, token], [*twin, token]
        if len(window) > CONTEXT:
            window = row.window(CONTEXT, kept)
            twin = row.blind(window)
    return row.ids[len(stream.prompt) :]


@pytest.mark.parametrize("engine", ENGINES[:3])
def test_the_ids_are_those_of_both_windows_read_whole(lm: ShortcutLM, engine: str) -> None:
    """Past the end of the window, where both slide."""
    params = SamplingParams(max_tokens=150, top_p=0.9, guidance=1.5)
    stream = Stream(prompt=PROMPT, seed=2)
    made = ids_of(sampler(engine, CONTEXT).stream([stream], params))
    assert made == [slowly(lm, stream, params)]
    plain = SamplingParams(max_tokens=150, top_p=0.9)
    assert made != ids_of(sampler(engine, CONTEXT).stream([stream], plain))


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_have_their_own_guidance_in_a_shared_batch(engine: str) -> None:
    """Of equal prompts too, and from none, where there is nothing to hold to."""
    one = sampler(engine, CONTEXT)
    asked = [
        (Stream(prompt=PROMPT, seed=2), SamplingParams(max_tokens=140, guidance=1.5)),
        (Stream(prompt=PROMPT, seed=2), SamplingParams(max_tokens=140)),
        (Stream(prompt=PROMPT, seed=3), SamplingParams(max_tokens=30, guidance=0.5)),
        (Stream(prompt=(), seed=3), SamplingParams(max_tokens=60, guidance=1.5)),
        (Stream(prompt=PROMPT, seed=4), SamplingParams(max_tokens=140, guidance=1.5)),
    ]
    alone = [ids_of(one.stream([stream], params))[0] for stream, params in asked]
    shared = SharedSampler(one, 4)
    requests = [shared.submit([stream], params) for stream, params in asked]
    together = []
    for request in requests:
        with request:
            ids: list[int] = []
            done = False
            while not done:
                (new,), (done,) = request.take()
                ids += new
            together.append(ids)
    assert together == alone
    assert alone[3] == ids_of(one.stream([asked[3][0]], SamplingParams(max_tokens=60)))[0]


@pytest.mark.parametrize("engine", ["torch", pytest.param("f32", marks=needs_library)])
def test_the_depth_map_is_the_models_own(lm: ShortcutLM, engine: str) -> None:
    """The surprise of an id is what the model thinks of it, not what guidance makes of that."""
    log = DepthLog(lm.config)
    prompt = PROMPT[:150]
    stream = Stream(prompt=prompt, seed=2, depth=log)
    (ids,) = ids_of(sampler(engine, CONTEXT).stream([stream], SamplingParams(max_tokens=40, guidance=1.5)))
    depth = log.depth(40)
    with torch.inference_mode():
        likely = lm(torch.tensor([[*prompt, *ids]])).log_softmax(-1)[0]
    for place, token in enumerate(ids):
        assert depth.surprise[place] == pytest.approx(-float(likely[len(prompt) + place - 1, token]), abs=1e-3)
    assert depth.shares.sum(axis=1) == pytest.approx([1.0] * 40, abs=1e-4)


@needs_library
@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_the_native_engine_draws_what_it_would_choose_from_guided_logits(lm: ShortcutLM, precision: Precision) -> None:
    """Of all rows or some, whichever are guided; and their surprise is by their own logits, not the guided ones."""
    engine = native.NativeEngine(lm, precision=precision)
    params = SamplingParams(max_tokens=1, top_p=0.9)
    found = []
    for steps in (False, True):
        decoding = GuidedDecoding(engine, 4)
        if steps:
            decoding._guiding = None
        for row, guidance in enumerate((1.5, 0.0, 0.4, 2.0)):
            decoding.look(row, watched=True)
            decoding.guide(row, guidance, PROMPT[-9:], len(PROMPT[: 40 + row]))
            decoding.read(row, PROMPT[: 40 + row])
        ids, surprises = [60, 61, 62, 63], []
        for number in range(12):
            rows = None if number % 2 else [3, 1, 0]
            given = ids if rows is None else [ids[row] for row in rows]
            made = decoding.draw(given, [None] * len(given), params, [0.1 + number / 20] * len(given), rows)
            assert decoding.seen is not None and decoding.seen.surprise is not None
            surprises += [float(value) for value in decoding.seen.surprise[: len(given)]]
            for row, token in zip(range(4) if rows is None else rows, made, strict=True):
                ids[row] = token
            found.append((steps, number, list(ids)))
        found.append((steps, -1, surprises))
    half = len(found) // 2
    assert [each[2] for each in found[: half - 1]] == [each[2] for each in found[half:-1]]
    assert found[half - 1][2] == pytest.approx(found[-1][2], abs=1e-5)


@needs_library
def test_twins_that_do_not_fit_are_refused(lm: ShortcutLM) -> None:
    engine = native.NativeEngine(lm)
    own, twins = engine.decoding(2), engine.decoding(1)
    for decoding in (own, twins):
        decoding.read(0, [60])
    asked = ([60], [None], SamplingParams(max_tokens=1), [0.5], [0])
    with pytest.raises(ValueError, match="2 rows of 1 are guided by 1 twins"):
        own.draw_guided(*asked, twins, {0: 1.0, 1: 1.0})
    with pytest.raises(ValueError, match="1 rows of 1 are guided"):
        own.draw_guided(*asked, twins, {1: 1.0})
    with pytest.raises(ValueError, match="another engine"):
        own.draw_guided(*asked, GuidedDecoding(engine, 1), {0: 1.0})


@pytest.mark.parametrize("guidance", [-0.1, 10.5, float("nan"), "much", True])
def test_what_is_no_guidance_is_refused(guidance: object) -> None:
    with pytest.raises(SettingsError, match=r"guidance is .* from 0 to 10 is needed"):
        SamplingParams(max_tokens=1, guidance=guidance)  # type: ignore[arg-type]
