"""What all tests share: markers that skip by name what this machine lacks, quiet threads, hypothesis without luck."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.fault_server import fault_server  # noqa: F401 - fixtures, here for all tests
from tests.s3_server import s3_server  # noqa: F401

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WDS_SECURE", "1")

# No deadline and no random seeds: a slow or a fast machine gets the same verdict.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    import torch

    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, and this machine has none")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
