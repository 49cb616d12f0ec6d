"""Paths and URLs taken apart and put together."""

import pytest

from data.tasks.places import ending_in, parted, within

S3 = "s3://bucket/tasks"
OPTIONS = "?endpoint=http://127.0.0.1:9000&region=x"


@pytest.mark.parametrize(
    ("place", "folder", "name"),
    [
        ("a/b/c.tsv", "a/b", "c.tsv"),
        ("c.tsv", ".", "c.tsv"),
        ("/c.tsv", "/", "c.tsv"),
        (f"{S3}/c.tsv{OPTIONS}", f"{S3}{OPTIONS}", "c.tsv"),
        ("file:///data/c.tsv", "file:///data", "c.tsv"),
        ("what?/c.tsv", "what?", "c.tsv"),
    ],
)
def test_a_place_is_a_folder_and_a_name(place, folder, name):
    assert parted(place) == (folder, name)
    assert ending_in(place, (".csv", ".tsv")) == ".tsv"
    assert within(folder, name).removeprefix("./").replace("//c", "/c") == place


def test_absolute_names_stay_as_they_are():
    assert within(S3, "/data/x") == "/data/x"
    assert within("a", f"{S3}{OPTIONS}") == f"{S3}{OPTIONS}"
    assert within(f"{S3}/{OPTIONS}", "glue_cola") == f"{S3}/glue_cola{OPTIONS}"
