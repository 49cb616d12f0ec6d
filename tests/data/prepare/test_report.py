"""The report: sums that agree, pictures, and nothing from the data that a browser would run or load."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from data.prepare.overlap import Benchmark
from data.prepare.pipeline import prepare
from data.prepare.report_page import render_page
from data.prepare.shards import REST, UNNAMED, largest
from tests.data.prepare.crawl import crawl, write_json_lines
from tests.data.prepare.runs import request, small_settings, vocabulary


def test_figures_agree_with_the_corpus(tmp_path: Path) -> None:
    records = crawl(80)
    source = write_json_lines(records, tmp_path / "crawl.jsonl")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    settings = small_settings("unfiltered", validation_share=0.2)
    long_text = max(records, key=lambda record: len(record["text"]))["text"]
    benchmark = Benchmark([long_text.replace("\n", " "), "never seen in this corpus at all by anyone anywhere"])
    report = prepare(request(tmp_path, tmp_path.parent / "out", settings, benchmark=benchmark)).report
    assert json.loads((tmp_path.parent / "out/report.json").read_text()) == report
    documents = sum(part["documents"] for part in report["splits"].values())
    tokens = sum(part["tokens"] for part in report["splits"].values())
    kept = {}
    for record in records:
        url = record["url"].split("?")[0].removesuffix("/feed/").rstrip("/").removeprefix("https://")
        kept.setdefault(url.removeprefix("www."), record["text"])
    sites = Counter(url.split("/")[0] for url, text in kept.items() if text.strip())
    assert {site: pages for site, (pages, _) in report["sites"].items()} == sites
    assert sum(pages for pages, _ in report["domains"].values()) == documents == sum(sites.values())
    assert sum(count for _, count in report["domains"].values()) == tokens
    lengths = [len(vocabulary().encode(text.strip())) for text in kept.values() if text.strip()]
    assert sum(lengths) == tokens
    for low, high, count in report["lengths"]:
        assert count == sum(low <= length <= high for length in lengths)
    assert report["ignored_files"] == ["notes.pdf"]
    assert (report["benchmark"]["examples"], report["benchmark"]["found"]) == (2, 1)
    assert report["benchmark"]["matches"][0]["share"] >= 0.8
    assert source.name in dict(report["inputs"])


def test_page_is_well_formed_and_escapes_what_it_quotes(tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script> & <img src=http://evil.org>'
    records = [
        *crawl(40),
        {"text": hostile + " {", "url": "http://a.org/<b>"},
        *({"text": f"{hostile} number {n} is here.", "url": f"http://<i>{n}.org/"} for n in range(3)),
    ]
    source = write_json_lines(records, tmp_path / "crawl.jsonl")
    settings = small_settings(fewest_words=3, fewest_sentences=1)
    benchmark = Benchmark([f"{hostile} number 1 is here"])
    report = prepare(request(source, tmp_path / "out", settings, benchmark=benchmark)).report
    page = render_page(report)
    assert page == (tmp_path / "out/report.html").read_text()
    body = page.removeprefix("<!doctype html>")
    for void in ('<meta charset="utf-8">', '<meta name="viewport" content="width=device-width">'):
        body = body.replace(void, "")
    root = ElementTree.fromstring(body.replace("<br>", "<br/>"))
    assert not {element.tag for element in root.iter()} & {"script", "img", "link", "iframe", "i", "b"}
    assert not any(name in ("src", "href") for element in root.iter() for name in element.attrib)
    assert len(root.findall(".//svg")) == 3
    assert hostile in "".join(root.itertext())
    rules = {element.text for element in root.iter("summary")}
    assert {"brace", "no end mark"} <= rules


def test_the_largest_rows_and_the_rest() -> None:
    table = {"a": [1, 10], "b": [2, 30], REST: [5, 500], "c": [1, 10], UNNAMED: [1, 1]}
    assert largest(table, 2) == {"b": [2, 30], "a": [1, 10], REST: [7, 511]}
    assert largest(table, 9) == table
    assert list(largest(table, 9))[-1] == REST
