"""The proxies of deploy/, as they lie there but for names, ports and certificates, before a real server."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ui.test_ui_operate_server import API, ROOT, Page, slow_model, started

DEPLOY = ROOT / "deploy"
pytestmark = pytest.mark.slow
__all__ = ["slow_model"]


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Each of them must be there, or the test would be of another file than it says."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, demo: int) -> list[str]:
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    keys = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*words, *keys], check=True, capture_output=True)
    site = replaced(
        (DEPLOY / "nginx.conf").read_text(),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server_name demo.example.org", "server_name localhost"),
        ("/etc/ssl/demo/fullchain.pem", str(folder / "cert.pem")),
        ("/etc/ssl/demo/privkey.pem", str(folder / "key.pem")),
        ("http://127.0.0.1:7860", f"http://127.0.0.1:{demo}"),
    )
    kept = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    top = f"daemon off;\npid {folder}/pid;\nerror_log {folder}/errors;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{top}http {{\naccess_log off;\n{kept}{site}}}\n")
    return ["nginx", "-p", str(folder), "-e", str(folder / "errors"), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, demo: int) -> list[str]:
    site = replaced(
        (DEPLOY / "Caddyfile").read_text(),
        ("admin off", "admin off\n\tskip_install_trust\n\tauto_https disable_redirects"),
        ("{$DEMO_HOST}", f"localhost:{port}"),
        ("demo:7860", f"127.0.0.1:{demo}"),
    )
    (folder / "Caddyfile").write_text(site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@contextlib.contextmanager
def behind(words: list[str], folder: Path, port: int) -> Iterator[str]:
    """The address of the proxy that the command starts."""
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    log = folder / "proxy.log"
    with log.open("w") as out, subprocess.Popen(words, env=environment, stdout=out, stderr=out) as process:
        try:
            until = time.monotonic() + 60
            while True:
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"https://localhost:{port}/healthz", verify=False)
                    break
                assert process.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            yield f"https://localhost:{port}"
        finally:
            process.terminate()


PROXIES = {"nginx": nginx, "caddy": caddy}


@pytest.mark.parametrize("name", PROXIES)
def test_the_demo_stands_behind_a_proxy(name: str, slow_model: Path, tmp_path: Path) -> None:
    if shutil.which(name) is None or shutil.which("openssl") is None:
        pytest.skip(f"{name} or openssl is not installed")
    flags = ["--https", "--proxies", "127.0.0.1", "--engine", "torch", "--max-upload", "1", "--per-client", "1"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with started(slow_model, tmp_path, *flags) as server:
        demo = int(server.url.rpartition(":")[2])
        with (
            behind(PROXIES[name](tmp_path, port, demo), tmp_path, port) as url,
            httpx.Client(base_url=url, verify=False) as visitor,
        ):
            cookie = visitor.get("/").headers["set-cookie"].lower()
            assert "secure" in cookie and "httponly" in cookie
            assert visitor.get("/metrics").status_code == 404
            assert httpx.get(f"{server.url}/metrics").status_code == 200
            big = {"files": ("a.mid", bytes(2 * 1024**2))}
            assert visitor.post(f"{API}/upload", files=big).status_code == 413

            page = Page(url, headers={"X-Forwarded-For": "203.0.113.5"}, verify=False)
            thread = page.run(seconds=120.0)
            page.wait("process_generating")  # on its way while the run goes on, in no buffer
            assert "process_completed" not in {each["msg"] for each in page.messages}
            # Whoever says that it is somebody else is still the address that the proxy sees, which has its one run.
            other = Page(url, key="page2", headers={"X-Forwarded-For": "203.0.113.6"}, verify=False)
            assert "refused" in other.click().json()["data"]
            server.stop()  # what there is is handed back, through the proxy
            thread.join(120)
            assert page.messages[-1]["msg"] == "process_completed"
