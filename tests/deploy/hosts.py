"""Hosts with addresses and links of their own on this machine: network namespaces joined by a bridge, with Ray in them.

`Hosts` is the cluster of `deploy/local_cluster.py` with each node in a namespace: the S3 server listens on the bridge
(.1), the head is .11, worker n is .(11 + n). A link can be cut and mended, a host killed, one more added. Needs Linux,
root and `ip` of iproute2; `missing` says what is not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.soak_places import program

_local_cluster = program()
PREFIX = f"t5-{os.getpid()}"
"""Begins the names of all namespaces of this process; interfaces have at most 15 characters."""
INTERFACE = "eth0"


def missing() -> str | None:
    """What this machine lacks for network namespaces, or None."""
    if shutil.which("ip") is None:
        return "`ip` of iproute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"{PREFIX}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, timeout=30)
    if made.returncode != 0:
        return f"`ip netns add` is refused here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True, timeout=30)
    return None


def ip(*words: str) -> str:
    """Run `ip` with these words; its output. Raises `RuntimeError` with its complaint."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """Namespaces by host name, each with loopback and one interface `eth0` on a bridge of this machine."""

    def __init__(self) -> None:
        self.bridge = f"t5b{os.getpid()}"
        self.prefix = _free_prefix()
        self._links: dict[str, str] = {}
        ip("link", "add", self.bridge, "type", "bridge")
        try:
            ip("address", "add", f"{self.prefix}.1/24", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
        except RuntimeError:
            self.close()
            raise

    def namespace(self, host: str) -> str:
        """Name of a host's namespace."""
        return f"{PREFIX}-{host}"

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """What runs `command` on a host."""
        return ["ip", "netns", "exec", self.namespace(host), *command]

    def add(self, host: str, number: int) -> None:
        """A host with address `prefix.number`."""
        space, link = self.namespace(host), f"t5v{os.getpid()}-{number}"
        ip("netns", "add", space)
        self._links[host] = link
        # From here on `close` removes it, even where a line below fails.
        ip("link", "add", link, "type", "veth", "peer", "name", INTERFACE, "netns", space)
        ip("link", "set", link, "master", self.bridge, "up")
        ip("-n", space, "address", "add", f"{self.prefix}.{number}/24", "dev", INTERFACE)
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", INTERFACE, "up")

    def has(self, host: str) -> bool:
        """Whether there is such a host."""
        return host in self._links

    def cut(self, host: str) -> None:
        """Pull the host's cable: nothing reaches it or leaves it, and nobody is told."""
        ip("link", "set", self._links[host], "down")

    def mend(self, host: str) -> None:
        """Put the cable back."""
        ip("link", "set", self._links[host], "up")

    def pids(self, host: str) -> list[int]:
        """All processes of a host."""
        return [int(word) for word in ip("netns", "pids", self.namespace(host)).split()]

    def kill(self, host: str, seconds: float = 30) -> None:
        """SIGKILL every process of the host, by its id, until there is none."""
        limit = time.monotonic() + seconds
        while found := self.pids(host):
            if time.monotonic() > limit:
                raise RuntimeError(f"{host} has processes that do not end: {found}")
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def remove(self, host: str) -> None:
        """Kill the host and take it off the bridge."""
        self.kill(host)
        link = self._links.pop(host)
        with contextlib.suppress(RuntimeError):
            # Goes by itself with the namespace, but not at once.
            ip("link", "delete", link)
        ip("netns", "delete", self.namespace(host))

    def close(self) -> None:
        """End and remove everything, also where a part of it resists."""
        with contextlib.ExitStack() as stack:
            stack.callback(ip, "link", "delete", self.bridge)
            for host in list(self._links):
                stack.callback(self.remove, host)


class Hosts(_local_cluster.Cluster):  # type: ignore[name-defined,misc]
    """A Ray cluster whose nodes are hosts of a `Network`; `up` starts what is not there."""

    def __init__(self, folder: Path, network: Network, **environment: str) -> None:
        super().__init__(folder)
        self.network = network
        self.state.network = network.prefix
        self._more = environment

    def add(self, name: str, cpus: int) -> None:
        """Start worker node `name` ("worker-3"), on a host of its own, and wait until the head counts it."""
        join = [f"--address={self.state.head}:{self.state.gcs_port}"]
        self._start_node(name, self.address(name), cpus, join)

    def address(self, name: str) -> str:
        """Address of a host."""
        number = 11 if name == "head" else 11 + int(name.rpartition("-")[2])
        return f"{self.network.prefix}.{number}"

    def lose(self, name: str) -> None:
        """Kill a host."""
        self.network.kill(name)
        self.end(name, signal.SIGKILL)

    def driver_environment(self) -> dict[str, str]:
        """Variables of a driver on the head's host."""
        return {**self._environment(), "RAY_ADDRESS": f"{self.state.head}:{self.state.gcs_port}"}

    def _environment(self) -> dict[str, str]:
        more = {"GLOO_SOCKET_IFNAME": INTERFACE, "OMP_NUM_THREADS": "1", "NO_PROXY": "*", "no_proxy": "*"}
        return {**super()._environment(), **more, **self._more}

    def _command(self, name: str, command: list[str]) -> list[str]:
        if name == "s3":
            return command
        if not self.network.has(name):
            self.network.add(name, int(self.address(name).rpartition(".")[2]))
        return self.network.command(name, command)


@contextlib.contextmanager
def hosts(folder: Path, workers: int, cpus: int, **environment: str) -> Iterator[Hosts]:
    """A head without CPUs, `workers` nodes of `cpus` CPUs and an S3 server; all gone at the end."""
    network = Network()
    try:
        cluster = Hosts(folder, network, **environment)
        try:
            cluster.up(workers, cpus)
            yield cluster
        finally:
            for name in list(cluster.state.processes):
                if network.has(name):
                    network.kill(name)
            cluster.down()
    finally:
        network.close()


def _free_prefix() -> str:
    """The first three numbers of a private network that this machine does not know yet."""
    known = {address["local"].rpartition(".")[0] for link in _addresses() for address in link["addr_info"]}
    for step in range(256):
        prefix = f"10.{64 + os.getpid() // 256 % 64}.{(os.getpid() + step) % 256}"
        if prefix not in known:
            return prefix
    raise RuntimeError("no private network is free")


def _addresses() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ip("-json", "-4", "address", "show"))
    return found
