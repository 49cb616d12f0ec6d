"""The command line: what it prints, what it refuses and how."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from data.corpus import Corpus
from data.prepare.__main__ import main
from data.storage import open_storage
from data.vocabulary import Vocabulary
from tests.data.prepare.crawl import crawl, write_json_lines
from tests.data.prepare.runs import texts
from tests.fault_server import Fault, FaultServer

SMALL = ["--vocabulary-size", "100", "--validation-share", "0.2", "--language", "none"]


def test_corpus_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json_lines(crawl(60), tmp_path / "in/crawl.jsonl")
    arguments = ["corpus", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *SMALL]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert f"Prepared: {tmp_path / 'out'}" in printed.out
    assert "60 records in" in printed.out
    assert f"Next: python -m orchestrator.pretrain corpus={tmp_path / 'out'}" in printed.out
    assert "prepare: clean: done, 1 tasks" in printed.err
    assert main(arguments) == 0
    assert "Already prepared" in capsys.readouterr().out
    assert main([*arguments, "--kind", "ids"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--kind", "ids", "--overwrite"]) == 0
    assert Corpus.open(tmp_path / "out").index.kind == "ids"


def test_lists_and_options_reach_the_rules(tmp_path: Path) -> None:
    source = write_json_lines(crawl(60), tmp_path / "crawl.jsonl")
    (tmp_path / "domains.txt").write_text("# news only\nwww.Example.COM\n")
    common = ["corpus", str(source), *SMALL, "--fewest-words", "4", "--duplicates", "windows,lines"]
    assert main([*common, "--output", str(tmp_path / "news"), "--variant", "realnews",
                 "--domains", str(tmp_path / "domains.txt")]) == 0
    report = json.loads((tmp_path / "news/report.json").read_text())
    assert set(report["sites"]) == {"news.example.com"}
    assert report["settings"]["duplicates"] == ["windows", "lines"]
    assert report["settings"]["fewest_words"] == 4
    assert report["pages_by_rule"]["not in the domains"] > 20
    (tmp_path / "urls.txt.gz").write_bytes(gzip.compress(b"http://example.org/page/0\nexample.co.uk/page/1/\n"))
    (tmp_path / "words.txt").write_text("Harbor\n")
    assert main([*common, "--output", str(tmp_path / "web"), "--variant", "webtext", "--longest-page", "0",
                 "--urls", str(tmp_path / "urls.txt.gz"), "--bad-words", str(tmp_path / "words.txt")]) in (0, 2)
    assert main([*common, "--output", str(tmp_path / "words"), "--bad-words", str(tmp_path / "words.txt")]) == 0
    report = json.loads((tmp_path / "words/report.json").read_text())
    assert report["pages_by_rule"]["bad word"] > 5
    assert not any("harbor" in text.lower() for text in texts(tmp_path / "words").values())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--variant", "realnews"], "--domains FILE"),
        (["--variant", "webtext"], "--urls FILE"),
        (["--duplicates", "pages"], "duplicates 'pages' is unknown; choose one of windows, lines"),
        (["--validation-share", "2"], "validation share 2.0"),
        (["--validation-share", "0.0001"], "below 0.001"),
        (["--bad-share", "-1"], "share of bad records -1.0"),
        (["--vocabulary", "nowhere.model"], "nowhere.model does not exist"),
        (["--domains", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--workers", "0"], "0 workers"),
        (["--shard-bytes", "0"], "shard_bytes is 0"),
        (["--vocabulary-size", "70000"], "70000 pieces"),
        (["--format", "warc"], "crawl.jsonl"),
        (["--text-field", "body"], "no field 'body'"),
        (["--output", "pipe:cat"], "refused"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, extra: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_json_lines(crawl(30), tmp_path / "crawl.jsonl")
    assert main(["corpus", str(source), "--output", str(tmp_path / "out"), *SMALL, *extra]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if ": done," not in line]
    assert message in lines[-1]
    assert lines[-1].startswith("prepare: ")
    assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "out/index.json").exists()


def test_bad_records_within_and_above_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_json_lines(crawl(100), tmp_path / "crawl.jsonl")
    with source.open("ab") as file:
        file.write(b"broken\n" * 11)
    arguments = ["corpus", str(source), "--output", str(tmp_path / "out"), *SMALL]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "11 of 111 records are bad, most for 'not JSON' (first crawl.jsonl#" in error
    assert "--bad-share" in error
    assert main([*arguments, "--bad-share", "0.2"]) == 0
    assert "11  bad record: not JSON" in capsys.readouterr().out


def test_vocabulary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    english = write_json_lines(crawl(60), tmp_path / "english.jsonl")
    german = tmp_path / "german.txt"
    german.write_text("Die Brücke über den Fluß ist schön und groß. " * 40)
    model = tmp_path / "models/cc.model"
    arguments = ["vocabulary", str(english), "--also", str(german), "--size", "110", "--output", str(model)]
    assert main(arguments) == 0
    assert "110 pieces" in capsys.readouterr().out
    vocabulary = Vocabulary(model.read_bytes())
    assert 2 not in vocabulary.encode("schön the river")
    assert main([*arguments, "--parts", "10:1:1"]) == 2
    assert "--parts 10:1:1 is not 2 positive numbers" in capsys.readouterr().err
    output = tmp_path / "out"
    assert main(["corpus", str(english), "--output", str(output), *SMALL, "--vocabulary", str(model)]) == 0
    assert Corpus.open(output).index.vocabulary == vocabulary.fingerprint


def test_s3_in_and_out(
    tmp_path: Path, fault_server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_json_lines(crawl(60), tmp_path / "crawl.jsonl")
    open_storage(fault_server.url("bucket/in")).write("crawl.jsonl", source.read_bytes())
    output = fault_server.url("bucket/out")
    fault_server.faults += [Fault("GET", status=503), Fault("PUT", status=503)]
    assert main(["corpus", fault_server.url("bucket/in"), "--output", output, *SMALL]) == 0
    assert not fault_server.faults
    assert main(["corpus", str(source), "--output", str(tmp_path / "out"), *SMALL]) == 0
    assert not open_storage(output).list("work/")
    assert Corpus.open(output).index == Corpus.open(tmp_path / "out").index
    assert f"bucket/out/report.html?endpoint={fault_server.endpoint}" in capsys.readouterr().out
    assert main(["corpus", fault_server.url("bucket/in/crawl.jsonl"), "--output", output, *SMALL]) == 0
    assert "Already prepared" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["corpus"], ["vocabulary"], ["embedded"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert ("examples:" if not command else "--output") in shown


def test_as_a_program(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    command = [sys.executable, "-m", "data.prepare", "corpus", str(nowhere), "--output", str(tmp_path / "out")]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"prepare: input {nowhere} does not exist")
