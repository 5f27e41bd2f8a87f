"""Decoding with shapes that never change, against the ordinary torch engine; all but the CUDA graphs themselves."""

import logging
from collections.abc import Callable, Sequence

import pytest
import torch

from shortcut_gen.decoding import cuda_graphs, sampling
from shortcut_gen.decoding.cuda_graphs import GraphDecoding
from shortcut_gen.decoding.engines import TorchDecoding, TorchEngine
from shortcut_gen.decoding.sampler import Sampler, Stream
from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM
from tests.shared.small_models import VARIANTS, build

PROMPT = (376, 60, 64, 67, 300, 188, 192, 195, 72)


def piano(**changes: object) -> ShortcutLM:
    torch.manual_seed(4)
    shape = dict(context=48, layers=3, width=16, heads=2, feedforward=24, taps=(1, 2), feature_hidden=20)
    model = ShortcutLM(ModelConfig(**{**shape, "shortcut_heads": 4, **changes})).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def run(model: ShortcutLM, graphs: bool, params: SamplingParams, count: int = 5) -> list[tuple[int | None, ...]]:
    streams = [Stream(prompt=PROMPT[: 9 - k % 3], seed=5, variation=k) for k in range(count)]
    return list(Sampler(model, PianoTokenizer(), TorchEngine(model, graphs=graphs)).stream(streams, params))


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_the_ordinary_engine(variant: str) -> None:
    model = build(variant)
    torch.manual_seed(1)
    texts = torch.randint(0, 13, (4, 24)).tolist()
    static, ordinary = GraphDecoding(model, 4), TorchDecoding(model, 4)
    windows = [texts[row][:length] for row, length in enumerate((3, 17, 1, 17))]

    def check(got: torch.Tensor, want: torch.Tensor) -> None:
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)

    check(static.read_all(range(4), windows), ordinary.read_all(range(4), windows))
    for decoding in (static, ordinary):
        decoding.copy(3, 1)
    for at in range(3):
        tokens = [text[at] for text in texts]
        check(static.step(tokens), ordinary.step(tokens))
    check(static.step([1, 3, 4], rows=[0, 2, 3]), ordinary.step([1, 3, 4], rows=[0, 2, 3]))
    check(static.read(1, texts[0][:4]), ordinary.read(1, texts[0][:4]))
    check(static.step([3, 1], rows=[2, 0]), ordinary.step([3, 1], rows=[2, 0]))  # while the other is read in pieces
    check(static.read(1, texts[0][4:9], start=4), ordinary.read(1, texts[0][4:9], start=4))
    for kept in ([3, 0, 1], [2, 0], [1]):  # with a slot left over, then in half as many, then alone
        for decoding in (static, ordinary):
            decoding.keep(kept)
        check(static.step([5, 6, 7][: len(kept)]), ordinary.step([5, 6, 7][: len(kept)]))
        assert static.lengths == ordinary.lengths
    static.read(0, texts[0])
    with pytest.raises(ValueError, match="25 tokens do not fit the context of 24"):
        static.step([1])


@pytest.mark.parametrize("changes", [{}, {"taps": ()}, {"position": "rotary", "attend_current": True}])
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.9, "min_p": 0.01}, {"top_k": 40}])
def test_same_ids_far_past_the_window_and_as_streams_end(
    changes: dict[str, object], settings: dict[str, float]
) -> None:
    model = piano(**changes)
    params = SamplingParams(max_tokens=110, seconds=9.0, **settings)  # type: ignore[arg-type]
    made = run(model, True, params)
    assert made == run(model, False, params)
    if params.temperature:
        assert len({sum(token is not None for token in column) for column in zip(*made, strict=True)}) > 1


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.0}, {"top_k": 5, "min_p": 0.1}, {"top_p": 0.9}, {"top_p": 0.999, "top_k": 900}]
)
def test_ids_drawn_on_the_device_are_those_drawn_elsewhere(settings: dict[str, float]) -> None:
    params = SamplingParams(max_tokens=1, **settings)  # type: ignore[arg-type]
    torch.manual_seed(2)
    logits, masks = torch.randn(200, 1000), torch.rand(200, 1000) < 0.5
    uniforms = torch.rand(200, dtype=torch.float64)
    there = sampling.choose_there(logits, masks, settings_there([params] * 200), uniforms).tolist()
    assert there == sampling.choose(logits.clone(), list(masks), params, uniforms.tolist())


