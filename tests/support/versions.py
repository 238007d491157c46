"""What pyproject.toml asks for to run on, and environments that have the two ends of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nextok_kernels
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
OLDEST = ROOT / "tests" / "versions" / "oldest.txt"
FRONT_DOOR = Path(__file__).with_name("front_door.py")
# Of pyproject's extras. The others export, measure, test, or have environments of their own.
EXTRAS = ("cli", "step", "bench", "web", "server", "grammar", "otel")
_OWN = {"nextok", "nextok-kernels"}
_STUBS = ROOT / "client" / "nextok" / "v1"


@dataclass(frozen=True)
class Stated:
    """What is written down of versions.

    Attributes:
        asked: What pyproject.toml asks for, by name.
        oldest: What the ends were last tried with, by name.
    """

    asked: dict[str, Requirement]
    oldest: dict[str, Version]


def stated(pyproject: str, oldest: str) -> Stated:
    """Reads both files."""
    project = tomllib.loads(pyproject)["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    asked = {canonicalize_name(r.name): r for r in map(Requirement, lines)}
    pins = [line for line in oldest.splitlines() if line and not line.startswith("#")]
    return Stated(
        {name: requirement for name, requirement in asked.items() if name not in _OWN},
        {canonicalize_name(name): Version(pin) for name, pin in (p.split("==") for p in pins)},
    )


def wrong(found: Stated) -> list[str]:
    """What does not fit together: bounds, the record of the oldest, stubs, what is installed."""
    faults = []
    bounds = {}
    for name, requirement in found.asked.items():
        least = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
        if not least:
            faults.append(f"{name}: no least version")
            continue
        (bounds[name],) = least
        if found.oldest.get(name) != bounds[name]:
            faults.append(f"{name}: tried with {found.oldest.get(name)}, asked for {requirement}")
        if not requirement.specifier.contains(here := metadata.version(name)):
            faults.append(f"{name}: {here} is installed, asked for {requirement}")
    faults += [f"{name}: tried, and not asked for" for name in found.oldest.keys() - found.asked]
    for name, version in _stubs_need().items():
        if name in bounds and bounds[name] < version:
            faults.append(f"{name}: the stubs need {version}, asked for {bounds[name]}")
    return faults


def _stubs_need() -> dict[str, Version]:
    """The versions that the generated code refuses to run below."""
    calls = (_STUBS / "text_generation_pb2_grpc.py").read_text(encoding="utf-8")
    messages = (_STUBS / "text_generation_pb2.py").read_text(encoding="utf-8")
    grpcio = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", calls)
    protobuf = re.search(r"Protobuf Python Version: ([\d.]+)", messages)
    assert grpcio
    assert protobuf
    return {"grpcio": Version(grpcio[1]), "protobuf": Version(protobuf[1])}


@dataclass(frozen=True)
class Environment:
    """A Python with some versions of what nextok runs on; nextok itself is this checkout's."""

    python: str

    def run(self, *arguments: str, **settings: Any) -> subprocess.Popen[str]:
        """Starts it; where warnings are errors unless the settings say otherwise."""
        parts = [ROOT / "client", ROOT / "server", Path(nextok_kernels.__file__).parents[1]]
        path = os.pathsep.join(map(str, parts))
        return subprocess.Popen(
            [self.python, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            **settings,
        )

    def front_door(self, address: str) -> dict[str, Any]:
        """What a client of this environment gets from a server."""
        process = self.run("-W", "error", str(FRONT_DOOR), address)
        told, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return json.loads(told)

    def versions(self) -> dict[str, Version]:
        """What is installed, by name."""
        process = self.run("-m", "pip", "list", "--format", "json")
        listed = json.loads(process.communicate(timeout=120)[0])
        return {canonicalize_name(one["name"]): Version(one["version"]) for one in listed}


HERE = Environment(sys.executable)


def has_registry() -> bool:
    """Whether packages can be had."""
    look = [sys.executable, "-m", "pip", "index", "versions", "grpcio"]
    return subprocess.run(look, capture_output=True, check=False, timeout=120).returncode == 0


def make_environment(folder: Path, found: Stated, *, oldest: bool) -> Environment:
    """Installs one end of what is asked for: the oldest, or whatever is newest today."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    environment = Environment(str(folder / "bin" / "python"))
    ends = [f"{name}=={version}" for name, version in found.oldest.items()]
    asked = ends if oldest else [str(requirement) for requirement in found.asked.values()]
    for what in (asked, ["--no-deps", "--editable", str(ROOT)]):
        process = environment.run("-m", "pip", "install", "--quiet", *what)
        process.communicate(timeout=1200)
        assert process.returncode == 0
    return environment
