"""Checkpoints pushed to and fetched from a server on this machine that speaks the Hub's protocol."""

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from shortcut_gen import Pipeline, Prompt, SamplingParams, hub, push
from shortcut_gen.errors import CheckpointError
from tests.shared.small_models import tiny_speech_checkpoint

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")


@dataclass
class Repositories:
    """What the server holds: of each repository its files, and its commits by their hash."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)

    def sha(self, name: str) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(self.files[name].items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The calls that `snapshot_download` and `create_commit` make."""

    held: Repositories

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        if name not in self.held.files:
            self._say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif api and len(parts) > 5 and parts[5] not in ("main", self.held.sha(name)):
            self._say(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        elif api and parts[4:5] == ["tree"]:
            files = self.held.files[name].items()
            self._say(200, [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in files])
        elif api:
            files = [{"rfilename": path} for path in self.held.files[name]]
            about = {"id": name, "modelId": name, "sha": self.held.sha(name), "private": False, "siblings": files}
            self._say(200, about | {"tags": [], "downloads": 0, "likes": 0})
        else:
            path = "/".join(parts[4:])  # USER/NAME/resolve/REVISION/PATH
            content = self.held.files[name][path]
            if self.command == "GET":
                self.held.fetched.append(path)
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": self.held.sha(name)})

    do_HEAD = do_GET  # noqa: N815 (its base's name)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self._say(401, {"error": "Invalid username or password."})
            return
        parts = self.path.strip("/").split("/")
        if parts == ["api", "validate-yaml"]:
            self._say(200, {"errors": [], "warnings": []})
            return
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            self.held.files.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.held.private.add(name)
            self._say(200, {"url": f"{self._root}/{name}", "id": name, "name": name})
            return
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._say(200, {"files": [file | {"shouldIgnore": False} for file in files]})
            return
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.held.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        sha = self.held.sha(name)
        self._say(200, {"commitUrl": f"{self._root}/{name}/commit/{sha}", "commitOid": sha, "success": True})

    @property
    def _root(self) -> str:
        return f"http://{self.headers['Host']}"

    def _say(self, status: int, values: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(values).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Repositories]:
    held = Repositories()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"held": held}))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{httpd.server_address[1]}")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    yield held
    httpd.shutdown()
    httpd.server_close()


def test_what_is_pushed_is_fetched_and_continues_as_it_did(server: Repositories, tiny_checkpoint: Path) -> None:
    assert push.main([str(tiny_checkpoint), "ada/tiny", "--private"]) == 0
    assert server.private == {"ada/tiny"}
    params = SamplingParams(seconds=1.0, seed=3)
    here, there = (
        Pipeline.from_pretrained(place, engine="torch").continue_prompt(Prompt.empty(), params).ids
        for place in (tiny_checkpoint, "ada/tiny")
    )
    assert here == there
    fetched = list(server.fetched)
    assert "model.safetensors" in fetched
    Pipeline.from_pretrained("ada/tiny")
    assert server.fetched == fetched  # from the cache


def test_the_card_names_its_licence_for_the_hub(server: Repositories, tiny_checkpoint: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, "tiny"))
    (folder / "README.md").write_text("# tiny\n", encoding="utf-8")
    hub.push(folder, "ada/tiny")
    card = server.files["ada/tiny"]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: shortcut-gen\nlicense: ")
    assert card.endswith("---\n\n# tiny\n")


def test_a_speech_model_takes_its_codec_along(server: Repositories, tmp_path: Path) -> None:
    checkpoint = tiny_speech_checkpoint(tmp_path / "here/speech")
    hub.push(checkpoint, "ada/speaks")
    shutil.rmtree(tmp_path / "here")
    pipeline = Pipeline.from_pretrained("ada/speaks")
    made = pipeline.continue_prompt(Prompt.empty(), SamplingParams(seconds=0.4, seed=1))
    assert made.audio().duration > 0


def test_no_file_that_is_not_known_is_fetched(server: Repositories, tiny_checkpoint: Path) -> None:
    hub.push(tiny_checkpoint, "ada/tiny")
    server.files["ada/tiny"] |= {"weights.bin": b"\x80\x04.", "model.py": b"print('hello')\n"}
    folder = hub.fetch("ada/tiny")
    assert not {path.name for path in folder.rglob("*")} & {"weights.bin", "model.py"}


@pytest.mark.parametrize(
    ("address", "said"),
    [("ada/none", "no such repository"), ("ada/tiny@x", "no such file|checkpoint folder is needed")],
)
def test_what_is_not_there_is_named(server: Repositories, address: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        Pipeline.from_pretrained(address)


def test_a_revision_that_is_not_there_is_named(server: Repositories, tiny_checkpoint: Path) -> None:
    hub.push(tiny_checkpoint, "ada/tiny")
    with pytest.raises(CheckpointError, match="no such revision"):
        hub.fetch("ada/tiny", revision="v9")


def test_a_wrong_token_is_told_in_a_line(
    server: Repositories, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert push.main([str(tiny_checkpoint), "ada/tiny"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ada/tiny: the Hub says: ")
    assert error.count("\n") == 1


def test_without_a_network_a_cached_checkpoint_opens_and_another_is_named(
    server: Repositories, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push(tiny_checkpoint, "ada/tiny")
    hub.fetch("ada/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert (hub.fetch("ada/tiny") / "model.safetensors").is_file()
    with pytest.raises(CheckpointError, match="cannot be reached"):
        hub.fetch("ada/other")


def test_a_folder_that_is_mistyped_is_not_asked_for(server: Repositories, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert not hub.is_address("checkpoints/pino")
    with pytest.raises(CheckpointError, match="checkpoint folder is needed"):
        Pipeline.from_pretrained("checkpoints/pino")
