"""What the server counts of itself, as Prometheus reads it (docs/operating.md has the table).

Nothing here tells one client from another, and no value of a label comes from outside.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ui.sessions import PROGRAM, Run, Sessions, Watch

if TYPE_CHECKING:
    from ui.models import Models

log = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SOUND_SECONDS = (0.25, 0.5, 1, 2, 3, 5, 8, 10, 15, 20, 30, 60, 120)
RUN_SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
REQUEST_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
STORED_SECONDS = 15.0
"""For which the sizes of folders are not looked up again."""
PREFIX = "shortcut_gen_"


disable_created_metrics()  # when each counter began: a third of the answer, and the process says that once


class Metrics(Watch):
    """Counters of one server, in a registry of their own, and what is read when it is asked for."""

    def __init__(self, sessions: Sessions, models: "Mapping[str, Models]") -> None:
        self.registry = CollectorRegistry()
        own = self.registry

        def timer(name: str, text: str, label: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"{PREFIX}{name}", text, [label], buckets=buckets, registry=own)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}{name}", text, labels, registry=own)

        self.requests = counter("requests", "Requests by what they are for and status", "kind", "status")
        self.request_seconds = timer("request_seconds", "How long answers took", "kind", REQUEST_SECONDS)
        self.runs = counter("runs", "Continuations by how they ended", "tab", "outcome")
        self.run_seconds = timer("run_seconds", "From the click to the end of a continuation", "tab", RUN_SECONDS)
        self.first_sound = timer(
            "first_sound_seconds", "From the click to the first sound that can be heard", "tab", SOUND_SECONDS
        )
        self.tokens = counter("tokens", "Ids made, by model; their rate is tokens/s", "model")
        self.errors = counter("errors", "Faults of the server itself", "where")
        for where in ("request", "log"):
            self.errors.labels(where)
        self.registry.register(_State(sessions, models))
        ProcessCollector(registry=self.registry)
        for each in models.values():
            each.drawn = lambda name, count: self.tokens.labels(name).inc(count)
        self._tabs = {*models}

        self.faults = _Faults(self.errors)
        """A handler of `logging` that counts what goes wrong."""

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def _tab(self, name: str) -> str:
        return name if name in self._tabs else PROGRAM

    def refused(self, tab: str) -> None:
        """There was no place for a run."""
        self.runs.labels(self._tab(tab), "refused").inc()

    def sounded(self, run: Run) -> None:
        """The first of a run can be heard."""
        self.first_sound.labels(self._tab(run.tab)).observe(time.monotonic() - run.asked_at)

    def ended(self, run: Run) -> None:
        """A run is over."""
        done = (run.made or run.browser == PROGRAM) and not run.failed
        outcome = "stopped" if run.stop.is_set() else "done" if done else "failed"
        tab = self._tab(run.tab)
        self.runs.labels(tab, outcome).inc()
        took = time.monotonic() - run.asked_at
        self.run_seconds.labels(tab).observe(took)
        log.info("a continuation of %s: %s", tab, outcome, extra={"seconds": round(took, 3)})


class _Faults(logging.Handler):
    def __init__(self, errors: Counter) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self._errors.labels("log").inc()


class _State(Collector):
    """What there is at the moment."""

    def __init__(self, sessions: Sessions, models: "Mapping[str, Models]") -> None:
        self._sessions, self._models = sessions, models
        self._stored: dict[str, int] = {}
        self._looked = -STORED_SECONDS

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the registry is to read no state before there is any."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        made, waiting = self._sessions.load()
        yield _gauge(
            "active_runs", "Continuations that are made or wait", ["state"], {("made",): made, ("waiting",): waiting}
        )
        rows: dict[tuple[str, ...], float] = {}
        for each in self._models.values():
            for name, pipeline in each.loaded.items():
                if pipeline.shared is not None:
                    playing, queued = pipeline.shared.load
                    rows |= {
                        (name, "playing"): playing,
                        (name, "waiting"): queued,
                        (name, "places"): pipeline.shared.rows,
                    }
        yield _gauge("rows", "Rows of a model's batch", ["model", "state"], rows)
        if time.monotonic() - self._looked > STORED_SECONDS:
            self._stored, self._looked = self._sessions.files.stored(), time.monotonic()
        kept: dict[tuple[str, ...], float] = {(name,): size for name, size in self._stored.items()}
        yield _gauge("stored_bytes", "Bytes of files that are kept", ["what"], kept)
        yield _gauge("draining", "1 once the server is about to end", [], {(): float(self._sessions.draining)})


def _gauge(name: str, text: str, labels: list[str], values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for given, value in values.items():
        family.add_metric(list(given), value)
    return family
