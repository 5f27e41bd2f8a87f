"""CTranslate2 on the baseline's weights, which its own converter for transformers' GPT-2 takes over."""

import tempfile
from pathlib import Path

from benchmarks.decoding.round import Decode, random_model, served
from benchmarks.peers.torch import gpt2_of
from shortcut_gen.network.config import ModelConfig


def convert(config: ModelConfig, folder: Path, quantization: str | None) -> None:
    """Write its model folder; id i is the word `str(i)`."""
    from ctranslate2.converters.transformers import GPT2Loader

    spec = GPT2Loader().get_model_spec(gpt2_of(random_model(config)))
    spec.register_vocabulary([str(number) for number in range(config.vocab_size)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"  # it wants some; none is used
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))


@served
def ctranslate2(config: ModelConfig, threads: int, precision: str) -> Decode:
    """Its `generate_batch`, with the weights in f32 or int8; prompts are read at once."""
    import ctranslate2 as library

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        folder.mkdir()
        convert(config, folder, None if precision == "f32" else precision)
        compute = {"f32": "float32"}.get(precision, precision)
        generator = library.Generator(name + "/model", "cpu", compute_type=compute, intra_threads=threads)

    def decode(prompts: list[list[int]], new: int, top_k: int, seed: int) -> list[list[int]]:
        library.set_random_seed(seed)
        results = generator.generate_batch(
            [[str(number) for number in prompt] for prompt in prompts],
            max_length=new,
            min_length=new,
            sampling_topk=top_k,
            include_prompt_in_result=False,
            end_token=[],
        )
        return [list(result.sequences_ids[0]) for result in results]

    return decode
