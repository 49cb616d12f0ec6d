"""Shards written, indexed, read by ranges, and read by `webdataset` as well."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus import Corpus, CorpusIndex, ShardWriter, records, sidecar, tar
from data.errors import DataDamaged, UserError
from data.storage import CachedStorage, LocalStorage, Missing, open_storage
from tests.data.corpora import texts, write_corpus
from tests.s3_server import S3Server


class CountingStorage(LocalStorage):
    """Local storage that notes each ranged read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[tuple[str, int, int | None]] = []

    def read(self, path: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        self.reads.append((path, start, length))
        return super().read(path, start=start, length=length, etag=etag)


def test_blocks_equal_what_was_written(tmp_path: Path) -> None:
    _, content = write_corpus(LocalStorage(tmp_path), shards=2, records=11)
    corpus = pickle.loads(pickle.dumps(Corpus.open(tmp_path)))
    assert corpus.records("train") == 22
    for shard in range(2):
        for start in range(11):
            for count in range(12 - start):
                assert corpus.read_block("train", shard, start, count) == content[shard][start : start + count]
    corpus.verify("train")
    unchecked = Corpus.open(str(tmp_path), check=False)
    assert unchecked.read_block("train", 1, 3, 4) == content[1][3:7]


def test_a_block_is_one_ranged_read_of_its_bytes(tmp_path: Path) -> None:
    index, _ = write_corpus(LocalStorage(tmp_path), shards=1, records=20)
    storage = CountingStorage(tmp_path)
    corpus = Corpus.open(storage)
    corpus.read_block("train", 0, 0, 20)
    whole = index.splits["train"][0].bytes
    storage.reads.clear()
    corpus.read_block("train", 0, 5, 5)
    ((path, start, length),) = storage.reads
    with tarfile.open(tmp_path / path) as file:
        places = [member.offset for member in file]
    assert (start, length) == (places[5], places[10] - places[5])
    assert length is not None
    assert length < whole


def test_the_bytes_are_deterministic_ustar(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write_corpus(LocalStorage(tmp_path / place))
    names = [path.relative_to(tmp_path / "one") for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    raw = (tmp_path / "one" / "shards" / "train-00000.tar").read_bytes()
    (entry, _) = CorpusIndex.load(LocalStorage(tmp_path / "one")).splits["train"]
    assert (len(raw), hashlib.sha256(raw).hexdigest()) == (entry.bytes, entry.sha256)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for member, (key, members) in zip(archive.getmembers(), texts(8), strict=True):
            assert member.name == f"{key}.txt"
            assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
            assert member.isreg()
            file = archive.extractfile(member)
            assert file is not None
            assert file.read() == members["txt"]


def test_member_order_does_not_change_the_bytes(tmp_path: Path) -> None:
    shards = []
    for place, members in (("one", {"json": b"{}", "txt": b"t"}), ("two", {"txt": b"t", "json": b"{}"})):
        with ShardWriter(LocalStorage(tmp_path / place), "train", 0) as writer:
            writer.add("key", members)
            shards.append(writer.close())
    assert shards[0] == shards[1]


LONG = f"{'folder' * 10}/{'sub' * 20}/{'k' * 90}"


def test_webdataset_reads_the_same_records(tmp_path: Path) -> None:
    written = [*texts(5), ("dir.with.dots/ключ", {"txt": b"x", "json": b'{"a": 1}'}), (LONG, {"txt": b"y"})]
    with ShardWriter(LocalStorage(tmp_path), "train", 0) as writer:
        for key, members in written:
            writer.add(key, members)
        entry = writer.close()
    CorpusIndex(1, "text", {"train": (entry,)}, None, "test").save(LocalStorage(tmp_path))
    assert Corpus.open(tmp_path).read_block("train", 0, 0, 7) == written
    program = (
        "import sys, json, webdataset as w\n"
        "for s in w.WebDataset(sys.argv[1], shardshuffle=False):\n"
        "    print(json.dumps([s['__key__'], {k: v.decode() for k, v in s.items() if k[0] != '_'}]))\n"
    )
    environment = os.environ | {"WDS_SECURE": "1"}
    command = [sys.executable, "-c", program, str(tmp_path / entry.name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [[key, {name: raw.decode() for name, raw in members.items()}] for key, members in written]


def test_ids_are_counted_and_kept(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    ids = [np.arange(n, dtype="<u2") for n in (1, 300, 7)]
    with ShardWriter(storage, "train", 3) as writer:
        for number, row in enumerate(ids):
            writer.add(str(number), {"ids": row.tobytes()})
        assert writer.records == 3
        entry = writer.close()
        assert writer.size == entry.bytes
    assert (entry.name, entry.tokens, entry.sidecar) == ("shards/train-00003.tar", 308, "shards/train-00003.records")
    CorpusIndex(1, "ids", {"train": (entry,)}, "vocabulary", "test").save(storage)
    for (_, members), row in zip(Corpus.open(storage).read_block("train", 0, 0, 3), ids, strict=True):
        np.testing.assert_array_equal(np.frombuffer(members["ids"], "<u2"), row)


def test_tokens_are_told_only_where_all_are_known(tmp_path: Path) -> None:
    for number, counts in enumerate(([3, 4], [3, None])):
        with ShardWriter(LocalStorage(tmp_path), "train", number) as writer:
            for key, tokens in enumerate(counts):
                writer.add(str(key), {"txt": b"x"}, tokens)
            assert writer.close().tokens == (7 if number == 0 else None)


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../evil", "a/../b", "a//b", "./a", "a.b", "a\nb", "a\\b", "__meta", "C:x", "k" * 300]
)
def test_unsafe_keys_are_refused_on_writing(tmp_path: Path, key: str) -> None:
    with ShardWriter(LocalStorage(tmp_path), "train", 0) as writer, pytest.raises(UserError, match="record"):
        writer.add(key, {"txt": b"x"})


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "no members"),
        ({"txt": b""}, "empty"),
        ({"txt": b" \n\t"}, "empty"),
        ({"json": b""}, "empty"),
        ({"ids": b""}, "16-bit"),
        ({"ids": b"abc"}, "16-bit"),
        ({"txt": b"caf\xe9"}, r"not UTF-8 \(byte 3\)"),
        ({"txt": b"x" * (50 << 20)}, "above the bound"),
        ({"TXT": b"x"}, "extension"),
        ({"a/b": b"x"}, "extension"),
    ],
)
def test_unusable_content_is_refused_on_writing(tmp_path: Path, members: dict[str, bytes], reason: str) -> None:
    with ShardWriter(LocalStorage(tmp_path), "train", 0) as writer, pytest.raises(UserError, match=reason):
        writer.add("key", members)


def test_repeated_keys_and_empty_shards_are_refused(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with ShardWriter(storage, "train", 0) as writer:
        writer.add("key", {"txt": b"x"})
        with pytest.raises(UserError, match="'key' occurs twice"):
            writer.add("key", {"txt": b"y"})
    with ShardWriter(storage, "train", 1) as writer, pytest.raises(UserError, match="no records"):
        writer.close()
    with pytest.raises(UserError, match=r"split '\.\./x'"):
        ShardWriter(storage, "../x", 0)
    assert storage.list() == []


def test_the_index_round_trips_and_its_fingerprint_tells_content(tmp_path: Path) -> None:
    index, _ = write_corpus(LocalStorage(tmp_path))
    assert CorpusIndex.load(LocalStorage(tmp_path)) == index
    train = index.splits["train"]

    def variant(kind: str = "text", vocabulary: str | None = None, pipeline: str = "p", shards: tuple = train) -> str:
        return CorpusIndex(1, kind, {"train": shards}, vocabulary, pipeline).fingerprint  # type: ignore[arg-type]

    assert variant() == index.fingerprint
    others = {variant("ids"), variant(vocabulary="v"), variant(shards=train[::-1]), variant(shards=())}
    assert len(others - {variant()}) == 4


def test_wrong_indexes_are_refused_by_name(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with pytest.raises(Missing, match=r"holds no index.json: prepare it"):
        Corpus.open(tmp_path)
    index, _ = write_corpus(storage)
    CorpusIndex(2, index.kind, index.splits, None, "future").save(storage)
    with pytest.raises(UserError, match="has version 2, this program reads 1"):
        Corpus.open(tmp_path)
    for raw in (b"", b"[]", b"null", b"{", b"\xff", b"[" * 100000, b'{"version": 1}', b'{"version":1,"checksum":"x"}'):
        storage.write("index.json", raw)
        with pytest.raises(UserError, match=r"index\.json"):
            Corpus.open(tmp_path)


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    write_corpus(LocalStorage(tmp_path))
    corpus = Corpus.open(tmp_path)
    with pytest.raises(UserError, match="split 'test' is not in the corpus: it has train"):
        corpus.records("test")
    with pytest.raises(UserError, match="shard 2 of split 'train'"):
        corpus.read_block("train", 2, 0, 1)
    for start, count in ((-1, 1), (0, 9), (9, 0), (3, -1)):
        with pytest.raises(UserError, match="it has 8"):
            corpus.read_block("train", 0, start, count)


def test_sidecars_of_many_pages(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    count = 2 * sidecar.PAGE + 5
    with ShardWriter(storage, "train", 0) as writer:
        for number in range(count):
            writer.add(f"{number}", {"txt": b"%d" % number})
        entry = writer.close()
    assert storage.stat(entry.sidecar).size == sidecar.size(count)
    CorpusIndex(1, "text", {"train": (entry,)}, None, "test").save(storage)
    counting = CountingStorage(tmp_path)
    corpus = Corpus.open(counting)
    for start in (0, 1020, 2040, count - 10):
        assert [key for key, _ in corpus.read_block("train", 0, start, 10)] == [str(start + i) for i in range(10)]
    sidecars = [read for read in counting.reads if read[0] == entry.sidecar]
    assert len(sidecars) == 1 + 3  # the head once, each page once
    whole = Corpus.open(tmp_path).read_block("train", 0, 0, count)
    assert [int(members["txt"]) for _, members in whole] == list(range(count))


def test_a_corpus_on_s3_reads_as_on_disk(s3_server: S3Server, tmp_path: Path) -> None:
    s3_server.bucket("corpus")
    storage = open_storage(s3_server.url("corpus/prepared"))
    _, content = write_corpus(storage)
    cache = CachedStorage(storage, tmp_path / "cache", 1 << 20)
    for place in (storage, cache, cache):
        corpus = Corpus.open(place)
        assert [corpus.read_block("train", shard, 0, 8) for shard in range(2)] == content
        corpus.verify("train")
    assert cache.hits > 0


class FlakyStorage(LocalStorage):
    """Storage whose reads of tars come damaged once each, as over a bad wire."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.seen: set[str] = set()

    def read(self, path: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        raw = bytearray(super().read(path, start=start, length=length, etag=etag))
        if path.endswith(".tar") and path not in self.seen:
            self.seen.add(path)
            raw[len(raw) // 2] ^= 4
        return bytes(raw)


@pytest.mark.parametrize("cached", [False, True])
def test_damage_on_the_wire_heals_by_reading_again(tmp_path: Path, cached: bool) -> None:
    _, content = write_corpus(LocalStorage(tmp_path / "corpus"))
    flaky = FlakyStorage(tmp_path / "corpus")
    corpus = Corpus.open(CachedStorage(flaky, tmp_path / "cache", 1 << 20) if cached else flaky)
    for _ in range(2):
        assert corpus.read_block("train", 0, 0, 8) == content[0]


def test_a_sidecar_of_another_shard_is_refused(tmp_path: Path) -> None:
    index, _ = write_corpus(LocalStorage(tmp_path))
    one, two = (tmp_path / shard.sidecar for shard in index.splits["train"])
    two.write_bytes(one.read_bytes())
    with pytest.raises(DataDamaged, match=r"train-00001\.records does not match the index"):
        Corpus.open(tmp_path).read_block("train", 1, 0, 8)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    key=st.text("abcXYZ019_-/.é", min_size=1, max_size=110),
    extension=st.sampled_from(["txt", "json", "ids", "txt.gz", "t_x"]),
    content=st.binary(max_size=1200),
)
def test_the_short_way_of_parsing_gives_what_the_full_one_gives(key: str, extension: str, content: bytes) -> None:
    try:
        raw = tar.header(f"{key}.{extension}", len(content)) + content + bytes(-len(content) % 512)
        expected = records.parse_record(raw)
    except UserError:
        return
    for needed in ("txt", "json", "ids"):
        short = records.plain_record(b"before" + raw + raw, 6, 6 + len(raw), needed)
        assert short in (None, expected)
        if short is not None:
            assert records.content_problem(short[1], needed) is None
    assert records.plain_record(raw + raw, 0, 2 * len(raw), extension) is None


def test_the_short_way_is_the_usual_one() -> None:
    for key in ("0-0001", "a/b_c/000012", "k" * 96):
        raw = tar.header(f"{key}.txt", 3) + b"abc" + bytes(509)
        assert records.plain_record(raw, 0, 1024, "txt") == (key, {"txt": b"abc"})
