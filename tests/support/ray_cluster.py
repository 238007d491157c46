"""A Ray cluster of this machine, with nextok behind its gRPC proxy. Needs Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from nextok_server.config import Config
from nextok_server.ray.deployment import NAME, application, grpc_options


class Cluster:
    def __init__(self, port, artifact):
        self.target = f"127.0.0.1:{port}"
        self._artifact = artifact

    def deploy(self, *, replicas=2, **settings):
        """Puts the application there, or another form of it in its place."""
        settings = {
            "artifact": self._artifact,
            "threads": 1,
            "spinning": False,
            "message_interval": 0.0,
            **settings,
        }
        serve.run(application(Config(**settings), replicas=replicas, cpus=0.5), name=NAME)

    def scale(self, replicas, **settings):
        """Changes the number of replicas, and waits until there are so many."""
        self.deploy(replicas=replicas, **settings)
        self.wait_for_replicas(replicas)

    def wait_for_replicas(self, count, seconds=90):
        deadline = time.monotonic() + seconds
        while self.running() != count:
            assert time.monotonic() < deadline, f"{self.running()} replicas, not {count}"
            time.sleep(0.1)

    def running(self):
        states = serve.status().applications[NAME].deployments[NAME].replica_states
        return states.get("RUNNING", 0) if len(states) == 1 else -1

    def kill_one(self):
        """SIGKILL for the oldest replica's process."""
        found = subprocess.run(
            ["pgrep", "--oldest", "--full", f"^ray::ServeReplica:{NAME}"],
            capture_output=True,
            text=True,
            check=True,
        )
        os.kill(int(found.stdout), signal.SIGKILL)


@contextlib.contextmanager
def running_cluster(artifact):
    port = _free_port()
    # A loaded machine may take a while to start a worker.
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "120")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        http = HTTPOptions(host="127.0.0.1", port=_free_port())
        serve.start(grpc_options=grpc_options(port), http_options=http)
        yield Cluster(port, artifact)
        serve.shutdown()
    finally:
        ray.shutdown()


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
