"""ONNX Runtime on the baseline's weights: one graph with ONNX Runtime's own attention over preallocated caches.

`GroupQueryAttention` writes new keys and values into the caches in place where their inputs and outputs are bound to
the same memory; it reads a prompt at once and then an id at a time.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decoding.round import Decode, random_model, served
from shortcut_gen.network.config import ModelConfig
from shortcut_gen.network.model import ShortcutLM

CONTRIB = "com.microsoft"


class Graph:
    """An ONNX graph under construction. Values go by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, value: Any) -> str:
        """A constant; returns its name."""
        from onnx import numpy_helper

        array = value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)
        self.weights.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def add(self, kind: str, inputs: list[str], outputs: str | list[str], **attributes: Any) -> Any:
        """A node; returns its outputs."""
        from onnx import helper

        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return outputs


def build(model: ShortcutLM) -> bytes:
    """The baseline as a serialised model.

    Inputs: ids (B, T) int64, positions (T,) int64, last (B,) int32 and total (1,) int32, the positions held after it
    less 1 and in all, and each block's caches past_{key,value}_{n}, (B, H, C, E). Outputs: logits of the last position,
    (B, V), and the caches, present_{key,value}_{n}.
    """
    from onnx import TensorProto, helper

    config, state, graph = model.config, model.state_dict(), Graph()
    width, heads = config.width, config.heads
    flat = graph.weight("flat", np.array([-1, width]))

    def norm(x: str, name: str, out: str) -> str:
        parts = [graph.weight(f"{name}.{part}", state[f"{name}.{part}"]) for part in ("weight", "bias")]
        return graph.add("LayerNormalization", [x, *parts], out, axis=-1)

    def linear(x: str, name: str, weight: Any, bias: Any) -> str:
        return graph.add("Gemm", [x, graph.weight(f"{name}.w", weight.T), graph.weight(f"{name}.b", bias)], f"{name}.y")

    table = graph.weight("embedding", state["embedding.weight"])
    places = graph.weight("positions.weight", state["positions.weight"])
    tokens = graph.add("Gather", [table, "ids"], "tokens")  # (B, T, D)
    x = graph.add("Add", [tokens, graph.add("Gather", [places, "positions"], "places")], "x")
    shape = graph.add("Shape", [x], "shape")
    packed = graph.add(
        "Concat",
        [graph.add("Shape", ["ids"], "rows"), graph.weight("three", np.array([3 * width]))],
        "packed",
        axis=0,
    )
    x = graph.add("Reshape", [x, flat], "x.flat")  # (B*T, D)
    for number in range(config.layers):
        block = f"blocks.{number}"
        parts = [
            [state[f"{block}.attention.{name}.{part}"] for name in ("query", "keys_values")]
            for part in ("weight", "bias")
        ]
        joined = [np.concatenate([value.numpy() for value in pair]) for pair in parts]
        qkv = linear(norm(x, f"{block}.attention_norm", f"{block}.n1"), f"{block}.qkv", *joined)
        qkv = graph.add("Reshape", [qkv, packed], f"{block}.packed")  # (B, T, 3*D)
        caches = [f"past_key_{number}", f"past_value_{number}"]
        outputs = [f"{block}.attended", f"present_key_{number}", f"present_value_{number}"]
        graph.add(
            "GroupQueryAttention",
            [qkv, "", "", *caches, "last", "total"],
            outputs,
            domain=CONTRIB,
            num_heads=heads,
            kv_num_heads=heads,
        )
        attended = graph.add("Reshape", [outputs[0], flat], f"{block}.attended.flat")
        out = linear(
            attended, f"{block}.out", state[f"{block}.attention.out.weight"], state[f"{block}.attention.out.bias"]
        )
        x = graph.add("Add", [x, out], f"{block}.x1")
        up = norm(x, f"{block}.mlp_norm", f"{block}.n2")
        up = linear(up, f"{block}.up", state[f"{block}.mlp.up.weight"], state[f"{block}.mlp.up.bias"])
        up = graph.add("FastGelu", [up], f"{block}.gelu", domain=CONTRIB)
        down = linear(up, f"{block}.down", state[f"{block}.mlp.down.weight"], state[f"{block}.mlp.down.bias"])
        x = graph.add("Add", [x, down], f"{block}.x2")
    x = graph.add("Reshape", [x, shape], "x.rows")  # (B, T, D)
    x = graph.add("Gather", [x, graph.weight("end", np.array(-1))], "x.last", axis=1)  # (B, D)
    x = norm(x, "norm", "x.norm")
    graph.add("MatMul", [x, graph.weight("unembedding", state["embedding.weight"].T)], "logits")

    def value(name: str, kind: int, dims: list[int | str]) -> Any:
        return helper.make_tensor_value_info(name, kind, dims)

    kinds = TensorProto
    cache_shape: list[int | str] = ["B", heads, config.context, width // heads]
    pasts = [f"{part}_{n}" for n in range(config.layers) for part in ("key", "value")]
    made = helper.make_graph(
        graph.nodes,
        "baseline",
        [
            value("ids", kinds.INT64, ["B", "T"]),
            value("positions", kinds.INT64, ["T"]),
            value("last", kinds.INT32, ["B"]),
            value("total", kinds.INT32, [1]),
            *(value(f"past_{name}", kinds.FLOAT, cache_shape) for name in pasts),
        ],
        [
            value("logits", kinds.FLOAT, ["B", config.vocab_size]),
            *(value(f"present_{name}", kinds.FLOAT, cache_shape) for name in pasts),
        ],
        graph.weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    serialised: bytes = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    return serialised


class Stepper:
    """A session bound to memory that stays: a step changes ids and counters in place."""

    def __init__(self, library: Any, session: Any, config: ModelConfig, batch: int) -> None:
        self._library, self._session, self._config, self._batch = library, session, config, batch
        shape = (batch, config.heads, config.context, config.width // config.heads)
        names = [f"{part}_{n}" for n in range(config.layers) for part in ("key", "value")]
        self._caches = {name: self._value(np.zeros(shape, np.float32)) for name in names}
        self._counts = np.zeros(batch, np.int32), np.zeros(1, np.int32)
        self.logits = np.zeros((batch, config.vocab_size), np.float32)
        self._one = self._bound(1)

    def _value(self, array: NDArray[Any]) -> Any:
        return self._library.OrtValue.ortvalue_from_numpy(array)

    def _bound(self, length: int) -> tuple[Any, NDArray[np.int64], NDArray[np.int64], list[Any]]:
        """A binding for so many ids a row, the memory of ids and positions, and what must stay alive with it."""
        binding = self._session.io_binding()
        ids, positions = np.zeros((self._batch, length), np.int64), np.zeros(length, np.int64)
        inputs = {"ids": ids, "positions": positions, "last": self._counts[0], "total": self._counts[1]}
        held = {name: self._value(array) for name, array in inputs.items()} | {"logits": self._value(self.logits)}
        for name in inputs:
            binding.bind_ortvalue_input(name, held[name])
        binding.bind_ortvalue_output("logits", held["logits"])
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(f"past_{name}", cache)
            binding.bind_ortvalue_output(f"present_{name}", cache)
        return binding, ids, positions, list(held.values())

    def __call__(self, tokens: NDArray[np.int64], held: int) -> NDArray[np.float32]:
        """Read tokens, (B, T), behind `held` positions; logits of the next, (B, V), which the next call overwrites."""
        length = tokens.shape[1]
        binding, ids, positions, _ = self._one if length == 1 else self._bound(length)
        ids[:] = tokens
        positions[:] = np.arange(held, held + length)
        self._counts[0][:], self._counts[1][:] = held + length - 1, held + length
        self._session.run_with_iobinding(binding)
        return self.logits


def choose(logits: NDArray[np.float32], top_k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """An id for each row of logits (B, V): the likeliest, or one of the `top_k` likeliest."""
    if top_k <= 1:
        return logits.argmax(axis=1)
    top_k = min(top_k, logits.shape[1])
    likeliest = np.argpartition(logits, -top_k, axis=1)[:, -top_k:]  # (B, k)
    kept = np.take_along_axis(logits, likeliest, axis=1)
    cdf = np.exp(kept - kept.max(axis=1, keepdims=True)).cumsum(axis=1)
    place = (cdf <= rng.random((len(logits), 1)) * cdf[:, -1:]).sum(axis=1).clip(max=top_k - 1)
    return likeliest[np.arange(len(logits)), place]


def session_of(model: ShortcutLM, threads: int) -> Any:
    """A session with every optimisation ONNX Runtime has."""
    import onnxruntime as library

    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return library.InferenceSession(build(model), options, providers=["CPUExecutionProvider"])


@served
def onnxruntime(config: ModelConfig, threads: int) -> Decode:
    """Our own loop around a session, in f32."""
    import onnxruntime as library

    session = session_of(random_model(config), threads)
    steppers: dict[int, Stepper] = {}

    def decode(prompts: list[list[int]], new: int, top_k: int, seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        batch, held = len(prompts), len(prompts[0])
        if batch not in steppers:
            steppers[batch] = Stepper(library, session, config, batch)
        step = steppers[batch]
        tokens = choose(step(np.array(prompts), 0), top_k, rng)
        made = [tokens]
        for number in range(new - 1):
            tokens = choose(step(tokens[:, None], held + number), top_k, rng)
            made.append(tokens)
        rows: list[list[int]] = np.stack(made, axis=1).tolist()
        return rows

    return decode
