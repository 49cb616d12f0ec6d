"""Whatever happens to the bytes of a corpus, its readers get the same records or an error that names the place."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.corpus import BadRecordBudget, Corpus, CorpusIndex, Damage
from data.errors import BudgetExceeded, DataDamaged, UserError
from data.storage import Changed, LocalStorage, Missing
from tests.data.corpora import Records, write_corpus

RECORDS = 8
Original = tuple[Path, list[Records]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """An undamaged corpus and its records by shard; tests work on copies."""
    folder = tmp_path_factory.mktemp("corpus")
    return folder, write_corpus(LocalStorage(folder), shards=2, records=RECORDS)[1]


def read_all(folder: Path, check: bool, budget: BadRecordBudget | None = None) -> list[Records]:
    corpus = Corpus.open(folder, check=check)
    shards = len(corpus.index.shards("train"))
    return [
        corpus.read_block("train", shard, 0, 3, budget) + corpus.read_block("train", shard, 3, RECORDS - 3, budget)
        for shard in range(shards)
    ]


def flip(raw: bytes, place: int, mask: int) -> bytes:
    place %= len(raw)
    return raw[:place] + bytes([raw[place] ^ mask]) + raw[place + 1 :]


DAMAGES: dict[str, Callable[[bytes, int, int], bytes]] = {
    "flip": flip,
    "cut": lambda raw, place, _: raw[: place % len(raw)],
    "cut at a block": lambda raw, place, _: raw[: place % len(raw) // 512 * 512],
    "zero a block": lambda raw, place, _: raw[: (p := place % len(raw) // 512 * 512)] + bytes(512) + raw[p + 512 :],
    "take out": lambda raw, place, mask: raw[: place % len(raw)] + raw[place % len(raw) + mask :],
    "take out a block": lambda raw, place, _: raw[: (p := place % len(raw) // 512 * 512)] + raw[p + 512 :],
    "put in": lambda raw, place, mask: raw[: place % len(raw)] + bytes([mask]) * mask + raw[place % len(raw) :],
    "append": lambda raw, place, mask: raw + bytes([mask]) * (1 + place % 600),
    "swap blocks": lambda raw, place, mask: swap_blocks(raw, place % len(raw) // 512, mask % (1 + len(raw) // 512)),
}


def swap_blocks(raw: bytes, one: int, two: int) -> bytes:
    blocks = [raw[start : start + 512] for start in range(0, len(raw), 512)]
    two %= len(blocks)
    blocks[one], blocks[two] = blocks[two], blocks[one]
    return b"".join(blocks)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    file=st.sampled_from(["shards/train-00000.tar", "shards/train-00001.records", "index.json"]),
    damage=st.sampled_from(sorted(DAMAGES)),
    place=st.integers(0, 1 << 20),
    mask=st.integers(1, 255),
    check=st.booleans(),
    allowed=st.sampled_from([None, 0, 3, 2 * RECORDS]),
)
def test_damage_anywhere_never_changes_records_in_silence(
    original: Original, file: str, damage: str, place: int, mask: int, check: bool, allowed: int | None
) -> None:
    folder, content = original
    path = folder / file
    sound = path.read_bytes()
    budget = None if allowed is None else BadRecordBudget(allowed)
    try:
        path.write_bytes(DAMAGES[damage](sound, place, mask))
        try:
            found = read_all(folder, check, budget)
        except UserError as error:
            assert Path(file).stem in str(error) or "index.json" in str(error)  # noqa: PT017 - no error is fine too
            return
        lost = {(d.shard, d.record) for d in budget.found.values()} if budget else set()
        assert len(lost) <= (allowed or 0)
        for shard, records in enumerate(content):
            name = f"shards/train-0000{shard}.tar"
            assert found[shard] == [record for number, record in enumerate(records) if (name, number) not in lost]
    finally:
        path.write_bytes(sound)


def copied(original: Original, place: Path) -> Path:
    shutil.copytree(original[0], place)
    return place


def boundaries(tar: Path) -> list[int]:
    with tarfile.open(tar) as file:
        return [member.offset for member in file]


def test_a_tar_cut_at_a_member_boundary_is_refused(original: Original, tmp_path: Path) -> None:
    folder = copied(original, tmp_path / "corpus")
    tar = folder / "shards" / "train-00000.tar"
    os.truncate(tar, boundaries(tar)[4])
    for check in (True, False):
        with pytest.raises(DataDamaged, match=r"train-00000\.tar .* bytes, the index tells .* copy it again"):
            read_all(folder, check)


def test_missing_shards_and_sidecars_are_named_at_opening(original: Original, tmp_path: Path) -> None:
    for number, name in enumerate(("train-00001.tar", "train-00000.records")):
        folder = copied(original, tmp_path / str(number))
        (folder / "shards" / name).unlink()
        with pytest.raises(Missing, match=rf"{name} .* is in the index but does not exist: copy it again"):
            Corpus.open(folder)


def test_swapped_shards_of_equal_size_are_refused(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    index, _ = write_corpus(storage)
    one, two = index.splits["train"]
    assert one.bytes == two.bytes
    for path, other in ((one.name, two.name), (one.sidecar, two.sidecar)):
        first, second = storage.read(path), storage.read(other)
        storage.write(path, second)
        storage.write(other, first)
        with pytest.raises(DataDamaged, match="train-00000"):
            read_all(tmp_path, True)


def test_a_shard_replaced_while_in_use_is_refused(original: Original, tmp_path: Path) -> None:
    folder = copied(original, tmp_path / "corpus")
    corpus = Corpus.open(folder)
    corpus.read_block("train", 0, 0, 4)
    storage = LocalStorage(folder)
    storage.write("shards/train-00000.tar", storage.read("shards/train-00000.tar"))
    with pytest.raises(Changed, match=r"train-00000\.tar was replaced while in use"):
        corpus.read_block("train", 0, 4, 4)


def damaged_records(folder: Path, numbers: list[int]) -> None:
    tar = folder / "shards" / "train-00000.tar"
    raw = bytearray(tar.read_bytes())
    for number in numbers:
        raw[boundaries(tar)[number] + 515] ^= 16
    tar.write_bytes(raw)


def test_bad_records_are_counted_once_and_bounded(original: Original, tmp_path: Path) -> None:
    folder = copied(original, tmp_path / "corpus")
    damaged_records(folder, [2, 5])
    begin, end = boundaries(folder / "shards" / "train-00000.tar")[2:4]
    with pytest.raises(DataDamaged, match=rf"record 2 of .*train-00000\.tar \(bytes {begin} to {end}\) is bad: its"):
        read_all(folder, True)
    with pytest.raises(BudgetExceeded, match="that makes 2 bad records and 1 are allowed"):
        read_all(folder, True, BadRecordBudget(1))
    budget = BadRecordBudget(2)
    for _ in range(3):
        found = read_all(folder, True, budget)
    assert found[0] == [record for number, record in enumerate(original[1][0]) if number not in (2, 5)]
    report = budget.report()
    assert (report["bad_records"], report["limit"], report["by_shard"]) == (2, 2, {"shards/train-00000.tar": 2})
    assert report["records"][0] == {
        "shard": "shards/train-00000.tar", "record": 2, "start": begin, "end": end, "reason": "its checksum differs",
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(budget)).report() == report


def test_budgets_of_readers_add_up() -> None:
    one, two = BadRecordBudget(2), BadRecordBudget(2)
    one.charge(Damage("a", 1, 0, 1, "bad"))
    two.charge(Damage("a", 1, 0, 1, "bad"))
    two.charge(Damage("b", 1, 0, 1, "bad"))
    one.merge(two)
    assert one.report()["by_shard"] == {"a": 1, "b": 1}
    with pytest.raises(BudgetExceeded):
        one.charge(Damage("c", 1, 0, 1, "bad"))


def test_verify_finds_what_no_block_holds(original: Original, tmp_path: Path) -> None:
    folder = copied(original, tmp_path / "corpus")
    tar = folder / "shards" / "train-00001.tar"
    raw = bytearray(tar.read_bytes())
    raw[-1] = 1
    tar.write_bytes(raw)
    with pytest.raises(DataDamaged, match=r"train-00001\.tar has another SHA-256 .* outside its records"):
        Corpus.open(folder).verify("train")
    damaged_records(folder, [3])
    with pytest.raises(DataDamaged, match=r"record 3 of shards/train-00000\.tar .* its checksum differs: copy"):
        Corpus.open(folder).verify("train")


def test_a_record_without_its_kinds_member_is_bad(original: Original, tmp_path: Path) -> None:
    folder = copied(original, tmp_path / "corpus")
    storage = LocalStorage(folder)
    dataclasses.replace(CorpusIndex.load(storage), kind="ids").save(storage)
    with pytest.raises(DataDamaged, match="it has no ids member, only txt"):
        read_all(folder, True)


def test_every_flipped_byte_of_an_index_is_found(original: Original, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    sound = (original[0] / "index.json").read_bytes()
    expected = CorpusIndex.load(LocalStorage(original[0]))
    for place in range(len(sound)):
        (tmp_path / "index.json").write_bytes(flip(sound, place, 1))
        try:
            found = CorpusIndex.load(storage)
        except UserError as error:
            assert "index.json" in str(error)  # noqa: PT017 - a flip between two kinds of white space is harmless
        else:
            assert found == expected
