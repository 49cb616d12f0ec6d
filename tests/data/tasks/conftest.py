"""Tests that register tasks leave the registry as they found it."""

import pytest

from data.tasks import declared, registry


@pytest.fixture
def fresh_registry(monkeypatch):
    monkeypatch.setattr(registry, "_tasks", {form: dict(tasks) for form, tasks in registry._tasks.items()})
    monkeypatch.setattr(registry, "_mixtures", dict(registry._mixtures))
    monkeypatch.setattr(declared, "_loaded", set())
