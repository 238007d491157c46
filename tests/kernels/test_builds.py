"""The builds for different processors."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from nextok_server.artifact import load_artifact
from nextok_server.model import Chunk, Model
import hashlib, nextok_kernels, pathlib
artifact = load_artifact(pathlib.Path(sys.argv[1]))
model = Model(artifact, slots=2, chunk=80, tokens=80, threads=2, spinning=False)
found = hashlib.sha256()
# Kernels take rows together, as many as there are: each number may go another way.
for length in (1, 4, 5, 16, 17, 32, 33, 80):
    chunk = Chunk(1, 0, [(40 + 997 * place) % 50257 for place in range(length)], range(length))
    said = model.forward([chunk], [0.5], logit_max=True, temperature_mass=True)
    for part in (said.logprobs, said.top_ids, said.entropy, said.logit_max, said.temperature_mass):
        found.update(part.tobytes())
print(nextok_kernels.build())
print(found.hexdigest())
"""


def run(artifact, build=None):
    environment = dict(os.environ)
    environment.pop("NEXTOK_KERNELS", None)
    if build is not None:
        environment["NEXTOK_KERNELS"] = build
    command = [sys.executable, "-c", PROGRAM, str(artifact)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def fastest(artifacts):
    """Runs the build that is taken unless one is named; once for each precision."""
    return functools.cache(lambda precision: run(artifacts[precision]))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("build", ["AVX-512 VNNI", "AVX2", "portable"])
def test_all_builds_give_the_same_bits(artifacts, fastest, precision, build):
    first = fastest(precision)
    assert first.returncode == 0, first.stderr
    other = run(artifacts[precision], build)
    if "does not run" in other.stderr:
        pytest.skip(f"this processor does not run the {build} build")
    assert other.stdout.splitlines()[0] == build
    assert other.stdout.splitlines()[1] == first.stdout.splitlines()[1]
    assert len(first.stdout.splitlines()[1]) == len(hashlib.sha256().hexdigest())


def test_a_build_that_there_is_not_is_refused(artifacts):
    refused = run(artifacts["fp32"], "AVX-3")
    assert refused.returncode != 0
    assert "NEXTOK_KERNELS" in refused.stderr
