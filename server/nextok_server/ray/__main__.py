"""`nextok-ray ARTIFACT --replicas 2 --port 50051`: a Ray cluster of this machine alone.

Exit codes: 0 stopped as asked, 2 wrong settings.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from nextok_server import config
from nextok_server.ray.deployment import NAME, application, grpc_options


def main() -> None:
    """Starts Ray, a proxy and the replicas, and waits for SIGTERM or SIGINT."""
    arguments = _parser().parse_args()
    flags = {"artifact": arguments.artifact, "threads": _threads(arguments.replicas)}
    try:
        settings, _ = config.load(flags, arguments.config)
        if not (settings.insecure or arguments.insecure or settings.tokens_file):
            raise config.ConfigError(
                "Ray's proxy listens on every address of this machine, without TLS: set "
                "tokens_file so that only those with a token are answered, or say --insecure"
            )
        app = application(settings, replicas=arguments.replicas, cpus=arguments.cpus)
    except config.ConfigError as error:
        print(f"nextok-ray: {error}", file=sys.stderr)
        sys.exit(2)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(include_dashboard=False, log_to_driver=arguments.logs)
    try:
        http = HTTPOptions(host="127.0.0.1", port=arguments.http_port)
        serve.start(grpc_options=grpc_options(arguments.port), http_options=http)
        serve.run(app, name=NAME)
        print(f"nextok: {arguments.replicas} replicas behind port {arguments.port}", flush=True)
        stop.wait()
    finally:
        serve.shutdown()
        ray.shutdown()


def _threads(replicas: int) -> int:
    """Of each replica: the processors are shared out."""
    return max(1, (os.cpu_count() or 1) // replicas)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nextok-ray",
        description="Serves GPT-2's probabilities from several replicas on this machine, behind "
        "Ray Serve's gRPC proxy.",
        epilog="Replicas take the server's settings from the environment, NEXTOK_<NAME>, and from "
        "the file; `nextok-server --help` lists them.",
    )
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="what nextok-export wrote")
    parser.add_argument("--replicas", type=int, default=2, help="how many; default: 2")
    parser.add_argument("--port", type=int, default=50051, help="for gRPC; default: 50051")
    parser.add_argument(
        "--http-port", type=int, default=8000, help="Ray's own, on loopback; default: 8000"
    )
    parser.add_argument(
        "--cpus", type=float, default=0.5, help="that Ray sets aside for a replica; default: 0.5"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    parser.add_argument(
        "--insecure", action="store_true", help="answer anyone who reaches this machine, in clear"
    )
    parser.add_argument("--logs", action="store_true", help="show what replicas log")
    return parser


if __name__ == "__main__":
    main()
