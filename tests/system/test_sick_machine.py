"""Reliability 10: machines that stop, fill up and run out, and artifacts that are not whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from support.faulty_server import SLOW_STEP_SECONDS
from support.serving import generate_request
from support.traffic import Received, read
from support.watched_health import SERVING, WatchedHealth

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc
from nextok_server import artifact as loading
from nextok_server.artifact import load_artifact
from nextok_server.errors import ArtifactError

FAULTY_SERVER = str(Path(__file__).parents[1] / "support" / "faulty_server.py")
FILES = ("model.onnx", "tokenizer.json", "certificate.json")
SEED = 10


def _manifest(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _rename(folder: Path, name: str) -> None:
    """Has the manifest speak of the graph under another name."""
    _manifest(folder, lambda m: m["files"].update({name: m["files"].pop("model.onnx")}))


def _flip(path: Path, place: float, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)


def _cut(path: Path, part: float) -> None:
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def _link(folder: Path, name: str, *, hard: bool = False) -> None:
    away = folder.parent / f"{folder.name}-{name}"
    (folder / name).rename(away)
    if hard:
        # To another file of the same size, as it may be swapped in after it was looked at.
        away.write_bytes(bytes(away.stat().st_size))
        os.link(away, folder / name)
    else:
        (folder / name).symlink_to(away)


def _swap(folder: Path, one: str, other: str) -> None:
    (folder / one).rename(folder / "x")
    (folder / other).rename(folder / one)
    (folder / "x").rename(folder / other)


def mutations() -> dict[str, Callable[[Path], None]]:
    """Forty ways to spoil an artifact."""
    dice = random.Random(SEED)
    made: dict[str, Callable[[Path], None]] = {}
    for name in (*FILES, "manifest.json"):
        for part in (0.0, 0.5, 0.999):
            made[f"{name} cut to {part:.1%}"] = lambda f, n=name, p=part: _cut(f / n, p)
        made[f"{name} missing"] = lambda f, n=name: (f / n).unlink()
    for name in FILES:
        for _ in range(3):
            place, bit = dice.random(), dice.randrange(8)
            made[f"{name}, bit {bit} at {place:.0%}"] = lambda f, n=name, p=place, b=bit: _flip(
                f / n, p, b
            )
        made[f"{name} a link"] = lambda f, n=name: _link(f, n)
        made[f"{name} another file"] = lambda f, n=name: _link(f, n, hard=True)
    for one, other in (FILES[:2], FILES[1:], (FILES[0], FILES[2])):
        made[f"{one} and {other} swapped"] = lambda f, a=one, b=other: _swap(f, a, b)
    for name in ("../model.onnx", "/etc/passwd", "a/../model.onnx", ".", ""):
        made[f"a file named {name!r}"] = lambda f, n=name: _rename(f, n)
    made["a folder"] = lambda f: ((f / "model.onnx").unlink(), (f / "model.onnx").mkdir())
    return made


def served(artifact: Path, folder: Path) -> list[str]:
    """The spoilt artifacts that are loaded, or refused without a word about what is wrong."""
    found = []
    for number, (name, spoil) in enumerate(mutations().items()):
        copy = shutil.copytree(artifact, folder / str(number))
        spoil(copy)
        try:
            load_artifact(copy)
        except ArtifactError as error:
            if not any(part in str(error) for part in (*FILES, "manifest.json", "plain file name")):
                found.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - what a server would end with
            found.append(f"{name}: {error!r}")
        else:
            found.append(f"{name}: served")
    return found


def test_no_artifact_is_served_that_is_not_whole(small, tmp_path, figures):
    found = served(small["int8"], tmp_path)
    figures.add(
        10,
        f"mutated artifacts: {len(found)} of {len(mutations())} served, or refused without a "
        f"reason (bound: 0)",
        artifacts=len(mutations()),
        served=len(found),
    )
    assert found == []
    assert len(mutations()) >= 40


def test_the_check_finds_a_loader_that_does_not_look_at_hashes(small, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_check_file", lambda *_: None)
    assert served(small["int8"], tmp_path)


def ask(stub, max_tokens: int):
    """Begins a stream."""
    return stub.Generate(generate_request([3, 4], seed=1, max_tokens=max_tokens, ignore_eos=True))


async def transcript(stub, max_tokens: int = 120) -> Received:
    received = Received()
    await read(ask(stub, max_tokens), received)
    return received


async def stopped(process: subprocess.Popen[str], seconds: float) -> None:
    """Stops a process for a while."""
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGCONT)


async def after_stops(
    process: subprocess.Popen[str], address: str, seconds: float, most: int = 1
) -> list[str]:
    """What is wrong when the process is stopped under a stream, until something is.

    Args:
        process: A server of slow steps.
        address: HOST:PORT of it.
        seconds: That it is stopped for.
        most: How often.
    """
    wrong = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        alone = await transcript(stub, max_tokens=8)
        call, meanwhile = ask(stub, max_tokens=8), Received()
        async with WatchedHealth(channel) as health:
            for _ in range(most):
                await read(call, meanwhile, 2)
                if health.told != [SERVING]:
                    break
                # In the midst of the next step.
                await asyncio.sleep(SLOW_STEP_SECONDS / 2)
                await stopped(process, seconds)
            await read(call, meanwhile)
        if health.told != [SERVING]:
            wrong.append("health says that the engine is stuck")
        if meanwhile != alone:
            wrong.append("the stream is another one")
    return wrong


async def test_a_process_that_was_stopped_goes_on_as_if_nothing_had_happened(start, small, figures):
    seconds = 30.0 if figures.minutes else 2.0
    server = start("--watchdog-seconds", "1", artifact=small["fp32"], fault="slow_steps")
    wrong = await after_stops(*server, seconds)
    figures.add(
        10,
        f"sick machine: {len(wrong)} things wrong after {seconds:g} s of SIGSTOP (bound: 0)",
        seconds=seconds,
        wrong=len(wrong),
    )
    assert wrong == []


async def test_the_check_finds_a_watchdog_that_takes_a_stop_for_a_stuck_engine(start, small):
    fault = "slow_steps+hasty_watchdog"
    server = start("--watchdog-seconds", "1", artifact=small["fp32"], fault=fault)
    # Some times: it does not err where a step ends as the process is stopped.
    wrong = await after_stops(*server, 1.2, most=3)
    assert wrong == ["health says that the engine is stuck"]


async def without_descriptors(process: subprocess.Popen[str], address: str) -> list[str]:
    """What is wrong with a server that has no descriptors left, and has some again."""
    wrong = []
    host, port = address.split(":")
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        alone = await transcript(stub)
        used = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))  # noqa: ASYNC240 - no disk
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 4, 4096))
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(socket.create_connection((host, int(port))))
            try:
                if await transcript(stub) != alone:
                    wrong.append("the stream is another one")
            except grpc.aio.AioRpcError as error:
                wrong.append(f"who is connected is not served: {error.details()}")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    async with asyncio.timeout(60):
        while True:
            own = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(address, options=own) as channel:
                stub = pb_grpc.TextGenerationServiceStub(channel)
                try:
                    await stub.GetModel(pb.GetModelRequest(), timeout=5)
                    break
                except grpc.aio.AioRpcError:
                    continue
    if process.poll() is not None:
        wrong.append("the process has ended")
    return wrong


async def test_a_server_without_descriptors_left_serves_who_is_connected_and_recovers(
    start, small, figures
):
    wrong = await without_descriptors(*start(artifact=small["fp32"]))
    figures.add(
        10,
        f"sick machine: {len(wrong)} things wrong without descriptors (bound: 0)",
        wrong=len(wrong),
    )
    assert wrong == []


async def test_the_check_finds_a_server_that_opens_a_file_for_each_request(start, small):
    # Its own log is of no use to it either: a fault is logged with the lines of files.
    (found,) = await without_descriptors(*start(artifact=small["fp32"], fault="open_files"))
    assert found.startswith("who is connected is not served")


# No file takes a byte, not even from root, whom modes do not keep from writing.
WRITING_NOTHING = ("sh", "-c", 'ulimit -f 0 && exec "$@"', "sh")


def on_a_sick_disk(artifact: Path, disk: str, fault: str | None = None) -> list[str]:
    """What is wrong with a server whose disk takes nothing; `artifact` is its own to spoil."""
    wrong = []
    files = sorted(artifact.iterdir())
    artifact.chmod(0o555)
    program = ["-m", "nextok_server"] if fault is None else [FAULTY_SERVER, fault]
    limits = WRITING_NOTHING if disk == "read-only" else ()
    flags = ("--listen", "127.0.0.1:0", "--no-spinning", "--log-level", "debug")
    nowhere = str(artifact / "manifest.json" / "folder")
    with Path("/dev/full" if disk == "full" else os.devnull).open("w") as log:
        process = subprocess.Popen(
            [*limits, sys.executable, *program, str(artifact), *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # There is no other place to write to: nobody makes files in /proc, or below a file.
            cwd="/proc" if disk == "read-only" else artifact,
            env={**os.environ, "TMPDIR": nowhere, "HOME": nowhere},
        )
    try:
        line = process.stdout.readline()
        if not line:
            return ["the server does not start"]
        with grpc.insecure_channel(line.split()[-1]) as channel:
            stub = pb_grpc.TextGenerationServiceStub(channel)
            request = generate_request([3, 4], max_tokens=20, ignore_eos=True)
            try:
                if sum(len(message.steps) for message in stub.Generate(request)) != 20:
                    wrong.append("a stream is not whole")
            except grpc.RpcError as error:
                wrong.append(f"a stream ended: {error.details()}")
        process.terminate()
        if (code := process.wait(30)) != 0:
            wrong.append(f"the server exited with {code}")
    finally:
        process.kill()
        process.communicate()
    if sorted(artifact.iterdir()) != files:
        wrong.append("there are other files than before")
    return wrong


@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_disk_that_takes_nothing_stops_nobody(small, tmp_path, disk, figures):
    wrong = on_a_sick_disk(shutil.copytree(small["fp32"], tmp_path / "artifact"), disk)
    figures.add(
        10,
        f"sick machine: {len(wrong)} things wrong on a disk that is {disk} (bound: 0)",
        disk=disk,
        wrong=len(wrong),
    )
    assert wrong == []


@pytest.mark.parametrize(
    ("disk", "fault", "found"),
    [
        ("full", "log_or_fail", "the server does not start"),
        ("read-only", "write_files", "there are other files than before"),
    ],
)
def test_the_check_finds_a_server_that_has_to_write(small, tmp_path, disk, fault, found):
    artifact = shutil.copytree(small["fp32"], tmp_path / "artifact")
    assert found in on_a_sick_disk(artifact, disk, fault)
