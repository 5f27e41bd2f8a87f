"""The image's steps where there is no Docker: what is copied is there, and what is started from it serves.

The folders are laid out in an empty place as the Dockerfile's COPY lines say, the native engine is built in the first
of them, and the second is served read-only by the image's own command and environment, without root's rights where the
tests have them to give away. Not tried: the base image, pip's and apt's downloads, the kernel's limits.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ui import options

USER = 10001


def instructions(root: Path) -> list[list[tuple[str, str]]]:
    """(instruction, rest) of each stage."""
    text = (root / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: list[list[tuple[str, str]]] = []
    for line in joined.splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest.strip()))
    return stages


def copies(stage: list[tuple[str, str]]) -> Iterator[tuple[str | None, list[str], str]]:
    """(the stage it is from, sources, destination) of each COPY."""
    for word, rest in stage:
        if word == "COPY":
            *sources, destination = [part for part in rest.split() if not part.startswith("--")]
            from_stage = re.search(r"--from=(\S+)", rest)
            yield (from_stage[1] if from_stage else None), sources, destination


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [part for word, rest in stage if word == "ENV" for part in shlex.split(rest)]
    return dict(pair.split("=", 1) for pair in pairs)


def command(stage: list[tuple[str, str]], name: str) -> list[str]:
    """The words of CMD or HEALTHCHECK."""
    rest = next(rest for word, rest in stage if word == name)
    found: list[str] = yaml.safe_load(rest[rest.index("[") :])
    return found


def lay(root: Path, stage: list[tuple[str, str]], into: Path, built: Path | None = None) -> None:
    """What COPY does, from the checkout or, `--from`, from the folder of the stage before."""
    for from_stage, sources, destination in copies(stage):
        for source in sources:
            if from_stage and not source.startswith("/build/"):
                continue  # the environment, which is the one that the tests run in
            place = built / source.removeprefix("/build/") if from_stage and built else root / source
            target = into / destination
            if destination.endswith("/") and not place.is_dir():
                target = target / place.name
            if place.is_dir():
                # .dockerignore keeps what was built here out.
                left_out = shutil.ignore_patterns("__pycache__", "*.pyc", *(() if from_stage else ("*.so",)))
                shutil.copytree(place, target, dirs_exist_ok=True, ignore=left_out)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place, target)


@pytest.fixture
def clean() -> Iterator[Path]:
    """An empty folder that every user can read, as pytest's own cannot."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_the_image_copies_is_there_and_not_left_out(root: Path) -> None:
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    wanted = {
        source
        for stage in instructions(root)
        for stage_, sources, _ in copies(stage)
        if not stage_
        for source in sources
    }
    assert wanted
    for source in wanted:
        assert (root / source).exists(), source
        assert source.split("/")[0] in kept, f"{source} is left out by .dockerignore"


def test_debian_has_the_packages_that_the_image_installs(root: Path) -> None:
    lists = Path("/var/lib/apt/lists")
    if shutil.which("apt-cache") is None or not lists.is_dir() or not list(lists.glob("*Packages*")):
        pytest.skip("no lists of Debian's packages are here")
    text = (root / "Dockerfile").read_text(encoding="utf-8")
    names = re.findall(r"apt-get install -y --no-install-recommends ([^&\\]+?)\s*(?:&&|\\)", text)
    assert len(names) == 2
    for name in " ".join(names).split():
        shown = subprocess.run(["apt-cache", "show", name], capture_output=True, text=True, check=False)
        assert f"Package: {name}" in shown.stdout, name


