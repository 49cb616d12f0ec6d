"""Makes the example's data: `python prepare.py FOLDER DESTINATION`, FOLDER holding books/, cola/ and superglue/.

books/ holds plain text, a paragraph a line; cola/ and superglue/ the tasks' published files.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LABELS = {"pepys-diary": 0, "sherlock-holmes": 1, "love-among-the-chickens": 2}
SENTENCES_EACH = 2000
WORDS = range(8, 31)
SUPERGLUE = ("cb", "copa", "rte", "wic", "wsc")


def sentences(text: str) -> list[str]:
    """The sentences of a book that are neither very short nor very long, its chapters mixed."""
    found = [each.strip() for each in re.split(r"(?<=[.!?])\s+", text)]
    return mixed({each for each in found if len(each.split()) in WORDS})


def mixed(texts: Iterable[str]) -> list[str]:
    """The texts in an order that has nothing to do with the one they came in, and is always the same."""
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())


def write_book_task(books: Path, folder: Path) -> None:
    """Which book is a sentence from? A tenth of each book's sentences is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[str]] = {"validation": [], "train": []}
    for name, label in LABELS.items():
        chosen = sentences((books / f"{name}.txt").read_text())[:SENTENCES_EACH]
        for number, text in enumerate(chosen):
            line = json.dumps({"text": text, "label": label}, ensure_ascii=False)
            splits["train" if number % 10 else "validation"].append(line)
    for split, lines in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in mixed(lines)))


def main(source: Path, destination: Path) -> None:
    """Corpus, imported tasks and the tasks of our own, under `destination`."""
    own = destination / "own"
    write_book_task(source / "books", own / "book")
    shutil.copy(Path(__file__).with_name("tasks.yaml"), own / "tasks.yaml")
    corpus = ["corpus", str(source / "books"), "--format", "lines", "--variant", "plain", "--language", "none"]
    commands = [["data.prepare", *corpus, "--vocabulary-size", "4000", "--output", str(destination / "corpus")]]
    for task, folder in (("glue_cola", "cola"), *((f"superglue_{name}", "superglue") for name in SUPERGLUE)):
        if not (destination / "tasks" / task / "index.json").exists():
            to = str(destination / "tasks" / task)
            commands.append(["data.tasks", "import", task, "--source", str(source / folder), "--to", to])
    for command in commands:
        subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
