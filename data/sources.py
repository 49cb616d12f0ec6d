"""Opens what a specification names, corpora, vocabulary and tasks, and builds the stream of each source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from data.blocks import Plan, records_per_block
from data.corpus import Corpus
from data.documents import Documents
from data.errors import UserError
from data.objectives import Objective, create
from data.specification import LanesSpec, Source
from data.storage import open_storage
from data.streams import DocumentStream, JoinedStream, Stream, SupervisedTask, TaskStream
from data.tasks import get_task, load, located
from data.vocabulary import Vocabulary

TASK_RECORD_BYTES = 2048
"""What a supervised record is taken to weigh when blocks are sized: small blocks mix tasks that are stored in order."""


def open_corpus(url: str) -> Any:
    """The corpus at `url`; its shards are looked at when first read."""
    return Corpus.open(url, check=False)


class Opened:
    """The corpora, vocabulary and tasks of a specification, opened once.

    `tasks` maps names of supervised sources to tasks that are not to be looked up; `open_corpus` may be
    replaced to share caches. Raises UserError where a source names neither, or a vocabulary does not fit.
    """

    def __init__(
        self,
        spec: LanesSpec,
        tasks: Mapping[str, SupervisedTask] | None = None,
        vocabulary: Vocabulary | None = None,
        open_corpus: Callable[[str], Any] = open_corpus,
        executor: Executor | None = None,
    ) -> None:
        self.spec = spec
        self._tasks: dict[str, SupervisedTask] = dict(tasks or {})
        self._corpora = {s.corpus: open_corpus(s.corpus) for s in spec.sources if s.corpus is not None}
        self.vocabulary = vocabulary or self._load_vocabulary()
        self._executor = executor

    def objective(self, source: Source) -> Objective | None:
        """The objective of a source at the specification's lengths; None for a supervised task."""
        if source.objective is None:
            return None
        return create(source.objective, *self.spec.lengths, self.vocabulary.size)

    @property
    def dense(self) -> bool:
        """Whether the only source fills every row exactly, so that rows need neither packing nor masks."""
        if len(self.spec.sources) > 1:
            return False
        objective = self.objective(self.spec.sources[0])
        return objective is not None and objective.dense

    def stream(self, source: Source) -> Stream:
        """The endless training stream of a source."""
        key = (self.spec.seed, source.name, source.split)
        return self._build(source, self.spec.lanes, key, endless=True)

    def evaluation_stream(self, source: Source) -> Stream:
        """One pass over a split in the order of its records, the same for every seed and every batch."""
        return self._build(source, 1, ("evaluation", source.name, source.split), endless=False)

    def documents(self, source: Source, key: tuple[int | str, ...], *, endless: bool) -> Documents:
        """The documents of a source with an objective."""
        return Documents(
            self._corpus(source),
            source.split,
            self.vocabulary,
            *key,
            "order",
            bad_records=self.spec.bad_records,
            shuffle=endless,
            limit=source.limit,
            executor=self._executor,
        )

    def plan(self, source: Source, lanes: int, key: tuple[int | str, ...], *, endless: bool) -> Plan:
        """The blocks of a source and their order, cut for so many lanes."""
        if source.objective is None:
            counts = [self._task(source).records(source.split)]
            size = counts[0] * TASK_RECORD_BYTES
        else:
            shards = self._corpus(source).index.shards(source.split)
            counts, size = [shard.records for shard in shards], sum(shard.bytes for shard in shards)
        records = records_per_block(sum(counts), size, self.spec.block_bytes, lanes)
        plan = Plan(counts, records, *key, shuffle=endless)
        return plan if source.limit is None else plan.limited(source.limit[0])

    def tokens_by_shard(self, source: Source) -> list[int | None]:
        """What the index knows of the tokens of each shard."""
        shards = self._corpus(source).index.shards(source.split)
        return [shard.tokens for shard in shards]

    def _build(self, source: Source, lanes: int, key: tuple[int | str, ...], *, endless: bool) -> Stream:
        plan = self.plan(source, lanes, key, endless=endless)
        objective = self.objective(source)
        if objective is None:
            return TaskStream(
                plan,
                lanes,
                source.name,
                self._task(source),
                source.split,
                self.vocabulary,
                self.spec.lengths,
                *key,
                "order",
                bad_records=self.spec.bad_records,
                evaluate=not endless,
            )
        documents = self.documents(source, key, endless=endless)
        if objective.joins:
            return JoinedStream(plan, lanes, documents, objective, *key, "noise", endless=endless)
        return DocumentStream(plan, lanes, documents, objective, *key, "noise")

    def _corpus(self, source: Source) -> Any:
        if source.corpus is None:
            raise UserError(f"{source.name!r} has an objective but no corpus; name one")
        return self._corpora[source.corpus]

    def _task(self, source: Source) -> SupervisedTask:
        if source.name not in self._tasks:
            for place in self.spec.task_files:
                load(place)
            self._tasks[source.name] = located(get_task(source.name), self.spec.task_data)
        return self._tasks[source.name]

    def _load_vocabulary(self) -> Vocabulary:
        url = self.spec.vocabulary_url
        if url is None:
            raise UserError("no corpus names a vocabulary; set `vocabulary` to a folder that holds one")
        storage = self._corpora[url].storage if url in self._corpora else open_storage(url)
        return Vocabulary.load(storage)
