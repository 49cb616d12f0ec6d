"""Near-duplicates of a benchmark's examples against a count by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from data.errors import UserError
from data.prepare.lists import load_benchmark
from data.prepare.overlap import Benchmark, word_runs

EXAMPLE = "the quick brown fox jumps over the lazy dog and runs away from the angry farmer"


def test_runs_of_eight_words() -> None:
    assert len(list(word_runs(EXAMPLE))) == 16 - 8 + 1
    assert list(word_runs("one two three")) == []
    assert list(word_runs("A b, c. D e f g h!")) == list(word_runs("a B c d E f G h"))


def test_matches_from_four_fifths_on() -> None:
    benchmark = Benchmark([EXAMPLE, "too short", EXAMPLE.replace("quick", "slow")])
    assert benchmark.too_short == 1
    words = EXAMPLE.split()
    assert benchmark.matches("a.org", f"Before. {EXAMPLE.upper()}! After.") == [[0, "a.org", 1.0]]
    # 9 runs: without the last word 8 are left (0.89), without the last two 7 (0.78).
    assert benchmark.matches("a.org", " ".join(words[:-1])) == [[0, "a.org", 0.889]]
    assert benchmark.matches("a.org", " ".join(words[:-2])) == []
    assert benchmark.matches("a.org", "") == []


def test_test_sets_as_lines_or_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"# a comment\n{EXAMPLE}\n\n")
    assert load_benchmark(str(tmp_path / "a.txt")).examples == [EXAMPLE]
    packed = gzip.compress(b'{"question": "why", "answer": "so", "label": 1}\n{broken\n')
    (tmp_path / "b.jsonl.gz").write_bytes(packed)
    assert load_benchmark(str(tmp_path / "b.jsonl.gz")).examples == ["so why", "{broken"]
    (tmp_path / "c.txt").write_text("# nothing\n")
    with pytest.raises(UserError, match="is empty"):
        load_benchmark(str(tmp_path / "c.txt"))
