"""What benchmarks.decode makes of its rounds: speeds, the ratios that count, the floor."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.decoding.floor import step_bytes
from benchmarks.measuring.timing import Figure, ratio
from shortcut_gen.decoding.native import default_precision, problem
from shortcut_gen.network.config import ModelConfig

Key = tuple[str, str]


@dataclass(frozen=True)
class Target:
    """A ratio to reach: our model over a peer, at the baseline's size but where `own`."""

    batch: int
    model: str
    peer: str
    least: float
    stretch: float | None = None
    own: bool = False


TARGETS = (
    Target(1, "baseline", "ctranslate2", 3.6),
    Target(1, "baseline", "transformers", 20),
    Target(1, "shortcut", "ctranslate2", 1.3, 1.9),
    Target(1, "shortcut", "llama.cpp", 2.6, 3.9),
    Target(1, "shortcut", "transformers", 7, 10),
    Target(16, "baseline", "ctranslate2", 4),
    Target(16, "shortcut", "ctranslate2", 2),
    Target(1, "baseline", "torch-eager", 10, own=True),
    Target(1, "shortcut", "torch-eager", 10, own=True),
)


@dataclass
class Measured:
    """The rounds of one batch size."""

    batch: int
    new: int
    threads: dict[Key, int]
    """Of every engine and model that took part."""
    configs: dict[str, ModelConfig]
    positions: float
    """That a step attends to, on average."""
    device: str = "cpu"
    seconds: dict[Any, list[float]] = field(default_factory=dict)
    """Of every round, by engine and model; and of readings, by ("read", threads, bytes)."""

    def speeds(self, key: Key) -> list[float]:
        """Tokens per second of every round."""
        return [self.batch * self.new / seconds for seconds in self.seconds[key]]

    def own(self) -> list[Key]:
        """Our engine that is made for the device."""
        return [key for key in self.threads if key[0].startswith("native-" if self.device == "cpu" else "torch")]

    def bytes(self, key: Key) -> float:
        """That a step of our engine reads."""
        precision = key[0].removeprefix("native-") if key[0].startswith("native-") else "f32"
        return step_bytes(self.configs[key[1]], precision, self.batch, self.positions)

    def sizes(self) -> list[tuple[int, int]]:
        """Threads and bytes of the readings that the floor takes."""
        return sorted({(self.threads[key], round(self.bytes(key))) for key in self.own()})

    def floor(self, key: Key) -> list[float]:
        """The floor's tokens per second in every round."""
        read = self.seconds.get(("read", self.threads[key], round(self.bytes(key))), [])
        return [self.batch / seconds for seconds in read]

    def fastest(self, model: str, engines: Sequence[str]) -> Key | None:
        """The fastest engine at a model of those whose names begin so."""
        keys = [key for key in self.threads if key[1] == model and key[0].startswith(tuple(engines))]
        return max(keys, key=lambda key: Figure.of(self.speeds(key)).median, default=None)

    def default(self, model: str) -> Key | None:
        """What --engine auto takes here."""
        torch = self.device != "cpu" or problem()
        key = ("torch" if torch else f"native-{default_precision()}", model)
        return key if key in self.threads else None

    def rows(self) -> list[dict[str, Any]]:
        """A row an engine and model, fastest first within a model."""
        rows = []
        for key in _sorted(self):
            figure = Figure.of(self.speeds(key))
            about = {"engine": key[0], "model": key[1], "batch": self.batch, "threads": self.threads[key]}
            rows.append(about | {"tokens_per_second": round(figure.median, 1), "spread": round(figure.spread, 4)})
        return rows

    def report(self) -> dict[str, Any]:
        """Ratios to the targets and the distance to the floor, for a JSON file."""
        ratios = []
        for target, peer, ours in _ratios(self):
            about = {"model": target.model, "engine": ours[0], "over": peer[0], "target": target.least}
            figure = ratio(self.speeds(ours), self.speeds(peer)).to_dict()
            ratios.append(about | {"stretch": target.stretch} | figure)
        floors = []
        for key in self.own():
            if limit := self.floor(key):
                about = {"engine": key[0], "model": key[1], "bytes_per_step": round(self.bytes(key))}
                about |= {"bytes_per_token": round(self.bytes(key) / self.batch)}
                about |= {
                    "bytes_per_second": Figure.of([one / self.batch * self.bytes(key) for one in limit]).to_dict(0)
                }
                about |= {"tokens_per_second_at_most": Figure.of(limit).to_dict(1)}
                floors.append(about | {"share_of_it": ratio(self.speeds(key), limit).to_dict()})
        return {"ratios": ratios, "floor": floors}


def _sorted(measured: Measured) -> list[Key]:
    return sorted(measured.threads, key=lambda key: (key[1], -Figure.of(measured.speeds(key)).median))


def _ratios(measured: Measured) -> list[tuple[Target, Key, Key]]:
    """Every target of this batch size with the peer's best engine and, in turn, our default and our fastest."""
    found = []
    for target in TARGETS:
        peer = measured.fastest(target.model if target.own else "baseline", [target.peer])
        if target.batch != measured.batch or peer is None:
            continue
        ours = (measured.default(target.model), measured.fastest(target.model, ["native-", "torch"]))
        found += [(target, peer, key) for key in dict.fromkeys(ours) if key is not None]
    return found


def speed_rows(measured: Measured) -> list[list[str]]:
    """Tokens per second of everyone."""
    rows = [["engine", "model", "threads", "tokens/s"]]
    for key in _sorted(measured):
        rows.append([*key, str(measured.threads[key]), Figure.of(measured.speeds(key)).text()])
    return rows


def ratio_rows(measured: Measured) -> list[list[str]]:
    """The ratios that count."""
    rows = [["model", "engine", "over", "times", "range", "target"]]
    for target, peer, ours in _ratios(measured):
        figure = ratio(measured.speeds(ours), measured.speeds(peer))
        wanted = f"{target.least:g}" + (f" (stretch {target.stretch:g})" if target.stretch else "")
        spread = f"{figure.low:.2f} to {figure.high:.2f}"
        rows.append([target.model, ours[0], peer[0], f"{figure.median:.2f}", spread, wanted])
    return rows


def floor_rows(measured: Measured) -> list[list[str]]:
    """How far the native engine is from what reading alone would take."""
    rows = [["engine", "model", "MB a step", "GB/s read", "tokens/s at most", "share reached"]]
    for key in measured.own():
        limit = measured.floor(key)
        if limit:
            size, figure = measured.bytes(key), Figure.of(limit)
            rate = f"{figure.median / measured.batch * size / 1e9:.0f}"
            share = f"{ratio(measured.speeds(key), limit).median:.0%}"
            rows.append([*key, f"{size / 1e6:.1f}", rate, f"{figure.median:,.0f}", share])
    return rows


def share_rows(shares: dict[Key, dict[str, Any]]) -> list[list[str]]:
    """Where a step's time goes."""
    names = {
        "attention": "grows with positions",
        "handing_over": "handing over",
        "sampling_free": "choosing, top-k",
        "sampling_piano": "with top-p and grammar",
    }
    rows = [["engine", "model", "µs a step", *names.values(), "the rest"]]
    for key, found in shares.items():
        cells = [f"{found[name]:.1%}" if name in found else "" for name in names]
        rest = 1 - sum(found.get(name, 0.0) for name in names if name != "sampling_piano")
        rows.append([*key, f"{found['step'] * 1e6:,.0f}", *cells, f"{rest:.1%}"])
    return rows