def settings_there(params: Sequence[SamplingParams]) -> sampling.RowSettings:
    numbers = zip(*(sampling.RowSettings.of(one, 1000) for one in params), strict=True)
    kinds = (torch.float64, torch.int64, torch.float64, torch.float64)
    return sampling.RowSettings(*(torch.tensor(row, dtype=kind) for row, kind in zip(numbers, kinds, strict=True)))


def test_rows_of_different_settings_are_drawn_each_by_its_own() -> None:
    torch.manual_seed(2)
    logits, masks, uniforms = torch.randn(60, 1000), [None] * 60, torch.rand(60, dtype=torch.float64)
    several = [
        SamplingParams(max_tokens=1, **settings)  # type: ignore[arg-type]
        for settings in ({}, {"temperature": 0.0}, {"top_k": 5, "min_p": 0.1}, {"top_p": 0.9, "temperature": 1.3})
    ]
    params = [several[row % 4] for row in range(60)]
    want = [
        sampling.choose(logits[row : row + 1].clone(), [None], params[row], [float(uniforms[row])])[0]
        for row in range(60)
    ]
    assert sampling.choose(logits.clone(), masks, params, uniforms.tolist()) == want
    everything = torch.ones(60, 1000, dtype=torch.bool)
    assert sampling.choose_there(logits, everything, settings_there(params), uniforms).tolist() == want
    with pytest.raises(ValueError, match="2 settings are given; 60 rows need as many"):
        sampling.choose(logits, masks, params[:2], uniforms.tolist())


def test_a_step_is_captured_once_for_each_span_and_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[Callable[[], None]] = []

    def pretend(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
        work()  # as the warm-up does
        captured.append(work)
        return work

    model, params = piano(context=128), SamplingParams(max_tokens=100)
    want = run(model, False, params, count=2)
    monkeypatch.setattr(cuda_graphs, "capture", pretend)
    monkeypatch.setattr(GraphDecoding, "_captures", lambda self: True)
    assert run(model, True, params, count=2) == want
    assert len(captured) == 4  # a quarter of the context each


def test_where_a_step_cannot_be_captured_it_runs_all_the_same_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    model, params = piano(), SamplingParams(max_tokens=60)
    want = run(model, False, params)
    cuda_graphs._say_once.cache_clear()
    monkeypatch.setattr(cuda_graphs, "capture", refuse)
    monkeypatch.setattr(GraphDecoding, "_captures", lambda self: True)
    with caplog.at_level(logging.WARNING):
        assert run(model, True, params) == want == run(model, True, params)
    assert [record.message for record in caplog.records] == [
        "a step cannot be made a CUDA graph (operation not permitted when stream is capturing); PyTorch decodes "
        "without, which is slower"
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("batch", [1, 4])
def test_on_a_gpu_graphs_give_what_the_ordinary_engine_gives(batch: int) -> None:
    model, params = piano().cuda(), SamplingParams(max_tokens=110, top_p=0.9)
    assert run(model, True, params, batch) == run(model, False, params, batch)
    static, ordinary = GraphDecoding(model, batch), TorchDecoding(model, batch)
    for decoding in (static, ordinary):
        decoding.read_all(range(batch), [PROMPT] * batch)
    for token in PROMPT:
        got, want = static.step([token] * batch), ordinary.step([token] * batch)
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert static._graphs