@pytest.mark.long
@pytest.mark.timeout(900)  # a compiler, and a start with every checkpoint
def test_the_images_command_serves_from_a_clean_folder_without_rights(root: Path, clean: Path) -> None:
    if shutil.which("g++") is None and shutil.which("c++") is None:
        pytest.skip("no compiler is here, as the image's first stage has")
    first, last = instructions(root)
    built, app, files = clean / "build", clean / "app", clean / "files"
    lay(root, first, built)
    native = [rest for word, rest in first if word == "RUN" and "build_ext" in rest]
    step = native[0].rsplit("&&", 1)[-1].split()
    assert step[0] == "python"
    subprocess.run([sys.executable, *step[1:]], cwd=built, check=True, capture_output=True)
    assert list((built / "shortcut_gen/decoding/native").glob("_engine*")), "the native engine was not built"
    lay(root, last, app, built)
    assert list((app / "shortcut_gen/decoding/native").glob("_engine*.so"))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    given = environment(last)
    assert given["TMPDIR"] in "".join(rest for _, rest in last if "install --directory" in rest)
    files.mkdir(mode=0o700)
    moved = {"TMPDIR": str(files), "MPLCONFIGDIR": str(files / "matplotlib"), "PATH": os.environ["PATH"]}
    moved |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    words = [sys.executable, *command(last, "CMD")[1:]]
    words = [port if word == "7860" else word.replace("0.0.0.0", "127.0.0.1") for word in words]
    user = next(rest for word, rest in last if word == "USER")
    assert int(user) == USER
    without_rights: dict[str, Any] = {}
    if os.getuid() == 0 and readable_by_all(Path(sys.executable)) and readable_by_all(app):
        os.chown(files, USER, USER)
        without_rights = {"user": USER, "group": USER, "extra_groups": []}
    for path in [app, *app.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222 | 0o444)
    log = clean / "log"
    with log.open("w") as out:
        server = subprocess.Popen(words, cwd=app, env=given | moved, stdout=out, stderr=out, **without_rights)
    try:
        check = [sys.executable, *(word.replace("7860", port) for word in command(last, "HEALTHCHECK")[1:])]
        until = time.monotonic() + 240
        while subprocess.run(check, capture_output=True, check=False).returncode:
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.3)
        server.terminate()
        assert server.wait(60) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()
        for path in [app, *app.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
    assert not list(files.glob("shortcut-gen-*"))


def readable_by_all(path: Path) -> bool:
    """Whether a user without rights gets there."""
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path.resolve(), *path.resolve().parents))


def test_compose_shuts_the_demo_in_and_its_flags_are_known(root: Path) -> None:
    made = yaml.safe_load((root / "compose.yaml").read_text(encoding="utf-8"))
    demo, proxy = made["services"]["demo"], made["services"]["proxy"]
    for service in (demo, proxy):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["pids_limit"] and service["mem_limit"] and service["cpus"]
    assert demo["user"] == f"{USER}:{USER}"
    assert "ports" not in demo and demo["networks"] == ["inside"]
    assert made["networks"]["inside"]["internal"] is True
    (subnet,) = (each["subnet"] for each in made["networks"]["inside"]["ipam"]["config"])

    words = [re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", str(word)) for word in demo["command"]]
    assert words[:3] == ["python", "-m", "ui"]
    flags = options.parse_args(words[3:])
    options.check(flags)
    assert options.is_open(flags) and flags.https and flags.proxies == [subnet]
    assert str(flags.auth) == "/run/secrets/passwords" and "passwords" in demo["secrets"]
    assert int(demo["stop_grace_period"].removesuffix("s")) > flags.drain + 5
    last = instructions(root)[-1]
    assert [mount.split(":")[1] for mount in demo["volumes"]] == [environment(last)["TMPDIR"]]

    caddy = (root / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    nginx = (root / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    assert f"reverse_proxy demo:{flags.port}" in caddy
    assert "/metrics" in caddy and "/metrics" in nginx
    bodies = re.findall(r"max_size (\d+)MB|body_size (\d+)m;", caddy + nginx)
    sizes = [int(one or other) for one, other in bodies]
    assert len(sizes) == 2
    assert min(sizes) >= flags.max_upload
    assert "X-Forwarded-For $remote_addr" in nginx
