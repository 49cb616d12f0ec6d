"""Small corpora for tests."""

from __future__ import annotations

from data.corpus import CorpusIndex, ShardWriter
from data.storage import Storage

Members = dict[str, bytes]
Records = list[tuple[str, Members]]


def texts(count: int, shard: int = 0) -> Records:
    """Records of differing lengths, all different, some beyond one tar block."""
    return [(f"{shard}-{i:04d}", {"txt": f"Récord {i} of {shard}. ".encode() * (1 + 7 * i % 40)}) for i in range(count)]


def write_corpus(storage: Storage, shards: int = 2, records: int = 8) -> tuple[CorpusIndex, list[Records]]:
    """A corpus with a train split of `shards` shards of `records` texts; its index and records by shard."""
    entries, content = [], []
    for number in range(shards):
        content.append(texts(records, number))
        with ShardWriter(storage, "train", number) as writer:
            for key, members in content[-1]:
                writer.add(key, members)
            entries.append(writer.close())
    index = CorpusIndex(1, "text", {"train": tuple(entries)}, None, "test")
    index.save(storage)
    return index, content
