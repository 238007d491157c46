"""What Ray Serve costs a token, and how the rate grows with replicas.

    python -m bench.ray_overhead ARTIFACT [--rounds 7] [--streams 1,8,32] [--tokens 128]

Replicas behind Ray's gRPC proxy and plain servers, of the same artifact with the same settings and
the same requests, in turns. First one replica, then two, since scaling takes longer than measuring;
one plain server takes part in every round, and what is compared are the rounds' ratios to it.
Everything runs on this machine: client, proxy and Ray's own processes share its cores with the
servers. Needs the extra `ray`; `make bench-ray` has it.

Knows: Ray, plain servers, rounds. Does not know: how a job is run and what its figures mean.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from bench.contenders.nextok_grpc import stream
from bench.job import Job
from nextok import AsyncClient
from nextok_server import config
from nextok_server.config import Config
from nextok_server.ray.deployment import NAME, application, grpc_options

SCALE_SECONDS = 120.0
# What Ray sets aside for a replica when it places it; nothing holds a replica to that.
CPUS = 0.5
Contender = tuple[str, int]  # kind, servers
ONE: Contender = ("plain", 1)
TWO: Contender = ("plain", 2)
# Figures of a round, by contender and number of streams.
Round = dict[tuple[Contender, int], dict[str, float]]


def main() -> None:
    """Measures, and prints the tables."""
    arguments = _parser().parse_args()
    streams = [int(number) for number in arguments.streams.split(",")]
    flags = {"artifact": arguments.artifact, "threads": arguments.threads, "spinning": False}
    if arguments.every_token:
        flags["message_interval"] = 0.0
    settings, _ = config.load(flags, None)
    rounds: list[Round] = []
    with _plain(settings) as plain, _plain(settings) as other, _cluster() as behind_ray:
        targets = {ONE: plain, TWO: f"ipv4:{plain},{other}"}
        for replicas in (1, 2):
            _scale(settings, replicas)
            here = {ONE: plain, ("plain", replicas): targets["plain", replicas]}
            here["Ray", replicas] = behind_ray
            for number in range(arguments.rounds + 1):
                found = _round(number, here, streams, arguments.tokens)
                if number:  # the first one is to warm up
                    rounds.append(found)
                    done = f"{replicas} replicas, round {number} of {arguments.rounds}"
                    print(done, file=sys.stderr, flush=True)
    print(table(rounds, streams))


def table(rounds: list[Round], streams: list[int]) -> str:
    """Markdown: rates, how they compare with one plain server, and what Ray costs a token."""
    lines = [
        "| streams | servers | tokens/s | times one plain server | more a token, us "
        "| more until the first token, ms |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for number in streams:
        for contender in (ONE, ("Ray", 1), TWO, ("Ray", 2)):
            ours, plain = (contender, number), (("plain", contender[1]), number)
            rate = statistics.median(each[ours]["decode"] for each in rounds if ours in each)
            cells = [
                str(number),
                f"{contender[0]}, {contender[1]}",
                f"{rate:,.0f}",
                _spread(rounds, ours, (ONE, number), "decode", _ratio, ".2f"),
                _spread(rounds, ours, plain, "decode", _more_microseconds, ".0f"),
                _spread(rounds, ours, plain, "first_token", _more_milliseconds, ".1f"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs


def _more_microseconds(ours: float, theirs: float) -> float:
    """A token, from rates."""
    return 1e6 / ours - 1e6 / theirs


def _more_milliseconds(ours: float, theirs: float) -> float:
    """From seconds."""
    return 1e3 * (ours - theirs)


def _spread(
    rounds: list[Round],
    ours: tuple[Contender, int],
    theirs: tuple[Contender, int],
    figure: str,
    compare: Callable[[float, float], float],
    form: str,
) -> str:
    """The median of what comparing gave in each round, with the least and the largest."""
    if ours == theirs:
        return ""
    found = [compare(each[ours][figure], each[theirs][figure]) for each in rounds if ours in each]
    middle, least, largest = (
        format(value, form) for value in (statistics.median(found), min(found), max(found))
    )
    return f"{middle} ({least} to {largest})"


def _round(number: int, targets: Mapping[Contender, str], streams: list[int], tokens: int) -> Round:
    """Each contender once; every other round the other way round."""
    found: Round = {}
    for contender in list(targets)[:: 1 if number % 2 else -1]:
        for many in streams:
            draw = random.Random(1000 * number + many)
            prompts = [[draw.randrange(50257) for _ in range(16)] for _ in range(many)]
            job = Job(prompts=prompts, output_tokens=tokens)
            found[contender, many] = asyncio.run(_run(targets[contender], job))
    return found


async def _run(target: str, job: Job) -> dict[str, float]:
    async with AsyncClient(target) as client:
        await client.get_model()  # the connection is there before the clock starts
        options = {"temperature": 0.0, "bypass_prefix_reuse": True}
        outcome = await stream(client, job, options)
    outcome.check(job)
    return outcome.figures(job)


@contextlib.contextmanager
def _plain(settings: Config) -> Iterator[str]:
    """A plain server in a process of its own; its address."""
    command = [sys.executable, "-m", "nextok_server", str(settings.artifact), "--no-spinning"]
    command += ["--listen", "127.0.0.1:0", "--threads", str(settings.threads)]
    if settings.message_interval == 0:
        command += ["--message-interval", "0"]
    server = subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    """A Ray cluster of this machine, with nothing deployed; its proxy's address."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        port, http_port = _free_port(), _free_port()
        serve.start(
            grpc_options=grpc_options(port),
            http_options=HTTPOptions(host="127.0.0.1", port=http_port),
        )
        yield f"127.0.0.1:{port}"
        serve.shutdown()
    finally:
        ray.shutdown()


def _scale(settings: Config, replicas: int) -> None:
    """Changes the number of replicas, and waits until there are so many."""
    serve.run(application(settings, replicas=replicas, cpus=CPUS), name=NAME)
    deadline = time.monotonic() + SCALE_SECONDS
    while _replicas() != {"RUNNING": replicas}:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not {replicas} replicas, but {_replicas()}")
        time.sleep(0.1)


def _replicas() -> dict[str, int]:
    states: dict[str, int] = serve.status().applications[NAME].deployments[NAME].replica_states
    return states


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artifact", type=Path, help="what nextok-export wrote")
    parser.add_argument("--rounds", type=int, default=7, help="after one to warm up; default: 7")
    parser.add_argument("--streams", default="1,8,32", help="default: 1,8,32")
    parser.add_argument("--tokens", type=int, default=128, help="of each stream; default: 128")
    parser.add_argument("--threads", type=int, default=1, help="of each server; default: 1")
    parser.add_argument(
        "--every-token",
        action="store_true",
        help="a message for every step, instead of one for steps that follow closely",
    )
    return parser


if __name__ == "__main__":
    main()
