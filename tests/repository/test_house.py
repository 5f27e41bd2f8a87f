"""The house: what the documents name exists, and nothing of one machine is in the repo."""

import importlib.util
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *(
        f"docs/{name}.md"
        for name in ("architecture", "how-to-add", "models", "operating", "programs", "security", "training")
    ),
)


def tracked(root: Path) -> list[Path]:
    """Files that git has or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [root / name for name in listed if name and (root / name).is_file()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_documents_exist(root: Path, document: str) -> None:
    text = (root / document).read_text(encoding="utf-8")
    for module in set(re.findall(r"python -m ([a-z_.]+)", text)) - {"pytest", "pip"}:
        assert importlib.util.find_spec(module), f"{document} names python -m {module}"
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document} names make {target}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_in_the_documents_exist(root: Path, document: str) -> None:
    text = (root / document).read_text(encoding="utf-8")
    here = (root / document).parent
    links = {here / link for link in re.findall(r"\]\(([^)#:]+)\)", text)}
    named = {
        root / name
        for name in re.findall(r"(?<![\w/])((?:training/configs|ui/examples|checkpoints|docs)/[\w./-]*\w)", text)
    }
    made_by_the_reader = {root / "checkpoints" / name for name in ("mine", "voices")}
    wanted = sorted(path for path in (links | named) - made_by_the_reader if "NAME" not in path.name)
    assert [path for path in wanted if not path.exists()] == []


def test_nothing_of_one_machine_is_in_the_repo(root: Path) -> None:
    # Written in pieces, so that this file does not name them either.
    forbidden = [
        "py" + "pi.org",
        "python" + "hosted",
        "registry." + "npmjs",
        "deb." + "debian.org",
        "download." + "pytorch",
        "/wo" + "rk/",
        "/home/" + "user",
        "/ro" + "ot/",
        "/opt/" + "wheels",
        "/t" + "mp/bash_jobs",
    ]
    pattern = re.compile("|".join(map(re.escape, forbidden)).encode())
    text = [path for path in tracked(root) if path.suffix not in {".png", ".safetensors", ".mid", ".npy"}]
    assert len(text) > 30
    assert [(path, found[0]) for path in text if (found := pattern.findall(path.read_bytes()))] == []


def test_no_file_is_too_large_and_nothing_is_pickled(root: Path) -> None:
    for path in tracked(root):
        assert path.stat().st_size < 40e6, path
        assert path.suffix not in {".pt", ".pth", ".ckpt", ".pkl", ".zip", ".tar", ".wav"}, path


def test_no_maestro_file_is_in_the_repo(root: Path) -> None:
    assert [path for path in tracked(root) if "MIDI-Unprocessed" in path.name] == []
    ours = (root / "ui" / "examples", root / "tests" / "golden")
    assert all(any(map(path.is_relative_to, ours)) for path in tracked(root) if path.suffix == ".mid")


def test_constraints_name_versions_alone(root: Path) -> None:
    pins = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", pin) for pin in pins)
    names = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [need for extra in project["optional-dependencies"].values() for need in extra]
    for need in wanted:
        assert re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ]", need)[0]).lower() in names, need


def test_every_shipped_checkpoint_has_a_card_figures_and_a_licence(root: Path) -> None:
    folders = sorted(path.parent for path in (root / "checkpoints").glob("*/config.json"))
    if not folders:
        pytest.skip("no checkpoint is shipped yet")
    for folder in folders:
        info = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if info.get("kind") == "codec":
            assert 0 < info["figures"]["test"]["codebooks"]["8"]["stoi"] < 1, folder
        else:
            assert info["figures"]["test"]["nll"] > 0, folder
        assert info["licence"], folder
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert all(part in card for part in info["licence"].split(" and ")), folder  # some are links there


def test_ci_runs_the_readmes_test_command(root: Path) -> None:
    assert "make test" in (root / ".ci" / "run").read_text()
    assert "make test" in (root / "README.md").read_text(encoding="utf-8")


def test_the_bounds_keep_out_bad_releases_and_hold_the_pins(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    bounds: dict[str, SpecifierSet] = {}
    for need in sum(project["optional-dependencies"].values(), project["dependencies"]):
        wanted = Requirement(need)
        bounds[canonicalize_name(wanted.name)] = wanted.specifier & bounds.get(canonicalize_name(wanted.name), "")
    for release in ("2.6.1", "2.6.2", "2.6.3", "2.6.5"):  # docs/security.md says what is wrong with them
        assert release not in bounds["lightning"]
    pins = [pin.split("==") for pin in (root / "constraints.txt").read_text().splitlines() if not pin.startswith("#")]
    assert [(name, pin) for name, pin in pins if pin not in bounds.get(canonicalize_name(name), SpecifierSet())] == []


@pytest.mark.parametrize(
    ("said", "ends", "status"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Found 1 known vulnerability in 1 package\ntorch 2.13.0 CVE-1", 1, 1),
        ("Found 2 known vulnerabilities, ignored 1 in 2 packages", 1, 1),
        ("Traceback (most recent call last):\nConnectionError: no such host", 1, 2),
    ],
    ids=["nothing", "one", "two", "unreachable"],
)
def test_the_audit_tells_what_was_found_from_what_was_not_asked(
    root: Path, tmp_path: Path, said: str, ends: int, status: int
) -> None:
    """With a stand-in for pip-audit, which needs the network."""
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\necho "{said}"\nexit {ends}\n')
    stand_in.chmod(0o755)
    settings = os.environ | {"AUDIT": str(stand_in)}
    ran = subprocess.run([root / ".ci" / "audit"], check=False, env=settings, capture_output=True)
    assert ran.returncode == status
    last = said.splitlines()[-1]
    assert last in ran.stdout.decode() if status < 2 else ran.stderr.decode() == f"error: nothing was audited: {last}\n"
    asked = (tmp_path / "asked").read_text().split()
    assert {"--strict", "constraints.txt"} <= set(asked)
    # What the document accepts passes; what it holds a bound against does not.
    assert "CVE-2025-69872" in asked and "GHSA-xqrq-4mgf-ff32" in asked
    assert "CVE-2026-58659" not in asked and "CVE-2026-37555" not in asked


def test_the_version_and_its_day_are_the_same_everywhere(root: Path) -> None:
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    sections = re.findall(
        r"^## \[(\d[^]]*)\] - (\S+)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert sections[0] == (version, str(cited["date-released"]))
    assert cited["version"] == version


def test_the_sdist_holds_the_models_that_the_package_brings(root: Path) -> None:
    lines = (root / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    held = {match[1] for line in lines if (match := re.match(r"recursive-include checkpoints/(\S+)", line))}
    codec = json.loads((root / "checkpoints" / "speech" / "config.json").read_text(encoding="utf-8"))["codec"]["name"]
    assert held == {"piano", "speech", codec}
