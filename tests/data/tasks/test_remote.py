"""Tasks whose declaration, files and corpora all lie on S3, against a real server."""

import json

import pytest

from data.storage import open_storage
from data.tasks import get_task, load, located
from data.tasks.__main__ import main
from data.tasks.submission import write_submission
from tests.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("fresh_registry")


def test_a_task_is_declared_imported_shown_and_submitted_on_s3(s3_server: S3Server, tmp_path, capsys):
    s3_server.bucket("tasks")
    root = s3_server.url("tasks/base")
    storage = open_storage(root)
    storage.write("rows.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n')
    storage.write(
        "tasks.yaml",
        b"tasks:\n  own:\n    source: {train: rows.jsonl}\n    inputs: 'own: {text}'\n    labels: ['no', 'yes']\n",
    )
    load(s3_server.url("tasks/base/tasks.yaml"))
    assert [example.targets for example in get_task("own").examples("train")] == ["yes", "no"]

    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tentailment\n")
    corpus = s3_server.url("tasks/base/glue_rte")
    assert main(["import", "glue_rte", "--source", str(tmp_path), "--to", corpus, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["records"] == 1
    task = located(get_task("glue_rte"), root)
    (example,) = task.examples("train", evaluate=True)
    assert example.inputs == "rte sentence1: A. sentence2: B."
    done = write_submission("glue", {"glue_rte": (task, [example], ["entailment"])}, s3_server.url("tasks/sent"))
    assert open_storage(s3_server.url("tasks/sent")).read(done.files[0]) == b"index\tprediction\n0\tentailment\n"
