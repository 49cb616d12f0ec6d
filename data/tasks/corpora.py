"""Tasks read from tars: prepared corpora of kind "examples", and foreign WebDataset tars."""

from __future__ import annotations

import hashlib
from typing import Any

from data.corpus import Corpus, scan_foreign
from data.errors import UserError
from data.naming import unknown
from data.storage import Missing, open_storage
from data.tasks.example import Record
from data.tasks.files import json_row


class CorpusSource:
    """Records of a corpus at a URL or folder, addressed by index across its shards.

    A record's `json` member gives its fields; any other member but the key is a field by its extension, as text
    (`cls` as a whole number), which is how foreign tars hold them. The corpus is opened at first use.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._corpus: Corpus | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return CorpusSource, (self.url,)

    def __repr__(self) -> str:
        return f"CorpusSource({self.url!r})"

    @property
    def corpus(self) -> Corpus:
        """The opened corpus; one of texts or ids is refused, since it holds no task's fields.

        Foreign tars are scanned at the first opening, which leaves an index beside them.
        """
        if self._corpus is None:
            corpus = _opened(self.url)
            if corpus.index.kind != "examples":
                raise UserError(
                    f"{self.url} is a corpus of {corpus.index.kind}, not of examples: make one with "
                    f"`python -m data.tasks import`."
                )
            self._corpus = corpus
        return self._corpus

    def splits(self) -> list[str]:
        return sorted(self.corpus.index.splits)

    def records(self, split: str) -> int:
        self._check(split)
        return self.corpus.records(split)

    def read(self, split: str, start: int, count: int) -> list[Record]:
        self._check(split)
        found: list[Record] = []
        first = 0
        for number, shard in enumerate(self.corpus.index.splits[split]):
            low, high = max(start, first), min(start + count, first + shard.records)
            if low < high:
                for key, members in self.corpus.read_block(split, number, low - first, high - low):
                    found.append(fields_of(key, members))
            first += shard.records
        return found

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) over the split's shards, as the index tells them."""
        self._check(split)
        digest = hashlib.sha256()
        for shard in self.corpus.index.splits[split]:
            digest.update(f"{shard.records} {shard.sha256}\n".encode())
        return digest.hexdigest()

    def _check(self, split: str) -> None:
        if split not in self.corpus.index.splits:
            raise unknown("split", split, self.corpus.index.splits, where=self.url)


def _opened(url: str) -> Corpus:
    storage = open_storage(url)
    try:
        return Corpus.open(storage)
    except Missing:
        if not any(path.endswith(".tar") for path in storage.list()):
            raise UserError(f"{url} holds neither index.json nor tars: import the task's files there first.") from None
        return Corpus(storage, scan_foreign(storage, kind="examples"))


def fields_of(key: str, members: dict[str, bytes]) -> Record:
    """The raw fields that a tar's record holds."""
    record: Record = {}
    for extension, content in members.items():
        where = f"record {key}, member {extension}"
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{where} is not UTF-8 at byte {error.start}: convert it to UTF-8.") from None
        if extension == "json":
            row = json_row(text, where)
            if row.record is None:
                raise UserError(f"{where} cannot be used, since {row.problem}.")
            record.update(row.record)
        elif extension == "cls":
            if not text.strip().lstrip("-").isdigit():
                raise UserError(f"{where} holds {text!r}, which is no class id.")
            record["label"] = int(text)
        else:
            record[extension.removesuffix(".txt")] = text
    return record
