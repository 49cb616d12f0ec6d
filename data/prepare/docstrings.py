"""Real English text that every machine with Python has: the documentation strings of the standard library."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Test suites and vendored packages hold little prose and differ between distributions of one Python version.
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})
_EXAMPLE = re.compile(r"^\s*(>>> |\.\.\. )")
_ITEM = re.compile(r"^\s*([-*+o]|\d+[.)])\s+")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def library_files(root: Path) -> list[Path]:
    """The Python sources under `root` in the order of their paths, without tests and installed packages."""
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(files, key=Path.as_posix)


def docstrings(source: bytes) -> Iterator[str]:
    """Yield each documentation string of a module's source; nothing where it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # lib2to3 and friends carry deliberately broken or Python 2 files
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield text


def prose(docstring: str) -> str:
    """A documentation string as prose: one paragraph or list item a line, examples and underlines left out."""
    paragraphs: list[list[str]] = [[]]
    in_example = False
    for line in inspect.cleandoc(docstring).splitlines():
        words = line.strip()
        if not words or set(words) <= set("-=~*_#+| "):
            paragraphs.append([])
            in_example = False
        elif in_example or _EXAMPLE.match(line):
            in_example = True
        else:
            if _ITEM.match(line):
                paragraphs.append([])
            paragraphs[-1].append(" ".join(words.split()))
    return "\n".join(" ".join(lines) for lines in paragraphs if lines)


def library_fingerprint(root: Path | None = None) -> str:
    """SHA-256 over names and sizes of the library's sources: cheap, and different for another Python."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    digest = hashlib.sha256()
    for path in library_files(root):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def library_documents(root: Path | None = None) -> Iterator[str]:
    """Yield the prose of each documentation string under `root` (default: this Python's standard library).

    The order is that of the paths and, within a file, of the syntax tree.
    """
    for path in library_files(root or Path(sysconfig.get_paths()["stdlib"])):
        for text in docstrings(path.read_bytes()):
            document = prose(text)
            if document:
                yield document
