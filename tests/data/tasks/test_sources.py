"""Records from files, prepared corpora and foreign tars: the same by index, wherever they lie."""

import io
import json
import pickle
import tarfile

import pytest

from data.corpus import CorpusIndex, ShardWriter
from data.errors import UserError
from data.storage import open_storage
from data.tasks import CorpusSource, FileSource, Task
from data.tasks.steps import Template

ROWS = [{"text": f'Größe {i}, "so"', "label": str(i % 2)} for i in range(5)]
TASK = Task("sizes", (Template("{text}", "{label}"),))


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def files(tmp_path):
    csv_rows = "".join('"Größe {}, ""so""",{}\n'.format(i, row["label"]) for i, row in enumerate(ROWS))
    made = {
        "jsonl": write(tmp_path / "rows.jsonl", json_lines(ROWS) + "\n"),
        "csv": write(tmp_path / "rows.csv", "text,label\n" + csv_rows),
        "tsv": write(
            tmp_path / "rows.tsv", "\ufefftext\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in ROWS)
        ),
        "bare": write(tmp_path / "bare.tsv", "".join(f"{r['text']}\t{r['label']}\n" for r in ROWS)),
    }
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads Parquet")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    return {**made, "parquet": str(tmp_path / "rows.parquet")}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "bare", "parquet"])
def test_every_file_format_gives_the_same_records(files, kind):
    columns = ("text", "label") if kind == "bare" else ()
    task = TASK.with_source(FileSource({"train": files[kind]}, columns))
    assert task.records("train") == 5
    assert task.read("train", 1, 3) == ROWS[1:4]
    assert task.read("train", 4, 3) == ROWS[4:]
    assert [example.id for example in task.examples("train", block=2)] == ["0", "1", "2", "3", "4"]
    assert task.size() == 5
    copy = pickle.loads(pickle.dumps(task))
    assert copy == task
    assert copy.read("train", 0, 5) == ROWS


@pytest.mark.parametrize("piece", [1, 7, 64])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_files_read_in_pieces_give_the_same_records(files, kind, piece, monkeypatch):
    monkeypatch.setattr("data.tasks.files.PIECE", piece)
    assert FileSource({"train": files[kind]}).read("train", 0, 9) == ROWS


def test_a_name_with_a_star_takes_all_files_that_match(files, tmp_path):
    for number in (1, 0):
        write(tmp_path / f"part-{number}.jsonl", json_lines(ROWS[number::2]))
    assert FileSource({"train": f"{tmp_path}/part-*.jsonl"}).read("train", 0, 9) == [*ROWS[0::2], *ROWS[1::2]]
    with pytest.raises(UserError, match=r"No file matches .*other-\*\.jsonl"):
        FileSource({"train": f"{tmp_path}/other-*.jsonl"}).records("train")


def test_a_file_too_large_for_memory_is_refused_with_the_mend(files, monkeypatch):
    monkeypatch.setattr("data.tasks.sources.MEMORY_LIMIT", 10)
    source = FileSource({"train": files["jsonl"]})
    with pytest.raises(UserError, match="too much for memory: bring it into an examples corpus first"):
        source.records("train")
    assert [row.record for row in source.rows("train")] == ROWS


def test_a_fingerprint_tells_other_content_and_order(files, tmp_path):
    prints = {TASK.with_source(FileSource({"train": files[kind]})).fingerprint("train") for kind in ("jsonl", "csv")}
    assert len(prints) == 1
    turned = write(tmp_path / "turned.jsonl", json_lines(ROWS[::-1]))
    assert FileSource({"train": turned}).fingerprint("train") not in prints
    same, other = (CorpusSource(corpus(tmp_path / str(i), rows)) for i, rows in enumerate((ROWS, ROWS[1:])))
    assert same.fingerprint("train") == CorpusSource(corpus(tmp_path / "copy", ROWS)).fingerprint("train")
    assert same.fingerprint("train") != other.fingerprint("train")


def corpus(path, rows, per_shard=2, kind="examples"):
    storage = open_storage(path)
    shards = []
    for number, start in enumerate(range(0, len(rows), per_shard)):
        with ShardWriter(storage, "train", number) as writer:
            for index, row in enumerate(rows[start : start + per_shard], start):
                writer.add(f"{index:03d}", {"json": json.dumps(row).encode()})
            shards.append(writer.close())
    CorpusIndex(1, kind, {"train": tuple(shards)}, None, "test").save(storage)
    return str(path)


def test_a_corpus_is_read_by_index_across_its_shards(tmp_path):
    task = TASK.with_source(CorpusSource(corpus(tmp_path, ROWS)))
    assert task.records("train") == 5
    for start in range(5):
        for count in range(6 - start):
            assert task.read("train", start, count) == ROWS[start : start + count]
    assert pickle.loads(pickle.dumps(task)).read("train", 3, 2) == ROWS[3:]


def test_foreign_tars_become_records_of_their_members(tmp_path):
    with tarfile.open(tmp_path / "shard-train-0.tar", "w") as tar:
        for i in range(3):
            for ending, content in (
                ("inputs.txt", f"in {i}"),
                ("targets.txt", f"out {i}"),
                ("json", '{"source": "x"}'),
                ("cls", str(i)),
            ):
                info = tarfile.TarInfo(f"{i:03d}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content.encode()))
    source = CorpusSource(str(tmp_path))
    assert source.splits() == ["train"]
    assert source.read("train", 1, 1) == [{"inputs": "in 1", "targets": "out 1", "source": "x", "label": 1}]
    assert (tmp_path / "index.json").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"x": 1}\n{"x": 2', "a.jsonl, line 2 cannot be used, since it is not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl, line 1 cannot be used, since it holds a list, not an object"),
        ("a.csv", "x,y\n1,2\n3\n", "a.csv, line 3 cannot be used, since it has 1 columns, not the 2 of x, y"),
        ("a.parquet", "no", "a.parquet is not a Parquet file"),
        ("a.tsv", b"x\n\xff\n", "a.tsv is not UTF-8 near byte 2"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        FileSource({"train": str(path)}).records("train")


def test_what_a_task_cannot_read_is_refused_in_one_sentence(tmp_path, files):
    with pytest.raises(UserError, match=r"rows\.xml ends in none of \.jsonl"):
        FileSource({"train": "rows.xml"})
    with pytest.raises(UserError, match="Task 'sizes' has no source"):
        TASK.records("train")
    with pytest.raises(UserError, match=r"No split 'trian' in the source of task 'sizes': did you mean train\?"):
        TASK.with_source(FileSource({"train": files["jsonl"]})).records("trian")
    with pytest.raises(UserError, match="Split 'train' of task 'sizes' is empty"):
        TASK.with_source(FileSource({"train": write(tmp_path / "none.jsonl", "")})).records("train")
    with pytest.raises(UserError, match=r"neither index\.json nor tars"):
        CorpusSource(str(tmp_path / "nothing")).splits()
    with pytest.raises(UserError, match="corpus of text, not of examples"):
        CorpusSource(corpus(tmp_path / "text", ROWS, kind="text")).splits()
