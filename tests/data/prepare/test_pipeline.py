"""The whole way: against a plain loop, the same for any workers, going on after a kill at any write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import webdataset

from data.corpus import Corpus
from data.errors import UserError
from data.prepare.pipeline import prepare
from data.prepare.urls import url_digest
from data.storage import LocalStorage
from tests.data.prepare import naive
from tests.data.prepare.crawl import crawl, write_json_lines
from tests.data.prepare.runs import Killed, Threads, files, request, small_settings, texts, vocabulary


@pytest.mark.parametrize("duplicates", [(), ("windows",), ("lines",), ("windows", "lines")])
def test_equals_the_plain_loop(tmp_path: Path, duplicates: tuple[str, ...]) -> None:
    records = crawl(150)
    source = write_json_lines(records, tmp_path / "in/crawl.jsonl")
    prepared = prepare(request(source, tmp_path / "out", small_settings(duplicates=duplicates)))
    expected = naive.c4(records, duplicates)
    assert texts(tmp_path / "out") == {url_digest(url).hex(): text for url, text in expected.items()}
    counts = prepared.report["counts"]
    assert counts["records"] == counts["pages in"] == 150
    assert counts["pages out"] == len(expected)
    assert sum(prepared.report["pages_by_rule"].values()) == 150 - len(expected)


def test_every_rule_of_the_crawl_is_counted(tmp_path: Path) -> None:
    source = write_json_lines(crawl(150), tmp_path / "crawl.jsonl")
    report = prepare(request(source, tmp_path / "out", small_settings(duplicates=("windows", "lines")))).report
    assert {"repeated URL", "lorem ipsum", "brace", "few sentences", "few sentences after windows"} <= set(
        report["pages_by_rule"]
    )
    assert {"long word", "no end mark", "few words", "javascript", "policy notice", "duplicate windows"} <= set(
        report["lines_by_rule"]
    )
    assert report["lines_edited"]["citation marks"] > 0
    assert set(report["pages_by_rule"]) | set(report["lines_by_rule"]) <= set(report["examples"])


def test_the_split_follows_the_hash_of_the_url(tmp_path: Path) -> None:
    source = write_json_lines(crawl(150), tmp_path / "crawl.jsonl")
    prepare(request(source, tmp_path / "out", small_settings()))
    corpus = Corpus.open(tmp_path / "out")
    for split in ("train", "validation"):
        for number, shard in enumerate(corpus.index.shards(split)):
            for key, members in corpus.read_block(split, number, 0, shard.records):
                assert (int(key, 16) % 1000 < 200) == (split == "validation")
                assert url_digest(json.loads(members["json"])["url"]).hex() == key


def test_same_bytes_for_any_workers_and_any_order(tmp_path: Path) -> None:
    source = write_json_lines(crawl(150), tmp_path / "crawl.jsonl")
    settings = small_settings(duplicates=("windows", "lines"))
    prepare(request(source, tmp_path / "one", settings))
    reference = files(tmp_path / "one")
    assert sum(name.endswith(".tar") for name in reference) > 4
    for workers in (1, 2, 3):
        place = tmp_path / f"threads{workers}"
        prepare(request(source, place, settings), Threads(workers, seed=workers))
        assert files(place) == reference


def test_pieces_do_not_decide_which_copy_stays(tmp_path: Path) -> None:
    source = write_json_lines(crawl(150), tmp_path / "crawl.jsonl")
    whole = small_settings(piece_bytes=1 << 20, partition_bytes=1 << 20)
    prepare(request(source, tmp_path / "whole", whole))
    for piece_bytes in (700, 5_000):
        cut = tmp_path / str(piece_bytes)
        prepare(request(source, cut, small_settings(piece_bytes=piece_bytes)))
        assert texts(cut) == texts(tmp_path / "whole")


def test_goes_on_after_a_kill_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_json_lines(crawl(40), tmp_path / "crawl.jsonl")
    settings = small_settings(piece_bytes=8_000, partition_bytes=30_000, part_bytes=100_000, shard_bytes=100_000)
    writes = 0
    fatal = -1
    originals = {name: getattr(LocalStorage, name) for name in ("write", "upload", "delete")}

    def counted(name: str):  # type: ignore[no-untyped-def]
        def call(self: LocalStorage, *arguments: object, **options: object) -> object:
            nonlocal writes
            writes += 1
            if writes == fatal:
                raise Killed
            return originals[name](self, *arguments, **options)

        return call

    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    for name in originals:
        monkeypatch.setattr(LocalStorage, name, counted(name))
    prepare(request(source, tmp_path / "whole", settings))
    reference, total = files(tmp_path / "whole"), writes
    assert total > 20
    for fatal in range(1, total + 1):
        place, writes = tmp_path / f"killed{fatal}", 0
        with pytest.raises(Killed):
            prepare(request(source, place, settings))
        writes = total
        prepare(request(source, place, settings))
        kept = {name: data for name, data in files(place).items() if not name.startswith("work/")}
        assert kept == reference


def test_a_second_call_finds_the_corpus_and_another_one_is_refused(tmp_path: Path) -> None:
    source = write_json_lines(crawl(60), tmp_path / "crawl.jsonl")
    first = prepare(request(source, tmp_path / "out", small_settings()))
    before = files(tmp_path / "out")
    again = prepare(request(source, tmp_path / "out", small_settings()))
    assert (first.found, again.found) == (False, True)
    assert again.index == first.index
    other = small_settings(fewest_words=6)
    with pytest.raises(UserError, match="--overwrite"):
        prepare(request(source, tmp_path / "out", other))
    assert files(tmp_path / "out") == before
    prepare(request(source, tmp_path / "out", other, overwrite=True))
    prepare(request(source, tmp_path / "fresh", other))
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    source = write_json_lines(crawl(60), tmp_path / "crawl.jsonl")
    prepared = prepare(request(source, tmp_path / "out", small_settings()))
    read = {}
    for shards in prepared.index.splits.values():
        urls = [str(tmp_path / "out" / shard.name) for shard in shards]
        for record in webdataset.WebDataset(urls, shardshuffle=False):
            read[record["__key__"]] = record["txt"].decode()
    assert read == texts(tmp_path / "out")


def test_ids_are_the_vocabulary_of_the_text(tmp_path: Path) -> None:
    source = write_json_lines(crawl(60), tmp_path / "crawl.jsonl")
    prepare(request(source, tmp_path / "text", small_settings()))
    prepared = prepare(request(source, tmp_path / "ids", small_settings(kind="ids")))
    expected = {key: vocabulary().encode(text) for key, text in texts(tmp_path / "text").items()}
    corpus = Corpus.open(tmp_path / "ids")
    found = {
        key: np.frombuffer(members["ids"], "<u2").tolist()
        for split, shards in corpus.index.splits.items()
        for number, shard in enumerate(shards)
        for key, members in corpus.read_block(split, number, 0, shard.records)
    }
    assert found == expected
    tokens = sum(part["tokens"] for part in prepared.report["splits"].values())
    assert tokens == sum(map(len, expected.values()))
    assert corpus.index.vocabulary == vocabulary().fingerprint


def test_a_vocabulary_is_trained_where_none_is_given(tmp_path: Path) -> None:
    source = write_json_lines(crawl(60), tmp_path / "crawl.jsonl")
    settings = small_settings(vocabulary_size=100, vocabulary_sample=4_000)
    one = prepare(request(source, tmp_path / "one", settings, vocabulary=None))
    prepare(request(source, tmp_path / "two", settings, vocabulary=None), Threads(2))
    assert one.report["vocabulary"]["pieces"] == 100
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_variants(tmp_path: Path) -> None:
    records = [
        {"text": "Short\n\n  {code}", "url": "http://a.org/1"},
        {"text": "Short\n\n  {code}", "url": "http://b.org/1"},
        {"text": "One two three four five. " * 3, "url": "http://news.b.org/1"},
        {"text": " ", "url": "http://c.org/1"},
        *({"text": f"Number {n} is here.", "url": f"http://d.org/{n}"} for n in range(9)),
    ]
    source = write_json_lines(records, tmp_path / "crawl.jsonl")
    prepare(request(source, tmp_path / "plain", small_settings("plain")))
    kept = texts(tmp_path / "plain")
    assert len(kept) == 12
    assert kept[url_digest("a.org/1").hex()] == "Short\n\n  {code}"
    prepare(request(source, tmp_path / "unfiltered", small_settings("unfiltered")))
    assert texts(tmp_path / "unfiltered") == kept


def test_nothing_left_or_nothing_held_out_is_refused_by_name(tmp_path: Path) -> None:
    source = write_json_lines([{"text": "Too short.", "url": "http://a.org"}] * 3, tmp_path / "crawl.jsonl")
    with pytest.raises(UserError, match=r"none of the 3 pages is left.*'repeated URL'"):
        prepare(request(source, tmp_path / "out", small_settings()))
    with pytest.raises(UserError, match=r"none of the 1 documents fell into the validation split of 0.001"):
        prepare(request(source, tmp_path / "out", small_settings("plain", validation_share=0.001)))
    prepare(request(source, tmp_path / "out", small_settings("plain", validation_share=0.0)))
    assert set(Corpus.open(tmp_path / "out").index.splits) == {"train"}
    assert not (tmp_path / "out/work").exists()
