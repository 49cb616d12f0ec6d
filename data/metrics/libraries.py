"""The evaluation libraries, brought in when first needed."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

from data.errors import UserError

_DISTRIBUTIONS = {"sacrebleu": "sacrebleu", "rouge_score": "rouge-score", "sklearn": "scikit-learn", "scipy": "scipy"}


def library(module: str) -> Any:
    """The module of an evaluation library, or a UserError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        name = _DISTRIBUTIONS[module.partition(".")[0]]
        raise UserError(f"This metric needs {name}: pip install 't5-orchestrator[eval]'.") from None


def release(module: str) -> str:
    """`name version` of a library's distribution, for signatures."""
    name = _DISTRIBUTIONS[module]
    return f"{name} {version(name)}"
