"""Tars of other tools, honest and hostile: indexed after one scan, or refused by name."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus import BadRecordBudget, Corpus, CorpusIndex, foreign, scan_foreign
from data.errors import DataDamaged, UserError
from data.storage import LocalStorage
from tests.data.corpora import Records, texts, write_corpus

Entries = Sequence[tuple[str, bytes] | tarfile.TarInfo]


def make_tar(path: Path, entries: Entries, format: int = tarfile.USTAR_FORMAT, mtime: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size, info.mtime = len(entry[1]), mtime  # type: ignore[assignment]
            tar.addfile(info, io.BytesIO(entry[1]))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def entries_of(records: Records) -> Entries:
    return [(f"{key}.{name}", raw) for key, members in records for name, raw in members.items()]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_common_format_is_read(tmp_path: Path, format: int) -> None:
    records = texts(6)
    if format != tarfile.USTAR_FORMAT:
        records += [("dir/" * 80 + "länger", {"txt": b"long name"}), ("big", {"txt": b"x" * 3_000_000, "json": b"{}"})]
    # A fractional time makes pax headers in front of every member, as `webdataset`'s own writer does.
    make_tar(tmp_path / "data-0.tar", entries_of(records), format, mtime=time.time())
    index = scan_foreign(LocalStorage(tmp_path))
    assert (index.kind, list(index.splits), index.vocabulary) == ("text", ["train"], None)
    corpus = Corpus.open(tmp_path)
    assert corpus.index == index
    assert corpus.read_block("train", 0, 0, len(records)) == records
    assert corpus.read_block("train", 0, 3, 2) == records[3:5]
    corpus.verify("train")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tar"] == ["data-0.tar"]


def test_tars_of_webdataset_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDS_SECURE", "1")
    webdataset = pytest.importorskip("webdataset")
    with open(tmp_path / "a-000.tar", "wb") as file, webdataset.TarWriter(file) as writer:
        for key, members in texts(5):
            writer.write({"__key__": key, **members})
    scan_foreign(LocalStorage(tmp_path))
    assert Corpus.open(tmp_path).read_block("train", 0, 0, 5) == texts(5)


def test_folders_notes_and_directories(tmp_path: Path) -> None:
    make_tar(tmp_path / "c4-train" / "1.tar", entries_of(texts(3, 1)))
    make_tar(
        tmp_path / "c4-train" / "0.tar",
        [special("./", tarfile.DIRTYPE), ("./a.txt", b"a"), special("b", tarfile.DIRTYPE), ("__note__/x.txt", b"no"),
         ("b/x.TXT", b"b"), ("b/x.json", b"{}"), ("__index__.json", b"{}")],
    )  # fmt: skip
    make_tar(tmp_path / "c4-validation" / "0.tar", entries_of(texts(2, 2)))
    make_tar(tmp_path / "test-0.tar", entries_of(texts(1, 3)))
    (tmp_path / "README.md").write_text("not a tar")
    index = scan_foreign(LocalStorage(tmp_path))
    assert {name: [s.name for s in shards] for name, shards in index.splits.items()} == {
        "train": ["c4-train/0.tar", "c4-train/1.tar"],
        "validation": ["c4-validation/0.tar"],
        "test": ["test-0.tar"],
    }
    corpus = Corpus.open(tmp_path)
    assert corpus.read_block("train", 0, 0, 2) == [("./a", {"txt": b"a"}), ("b/x", {"txt": b"b", "json": b"{}"})]
    assert corpus.read_block("train", 0, 1, 1) == [("b/x", {"txt": b"b", "json": b"{}"})]
    assert scan_foreign(LocalStorage(tmp_path)) == index


@pytest.mark.parametrize(("extension", "kind"), [("ids", "ids"), ("json", "examples"), ("txt", "text")])
def test_the_kind_is_told_by_the_members(tmp_path: Path, extension: str, kind: str) -> None:
    make_tar(tmp_path / "0.tar", [(f"{i}.{extension}", b"{}") for i in range(3)])
    assert scan_foreign(LocalStorage(tmp_path)).kind == kind


def test_unknown_members_need_a_kind(tmp_path: Path) -> None:
    make_tar(tmp_path / "0.tar", [("0.jpg", b"{}"), ("0.cls", b"1")])
    with pytest.raises(UserError, match=r"first record of 0\.tar has cls, jpg: records need txt, ids, json"):
        scan_foreign(LocalStorage(tmp_path))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("a.txt", b"x"), special("b.txt", tarfile.SYMTYPE, "/etc/passwd")], r"'b\.txt' is not a regular file"),
        ([special("b.txt", tarfile.LNKTYPE, "a.txt")], "not a regular file"),
        ([special("b.txt", tarfile.CHRTYPE)], "not a regular file"),
        ([special("b.txt", tarfile.FIFOTYPE)], "not a regular file"),
        ([("../../etc/evil.txt", b"x")], r"'\.\./\.\./etc/evil\.txt' has an unsafe name"),
        ([("a/../b.txt", b"x")], "unsafe name"),
        ([("/etc/evil.txt", b"x")], "unsafe name"),
        ([("a\x1b[31m.txt", b"x")], "unsafe name"),
        ([("a.txt", b"x"), ("README", b"x")], "'README' has no extension"),
        ([("a.txt", b"x"), ("a.txt", b"y")], r"'a\.txt' occurs twice"),
        ([("a.txt", b"x"), ("b.txt", b"y"), ("a.txt", b"x")], "key 'a' occurs twice"),
        ([("a.txt", b"x" * (33 << 20))], "above the bound"),
        ([], "has no records"),
    ],
)
def test_hostile_and_broken_tars_are_refused_by_name(tmp_path: Path, entries: Entries, reason: str) -> None:
    make_tar(tmp_path / "0.tar", entries, tarfile.PAX_FORMAT)
    with pytest.raises(DataDamaged, match=rf"^0\.tar cannot be indexed: .*{reason}.*; copy it again or take it out"):
        scan_foreign(LocalStorage(tmp_path))
    assert LocalStorage(tmp_path).list() == ["0.tar"]


def test_cut_tars_are_refused(tmp_path: Path) -> None:
    make_tar(tmp_path / "0.tar", entries_of(texts(4)))
    whole = (tmp_path / "0.tar").read_bytes()
    with tarfile.open(tmp_path / "0.tar") as tar:
        third = tar.getmembers()[2].offset
    for raw, reason in (
        (whole[:third], "no closing zero blocks"),
        (whole[: third + 512], "no closing zero blocks|ends inside"),
        (whole[: third + 700], "ends inside member"),
        (whole[: third + 100], "ends inside the header"),
        (whole[:third] + bytes(512) + whole[third:], "no closing zero blocks"),
        (whole + whole, "something follows"),
        (b"", "no closing zero blocks|no records"),
        (b"not a tar at all" * 64, "is damaged"),
    ):
        (tmp_path / "0.tar").write_bytes(raw)
        with pytest.raises(DataDamaged, match=reason):
            scan_foreign(LocalStorage(tmp_path))


def test_bad_content_is_left_to_the_budget(tmp_path: Path) -> None:
    make_tar(tmp_path / "0.tar", [("a.txt", b"fine"), ("b.txt", b"caf\xe9"), ("c.txt", b""), ("d.json", b"{}")])
    scan_foreign(LocalStorage(tmp_path))
    corpus = Corpus.open(tmp_path)
    with pytest.raises(DataDamaged, match=r"record 1 of 0\.tar .* its txt is not UTF-8"):
        corpus.read_block("train", 0, 0, 4)
    budget = BadRecordBudget(3)
    assert corpus.read_block("train", 0, 0, 4, budget) == [("a", {"txt": b"fine"})]
    reasons = [record["reason"] for record in budget.report()["records"]]
    assert reasons == ["its txt is not UTF-8 (byte 3)", "its txt is empty", "it has no txt member, only json"]


def test_places_that_cannot_be_scanned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.tar files"):
        scan_foreign(LocalStorage(tmp_path))
    (tmp_path / "0.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"0\.tar\.gz is compressed"):
        scan_foreign(LocalStorage(tmp_path))
    write_corpus(LocalStorage(tmp_path / "prepared"))
    with pytest.raises(UserError, match="is a prepared corpus already"):
        scan_foreign(LocalStorage(tmp_path / "prepared"))


def test_pieces_smaller_than_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [(str(i), {"txt": os.urandom(300 * i + 1).hex().encode()}) for i in range(30)]
    make_tar(tmp_path / "0.tar", entries_of(records), tarfile.PAX_FORMAT, mtime=0.5)
    expected = scan_foreign(LocalStorage(tmp_path))
    monkeypatch.setattr(foreign, "PIECE", 700)
    monkeypatch.setattr(foreign, "HEADERS", 4096)
    assert scan_foreign(LocalStorage(tmp_path)) == expected
    assert Corpus.open(tmp_path).read_block("train", 0, 0, 30) == records


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 1 << 14), mask=st.integers(1, 255), cut=st.booleans())
def test_damaged_headers_are_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, mask: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    make_tar(folder / "0.tar", entries_of(texts(4)), tarfile.PAX_FORMAT, mtime=0.5)
    raw = bytearray((folder / "0.tar").read_bytes())
    place %= len(raw)
    if cut:
        del raw[place:]
    else:
        raw[place] ^= mask
    (folder / "0.tar").write_bytes(raw)
    try:
        scan_foreign(LocalStorage(folder), workers=1)
    except DataDamaged:
        return
    # Content has no checksum in a foreign tar; but no record may be missing and none may be renamed unseen.
    index = CorpusIndex.load(LocalStorage(folder))
    assert index.splits["train"][0].records == 4
