"""The native engine against the model it was made from: the same logits, the same ids, in every form it has."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from shortcut_gen import load_checkpoint
from shortcut_gen.decoding import engines, native, sampling
from shortcut_gen.decoding.engines import Engine, TorchEngine, make_engine, resolve
from shortcut_gen.decoding.native import LEVELS, NativeEngine, library
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.errors import SettingsError
from shortcut_gen.generate import main
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from shortcut_gen.pipeline import Pipeline
from tests.shared.small_models import SMALL, VARIANTS, build

needs_library = pytest.mark.skipif(native.problem() is not None, reason=native.problem() or "")
HERE = LEVELS[: LEVELS.index(native.machine_level()) + 1] if native.problem() is None else ()
PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)

SHAPES: dict[str, dict[str, object]] = {
    "odd-sizes": {"width": 36, "heads": 3, "shortcut_heads": 9, "feedforward": 50, "feature_hidden": 37},
    "wide-heads": {"width": 40, "heads": 1, "shortcut_heads": 2, "position": "rotary"},
    "narrow-heads": {"width": 20, "heads": 20, "shortcut_heads": 10},
    "one-block": {"layers": 1, "taps": (), "vocab_size": 2},
    "large-vocabulary": {"vocab_size": 50_257, "layers": 2, "taps": (1,)},
    "long": {"context": 200, "attend_current": True},
    "swiglu-odd": {"width": 36, "heads": 3, "shortcut_heads": 9, "feedforward": 50, "activation": "swiglu"},
    "value-residual-odd": {"width": 36, "heads": 3, "shortcut_heads": 9, "value_residual": True},
    "everything": {
        "value_residual": True,
        "activation": "swiglu",
        "taps": (1, 3),
        "attend_current": True,
        "residual": "literal",
        "position": "rotary",
        "residual_mlps": (2, 3),
        "features": "identity",
        "context": 70,
    },
}


def shaped(**changes: object) -> ShortcutLM:
    torch.manual_seed(4)
    shape = {**SMALL, "taps": (2, 4), "shortcut_heads": 4, **changes}
    model = ShortcutLM(ModelConfig(**shape)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def piano(**changes: object) -> ShortcutLM:
    return shaped(**{"vocab_size": 388, "context": 48, "layers": 4, "taps": (1, 2), **changes})


def whole(model: ShortcutLM, tokens: Sequence[int]) -> torch.Tensor:
    """The model's own logits, (T, V)."""
    with torch.inference_mode():
        return model(torch.tensor([list(tokens)]))[0]


def some_tokens(model: ShortcutLM, count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.config.vocab_size, (count,), generator=generator).tolist()


def run(engine: Engine, model: ShortcutLM, streams: Sequence[Stream], params: SamplingParams) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in streams]
    for step in Sampler(model, PianoTokenizer(), engine).stream(streams, params):
        for ids, token in zip(made, step, strict=True):
            if token is not None:
                ids.append(token)
    return made


