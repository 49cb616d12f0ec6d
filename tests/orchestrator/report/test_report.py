"""What a person sees: the curve, the entropy, the page, progress lines."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.storage import open_storage
from orchestrator.report.curve import sketch
from orchestrator.report.events import in_words
from orchestrator.report.progress import Progress, duration, line
from orchestrator.report.summary import Filling, Summary, unigram_entropy


def made() -> Summary:
    return Summary("a", "done", 20, 4.5, 5.4, 1000, 61.0, 7, "ab" * 32, "runs/a/checkpoints/x", 0.9,
                   (Filling("one <0> three", "<0> two", "<0> too"),))  # fmt: skip


def test_entropy_is_that_of_the_counts_without_padding() -> None:
    targets = np.array([[5, 5, 9, 0], [5, 9, 7, 0]], np.uint16)
    shares = [3 / 6, 2 / 6, 1 / 6]
    assert unigram_entropy(targets) == pytest.approx(-sum(p * math.log(p) for p in shares))


def test_a_falling_curve_falls_and_names_its_ends() -> None:
    drawn = sketch(range(10), [10 - x for x in range(10)], width=20, height=5).splitlines()
    assert drawn[0].startswith("10.00")
    assert drawn[4].startswith(" 1.00")
    assert drawn[5].split() == ["0", "9"]
    ends = [len(text.rstrip()) for text in drawn[:5]]
    assert ends == sorted(ends)


def test_flat_and_broken_curves() -> None:
    assert "3.00" in sketch([1, 2], [3.0, 3.0])
    assert "4.00" in sketch([1], [4.0])
    with pytest.raises(ValueError, match="no finite value"):
        sketch([1], [math.nan])


def test_the_page_says_what_was_learned_and_where_it_lies(tmp_path: Path) -> None:
    summary = made()
    metrics = [{"step": step, "loss": 9.0 / step} for step in range(1, 20)]
    page = summary.page(metrics, "runs/a", "python -m orchestrator.finetune")
    for words in ("clearly below", "4.5000", "5.4000", "one <0> three", "runs/a", "Next: python", "90.0% of it"):
        assert words in page
    assert "Suspect node" not in page
    summary.write(open_storage(tmp_path))
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["parameters_sha256"] == "ab" * 32
    assert {"steps", "held_out_loss", "unigram_entropy", "tokens", "seconds", "checkpoint"} <= stored.keys()


def test_the_page_names_the_nodes_that_faults_point_to() -> None:
    summary = replace(made(), suspect_nodes={"10.0.0.7": {"straggler": 3, "worker": 1}})
    assert "Suspect node      10.0.0.7: 3 straggler, 1 worker; take it out" in summary.page([], "runs/a", "next")


def test_progress_is_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"step": 5, "loss": 2.5, "tokens_per_second": 1234.5, "seconds_left": 3700.0, "held_out_loss": None}
    with Progress("auto") as progress:
        progress.metrics("a", metrics, 10)
        progress.say("hello", {"kind": "x", "message": "m"})
    assert capsys.readouterr().out == f"{line(metrics, 10, 'a')}\nhello\n"
    assert line(metrics, 10, "a") == "a  step 5/10  loss 2.5000  1,234 tokens/s  1:01:40 left"
    assert duration(59) == "0:59"


def test_progress_as_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("json") as progress:
        progress.metrics("a", {"step": 1, "loss": 1.0}, 2)
        progress.say("words", {"kind": "checkpoint", "message": ""})
    kinds = [json.loads(text)["kind"] for text in capsys.readouterr().out.splitlines()]
    assert kinds == ["metrics", "checkpoint"]


def test_events_in_words() -> None:
    event = {"kind": "checkpoint", "step": 5000, "checkpoint": "permanent", "size": 2_500_000}
    assert in_words(event) == "checkpoint of step 5,000 committed (permanent, 2.5 MB)"
    assert in_words({"kind": "progress"}) == ""
    attempt = {"kind": "attempt", "go": True, "step": 0, "world": 2}
    assert in_words(attempt) == "training from the beginning on 2 workers"
    slow = {"kind": "straggler", "step": 8, "node": "b", "rank": 1, "ratio": 2.0}
    assert in_words(slow) == "warning: rank 1 on b is slow (2.00 times the median)"
    assert in_words({**slow, "rank": None}) == "warning: node b is slow (2.00 times the median)"
    suspect = {"kind": "suspect_node", "node": "b", "faults": "2 straggler, 1 worker"}
    assert in_words(suspect) == "warning: faults point to node b again and again (2 straggler, 1 worker): take it out"
