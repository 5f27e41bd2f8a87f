"""Programs without a page: gradio_client, HARP's calls and MCP against a server of their own, and what is refused."""

import ast
import asyncio
import base64
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
import soundfile
from gradio.queueing import Event
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from starlette.requests import Request
from starlette.testclient import TestClient

from shortcut_gen.decoding.sampling import SamplingParams
from shortcut_gen.media import read_score
from shortcut_gen.modalities.piano import PianoTokenizer
from shortcut_gen.pipeline import Pipeline, Prompt
from tests.shared.small_models import tiny_speech_checkpoint
from tests.ui.test_ui_guard import JOIN, everything
from ui import __main__ as command
from ui import guard as guard_module
from ui import programs as programs_module
from ui.api import Call, Endpoint
from ui.app import build
from ui.bodies import RefusalError
from ui.guard import Guard, Policy
from ui.models import Models
from ui.piano import PianoTab
from ui.programs import Programs, files_of
from ui.sessions import KEEP_PROGRAMS, Sessions
from ui.waiting import waiting_clients

ROOT = Path(__file__).resolve().parents[2]
BACH = ROOT / "ui" / "examples" / "bach-prelude-c.mid"
VOICE = next((ROOT / "ui" / "examples" / "speech").glob("*.*g*"), None)
HAVE_MCP = importlib.util.find_spec("mcp") is not None
CALL = "/gradio_api/call/continue_midi"


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoints")
    shutil.copytree(tiny_checkpoint, made / "piano")
    tiny_speech_checkpoint(made / "speech")
    return made


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "ui", "--checkpoints", str(folder), "--port", str(port), *["--mcp"] * HAVE_MCP]
    temporary = tmp_path_factory.mktemp("tmp")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    log = tmp_path_factory.mktemp("log") / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        assert any(f"http://127.0.0.1:{port}" in line for line in process.stdout), log.read_text()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(60) == 0
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in log.read_text()


@pytest.fixture
def client(server: str, tmp_path: Path) -> Client:
    return Client(server, verbose=False, download_files=str(tmp_path), analytics_enabled=False)


@pytest.fixture
def page(models: Models, sessions: Sessions) -> gr.Blocks:
    async def made() -> gr.Blocks:  # within a loop, as Gradio leaves open each that it makes itself
        return build({"piano": models}, sessions)

    return asyncio.run(made())


def test_the_same_seed_gives_the_ids_of_the_library(client: Client, folder: Path) -> None:
    files, made = client.predict(
        midi=handle_file(BACH),
        prompt_seconds=5,
        seconds=3,
        variations=2,
        seed=7,
        top_p=0.9,
        guidance=0.5,
        api_name="/continue_midi",
    )
    pipeline = Pipeline.from_pretrained(folder / "piano")
    params = SamplingParams(seconds=3, seed=7, top_p=0.9, guidance=0.5)
    for progress in pipeline.stream([Prompt.from_file(BACH, 5.0)], params, variations=2):
        expected = progress.continuations
    assert [each["ids"] for each in made["variations"]] == [list(each.ids) for each in expected]
    assert made["prompt"]["ids"] == list(expected[0].prompt_ids)
    assert [Path(path).suffix for path in files] == [".mid", ".wav"] * 2
    assert read_score(files[0]).duration == pytest.approx(expected[0].score.duration, abs=0.01)
    assert soundfile.info(files[1]).samplerate == 44100
    assert made["settings"] | {"seed": 7, "seconds": 3} == made["settings"]
    assert made["checkpoint"]["name"] == "piano"
    assert made["tokens"] == sum(len(each.ids) for each in expected)