@needs_library
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("variant", [*VARIANTS, *SHAPES])
def test_logits_are_the_models_however_a_sequence_is_split(variant: str, threads: int) -> None:
    model = build(variant) if variant in VARIANTS else shaped(**SHAPES[variant])
    length = model.config.context
    tokens, scale = some_tokens(model, length), whole(model, some_tokens(model, length)).abs().max().clamp(min=1)
    want = whole(model, tokens)
    for level in HERE:
        engine = NativeEngine(model, precision="f32", threads=threads, level=level)
        decoding = engine.decoding(2)
        cuts = [0, length // 3, length // 3 + 1, length // 2, length - 5]
        parts = [decoding.read(1, tokens[a:b], start=a, every=True) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
        parts += [decoding.step([token], rows=[1]).clone() for token in tokens[length - 5 :]]
        torch.testing.assert_close(torch.cat(parts) / scale, want / scale, atol=1e-4, rtol=0)
        at_once = engine.decoding(1).read(0, tokens, every=True)
        torch.testing.assert_close(at_once / scale, want / scale, atol=1e-4, rtol=0)


@needs_library
@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_different_lengths_do_not_see_each_other(precision: native.Precision, threads: int) -> None:
    """A ragged batch gives each row what it would get alone, and rows may end, be copied and be read anew."""
    model = build("shortcut")
    engine = NativeEngine(model, precision=precision, threads=threads)
    texts = [some_tokens(model, 24, seed) for seed in range(5)]

    def alone(text: Sequence[int]) -> torch.Tensor:
        return engine.decoding(1).read(0, text)[0]

    decoding = engine.decoding(5)
    lengths = [3, 17, 1, 7]
    for row, length in enumerate(lengths):
        torch.testing.assert_close(decoding.read(row, texts[row][:length])[0], alone(texts[row][:length]))
    decoding.copy(4, 1)
    texts[4], lengths = texts[1], [*lengths, 17]
    logits = decoding.step([texts[row][length] for row, length in enumerate(lengths)]).clone()
    for row, length in enumerate(lengths):
        torch.testing.assert_close(logits[row], alone(texts[row][: length + 1]), atol=1e-6, rtol=0)
    decoding.keep([4, 0, 3])
    logits = decoding.step([texts[row][lengths[row] + 1] for row in (4, 0, 3)]).clone()
    for place, row in enumerate((4, 0, 3)):
        torch.testing.assert_close(logits[place], alone(texts[row][: lengths[row] + 2]), atol=1e-6, rtol=0)
    assert decoding.lengths == [19, 5, 9]
    torch.testing.assert_close(decoding.read(1, texts[2][:20])[0], alone(texts[2][:20]))
    logits = decoding.step([texts[4][19], texts[2][20], texts[3][9]])
    torch.testing.assert_close(logits[1], alone(texts[2][:21]), atol=1e-6, rtol=0)


@needs_library
@pytest.mark.parametrize("shape", ["odd-sizes", "wide-heads", "narrow-heads", "long", "everything"])
def test_in_bytes_a_row_is_what_it_is_to_the_bit(shape: str) -> None:
    """Read at once, in pieces or id by id, alone or beside others, in a fresh row or over what another text left."""
    model = shaped(**SHAPES[shape])
    length = model.config.context - 2
    text = some_tokens(model, length)
    for level in HERE:
        engine = NativeEngine(model, precision="int8", threads=1, level=level)
        want = engine.decoding(1).read(0, text, every=True)
        decoding = engine.decoding(3)
        for row in range(3):
            decoding.read(row, some_tokens(model, model.config.context, seed=row + 1))
        half = length // 2
        parts = [decoding.read(1, text[:half], every=True)]
        decoding.read(2, some_tokens(model, 3, seed=9))
        for token in text[half : half + 4]:
            parts.append(decoding.step([0, token], rows=[2, 1])[1:].clone())
        parts.append(decoding.read(1, text[half + 4 :], start=half + 4, every=True))
        assert torch.equal(torch.cat(parts), want), level
        decoding.copy(0, 1)
        steps = decoding.step([1, 1], rows=[0, 1])
        assert torch.equal(steps[0], steps[1]), level


@needs_library
@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_what_is_no_number_is_not_lost_in_the_caches(precision: native.Precision) -> None:
    """Damaged weights make unusable logits behind every window that holds them, not some ids."""
    for damage in (float("nan"), float("inf")):
        model = shaped()
        with torch.no_grad():
            model.embedding.weight[5, 0] = damage
        logits = NativeEngine(model, precision=precision).decoding(1).read(0, [1, 5, 2, 3, 4])
        assert not sampling.usable(logits)[0]


@needs_library
@pytest.mark.parametrize("changes", [{}, {"taps": ()}, {"position": "rotary", "attend_current": True}])
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.9}, {"temperature": 1.3, "top_k": 40}])
def test_same_ids_as_torch_far_past_the_window(changes: dict[str, object], settings: dict[str, float]) -> None:
    model = piano(**changes)
    params = SamplingParams(max_tokens=130, **settings)  # type: ignore[arg-type]
    streams = [Stream(prompt=PROMPT, seed=5, variation=k) for k in range(3)]
    streams += [Stream(prompt=PROMPT[:4], seed=5), Stream(prompt=())]
    want = run(TorchEngine(model), model, streams, params)
    for threads in (1, 2):
        assert run(NativeEngine(model, precision="f32", threads=threads), model, streams, params) == want


@needs_library
def test_streams_that_end_early_leave_the_others_as_they_are() -> None:
    model = piano()
    params = SamplingParams(seconds=6.0, min_p=0.02)
    streams = [Stream(prompt=PROMPT, seed=seed) for seed in range(5)]
    engine = NativeEngine(model, precision="f32")
    made = run(engine, model, streams, params)
    assert len({len(ids) for ids in made}) > 1
    assert made == run(TorchEngine(model), model, streams, params)
    assert made == [run(engine, model, [stream], params)[0] for stream in streams]


