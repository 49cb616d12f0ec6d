"""The hosts that network tests stand on: reached, cut off, killed, gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.deploy.hosts import PREFIX, Network, ip, missing


@pytest.fixture
def network() -> Iterator[Network]:
    if lacking := missing():
        pytest.skip(f"no hosts on this machine: {lacking}")
    made = Network()
    made.add("a", 11)
    made.add("b", 12)
    yield made
    made.close()
    assert PREFIX not in ip("netns", "list")
    assert made.bridge not in ip("link", "show")


def reaches(network: Network, number: int) -> bool:
    """Whether the host answers; nobody listens there, so an answer is a refusal."""
    try:
        socket.create_connection((f"{network.prefix}.{number}", 9), 1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def test_what_this_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: f"/sbin/{name}")
    assert missing() == "network namespaces need root"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert missing() == "`ip` of iproute2 is not installed"


def test_a_cut_link_lets_nothing_through_until_it_is_mended(network: Network) -> None:
    assert reaches(network, 11)
    assert reaches(network, 12)
    network.cut("a")
    assert not reaches(network, 11)
    assert reaches(network, 12)
    network.mend("a")
    limit = time.monotonic() + 20
    while not reaches(network, 11):
        assert time.monotonic() < limit, "the mended link carries nothing"


def test_a_killed_host_takes_its_processes_along_and_no_others(network: Network) -> None:
    processes = {host: subprocess.Popen(network.command(host, ["sleep", "300"])) for host in ("a", "b")}
    limit = time.monotonic() + 20
    while not all(network.pids(host) for host in processes):
        assert time.monotonic() < limit, "the processes did not start"
    network.kill("a")
    assert processes["a"].wait(10) == -signal.SIGKILL
    assert network.pids("b") == [processes["b"].pid]
    network.remove("b")
    assert processes["b"].wait(10) == -signal.SIGKILL
