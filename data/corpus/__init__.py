"""A corpus at rest: tars of records, a sidecar with their places and checksums, and an index over all."""

from data.corpus.damage import BadRecordBudget, Damage
from data.corpus.foreign import scan_foreign
from data.corpus.index import CorpusIndex, Shard
from data.corpus.reader import Corpus
from data.corpus.records import Record
from data.corpus.writer import ShardWriter

__all__ = ["BadRecordBudget", "Corpus", "CorpusIndex", "Damage", "Record", "Shard", "ShardWriter", "scan_foreign"]
