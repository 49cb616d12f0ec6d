"""The embedded corpus: real text of this Python, prepared once, taken up again after a kill."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from data.corpus import Corpus
from data.prepare import embedded
from data.prepare.docstrings import docstrings, library_documents, prose
from tests.data.prepare.runs import Killed, files
from tests.s3_server import S3Server


@pytest.fixture
def small_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of a hundred documented functions in the place of Python's own."""
    root = tmp_path / "library"
    (root / "test").mkdir(parents=True)
    (root / "broken.py").write_text("def f(:\n")
    (root / "test/skipped.py").write_text('"""Never seen in the corpus at all."""')
    function = 'def f{0}():\n    """Return the number {0} of the list, or nothing where it is missing."""\n'
    lines = [function.format(number) for number in range(99)]
    (root / "module.py").write_text('"""What the module is for: an example of prose."""\n' + "".join(lines))
    monkeypatch.setattr("data.prepare.docstrings.sysconfig.get_paths", lambda: {"stdlib": str(root)})
    monkeypatch.setattr(embedded, "VOCABULARY_SIZE", 45)
    return root


def test_real_library(tmp_path: Path) -> None:
    url = embedded.prepare_embedded(tmp_path / "out")
    corpus = Corpus.open(url)
    assert corpus.records("train") > 5_000
    assert corpus.records("validation") > 200
    assert sum(shard.tokens or 0 for shard in corpus.index.shards("train")) > 250_000
    _, members = corpus.read_block("train", 0, 0, 1)[0]
    assert len(members["txt"].decode().split()) > 3


def test_a_second_call_makes_nothing(tmp_path: Path, small_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = embedded.prepare_embedded(tmp_path / "out")
    before = files(tmp_path / "out")
    monkeypatch.setattr(embedded, "prepare", None)
    assert embedded.prepare_embedded(tmp_path / "out") == url
    assert files(tmp_path / "out") == before


def test_another_library_makes_another_corpus(tmp_path: Path, small_library: Path) -> None:
    embedded.prepare_embedded(tmp_path / "out")
    before = Corpus.open(tmp_path / "out").index.fingerprint
    (small_library / "more.py").write_text('"""One more module with some words in it."""')
    embedded.prepare_embedded(tmp_path / "out")
    assert Corpus.open(tmp_path / "out").index.fingerprint != before


@pytest.mark.parametrize("step", ["report", "clear", "delete"])
def test_a_killed_preparation_ends_up_the_same(
    tmp_path: Path, small_library: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    embedded.prepare_embedded(tmp_path / "whole")

    def die(*arguments: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "report":
            patch.setattr("data.prepare.pipeline.build_report", die)
        elif step == "clear":
            patch.setattr("data.prepare.pipeline._clear", die)
        else:
            patch.setattr("data.storage.LocalStorage.delete", die)
        with pytest.raises(Killed):
            embedded.prepare_embedded(tmp_path / "out")
    embedded.prepare_embedded(tmp_path / "out")
    whole, again = (Corpus.open(tmp_path / name).index for name in ("whole", "out"))
    assert whole == again


def test_docstrings_of_all_kinds() -> None:
    source = b'"""M."""\nclass A:\n    "C."\n    def f(self): "F."\nasync def g():\n    """G."""\nx = "no"\n'
    assert set(docstrings(source)) == {"M.", "C.", "F.", "G."}
    assert list(docstrings(b"def f(:")) == []
    assert list(docstrings(b"x = 1")) == []


def test_prose_of_a_docstring() -> None:
    text = """Do a thing.

    It goes on
    over two lines.

        >>> f(1)
        2

    - one item
      of two lines
    - another
    =======
    End.
    """
    assert prose(text) == "Do a thing.\nIt goes on over two lines.\n- one item of two lines\n- another\nEnd."


def test_documents_come_in_the_order_of_the_files(small_library: Path) -> None:
    documents = list(library_documents(small_library))
    assert documents[0] == ast.get_docstring(ast.parse((small_library / "module.py").read_text()))
    assert len(documents) == 100


def test_an_s3_prefix_gets_the_same_corpus(
    small_library: Path, tmp_path: Path, s3_server: S3Server
) -> None:
    s3_server.bucket("embedded")
    url = embedded.prepare_embedded(s3_server.url("embedded/corpus"))
    here = Corpus.open(embedded.prepare_embedded(tmp_path / "out"))
    assert Corpus.open(url).index.fingerprint == here.index.fingerprint
    assert embedded.prepare_embedded(url) == url
