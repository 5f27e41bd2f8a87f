"""What every test shares: one thread, a tiny random checkpoint, the MAESTRO zip where it lies beside the checkout."""

import os

# Before torch is imported: two spinning threads on a busy two-core machine are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
MAESTRO = "maestro-v3.0.0-midi.zip"


TIMES = "shortcut-gen/seconds"
"""What each test took when it last ran here, in pytest's cache."""
UNKNOWN_SECONDS = 0.1
"""Of a test that has not run here, unless it is marked as slow or drives a browser."""
_seconds: dict[str, float] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", type=float, metavar="SECONDS", help="only the cheapest tests, SECONDS of them in all")
    parser.addoption("--long", action="store_true", help="those that take a minute and more too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes a minute and more: pytest --long"))
    most = config.getoption("--quick")
    if most is None:
        return
    known = config.cache.get(TIMES, {})

    def cost(item: pytest.Item) -> float:
        long = any(item.get_closest_marker(name) for name in ("slow", "browser"))
        return float(known.get(item.nodeid, most + 1 if long else UNKNOWN_SECONDS))

    kept, total = set(), 0.0
    for item in sorted(items, key=cost):
        total += cost(item)
        if total > most:
            break
        kept.add(item.nodeid)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _seconds and not hasattr(session.config, "workerinput"):  # of the processes of -n the first one writes
        session.config.cache.set(TIMES, session.config.cache.get(TIMES, {}) | _seconds)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def maestro_zip() -> Path:
    """The official MAESTRO v3 MIDI zip: SHORTCUT_GEN_MAESTRO names it, or ../shared/data has it."""
    path = Path(os.environ.get("SHORTCUT_GEN_MAESTRO", ROOT.parent / "shared" / "data" / MAESTRO))
    if not path.is_file():
        pytest.skip(f"{MAESTRO} is not beside the checkout; SHORTCUT_GEN_MAESTRO=FILE names it")
    return path


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a random three-block shortcut model for piano, context 128. Don't write into it."""
    from shortcut_gen.checkpoint import CheckpointInfo, save_checkpoint
    from shortcut_gen.network.config import ModelConfig
    from shortcut_gen.network.model import ShortcutLM

    config = ModelConfig(
        context=128, layers=3, width=32, heads=2, feedforward=64, taps=(1, 2), feature_hidden=32, shortcut_heads=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ShortcutLM(config)
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    info = CheckpointInfo(
        model=config,
        tokenizer="piano",
        codec=None,
        corpus={"name": "none"},
        figures={},
        licence="Apache-2.0",
        recipe={},
    )
    save_checkpoint(folder, model, info, dtype=torch.float32)
    return folder