@needs_library
@pytest.mark.parametrize("name", ["piano", "speech"])
def test_the_shipped_checkpoints_say_the_same(name: str, root: Path) -> None:
    folder = root / "checkpoints" / name
    if not folder.is_dir():
        pytest.skip("no checkpoint is shipped yet")
    checkpoint = load_checkpoint(folder)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    engine = NativeEngine(model, precision="f32")
    tokens = [tokenizer.vocab_size // tokenizer.frame * (at % tokenizer.frame) + 3 * at for at in range(80)]
    want = whole(model, tokens)
    torch.testing.assert_close(engine.decoding(1).read(0, tokens, every=True), want, atol=1e-4, rtol=1e-4)
    streams = [Stream(prompt=tuple(tokens[:40]), seed=1, variation=k) for k in range(2)]
    for params in (SamplingParams(max_tokens=24, temperature=0), SamplingParams(max_tokens=24, top_p=0.95)):
        made = [list(Sampler(model, tokenizer, e).stream(streams, params)) for e in (TorchEngine(model), engine)]
        assert made[0] == made[1]
    for precision, bound in (("bf16", 0.01), ("int8", 0.05)):
        narrow = NativeEngine(model, precision=precision)  # type: ignore[arg-type]
        got = narrow.decoding(1).read(0, tokens, every=True)
        divergence = (want.softmax(-1) * (want.log_softmax(-1) - got.log_softmax(-1))).sum(-1)
        assert 0 < float(divergence.mean()) < bound  # nats a token


@needs_library
@pytest.mark.parametrize(("precision", "bound"), [("bf16", 0.02), ("int8", 0.06)])
def test_narrow_weights_come_close_with_every_instruction_set(precision: native.Precision, bound: float) -> None:
    model = shaped(width=64, heads=4, shortcut_heads=4, feature_hidden=128, feedforward=96, context=40)
    tokens = some_tokens(model, 40)
    want = whole(model, tokens)
    for level in HERE:
        engine = NativeEngine(model, precision=precision, level=level)
        got = engine.decoding(1).read(0, tokens, every=True)
        error = (got - want).square().mean().sqrt() / want.square().mean().sqrt()
        assert 0 < float(error) < bound, level


@needs_library
def test_decodings_of_one_engine_may_run_side_by_side() -> None:
    model = piano()
    engine = NativeEngine(model, precision="f32", threads=2)
    params = SamplingParams(max_tokens=60)
    want = [run(engine, model, [Stream(prompt=PROMPT, seed=seed)], params) for seed in range(3)]
    got: dict[int, list[list[int]]] = {}

    def work(seed: int) -> None:
        got[seed] = run(engine, model, [Stream(prompt=PROMPT, seed=seed)], params)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[seed] for seed in range(3)] == want