def test_a_recording_goes_on(client: Client) -> None:
    assert VOICE is not None
    files, made = client.predict(
        recording=handle_file(VOICE), prompt_seconds=2, seconds=2, seed=3, api_name="/continue_recording"
    )
    assert soundfile.info(files[0]).duration == pytest.approx(made["prompt"]["seconds"] + 2, abs=0.2)
    assert made["variations"][0]["tokens"] > 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seconds": 1000}, r"seconds is 1000; a number from 2 to 120 is needed"),
        ({"seed": "x"}, r"seed is 'x'; a whole number from 0 to 2,147,483,647 is needed"),
        ({"variations": 9}, r"variations is 9; .* 1 to 4"),
        ({"checkpoint": "none"}, r"there is no checkpoint 'none'; one of piano is needed"),
        ({"midi": handle_file(ROOT / "README.md")}, r"README.md is no MIDI file"),
        ({"midi": handle_file(BACH), "prompt_seconds": 0}, r"prompt_seconds is 0; at least 1"),
    ],
)
def test_a_wrong_value_is_one_line(client: Client, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(AppError, match=line) as caught:
        client.predict(api_name="/continue_midi", **changes)
    assert "\n" not in str(caught.value)
    assert "uploads" not in str(caught.value)


def test_no_file_is_fetched_from_elsewhere(client: Client) -> None:
    with pytest.raises(ValueError, match="the file is not there any more; upload it again"):
        client.predict(midi=handle_file("http://127.0.0.1:1/x.mid"), api_name="/continue_midi")


def test_the_readmes_example_runs(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from gradio_client.*?)```", text, re.DOTALL)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    spoken: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:7860", server), spoken)
    assert spoken["made"]["variations"][0]["ids"]
    assert [Path(path).suffix for path in spoken["files"]] == [".mid", ".wav"]


# What HARP's client sends (its src/clients/GradioClient.h): no cookie, no session, answers read line by line.


def harp(server: str, name: str, data: list[Any]) -> tuple[str, Any]:
    headers = {"Accept": "*/*", "Content-Type": "application/json"}
    asked = httpx.post(f"{server}/gradio_api/call/{name}", content=json.dumps({"data": data}), headers=headers)
    assert asked.status_code == 200, asked.text
    answer = httpx.get(f"{server}/gradio_api/call/{name}/{asked.json()['event_id']}", timeout=120).text
    event, told = re.findall(r"event: (complete|error)\ndata: (.*)", answer)[-1]
    return event, json.loads(told)


def upload(server: str) -> str:
    files = {"files": (BACH.name, BACH.read_bytes(), "audio/midi")}
    return str(httpx.post(f"{server}/gradio_api/upload", files=files).json()[0])


def test_harp_continues_a_track(server: str, tmp_path: Path) -> None:
    event, (controls,) = harp(server, "controls", [])
    assert event == "complete"
    assert set(controls["card"]) >= {"name", "description", "author", "tags"}
    assert [each["type"] for each in controls["outputs"]] == ["midi_track", "json"]
    values: list[Any] = []
    for each in controls["inputs"]:
        if each["type"] == "midi_track":
            values.append({"path": upload(server), "meta": {"_type": "gradio.FileData"}})
        else:
            assert each["minimum"] <= each["value"] <= each["maximum"]
            values.append(float(each["value"]))
    event, (track, seam) = harp(server, "process", values)
    assert event == "complete"
    assert track["meta"] == {"_type": "gradio.FileData"}
    (tmp_path / "out.mid").write_bytes(httpx.get(track["url"]).content)
    before, after = read_score(BACH), read_score(tmp_path / "out.mid")
    assert after.duration > min(before.duration, PianoTokenizer.usual.prompt_seconds)
    assert seam["meta"] == {"_type": "pyharp.LabelList"}
    assert seam["labels"][0]["label_type"] == "MidiLabel"
    assert 15 < seam["labels"][0]["t"] <= 20
    values[1] = 1e9
    assert harp(server, "process", values)[1]["error"].startswith("prompt_seconds is 1000000000")
    assert harp(server, "process", [None, *values[1:]])[1]["error"] == "no track was sent; a MIDI track is needed"
    assert harp(server, "cancel", [])[0] == "complete"


def test_harp_ends_what_its_address_runs(page: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    functions: dict[str, Any] = {str(fn.api_name): fn.fn for fn in page.fns.values()}
    stream, stopped = Endpoint._stream, []

    def request(host: str) -> Any:
        return SimpleNamespace(session_hash=host, client=SimpleNamespace(host=host))

    def streaming(self: Endpoint, run: Any, *rest: Any) -> Any:
        for host in ("10.0.0.2", "10.0.0.1"):
            functions["cancel"](request(host))
            stopped.append(run.stop.is_set())
        return stream(self, run, *rest)

    monkeypatch.setattr(Endpoint, "_stream", streaming)
    with pytest.raises(gr.Error, match="a MIDI track is needed"):
        functions["process"](request("10.0.0.1"), None, 5, 3, 1, 0.9, -1)
    endpoint = Endpoint.make

    def without_a_file(self: Endpoint, asking: Any, file: Any, *rest: Any) -> Any:
        return endpoint(self, asking, None, *rest)

    monkeypatch.setattr(Endpoint, "make", without_a_file)
    with pytest.raises(gr.Error, match="stopped before it was done"):
        functions["process"](request("10.0.0.1"), {}, 5, 3, 1, 0.9, -1)
    assert stopped == [False, True]


def asked(**changes: Any) -> Call:
    return Call(**({"prompt_seconds": 5, "seconds": 3, "top_p": 0.9, "wav": False} | changes))


def test_a_call_that_fails_leaves_nothing(models: Models, sessions: Sessions) -> None:
    endpoint = Endpoint(PianoTab(models, sessions), models, sessions)
    request: Any = SimpleNamespace(session_hash="a")
    (sessions.files.uploads / "no.mid").write_bytes(b"MThd, but no more")
    for file, changes in (
        (None, {"seconds": 1}),
        ({"path": str(sessions.files.uploads / "no.mid")}, {}),
        ({"path": str(BACH)}, {}),  # it is there, but nobody uploaded it
    ):
        with pytest.raises(gr.Error):
            endpoint.make(request, file, asked(**changes))
    assert list(sessions.files.results.iterdir()) == []
    assert endpoint.make(request, None, asked())[0][0][0].is_file()


def test_programs_and_pages_keep_their_own_results(models: Models, sessions: Sessions) -> None:
    first = sessions.start_run("page", "piano")
    assert first is not None
    runs = [sessions.start_program("program") for _ in range(40)]
    kept = [run for run in runs if run is not None and run.folder.is_dir()]
    assert kept == runs[-KEEP_PROGRAMS:]
    assert first.folder.is_dir()
    # Nor do they stand in a page's way: two pages are served at once, whatever programs run.
    assert [sessions.ask(key)[0].name for key in "abc"] == ["SERVED", "WAITS", "WAITS"]


# The guard


@pytest.fixture
def guarded(page: gr.Blocks, sessions: Sessions) -> Guard:
    def inputs() -> dict[int, list[bool]]:
        return {number: files_of(event.inputs) for number, event in page.fns.items()}

    return Guard(everything, Policy(), sessions.files.uploads, inputs, programs=Programs(page))


def program(app: Guard, address: str = "10.0.0.1") -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:7860", client=(address, 1))


def test_exactly_these_endpoints_are_for_programs(page: gr.Blocks) -> None:
    assert set(Programs(page).events) == {"continue_midi", "controls", "process", "cancel"}
    assert set(page.get_api_info()["named_endpoints"]) == {"/continue_midi"}


def join(page: gr.Blocks, name: str = "continue_midi", **changes: Any) -> dict[str, Any]:
    data = [None, 5, 3, 1, 1.0, 0.9, 7, None, False, False, 0.5]
    return {"data": data, "fn_index": Programs(page).events[name], "session_hash": "abc-1"} | changes


def test_a_program_is_let_in_to_its_endpoints_alone(guarded: Guard, page: gr.Blocks) -> None:
    asking = program(guarded)
    assert asking.post(JOIN, json=join(page)).status_code == 200
    assert asking.get("/gradio_api/queue/data?session_hash=abc-1").status_code == 200
    assert asking.post(CALL, json={"data": join(page)["data"]}).status_code == 200
    assert asking.post(CALL.replace("call", "call/v2"), json={"seconds": 3}).status_code == 200
    assert asking.get(f"{CALL}/{'0' * 32}").status_code == 200
    private = next(number for number in page.fns if number not in Programs(page).events.values())
    for address in (JOIN, "/gradio_api/run/predict"):
        assert asking.post(address, json=join(page, fn_index=private, data=[])).status_code in (403, 404)
    assert asking.post("/gradio_api/run/predict", json=join(page)).status_code == 404
    for address in ("run", "predict", "continue_recording", "begin"):
        assert asking.post(f"/gradio_api/call/{address}", json={"data": []}).status_code == 404
    assert asking.get(f"{CALL}/abc-1").status_code == 404  # a session is no event
    assert asking.post("/gradio_api/mcp/", json={}).status_code == 404


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://127.0.0.1:7860"}, {"Origin": "null"}, {"Sec-Fetch-Site": "none"}]
)
def test_what_a_browser_sends_needs_the_cookie(guarded: Guard, page: gr.Blocks, headers: dict[str, str]) -> None:
    asking = program(guarded)
    for address, more in ((CALL, {"data": []}), (JOIN, join(page)), ("/gradio_api/upload", {})):
        assert asking.post(address, json=more, headers=headers).status_code in (403, 404)


def test_a_program_cannot_speak_for_a_page_nor_for_another_program(guarded: Guard, page: gr.Blocks) -> None:
    browser = program(guarded)
    browser.get("/")
    assert browser.post(JOIN, json=join(page, session_hash="page1")).status_code == 200
    assert program(guarded).post(JOIN, json=join(page, session_hash="mine")).status_code == 200
    stop = {"fn_index": 0, "event_id": "e"}
    for other, session in ((program(guarded), "page1"), (program(guarded, "10.0.0.2"), "mine"), (browser, "mine")):
        assert other.post("/gradio_api/cancel", json=stop | {"session_hash": session}).status_code == 403
        assert other.post(JOIN, json=join(page, session_hash=session)).status_code == 403
        assert other.get(f"/gradio_api/heartbeat/{session}").status_code == 403
        assert other.get(f"/gradio_api/queue/data?session_hash={session}").status_code == 403
    assert program(guarded).post(CALL, json=join(page, session_hash="page1")).status_code == 422
    data = join(page)["data"]
    assert program(guarded).post(CALL, json={"data": data, "session_hash": "page1"}).status_code == 403


def test_a_programs_body_is_what_the_endpoint_takes(guarded: Guard, page: gr.Blocks, sessions: Sessions) -> None:
    asking, data = program(guarded), join(page)["data"]
    (sessions.files.uploads / "mine.mid").write_bytes(b"MThd")

    def file(path: str) -> dict[str, Any]:
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    for wrong in (
        None,
        [],
        {"data": 3},
        {"data": []},
        {"data": [*data, 1]},
        {"data": [file("/etc/passwd"), *data[1:]]},
        {"data": [file("http://example.org/x.mid"), *data[1:]]},
        {"data": [*data[:-1], file(str(sessions.files.uploads / "mine.mid"))]},
        {"data": [*data[:-1], "x" * 2000]},
        {"data": data, "oauth_token": "x"},
    ):
        answer = asking.post(CALL, json=wrong)
        assert answer.status_code == 422, wrong
        assert "\n" not in answer.json()["error"]
    assert asking.post(CALL.replace("call", "call/v2"), json={"nothing": 3}).status_code == 422
    assert asking.post(CALL, content=b"[" * 70_000).status_code == 413
    # MCP's clients name an upload by its address: it becomes the file, and nothing is fetched.
    ours = f"http://any.name/gradio_api/file={sessions.files.uploads}/mine.mid"
    sent = asking.post(CALL, json={"data": [file(ours), *data[1:]]})
    assert json.loads(sent.json()["body"])["data"][0]["path"] == str(sessions.files.uploads / "mine.mid")


def test_programs_are_held_to_their_share(
    guarded: Guard, page: gr.Blocks, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sessions.files.uploads / "big").write_bytes(bytes(3000))
    monkeypatch.setattr(guard_module, "UPLOADED_BYTES", 5000)
    browser = program(guarded)
    browser.get("/")
    files = {"files": b"1"}
    assert program(guarded).post("/gradio_api/upload", files=files).status_code == 507
    assert browser.post("/gradio_api/upload", files=files).status_code == 200
    os.utime(sessions.files.uploads / "big")
    monkeypatch.setattr(guard_module, "UPLOADED_SECONDS", -1)
    assert program(guarded).post("/gradio_api/upload", files=files).status_code == 200  # what is old has gone
    assert not (sessions.files.uploads / "big").exists()

    page._queue.create_event_queue_for_fn(page.fns[Programs(page).events["continue_midi"]])  # as on serving
    monkeypatch.setattr(programs_module, "WAITING", 0)
    assert program(guarded).post(JOIN, json=join(page)).status_code == 503
    assert program(guarded).post("/gradio_api/call/cancel", json={"data": []}).status_code == 200
    assert browser.post(JOIN, json=join(page, session_hash="page1")).status_code == 200

    monkeypatch.setattr(programs_module, "REQUESTS", 3)
    other = "10.0.0.9"
    said = [program(guarded, other).post("/gradio_api/call/cancel", json={"data": []}).status_code for _ in range(5)]
    assert said == [200, 200, 200, 429, 429]
    assert program(guarded, "10.0.0.8").post("/gradio_api/call/cancel", json={"data": []}).status_code == 200


def test_who_waits_in_gradios_queue_is_known_by_address(page: gr.Blocks) -> None:
    fn = page.fns[Programs(page).events["continue_midi"]]
    page._queue.create_event_queue_for_fn(fn)  # as on serving
    queue = page._queue.event_queue_per_concurrency_id[fn.concurrency_id].queue
    for address in ("203.0.113.5", "203.0.113.6"):
        queue.append(Event("page", fn, Request({"type": "http", "client": (address, 1), "headers": []}), None))
    assert waiting_clients(page) == waiting_clients(page, fn.concurrency_id) == ["203.0.113.5", "203.0.113.6"]
    assert waiting_clients(page, "another") == []
    # The same address may have so many calls wait, and no more.
    asked = json.loads(json.dumps(join(page)))
    with pytest.raises(RefusalError, match="1 calls from your address"):
        Programs(page, of_client=1).joined(JOIN, asked, "program at 203.0.113.6")
    queue.clear()


# MCP


def tool(values: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "continue_midi", "arguments": values}}


def test_mcp_takes_no_file_of_the_servers_own(page: gr.Blocks, sessions: Sessions) -> None:
    app = Guard(everything, Policy(), sessions.files.uploads, dict, programs=Programs(page, mcp=True))
    asking, address = program(app), "/gradio_api/mcp/"
    assert asking.get(address).status_code == 405
    assert asking.post(address, json=[tool({})]).status_code == 422
    assert asking.post(address, json=tool({}), headers={"Origin": "http://127.0.0.1:7860"}).status_code == 404
    assert "body" in asking.post(address, json=tool({"midi": "data:audio/midi;base64," + "A" * 100_000})).json()
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for wrong in (
        {"midi": file},
        {"checkpoint": file},
        {"midi": "http://example.org/x"},
        {"checkpoint": "x" * 2000},
        3,
    ):
        answer = asking.post(address, json=tool(wrong)).json()
        assert (answer["id"], answer["result"]["isError"]) == (4, True)


def test_mcp_without_its_package_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert command.main(["--mcp"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --mcp needs the package mcp; ")
    assert said.count("\n") == 1


@pytest.mark.skipif(not HAVE_MCP, reason="the package mcp is not installed (the extra 'mcp')")
def test_an_mcp_client_continues_a_file(server: str) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    data = "data:audio/midi;base64," + base64.b64encode(BACH.read_bytes()).decode()
    uploaded = f"{server}/gradio_api/file={upload(server)}"
    values = {"prompt_seconds": 5, "seconds": 3, "seed": 7, "wav": False}

    async def talk() -> tuple[set[str], list[Any]]:
        async with (
            streamable_http_client(f"{server}/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            names = {each.name for each in (await session.list_tools()).tools}
            calls = [{"midi": data}, {"midi": uploaded}, {"seconds": 1000}, {"midi": "http://127.0.0.1:1/x.mid"}]
            return names, [await session.call_tool("continue_midi", values | each) for each in calls]

    names, (first, second, *wrong) = asyncio.run(talk())
    assert names == {"continue_midi", "continue_recording"}
    for each in (first, second):
        assert not each.isError, each.content[0].text
    told = [ast.literal_eval(each.content[0].text)[1]["variations"][0]["ids"] for each in (first, second)]
    assert told[0] == told[1] != []
    assert [each.isError for each in wrong] == [True, True]
    assert wrong[0].content[0].text == "seconds is 1000; a number from 2 to 120 is needed"
