"""The text of a measurement: real documents, repeated to a useful size, as texts, text shards and shards of ids."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase

from data.corpus import Corpus, CorpusIndex, ShardWriter
from data.corpus.index import VERSION, Kind
from data.objectives import ObjectiveSpec
from data.prepare.embedded import embedded_settings, prepare_embedded
from data.prepare.pipeline import Request, prepare
from data.specification import LanesSpec, Source
from data.storage import open_storage
from data.vocabulary import Vocabulary

MODEL = "vocabulary/sentencepiece.model"
INPUTS, TARGETS = 512, 114
RAW = 568
"""Tokens of text in a row of 512 inputs and 114 targets."""
WEB_PAGE = 2000
"""Characters; C4's documents have about 430 tokens in the mean."""


WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Text:
    """Documents, their vocabulary, and the folders of the same documents as shards of each kind."""

    documents: list[str]
    vocabulary: Vocabulary
    folder: Path

    @property
    def model(self) -> Path:
        """The vocabulary's file."""
        return self.folder / "text" / MODEL


def make_text(folder: Path, file: Path | None, megabytes: float) -> Text:
    """Prepare `file` (plain text or JSON lines), repeat its documents up to about `megabytes`, and write both kinds of
    shards under `folder`. Every copy has rare words of its own, as more text would have, since pipelines keep words.

    Without a file the text is the standard library's documentation, its strings joined to documents of the length
    that web pages have: by themselves they are so short that reading them would be measured, not training's text.
    """
    if file is None:
        prepared = prepare_embedded(folder / "prepared")
    else:
        request = Request(inputs=(str(file),), output=str(folder / "prepared"), settings=embedded_settings())
        prepared = prepare(request).url
    corpus = Corpus.open(prepared)
    vocabulary = Vocabulary.load(corpus.storage)
    documents = [
        members["txt"].decode()
        for shard, entry in enumerate(corpus.index.shards("train"))
        for _, members in corpus.read_block("train", shard, 0, entry.records)
    ]
    if file is None:
        documents = _joined(documents)
    copies = max(1, round(megabytes * 1e6 / sum(len(text.encode()) for text in documents)))
    documents = _copies(documents, copies)
    _write(folder / "text", "text", documents, vocabulary)
    _write(folder / "ids", "ids", documents, vocabulary)
    return Text(documents, vocabulary, folder)


def lanes_spec(url: str, rows: int, lanes: int) -> LanesSpec:
    """Span corruption of the corpus at `url`, as pre-training runs it."""
    return LanesSpec(
        sources=(Source("corpus", corpus=url, objective=ObjectiveSpec()),), lanes=lanes, rows=rows,
        inputs_length=INPUTS,
    )  # fmt: skip


def _joined(strings: list[str]) -> list[str]:
    """The strings in order as documents of at least `WEB_PAGE` characters each."""
    documents, parts, size = [], list[str](), 0
    for text in strings:
        parts.append(text)
        size += len(text)
        if size >= WEB_PAGE:
            documents.append("\n".join(parts))
            parts, size = [], 0
    return documents


def _copies(documents: list[str], copies: int) -> list[str]:
    """The documents `copies` times; in each copy but the first the words that occur once have an ending of its own."""
    seen = Counter(word for text in documents for word in WORD.findall(text))
    made = list(documents)
    for ending in islice(map("".join, product(ascii_lowercase, repeat=3)), copies - 1):
        made += [WORD.sub(lambda word, end=ending: _renewed(word[0], seen, end), text) for text in documents]
    return made


def _renewed(word: str, seen: Counter[str], ending: str) -> str:
    return word + ending if seen[word] == 1 else word


def _write(folder: Path, kind: Kind, documents: list[str], vocabulary: Vocabulary) -> None:
    storage = open_storage(folder)
    encoded = vocabulary.encode_batch(documents)
    with ShardWriter(storage, "train", 0) as writer:
        for number, (text, ids) in enumerate(zip(documents, encoded, strict=True)):
            content = {"txt": text.encode()} if kind == "text" else {"ids": ids.astype("<u2").tobytes()}
            writer.add(f"{number:08d}", content, len(ids))
        shard = writer.close()
    storage.write(MODEL, vocabulary.model)
    CorpusIndex(VERSION, kind, {"train": (shard,)}, vocabulary.fingerprint, "benchmark").save(storage)
