"""The same bytes from Ray tasks as from one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import UserError
from data.prepare.executor import OnRay
from data.prepare.pipeline import prepare
from tests.data.prepare.crawl import crawl, write_json_lines
from tests.data.prepare.runs import files, request, small_settings


@pytest.mark.ray
def test_ray_gives_the_same_bytes_and_the_same_errors(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    source = write_json_lines(crawl(80), tmp_path / "crawl.jsonl")
    settings = small_settings(duplicates=("windows", "lines"))
    prepare(request(source, tmp_path / "one", settings))
    try:
        prepare(request(source, tmp_path / "ray", settings), OnRay(2))
        assert files(tmp_path / "ray") == files(tmp_path / "one")
        broken = tmp_path / "broken.jsonl.gz"
        broken.write_bytes(b"\x1f\x8bnot gzip")
        with pytest.raises(UserError, match="broken gzip"):
            prepare(request([source, broken], tmp_path / "broken", settings), OnRay(2))
    finally:
        ray.shutdown()
