"""The Dockerfile: linted, pinned, not root, and its constraints are those of pyproject."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.manifests import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def tool(name: str) -> str:
    """A program beside this Python or on PATH; skips by name."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_hadolint() -> None:
    command = [tool("hadolint"), str(ROOT / "deploy" / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_base_is_pinned_and_user_is_not_root() -> None:
    assert re.search(r"^ARG BASE_DIGEST$", DOCKERFILE, re.M), "the digest has no default"
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    assert stages[0].startswith("${BASE}@${BASE_DIGEST} AS base")
    for stage in stages:
        if re.match(r"\S+ AS (cpu|cuda)\n", stage):
            assert re.findall(r"^USER (.*)$", stage, re.M) == ["1000:1000"]
            assert "bin" in stage
    assert "latest" not in DOCKERFILE


def test_constraints_meet_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pins = constraints()
    for text in [*project["dependencies"], *extras["prepare"], *extras["eval"], *extras["hf"]]:
        requirement = Requirement(text)
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(pin), f"{requirement} but {pin}"


@pytest.mark.parametrize(("package", "flawed", "mended"), [
    ("ray", "2.55.9", "2.56"),  # CVE-2026-57516, CVE-2026-41486, CVE-2025-62593, CVE-2026-27482
    ("torch", "2.9.1", "2.13"),  # CVE-2025-32434, CVE-2026-24747
    ("sentencepiece", "0.2.0", "0.2.1"),  # CVE-2026-1260
])  # fmt: skip
def test_versions_with_known_flaws_cannot_be_installed(package: str, flawed: str, mended: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [found for text in project["dependencies"] if (found := Requirement(text)).name == package]
    assert not wanted.specifier.contains(flawed)
    assert wanted.specifier.contains(mended)


def test_every_install_obeys_the_constraints() -> None:
    for command in re.findall(r"pip install[^&\n]*", DOCKERFILE):
        assert "--constraint constraints.txt" in command or "--no-deps" in command, command


def test_manifests_name_the_same_ray() -> None:
    for path in (ROOT / "k8s" / "base" / "job" / "rayjob.yaml", ROOT / "k8s" / "base" / "cluster" / "raycluster.yaml"):
        assert f'rayVersion: "{constraints()["ray"]}"' in path.read_text()


def test_ignore_file_lets_through_what_is_copied() -> None:
    allowed = {line[1:] for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"}
    copied = {source for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M) for source in line.split()[:-1]}
    assert copied == allowed


@pytest.mark.skipif("T5_TEST_INSTALL" not in os.environ, reason="reaches the package index; set T5_TEST_INSTALL=1")
@pytest.mark.timeout(1800)
def test_install_steps_in_a_fresh_environment(tmp_path: Path) -> None:
    """The CUDA target's steps: dependencies are resolved, not fetched; the package itself is installed and complete."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    place = tmp_path / "t5"
    place.mkdir()
    for name in ("constraints.txt", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, place)
    (place / "README.md").touch()
    for name in ("data", "model", "orchestrator"):
        (place / name).mkdir()
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S))
    (dependencies,) = re.findall(r"^RUN pip (install .*)$", stages["cuda-packages"], re.M)
    (package,) = re.findall(r"^RUN pip (install .*)$", stages["cuda"], re.M)
    pip = [str(tmp_path / "venv" / "bin" / "pip")]
    subprocess.run([*pip, *shlex.split(dependencies), "--dry-run", "--quiet"], cwd=place, check=True)
    for name in ("data", "model", "orchestrator"):
        shutil.copytree(ROOT / name, place / name, dirs_exist_ok=True)
    subprocess.run([*pip, *shlex.split(package), "--quiet"], cwd=place, check=True)
    show = [*pip, "show", "--files", "t5-orchestrator"]
    listed = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    for name in ("orchestrator/pretrain.py", "orchestrator/config/presets/embedded.yaml", "data/prepare/__main__.py"):
        assert name in listed
