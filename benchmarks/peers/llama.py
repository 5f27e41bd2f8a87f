"""llama.cpp on the baseline's weights, written as a GGUF file of its GPT-2 architecture."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.decoding.round import Decode, random_model, served
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}


def write_gguf(model: ShortcutLM, path: Path, precision: str) -> None:
    """The baseline with its matrices in a precision, and no tokenizer."""
    import gguf

    config, state = model.config, model.state_dict()
    kind = getattr(gguf.GGMLQuantizationType, precision.upper())
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.feedforward)
    writer.add_block_count(config.layers)
    writer.add_head_count(config.heads)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(getattr(gguf.LlamaFileType, FILE_TYPES[precision]))
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, value: Any, matrix: bool = True) -> None:
        array = value.float().contiguous().numpy()
        if matrix and precision != "f32":
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)

    add("token_embd.weight", state["embedding.weight"])
    add("position_embd.weight", state["positions.weight"], matrix=False)
    places = {"attn_norm": "attention_norm", "attn_output": "attention.out", "ffn_norm": "mlp_norm"}
    places |= {"ffn_up": "mlp.up", "ffn_down": "mlp.down"}
    for number in range(config.layers):
        its, mine = f"blk.{number}.", f"blocks.{number}."
        for part in ("weight", "bias"):
            for name, place in places.items():
                add(f"{its}{name}.{part}", state[f"{mine}{place}.{part}"], part == "weight" and "norm" not in name)
            query, others = (state[f"{mine}attention.{name}.{part}"] for name in ("query", "keys_values"))
            add(f"{its}attn_qkv.{part}", query.new_tensor([*query.tolist(), *others.tolist()]), part == "weight")
    for part in ("weight", "bias"):
        add(f"output_norm.{part}", state[f"norm.{part}"], matrix=False)
    add("output.weight", state["embedding.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Context:
    """A llama.cpp context for so many rows, called through its C functions."""

    def __init__(self, library: Any, model: Any, rows: int, config: ModelConfig, threads: int) -> None:
        self._library = library
        settings = library.llama_context_default_params()
        settings.n_ctx = rows * config.context
        settings.n_seq_max = rows
        settings.n_batch = rows * config.context
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = False  # every row its own cache: the faster of the two
        settings.no_perf = True
        self._context = library.llama_init_from_model(model, settings)
        if not self._context:
            raise MemoryError(f"llama.cpp made no context for {rows} rows")
        self._batch = library.llama_batch_init(rows * config.context, 0, 1)
        self._vocab = config.vocab_size

    def samplers(self, rows: int, top_k: int, seed: int) -> list[Any]:
        """A chain a row: top-k, then a draw at temperature 1; or the likeliest."""
        library, chains = self._library, []
        for row in range(rows):
            chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
            if top_k > 1:
                library.llama_sampler_chain_add(chain, library.llama_sampler_init_top_k(top_k))
                library.llama_sampler_chain_add(chain, library.llama_sampler_init_dist(seed + row))
            else:
                library.llama_sampler_chain_add(chain, library.llama_sampler_init_greedy())
            chains.append(chain)
        return chains

    def free(self, samplers: list[Any]) -> None:
        """Free chains."""
        for chain in samplers:
            self._library.llama_sampler_free(chain)

    def clear(self) -> None:
        """Forget what was read."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), False)

    def step(self, tokens: list[list[int]], held: int, samplers: list[Any]) -> list[int]:
        """Read tokens behind the `held` positions of every row; the next id of each."""
        batch, at, last = self._batch, 0, []
        for row, ids in enumerate(tokens):
            for place, token in enumerate(ids):
                batch.token[at] = token
                batch.pos[at] = held + place
                batch.n_seq_id[at] = 1
                batch.seq_id[at][0] = row
                batch.logits[at] = place == len(ids) - 1
                at += 1
            last.append(at - 1)
        batch.n_tokens = at
        if self._library.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp could not decode")
        sample, context = self._library.llama_sampler_sample, self._context
        return [sample(chain, context, place) for chain, place in zip(samplers, last, strict=True)]


@served
def llama(config: ModelConfig, threads: int, precision: str) -> Decode:
    """Its C functions through llama-cpp-python, its own samplers."""
    import gguf  # noqa: F401  asked for before anything is loaded
    import llama_cpp as library

    library.llama_backend_init()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.gguf"
        write_gguf(random_model(config), path, precision)
        settings = library.llama_model_default_params()
        settings.use_mmap = False
        model = library.llama_model_load_from_file(str(path).encode(), settings)
        if not model:
            raise RuntimeError("llama.cpp did not load the model")
    contexts: dict[int, Context] = {}

    def decode(prompts: list[list[int]], new: int, top_k: int, seed: int) -> list[list[int]]:
        rows = len(prompts)
        if rows not in contexts:
            contexts[rows] = Context(library, model, rows, config, threads)
        context = contexts[rows]
        context.clear()
        samplers = context.samplers(rows, top_k, seed)
        tokens = context.step(prompts, 0, samplers)
        made = [tokens]
        for number in range(new - 1):
            tokens = context.step([[token] for token in tokens], len(prompts[0]) + number, samplers)
            made.append(tokens)
        context.free(samplers)
        return [list(row) for row in zip(*made, strict=True)]

    return decode
