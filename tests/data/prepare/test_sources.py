"""Inputs: what is found, what is passed over, how it is cut, and that a replaced file is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.errors import UserError
from data.prepare.settings import variant_settings
from data.prepare.sources import Source, find_sources, plan_pieces
from data.storage import Changed


def make(folder: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a\n" * (size // 2))


def test_folders_and_files(tmp_path: Path) -> None:
    make(tmp_path, b_txt=4, a_jsonl=2, sub__c_json_gz=2, sub__d_warc_wet_gz=2, picture_png=2)
    (tmp_path / ".hidden.txt").write_text("x")
    sources, ignored = find_sources([str(tmp_path), str(tmp_path / "b.txt")], "auto")
    assert [(source.name, source.format, source.compressed) for source in sources] == [
        ("a.jsonl", "jsonl", False),
        ("1/b.txt", "text", False),
        ("sub/c.json.gz", "jsonl", True),
        ("sub/d.warc.wet.gz", "warc", True),
        ("4/b.txt", "text", False),
    ]
    assert ignored == ["picture.png"]
    sources, ignored = find_sources([str(tmp_path)], "lines")
    assert len(sources) == 5
    assert not ignored


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, b_txt=4)
    monkeypatch.chdir(tmp_path)
    assert [source.name for source in find_sources(["b.txt"], "auto")[0]] == ["b.txt"]
    assert [source.name for source in find_sources(["."], "auto")[0]] == ["b.txt"]


def test_wrong_inputs_are_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, b_png=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nowhere does not exist"):
        find_sources([str(tmp_path / "nowhere")], "auto")
    with pytest.raises(UserError, match="empty does not exist or is an empty folder"):
        find_sources([str(tmp_path / "empty")], "auto")
    with pytest.raises(UserError, match=r"b\.png says nothing about its format"):
        find_sources([str(tmp_path / "b.png")], "auto")
    with pytest.raises(UserError, match="none of the 1 input files"):
        find_sources([str(tmp_path)], "auto")
    with pytest.raises(UserError, match="refused"):
        find_sources(["https://a.org/c4"], "auto")


def spans(folder: Path, **changes: object) -> list[list[tuple[str, int, int]]]:
    settings = variant_settings("c4", **changes)
    sources, _ = find_sources([str(folder)], str(settings.format))
    return [
        [(sources[span.source].name, span.start, span.end) for span in piece]
        for piece in plan_pieces(sources, settings)
    ]


def test_large_files_are_cut_and_small_ones_put_together(tmp_path: Path) -> None:
    make(tmp_path, a_jsonl=25, b_jsonl=4, c_jsonl=4, d_jsonl=4, e_jsonl_gz=30)
    assert spans(tmp_path, piece_bytes=10) == [
        [("a.jsonl", 0, 10)],
        [("a.jsonl", 10, 20)],
        [("a.jsonl", 20, 24), ("b.jsonl", 0, 4), ("c.jsonl", 0, 4)],
        [("d.jsonl", 0, 4), ("e.jsonl.gz", 0, 30)],
    ]


def test_files_that_are_one_document_are_not_cut(tmp_path: Path) -> None:
    make(tmp_path, a_txt=24, b_txt=0)
    assert spans(tmp_path, piece_bytes=10) == [[("a.txt", 0, 24)], [("b.txt", 0, 0)]]
    assert spans(tmp_path, piece_bytes=20, format="lines") == [[("a.txt", 0, 20)], [("a.txt", 20, 24), ("b.txt", 0, 0)]]


def test_a_file_replaced_meanwhile_is_noticed(tmp_path: Path) -> None:
    make(tmp_path, a_txt=24)
    source: Source = find_sources([str(tmp_path)], "auto")[0][0]
    assert source.open(20).read() == b"a\na\n"
    (tmp_path / "new").write_bytes(b"b\n" * 12)
    os.replace(tmp_path / "new", tmp_path / "a.txt")
    with pytest.raises(Changed), source.open() as stream:
        stream.read()
