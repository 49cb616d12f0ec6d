"""Local storage: atomic and conditional writes, refused URLs, and the bounded cache of remote ranges."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import threading
from pathlib import Path

import pytest

from data.errors import UserError
from data.storage import CachedStorage, Changed, LocalStorage, Missing, S3Storage, Storage, open_storage


def test_reads_ranges_and_lists(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    assert isinstance(storage, Storage)
    storage.write("a/b/one", b"0123456789")
    storage.write("a-side", b"x")
    assert storage.read("a/b/one") == b"0123456789"
    assert storage.read("a/b/one", start=3, length=4) == b"3456"
    assert storage.read("a/b/one", start=8, length=9) == b"89"
    assert storage.read("a/b/one", start=20) == b""
    assert storage.list() == ["a-side", "a/b/one"]
    assert storage.list("a/") == ["a/b/one"]
    assert storage.list("a") == ["a-side", "a/b/one"]
    assert storage.list("nothing/here") == []
    assert storage.stats("a/")["a/b/one"] == storage.stat("a/b/one")
    assert pickle.loads(pickle.dumps(storage)).read("a-side") == b"x"
    storage.delete("a-side")
    storage.delete("a-side")
    assert storage.list() == ["a/b/one"]


def test_missing_is_named_and_a_file_not_found(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "folder").mkdir()
    for path in ("nothing", "folder", "nothing/below"):
        with pytest.raises(Missing, match=path):
            storage.read(path)
        with pytest.raises(FileNotFoundError):
            storage.stat(path)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "a\0"])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    for storage in (LocalStorage(tmp_path), S3Storage("bucket")):
        with pytest.raises(UserError, match="refused"):
            storage.read(path)
        with pytest.raises(UserError, match="refused"):
            storage.write(path, b"")


def test_conditions(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    first = storage.write("lease", b"mine", if_absent=True)
    assert first == storage.stat("lease").etag
    with pytest.raises(Changed, match="exists already"):
        storage.write("lease", b"yours", if_absent=True)
    second = storage.write("lease", b"mine", if_match=first)
    assert second != first
    with pytest.raises(Changed, match="was replaced"):
        storage.write("lease", b"yours", if_match=first)
    with pytest.raises(Changed, match="was replaced while in use"):
        storage.read("lease", etag=first)
    assert storage.read("lease", etag=second) == b"mine"
    storage.delete("lease")
    with pytest.raises(Changed, match="is gone"):
        storage.write("lease", b"mine", if_match=second)
    assert storage.list() == []


@pytest.mark.parametrize("condition", ["if_absent", "if_match"])
def test_one_of_many_writers_wins(tmp_path: Path, condition: str) -> None:
    storage = LocalStorage(tmp_path)
    tag = storage.write("lease", b"start") if condition == "if_match" else None
    barrier, won = threading.Barrier(8), []

    def contend(name: int) -> None:
        barrier.wait()
        try:
            storage.write("lease", bytes([name]), if_absent=tag is None, if_match=tag)
            won.append(name)
        except Changed:
            pass

    threads = [threading.Thread(target=contend, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("lease") == bytes(won)


def test_nobody_comes_between_comparison_and_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    tag = storage.write("lease", b"start")
    # Without a lock both writers meet here after comparing; with one, the first waits in vain and goes on alone.
    meeting = threading.Barrier(2)
    compare = LocalStorage._check_match

    def compare_and_meet(self: LocalStorage, path: str, if_match: str | None) -> None:
        compare(self, path, if_match)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.3)

    monkeypatch.setattr(LocalStorage, "_check_match", compare_and_meet)
    outcomes: list[str] = []

    def contend(content: bytes) -> None:
        try:
            storage.write("lease", content, if_match=tag)
            outcomes.append("won")
        except Changed:
            outcomes.append("lost")

    threads = [threading.Thread(target=contend, args=(name,)) for name in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost", "won"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_object(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("object", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        monkeypatch.setattr("shutil.copyfileobj", full)
        (tmp_path.parent / "source").write_bytes(b"new")
        with pytest.raises(OSError, match="No space"):
            storage.upload("object", tmp_path.parent / "source")
    else:
        monkeypatch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space"):
            storage.write("object", b"new")
    monkeypatch.undo()
    assert storage.read("object") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["object"]


def test_a_crashed_write_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".object.0123456789abcdef.partial").write_bytes(b"half")
    assert LocalStorage(tmp_path).list() == []


def test_upload_streams_a_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 << 20))
    storage = LocalStorage(tmp_path / "place")
    storage.upload("deep/copy", source)
    assert storage.read("deep/copy") == source.read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        "pipe:touch hacked", "PIPE:cat x", "http://host/x", "https://host/x", "gs://bucket/x", "hdfs://x", "ftp://x",
        "ssh://x", "data:abc", "", " ", "file://otherhost/x", "file:relative", "s3://", "s3:///key", "s3://bucket/a/../b",
        "s3://bucket/a#b", "s3://bucket?endpoint=ftp://h", "s3://bucket?endpoint=http://key:secret@host",
        "s3://bucket?endpoint=http://169.254.169.254", "s3://bucket?aws_secret_access_key=x", "s3://bucket/x?profile=y",
    ],
)  # fmt: skip
def test_other_urls_are_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        open_storage(url)
    assert list(tmp_path.iterdir()) == []


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="credentials") as caught:
        open_storage("s3://AKIAEXAMPLE:topsecret@bucket/prefix")
    assert "topsecret" not in str(caught.value)
    assert "AKIAEXAMPLE" not in str(caught.value)


def test_urls_that_open(tmp_path: Path) -> None:
    assert open_storage(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    assert open_storage(str(tmp_path)).url == str(tmp_path)
    s3 = open_storage("s3://bucket/some/prefix/?endpoint=http://127.0.0.1:9&region=eu-west-1")
    assert isinstance(s3, S3Storage)
    assert (s3.bucket, s3.prefix, s3.endpoint, s3.region) == (
        "bucket", "some/prefix", "http://127.0.0.1:9", "eu-west-1",
    )  # fmt: skip
    assert open_storage(s3.url).url == s3.url


def _folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_cache_serves_stays_bounded_and_heals(tmp_path: Path) -> None:
    origin = LocalStorage(tmp_path / "origin")
    tag = origin.write("object", bytes(range(256)) * 40)
    cache = CachedStorage(origin, tmp_path / "cache", max_bytes=3100)
    expected = origin.read("object")
    for _ in range(2):
        assert cache.read("object", start=100, length=1000, etag=tag) == expected[100:1100]
    assert (cache.hits, cache.misses) == (1, 1)
    for start in range(0, 10000, 1000):
        assert cache.read("object", start=start, length=1000, etag=tag) == expected[start : start + 1000]
        assert _folder_size(tmp_path / "cache") <= 3100
    assert cache.read("object", etag=tag) == expected  # larger than the bound: passes through
    for file in (tmp_path / "cache").glob("*.range"):
        raw = bytearray(file.read_bytes())
        raw[-1] ^= 1
        file.write_bytes(raw)
    before = cache.hits
    assert cache.read("object", start=9000, length=1000, etag=tag) == expected[9000:10000]
    assert cache.hits == before
    again = CachedStorage(origin, tmp_path / "cache", max_bytes=3100)
    assert again.read("object", start=9000, length=1000, etag=tag) == expected[9000:10000]
    assert again.hits == 1
    origin.write("object", b"new")
    assert cache.read("object") == b"new"
    with pytest.raises(Changed):
        cache.read("object", start=1, length=2, etag=tag)
    assert pickle.loads(pickle.dumps(cache)).read("object") == b"new"


def test_cache_that_cannot_be_written_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = LocalStorage(tmp_path / "origin")
    tag = origin.write("object", b"content")
    cache = CachedStorage(origin, tmp_path / "cache", max_bytes=1000)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cache.read("object", etag=tag) == b"content"
    with pytest.raises(UserError, match="not positive"):
        CachedStorage(origin, tmp_path / "cache", max_bytes=0)
