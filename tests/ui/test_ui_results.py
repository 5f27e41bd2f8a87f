"""Files of results, as they are served."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ui import results
from ui.results import Made, Result
from ui.text import refusals


def test_a_file_that_goes_just_when_it_is_sent_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"MThd")

    made, result = Made(1000), Result(tmp_path / "a.mid", write)
    client = TestClient(Starlette(routes=[results.route(lambda token, name: result, made)]))
    assert client.get("/results/ab/a.mid").content == b"MThd"
    monkeypatch.setattr(made, "used", lambda path: path.unlink())
    answer = client.get("/results/ab/a.mid")
    assert (answer.status_code, answer.text) == (404, refusals.RESULT_GONE)
