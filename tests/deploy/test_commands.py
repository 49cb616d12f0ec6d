"""Command lines in manifests and guides are real: they parse, and their configuration is accepted."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from data.prepare.command_line import parser
from orchestrator.config import load, presets
from tests.deploy.manifests import ROOT, applied_folders, of_kind, render

VERBS = {"pretrain", "finetune", "evaluate", "experiment", "plan"}
GUIDES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "deploy" / "README.md", ROOT / "k8s" / "README.md"])
_COMMAND = re.compile(r"python3? -m (?P<module>[\w.]+)(?P<rest>[^\n`]*)")


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(module, arguments) of every `python -m ...` in `text`; a backslash joins lines, a dash or comment ends one."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = []
    for match in _COMMAND.finditer(joined):
        arguments = shlex.split(re.split(r"\s(?:#|\||>|&&|;)", match["rest"])[0])
        found.append((match["module"], arguments))
    return found


def accepted(module: str, arguments: list[str], files: dict[str, Path]) -> None:
    """Fail unless the program would print this configuration."""
    package, _, verb = module.rpartition(".")
    if package == "orchestrator" and verb in VERBS:
        sources = [value for flag, value in itertools.pairwise(arguments) if flag == "--config"]
        overrides = [one for one in arguments if re.match(r"^[a-z_.]+=", one)]
        load([str(files.get(source, source)) for source in sources] or [presets()[0]], overrides, environment={})
    elif module == "data.prepare":
        parser().parse_args(arguments)
    else:
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("folder", [folder for folder in applied_folders() if not folder.endswith("platform")])
def test_entrypoints(folder: str, tmp_path: Path) -> None:
    objects = render(folder)
    files = {}
    for one in of_kind(objects, "ConfigMap"):
        for name, text in one["data"].items():
            (tmp_path / name).write_text(text)
            files[f"/etc/t5/{name}"] = tmp_path / name
    for job in of_kind(objects, "RayJob"):
        prefix = "python /opt/t5/bin/job.py -- "
        assert job["spec"]["entrypoint"].startswith(prefix)
        ((module, arguments),) = commands(job["spec"]["entrypoint"].removeprefix(prefix))
        accepted(module, arguments, files)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_guides(guide: Path, tmp_path: Path) -> None:
    text = guide.read_text()
    files = {}
    # A block introduced by "# NAME.yaml" is the file that the commands below it name.
    for block in re.findall(r"```yaml\n# ([\w./-]+\.yaml)\n(.*?)```", text, re.S):
        files[block[0]] = tmp_path / Path(block[0]).name
        files[block[0]].write_text(block[1])
    for path in set(re.findall(r"k8s/overlays/[\w./-]+\.yaml", text)):
        files[path] = ROOT / path
    for module, arguments in commands(text):
        accepted(module, arguments, files)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_links_in_guides_exist(guide: Path) -> None:
    text = guide.read_text()
    for path in re.findall(r"(?<![\w/.])((?:k8s|deploy|docs)/[\w./-]*[\w/])", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (guide.parent / target).exists(), target


def test_cluster_launcher_file_is_accepted_by_ray() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = yaml.safe_load((ROOT / "deploy" / "aws.yaml").read_text())
    util.validate_config(util.prepare_config(config))
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
