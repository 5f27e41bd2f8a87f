"""Files of results, as they are served."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ui import results
from ui.results import Made, Result
from ui.text import refusals


def test_a_file_that_goes_while_it_is_sent_is_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "step"
    folder.mkdir()
    made, result = Made(1000), Result(folder / "a.mid", lambda path: path.write_bytes(b"MThd") and None)
    client = TestClient(Starlette(routes=[results.route(lambda token, name: result, made)]))
    assert client.get("/results/ab/a.mid").content == b"MThd"
    monkeypatch.setattr(made, "used", lambda path: path.unlink())
    for asked, status, content in (({}, 200, b"MThd"), ({"Range": "bytes=1-2"}, 206, b"Th")):
        answer = client.get("/results/ab/a.mid", headers=asked)
        assert (answer.status_code, answer.content) == (status, content)
        assert answer.headers["content-disposition"] == 'inline; filename="a.mid"'
        assert not list(folder.iterdir())
    folder.rmdir()
    answer = client.get("/results/ab/a.mid")
    assert (answer.status_code, answer.text) == (404, refusals.RESULT_GONE)
