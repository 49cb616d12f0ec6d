"""The published CoLA and SuperGLUE files, where they are at hand: counts, and every record's format."""

from pathlib import Path

import pytest

from data.tasks import CorpusSource, get_task
from data.tasks.baseline import majority
from data.tasks.imports import import_task

CORPORA = Path(__file__).resolve().parents[4] / "shared" / "corpora"
pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason=f"needs the task files in {CORPORA}")


@pytest.mark.parametrize(
    ("name", "records", "baseline"),
    [
        ("superglue_cb", 56, 50.0),
        ("superglue_copa", 100, 55.0),
        ("superglue_rte", 277, 52.7),
        ("superglue_wic", 638, 50.0),
        ("superglue_wsc", 104, 63.5),
        ("superglue_multirc", 4848, None),
        ("superglue_boolq", 3270, 62.2),
    ],
)
def test_superglues_validation_sets_have_their_sizes_and_known_baselines(name, records, baseline, tmp_path):
    found = import_task(get_task(name), CORPORA / "superglue", str(tmp_path))
    assert (found["validation"].records, found["validation"].examples, found["validation"].skipped) == (
        records,
        records,
        0,
    )
    task = get_task(name).with_source(CorpusSource(str(tmp_path)))
    examples = list(task.examples("validation", evaluate=True))
    assert len({example.id for example in examples}) == records
    if baseline is not None:
        assert round(majority(task)["accuracy"], 1) == baseline


def test_cola_has_its_published_sizes(tmp_path):
    found = import_task(get_task("glue_cola"), CORPORA / "cola", str(tmp_path))
    assert {split: report.examples for split, report in found.items()} == {"train": 8551, "validation": 1043}
