"""What the product must not call: nothing from storage is unpickled, evaluated, extracted or run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "datasets", "webdataset"}
CALLS = {
    "eval", "exec", "os.system", "os.popen", "torch.load", "torch.jit.load", "numpy.load", "np.load",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "pickle.loads", "pickle.load", "ray.data.read_webdataset",
}  # fmt: skip
METHODS = {"extract", "extractall"}
ALLOWED = {("orchestrator/training/worker.py", "ray.cloudpickle.loads")}
"""What one rank of a run hands to another, over their own process group."""


def sources() -> list[Path]:
    return sorted(path for room in ("data", "model", "orchestrator", "deploy") for path in (ROOT / room).rglob("*.py"))


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def found(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or name.split(".")[-1] in METHODS or "pickle.load" in name:
                yield name
            if name == "yaml.load" and not any(
                "_Loader" in ast.unparse(value) or "_StrictLoader" in ast.unparse(value)
                for value in [*node.args[1:], *(keyword.value for keyword in node.keywords)]
            ):
                yield "yaml.load without a safe loader"
            if any(k.arg == "shell" and getattr(k.value, "value", False) for k in node.keywords):
                yield f"{name} with a shell"


def test_nothing_forbidden_is_called() -> None:
    wrong = {
        (str(path.relative_to(ROOT)), name) for path in sources() for name in found(ast.parse(path.read_text()))
    }
    assert wrong == ALLOWED


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from cloudpickle import loads", "eval('1')", "torch.load(x)", "yaml.load(x)", "tar.extractall()",
     "yaml.load(x, yaml.FullLoader)", "subprocess.run(x, shell=True)", "ray.cloudpickle.loads(x)", "os.system('x')"],
)  # fmt: skip
def test_each_would_be_found(line: str) -> None:
    assert list(found(ast.parse(line)))


def test_loaders_of_yaml_are_safe() -> None:
    import yaml

    from data.tasks.declared import _Loader
    from orchestrator.config.load import _StrictLoader

    for loader in (_Loader, _StrictLoader):
        assert issubclass(loader, yaml.SafeLoader)
