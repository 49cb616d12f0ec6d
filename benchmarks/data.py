"""`python -m benchmarks.data`: from records to batches, beside Hugging Face, seqio and SentencePiece alone.

One run, the same text and vocabulary, each process on one core, turns interleaved. Rates are tokens of text a second.
Ratios between pipelines on one core are of CPU time, which other work on the machine does not change; what waits (S3,
two readers, the hand-over) is measured by the clock. Peers get their texts from memory, ours reads its shards.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import common, preparing, reading
from benchmarks.common import Rate, Spent, Turn, alternate, timed
from benchmarks.corpora import INPUTS, RAW, TARGETS, Text, lanes_spec, make_text
from benchmarks.peers import HuggingFacePipeline
from data.lanes import Cursor, Lanes
from data.specification import LanesSpec
from data.vocabulary import Vocabulary
from tests.s3_server import rclone, serving

ROWS, LANES = 128, 16
TEXT_STEPS = 20
"""In one turn of ours: eight turns stay within the default text, so that rare words are new as in more text."""
PEER_BATCHES = 8
"""In one turn of a peer: they read ahead, so that single batches cost nothing and then much."""
ROOFLINE_STEP = 0.095
"""Seconds of a base-size step of 128 rows at the roofline of one H100: a model, not a measurement."""


class OurPipeline:
    """All lanes of a specification, step by step, in this process and without threads."""

    def __init__(self, spec: LanesSpec) -> None:
        self._spec, self._lanes, self._step = spec, Lanes(spec), 0
        self._cursors: list[Cursor] = [self._lanes.start(lane) for lane in range(spec.lanes)]

    def steps(self, count: int) -> float:
        """Make `count` steps; returns their tokens of text."""
        for _ in range(count):
            self._step += 1
            for lane in range(self._spec.lanes):
                _, self._cursors[lane] = self._lanes.step(lane, self._cursors[lane], self._step)
        return float(count * self._spec.rows * RAW)


class SeqioProcess:
    """seqio's own pipeline under another Python, asked for batches one turn at a time."""

    def __init__(self, python: str, text: Text) -> None:
        file = text.folder / "texts.jsonl"
        file.write_text("".join(json.dumps(document) + "\n" for document in text.documents))
        command = [python, str(Path(__file__).with_name("seqio_peer.py")), str(file), str(text.model)]
        self._process = subprocess.Popen(
            [*command, str(INPUTS), str(TARGETS), str(ROWS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        self._answer()

    def turn(self) -> Spent:
        """Some batches; tokens of text are counted from the tokens in their rows."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(f"{PEER_BATCHES}\n")
        self._process.stdin.flush()
        found = self._answer()
        # It works ahead in threads of its own, and must not while others have their turn.
        self._process.send_signal(signal.SIGSTOP)
        return Spent(found["tokens"] * RAW / (INPUTS + TARGETS), found["wall"], found["cpu"])

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the seqio process ended with code {self._process.wait()}; its error is above")
        found: dict[str, Any] = json.loads(line)
        return found


def bare_encoding(texts: Sequence[str], vocabulary: Vocabulary) -> float:
    """SentencePiece alone over the texts, one thread, ids as arrays; returns the number of ids."""
    arrays = vocabulary._processor.encode(list(texts), return_type="numpy", num_threads=1)
    return float(sum(map(len, arrays)))


def one_core(text: Text, seqio_python: str | None, rounds: int) -> dict[str, Any]:
    """Rates of all pipelines that run in turns on this process's core."""
    ours = OurPipeline(lanes_spec(str(text.folder / "text"), ROWS, LANES))
    ids = OurPipeline(lanes_spec(str(text.folder / "ids"), ROWS, LANES))
    theirs = HuggingFacePipeline(text.documents, text.vocabulary, RAW, ROWS)
    sample = text.documents[: max(1, len(text.documents) // 4)]

    def hugging_face() -> float:
        for _ in range(PEER_BATCHES):
            theirs.batch()
        return float(PEER_BATCHES * ROWS * RAW)

    turns: dict[str, Turn] = {
        "text": timed(lambda: ours.steps(TEXT_STEPS)),
        "huggingface": timed(hugging_face),
        "sentencepiece": timed(lambda: bare_encoding(sample, text.vocabulary)),
        "pretokenised": timed(lambda: ids.steps(256)),
    }
    with ExitStack() as stack:
        if seqio_python is not None:
            seqio = SeqioProcess(seqio_python, text)
            stack.callback(seqio.close)
            turns["seqio"] = seqio.turn
        rates = alternate(turns, rounds)
    return {"rates": {name: vars(rate) for name, rate in rates.items()}, "same_ids": theirs.same_ids, **_ratios(rates)}


def _ratios(rates: dict[str, Rate]) -> dict[str, float | None]:
    seqio = rates.get("seqio")
    return {
        "text_over_huggingface": rates["text"].cpu / rates["huggingface"].cpu,
        "text_over_seqio": None if seqio is None else rates["text"].cpu / seqio.cpu,
        "text_over_sentencepiece": rates["text"].cpu / rates["sentencepiece"].cpu,
        "pretokenised_tokens_per_second": rates["pretokenised"].cpu,
    }


def measure(text: Text, seqio_python: str | None, rounds: int, steps: int, ray: bool) -> dict[str, Any]:
    """Everything; keys as the table shows them."""
    disk = lanes_spec(str(text.folder / "text"), ROWS, LANES)
    program = rclone()
    s3: dict[str, float] | None = None
    if program is not None:
        with serving(program, text.folder, "--etag-hash", "") as server:
            s3 = reading.s3_over_disk(disk, lanes_spec(server.url("text"), ROWS, LANES), steps, rounds)
    readers = reading.two_over_one(disk, steps, rounds)
    handed = reading.hand_over(disk, 32) if ray else None
    common.pin()
    found = one_core(text, seqio_python, rounds)
    prepared = preparing.beside_plain_loop(text, max(1, rounds // 2))
    return {
        **{name: value for name, value in found.items() if name not in ("rates", "same_ids")},
        "s3_over_disk": None if s3 is None else s3["ratio"],
        "two_readers_over_one": readers["ratio"],
        "handover_share": None if handed is None else handed["seconds"] / ROOFLINE_STEP,
        "reader_rss_bytes": int(readers["rss_bytes"]),
        "prepare_megabytes_per_second": prepared["ours"] / 1e6,
        "prepare_over_plain_loop": prepared["ours"] / prepared["plain"],
        "details": {
            "tokens_per_second": found["rates"],
            "documents": len(text.documents),
            "vocabulary": text.vocabulary.pieces,
            "texts_with_the_same_ids": found["same_ids"],
            "s3": s3,
            "readers": readers,
            "prepare": prepared,
            "handover": handed,
            "handover_step_seconds": ROOFLINE_STEP,
            "rows": ROWS,
            "lanes": LANES,
        },
    }


AIMS = {
    "text_over_huggingface": 8.0, "text_over_seqio": 20.0, "text_over_sentencepiece": 0.85,
    "pretokenised_tokens_per_second": 25e6, "s3_over_disk": 0.9, "two_readers_over_one": 1.8,
}  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The keys with their aims, and the rates behind them."""
    rows = [
        (name, "not measured" if result[name] is None else f"{result[name]:,.4g}", f"at least {AIMS[name]:,g}")
        for name in AIMS
    ]
    share = result["handover_share"]
    rows.append(("handover_share", "not measured" if share is None else f"{share:.4g}", "below 0.02"))
    rows.append(("reader_rss_bytes", f"{result['reader_rss_bytes']:,}", ""))
    rows += [(name, f"{result[name]:.3g}", "") for name in ("prepare_megabytes_per_second", "prepare_over_plain_loop")]
    rates = result["details"]["tokens_per_second"]
    speeds = [(name, f"{r['cpu']:,.0f}", f"{r['wall']:,.0f}", f"{r['spread']:.2f}") for name, r in rates.items()]
    head = ("pipeline, one core", "tokens a CPU second", "tokens a second of the clock", "spread")
    return common.markdown(("key", "measured", "aim"), rows) + "\n\n" + common.markdown(head, speeds)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    made = common.parser("data", "Records to batches, beside Hugging Face, seqio and SentencePiece alone.")
    made.add_argument("--seqio-python", metavar="PATH", help="a Python that has seqio, t5 and tensorflow")
    made.add_argument("--text", type=Path, help="plain text or JSON lines; default: the standard library's docstrings")
    made.add_argument("--megabytes", type=float, default=80.0, help="size to which the text is repeated")
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--steps", type=int, default=256, help="steps of each turn of a reader process")
    made.add_argument("--ray", action="store_true", help="also measure the hand-over through Ray's object store")
    arguments = made.parse_args(argv)
    where = common.machine()
    with tempfile.TemporaryDirectory() as folder:
        text = make_text(Path(folder), arguments.text, arguments.megabytes)
        result = measure(text, arguments.seqio_python, arguments.rounds, arguments.steps, arguments.ray)
    result["machine"] = where
    common.report("data", result, table(result), arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