@needs_library
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 400},
        {"top_p": 0.9},
        {"top_p": 0.2},
        {"top_p": 0.999999},
        {"min_p": 0.1},
        {"top_k": 30, "top_p": 0.8, "min_p": 0.02, "temperature": 1.5},
        {"temperature": 0.0},
    ],
)
@pytest.mark.parametrize("vocab", [13, 388, 3000])
def test_ids_are_drawn_as_torch_draws_them(vocab: int, settings: dict[str, float]) -> None:
    params = SamplingParams(max_tokens=1, **settings)  # type: ignore[arg-type]
    torch.manual_seed(2)
    logits = 3 * torch.randn(300, vocab)
    shares = torch.tensor([0.02, 0.7, 1.0])
    masks = [None if row % 4 == 0 else torch.rand(vocab) < shares[row % 4 - 1] for row in range(300)]
    for row, mask in enumerate(masks):
        if mask is not None:
            if row % 4 == 3:  # one stretch of the ids, as a codebook's
                mask[: row * vocab // 600], mask[-(row * vocab // 900) - 1 :] = False, False
            mask[int(torch.randint(0, vocab, ()))] = True
    uniforms = torch.rand(300, dtype=torch.float64).tolist()
    uniforms[:2] = [0.0, 1 - 2**-53]
    want = sampling.choose(logits.clone(), masks, params, uniforms)
    for level in HERE:
        engine = NativeEngine(shaped(vocab_size=13), threads=1, level=level)
        assert engine.choose(logits, masks, params, uniforms) == want


@needs_library
def test_of_equal_logits_top_p_keeps_the_fewest_and_top_k_all() -> None:
    engine = NativeEngine(shaped(vocab_size=13), threads=1)
    uniforms = [(row + 0.5) / 800 for row in range(800)]

    def drawn(**settings: float) -> set[int]:
        params = SamplingParams(max_tokens=1, **settings)  # type: ignore[arg-type]
        return set(engine.choose(torch.zeros(800, 400), [None] * 800, params, uniforms))

    assert len(drawn(top_p=0.5)) == 200
    assert len(drawn(top_k=7)) == len(drawn(min_p=1 - 1e-9)) == 400


@needs_library
def test_an_instruction_set_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("shortcut")
    monkeypatch.setenv("SHORTCUT_GEN_NATIVE", "plain")
    assert NativeEngine(model).level == "plain"
    monkeypatch.setenv("SHORTCUT_GEN_NATIVE", "altivec")
    with pytest.raises(SettingsError, match=r"^the instruction set 'altivec' is not available here; one of plain"):
        NativeEngine(model)


@needs_library
def test_wrong_arguments_are_one_line() -> None:
    model = build("shortcut")
    for wrong in ({"precision": "f16"}, {"threads": 0}, {"threads": 1000}, {"level": "sse9"}):
        with pytest.raises(SettingsError, match=r"^[^\n]* is needed$"):
            NativeEngine(model, **wrong)  # type: ignore[arg-type]
    decoding = NativeEngine(model).decoding(1)
    with pytest.raises(ValueError, match="25 tokens do not fit the context of 24"):
        decoding.read(0, [1] * 25)
    with pytest.raises(ValueError, match="an id lies outside 0 to 12"):
        decoding.read(0, [13])
    with pytest.raises(ValueError, match="start is 4; row 0 holds 0 tokens"):
        decoding.read(0, [1], start=4)
    decoding.read(0, [1] * 24)
    with pytest.raises(ValueError, match="25 tokens do not fit the context of 24"):
        decoding.step([1])


@needs_library
def test_a_fork_decodes_with_threads_of_its_own(root: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    code = """
import os, torch
from shortcut_gen.decoding.native import NativeEngine
from tests.shared.small_models import build
engine = NativeEngine(build("shortcut"), precision="f32", threads=2)
want = engine.decoding(1).read(0, [1, 2, 3])
if (child := os.fork()) == 0:
    os._exit(int(not torch.equal(engine.decoding(1).read(0, [1, 2, 3]), want)))
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, cwd=Path(__file__).resolve().parents[2], timeout=60
    )


@needs_library
def test_the_pipeline_takes_the_engine_it_is_told(tiny_checkpoint: Path) -> None:
    assert Pipeline.from_pretrained(tiny_checkpoint).sampler.engine.name == "native"
    made = Pipeline.from_pretrained(tiny_checkpoint, engine="native", precision="int8").sampler.engine
    assert (made.name, made.precision) == ("native", "int8")
    made = Pipeline.from_pretrained(tiny_checkpoint, engine="torch").sampler.engine
    assert (made.name, made.precision) == ("torch", "f32")


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where no compiler was there."""
    monkeypatch.setattr(library, "_load", lambda: "the native engine was not built (no compiler)")
    engines._say_once.cache_clear()
    yield
    engines._say_once.cache_clear()


@pytest.mark.usefixtures("without_library")
def test_without_the_library_torch_decodes_and_says_so_once(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert Pipeline.from_pretrained(tiny_checkpoint).sampler.engine.name == "torch"
    assert [record.message for record in caplog.records] == [
        "the native engine was not built (no compiler); PyTorch decodes instead, which is slower"
    ]
    with pytest.raises(SettingsError, match=r"^engine is 'native', but the native engine was not built [^\n]*$"):
        resolve("native")
    with pytest.raises(SettingsError, match=r"^precision is 'int8', but the torch engine computes in f32 alone$"):
        resolve("auto", "int8")


def test_settings_that_no_engine_has_are_refused() -> None:
    for engine, precision in (("tvm", None), ("auto", "int4"), ("torch", "bf16")):
        with pytest.raises(SettingsError, match=r"^(engine|precision) is [^\n]*$"):
            resolve(engine, precision)
    with pytest.raises(SettingsError, match=r"^engine is 'native', but the model is on cuda"):
        resolve("native", None, "cuda")
    assert resolve("auto", None, "cuda") == ("torch", "f32")
    assert make_engine(build("shortcut"), "torch").name == "torch"


@needs_library
def test_the_batch_command_takes_an_engine(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(*options: str) -> set[tuple[str, bytes]]:
        out = tmp_path / "-".join(options)
        common = ["--checkpoint", str(tiny_checkpoint), "--from-scratch", "1", "--seconds", "2", "--midi-only"]
        assert main(["--out", str(out), *common, *options]) == 0
        [record] = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
        assert record["engine"]["name"] == options[1]
        return {(path.name, path.read_bytes()) for path in out.glob("*.mid")}

    torch_made = make("--engine", "torch")
    assert make("--engine", "native", "--precision", "f32") == torch_made
    [(name, _)] = make("--engine", "native", "--precision", "int8")
    assert name not in {other for other, _ in torch_made}  # other weights, another result
    capsys.readouterr()
    assert main(["--out", str(tmp_path), "--from-scratch", "1", "--engine", "jax"]) == 2
    assert capsys.readouterr().err == "error: engine is 'jax'; one of auto, torch, native is needed\n"
