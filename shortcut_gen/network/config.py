"""The model's shape: one frozen dataclass, defaults at the paper's size (arXiv 2409.10870, section 3)."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self

from shortcut_gen.errors import ConfigError

LARGEST = {"vocab_size": 2**24, "context": 2**20, "layers": 1024, "width": 2**16, "heads": 2**16}
LARGEST |= {"feedforward": 2**20, "feature_hidden": 2**20, "shortcut_heads": 2**16}
"""Far beyond any model, but small enough that a damaged or hostile config cannot take a machine's memory."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape and options of a `ShortcutLM`. `taps=()` is the baseline Transformer."""

    vocab_size: int = 388
    """Number of token ids."""
    context: int = 512
    """Longest window, in tokens, that the model attends over."""
    layers: int = 10
    """Decoder blocks, the last one included."""
    width: int = 128
    """Model dimension d."""
    heads: int = 8
    """Heads of every self-attention block."""
    feedforward: int = 512
    """Hidden width of the blocks' MLPs. SwiGLU has three matrices where GELU has two: two thirds make them equal."""
    activation: Literal["gelu", "swiglu"] = "gelu"
    """The blocks' MLPs: GELU (the paper), or a SiLU gate times a linear map (SwiGLU, arXiv 2002.05202, section 2)."""
    taps: tuple[int, ...] = (2, 4, 6, 8)
    """Blocks (1-based) whose outputs the last block attends to; empty for the baseline."""
    features: Literal["mlp", "identity"] = "mlp"
    """Feature map of a tap: an MLP of its own, or the tapped value itself (the paper's ablation)."""
    feature_hidden: int = 1024
    """Width of the two hidden layers of a feature MLP."""
    shortcut_heads: int = 16
    """Heads of the last block when it attends to taps."""
    attend_current: bool = False
    """Let the last block attend to its own input too: (L + 1)·T keys instead of L·T."""
    value_residual: bool = False
    """Mix the first block's values into those of every block above it, in learned shares (arXiv 2410.17897)."""
    residual_mlps: tuple[int, ...] = ()
    """Blocks (1-based) behind which an MLP of the feature MLPs' shape adds to the stream: a control for their size."""
    residual: Literal["prenorm", "literal"] = "prenorm"
    """`prenorm` is the standard block; `literal` is the paper's printed formula x + MLP(LN(x + Att(LN x)))."""
    position: Literal["learned", "rotary"] = "learned"
    """Learned absolute positions (the paper), or rotary ones (arXiv 2104.09864)."""
    dropout: float = 0.0
    """Dropout after the embedding and on each residual branch, while training."""

    def __post_init__(self) -> None:
        for name in ("taps", "residual_mlps"):
            if not isinstance(getattr(self, name), list | tuple):
                raise ConfigError(f"model {name} is {getattr(self, name)!r}; a list of block numbers is needed")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
                raise ConfigError(f"model {name} is {value!r}; a whole number from 1 to {largest:,} is needed")
        if self.width % self.heads:
            raise ConfigError(f"model width {self.width} is not a multiple of its {self.heads} heads")
        if self.taps:
            self._check_taps()
        self._check_blocks("residual_mlps", self.layers)
        if self.attend_current and not self.taps:
            raise ConfigError("attend_current is set but taps is empty; it is an option of the shortcut block")
        self._check_choices()
        if self.position == "rotary" and any((self.width // h) % 2 for h in self._head_counts()):
            raise ConfigError("rotary positions need an even head width; choose another width or number of heads")
        is_number = isinstance(self.dropout, int | float) and not isinstance(self.dropout, bool)
        if not is_number or not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"model dropout is {self.dropout}; a number from 0 up to, not including, 1 is needed")

    def _check_choices(self) -> None:
        for name, choices in (
            ("activation", ("gelu", "swiglu")),
            ("features", ("mlp", "identity")),
            ("residual", ("prenorm", "literal")),
            ("position", ("learned", "rotary")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"model {name} is {getattr(self, name)!r}; one of {', '.join(choices)} is needed")
        for name in ("attend_current", "value_residual"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"model {name} is {getattr(self, name)!r}; true or false is needed")

    def _head_counts(self) -> tuple[int, ...]:
        return (self.heads, self.shortcut_heads) if self.taps else (self.heads,)

    def _check_taps(self) -> None:
        self._check_blocks("taps", self.layers - 1)
        if self.width % self.shortcut_heads:
            raise ConfigError(f"model width {self.width} is not a multiple of its {self.shortcut_heads} shortcut heads")

    def _check_blocks(self, name: str, last: int) -> None:
        blocks = getattr(self, name)
        if not all(isinstance(block, int) and not isinstance(block, bool) for block in blocks) or sorted(
            set(blocks)
        ) != list(blocks):
            raise ConfigError(f"model {name} are {blocks}; rising block numbers without repeats are needed")
        if blocks and not 1 <= blocks[0] <= blocks[-1] <= last:
            raise ConfigError(f"model {name} are {blocks}; blocks 1 to {last} are valid values")

    @property
    def sources(self) -> int:
        """Keys the last block sees per position: L taps, and its own input where `attend_current`."""
        return len(self.taps) + int(self.attend_current)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return dataclasses.asdict(self) | {"taps": list(self.taps), "residual_mlps": list(self.residual_mlps)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The config written by `to_dict`. Raises ConfigError on an unknown key or a wrong type."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"model config has the unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"model config holds a value of the wrong type: {error}") from error
