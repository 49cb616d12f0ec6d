"""The index of a prepared corpus: which shards each split has, how large they are and what they hash to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from data.errors import DataDamaged, UserError
from data.storage import Missing, Storage

VERSION = 1
INDEX = "index.json"
Kind = Literal["text", "ids", "examples"]
# The member that every record of a kind must have.
MEMBER: dict[Kind, str] = {"text": "txt", "ids": "ids", "examples": "json"}


@dataclass(frozen=True)
class Shard:
    """One tar of records. `name` is the tar's path within the corpus; `bytes` its size.

    `sha256` is of the whole tar, `sidecar_sha256` of the sidecar's head, which holds a digest of each of its
    pages; `tokens` counts ids where the maker knew them.
    """

    name: str
    records: int
    bytes: int
    sha256: str
    sidecar_sha256: str
    tokens: int | None = None

    @property
    def sidecar(self) -> str:
        """Path of the file with the offsets and checksums of the records."""
        return self.name.removesuffix(".tar") + ".records"


@dataclass(frozen=True)
class CorpusIndex:
    """What a corpus holds. `vocabulary` is the fingerprint of the SentencePiece model; `pipeline` tells its making."""

    version: int
    kind: Kind
    splits: dict[str, tuple[Shard, ...]]
    vocabulary: str | None
    pipeline: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what decides the batches: kind, vocabulary, and content and order of the shards."""
        content = {
            "kind": self.kind,
            "vocabulary": self.vocabulary,
            "splits": {name: [[s.records, s.sha256] for s in shards] for name, shards in self.splits.items()},
        }
        return hashlib.sha256(_canonical(content)).hexdigest()

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split. Raises UserError where there is no such split."""
        if split not in self.splits:
            raise UserError(f"split {split!r} is not in the corpus: it has {', '.join(sorted(self.splits)) or 'none'}")
        return self.splits[split]

    def save(self, storage: Storage) -> None:
        """Write `index.json`: the last step of making a corpus, since a corpus without it does not exist."""
        content = asdict(self)
        content["checksum"] = hashlib.sha256(_canonical(content)).hexdigest()
        storage.write(INDEX, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")

    @staticmethod
    def load(storage: Storage) -> CorpusIndex:
        """Read and check `index.json`. Raises Missing, DataDamaged, UserError for another version."""
        try:
            raw = storage.read(INDEX)
        except Missing:
            raise Missing(
                f"{storage.url} holds no {INDEX}: prepare it with `python -m data.prepare`, or scan foreign tars"
            ) from None
        try:
            return _parsed(json.loads(raw.decode()), storage.url)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise DataDamaged(f"{INDEX} of {storage.url} is damaged ({error}): copy or prepare it again") from None


def _parsed(content: dict[str, Any], url: str) -> CorpusIndex:
    if content["version"] != VERSION:
        raise UserError(
            f"{INDEX} of {url} has version {content['version']!r}, this program reads {VERSION}: prepare it again"
        )
    checksum = content.pop("checksum")
    if hashlib.sha256(_canonical(content)).hexdigest() != checksum:
        raise DataDamaged(f"{INDEX} of {url} does not match its checksum: copy or prepare it again")
    if content["kind"] not in get_args(Kind):
        raise UserError(f"{INDEX} of {url} has kind {content['kind']!r}: known are {', '.join(get_args(Kind))}")
    names = {field.name for field in fields(Shard)}
    splits = {}
    for split, shards in content["splits"].items():
        for shard in shards:
            if set(shard) != names:
                raise ValueError(f"shard fields {sorted(shard)}")
        splits[split] = tuple(Shard(**shard) for shard in shards)
    return CorpusIndex(VERSION, content["kind"], splits, content["vocabulary"], content["pipeline"])


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
