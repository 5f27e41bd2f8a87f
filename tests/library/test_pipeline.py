"""From a prompt to its continuation."""

from pathlib import Path

import pytest
import torch

from shortcut_gen import (
    Checkpoint,
    CheckpointInfo,
    ModelConfig,
    Note,
    Pipeline,
    Prompt,
    SamplingParams,
    Score,
    ShortcutLM,
)
from shortcut_gen.errors import PromptError, SettingsError
from shortcut_gen.modalities import get_tokenizer

SCALE = Score(
    notes=tuple(Note(pitch=60 + i, velocity=50 + i, start=0.5 * i, end=0.5 * i + 0.8) for i in range(12)),
)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    torch.manual_seed(0)
    config = ModelConfig(context=64, layers=3, width=16, heads=2, feedforward=16, taps=(1, 2), feature_hidden=16)
    info = CheckpointInfo(model=config, tokenizer="piano")
    model = ShortcutLM(config).eval()
    return Pipeline(Checkpoint(model=model, tokenizer=get_tokenizer("piano"), info=info))


def test_the_prompt_is_kept_and_the_continuation_follows_it(pipeline: Pipeline) -> None:
    prompt = Prompt(media=SCALE, seconds=4.0)
    result = pipeline.continue_prompt(prompt, SamplingParams(seconds=5.0, seed=3))
    assert 3.5 <= result.seam_seconds <= 4.0
    assert result.seconds - result.seam_seconds >= 5.0
    before = [note for note in result.score.notes if note.start < result.seam_seconds - 0.01]
    given = [note for note in SCALE.notes if note.start < result.seam_seconds - 0.01]
    assert [note.pitch for note in before] == [note.pitch for note in given]
    assert [note.start for note in before] == pytest.approx([note.start for note in given], abs=0.005)
    assert all(note.end <= result.seconds for note in result.score.notes)


def test_the_stream_grows_and_ends_as_the_single_call(pipeline: Pipeline) -> None:
    params = SamplingParams(max_tokens=40, seed=9)
    prompts = [Prompt(media=SCALE, seconds=2.0), Prompt(media=SCALE)]
    seen = list(pipeline.stream(prompts, params, variations=2, every_tokens=8))
    lengths = [len(progress.continuations[0].ids) for progress in seen]
    assert lengths == sorted(lengths)
    assert len(lengths) >= 5
    assert seen[-1].done == (True,) * 4
    assert not any(seen[0].done)
    last = seen[-1].continuations
    assert [c.variation for c in last] == [0, 1, 0, 1]
    assert [c.prompt for c in last] == [prompts[0], prompts[0], prompts[1], prompts[1]]
    assert last[1].ids == pipeline.continue_prompt(prompts[0], params, variation=1).ids
    assert last[2].ids == pipeline.continue_prompt(prompts[1], params).ids


def test_from_scratch(pipeline: Pipeline) -> None:
    result = pipeline.continue_prompt(Prompt.empty(), SamplingParams(max_tokens=60))
    assert result.seam_seconds == 0.0
    assert result.prompt_ids == ()
    assert len(result.ids) == 60
    assert result.score.notes


def test_a_prompt_without_anything_in_its_part_is_refused(pipeline: Pipeline) -> None:
    late = Score(notes=(Note(pitch=60, velocity=60, start=5.0, end=6.0),))
    with pytest.raises(PromptError, match=r"nothing sounds in its first 2 s \(it lasts 6.0 s\)"):
        pipeline.continue_prompt(Prompt(media=late, seconds=2.0), SamplingParams(max_tokens=5))
    with pytest.raises(PromptError, match="no notes"):
        pipeline.continue_prompt(Prompt(media=Score(notes=())), SamplingParams(max_tokens=5))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_prompt_of_no_length_is_refused(seconds: float) -> None:
    with pytest.raises(SettingsError, match=f"prompt seconds is {seconds}"):
        Prompt(media=SCALE, seconds=seconds)


def test_a_file_is_read_by_its_content(pipeline: Pipeline, tmp_path: Path) -> None:
    SCALE.write(tmp_path / "scale.mid")
    prompt = Prompt.from_file(tmp_path / "scale.mid", seconds=3)
    assert prompt.name == "scale.mid"
    assert pipeline.encode(prompt) == pipeline.encode(Prompt(media=SCALE, seconds=3))
