"""What is built, installed as users install it.

`make test-packages` builds it first; a package registry has to be at hand.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEELS = Path(os.environ.get("NEXTOK_WHEELS", ""))
pytestmark = pytest.mark.skipif(
    "NEXTOK_WHEELS" not in os.environ, reason="needs built packages: make test-packages"
)

STREAM = """
import sys
from nextok import Client
with Client(sys.argv[1]) as client:
    for step in client.generate("Once upon a time", max_tokens=4, temperature=0, ignore_eos=True):
        print(step.id, step.logprob)
"""


NAMES = """
from importlib.metadata import distributions
for each in distributions():
    print(each.name.lower().replace("_", "-"))
"""


def built(pattern):
    (found,) = WHEELS.glob(pattern)
    return found.resolve()


def install(folder, extras=""):
    """A new environment with the wheel and what it asks for, without pip; its programs' folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"),
            *("--quiet", "--no-compile", "--disable-pip-version-check"),
            *("--constraint", str(ROOT / "constraints.txt")),
            *("--find-links", str(WHEELS.resolve())),
            f"nextok{extras} @ {built('nextok-0*.whl').as_uri()}",
        ],
        check=True,
    )
    return folder / "bin"


def run(*command):
    # Nothing of the checkout is to be found.
    return subprocess.run(
        list(map(str, command)),
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def environment():
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def distributions(programs):
    """The names of all that is installed."""
    return set(run(programs / "python", "-c", NAMES).split())


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return install(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return install(tmp_path_factory.mktemp("server"), "[server]")


def test_the_client_alone_brings_grpc_and_protobuf_and_what_they_need(client):
    names = distributions(client)
    print(f"installed: {', '.join(sorted(names))}")
    # grpcio asks for typing-extensions.
    assert names == {"nextok", "grpcio", "protobuf", "typing-extensions"}
    run(client / "python", "-W", "error", "-c", "import nextok")


def test_the_client_alone_streams_from_a_server_that_was_installed_elsewhere(
    client, server, artifacts
):
    with subprocess.Popen(
        [str(server / "nextok-server"), str(artifacts["fp32"]), "--listen", "127.0.0.1:0"],
        cwd="/",
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        target = process.stdout.readline().split()[-1]
        steps = run(client / "python", "-c", STREAM, target).splitlines()
        process.terminate()
        assert process.wait(60) == 0
    assert len(steps) == 4


def test_the_server_brings_nothing_that_the_export_needs(server):
    names = distributions(server)
    print(f"installed: {', '.join(sorted(names))}")
    assert {"nextok", "nextok-kernels", "onnxruntime"} <= names
    assert not names & {"torch", "transformers", "optimum", "optimum-onnx", "onnx", "typer"}


def test_the_export_makes_an_artifact_of_the_bundled_model(tmp_path):
    programs = install(tmp_path / "export", "[export]")
    run(programs / "nextok-export", "demo", tmp_path / "artifact", "--precision", "fp32")
    assert (tmp_path / "artifact" / "manifest.json").is_file()


def test_the_wheel_has_stubs_types_pages_and_the_demo_and_no_training_text():
    with zipfile.ZipFile(built("nextok-0*.whl")) as archive:
        names = archive.namelist()
    for name in (
        "nextok/py.typed",
        "nextok/v1/text_generation_pb2.pyi",
        "nextok_server/py.typed",
        "nextok_export/demo/model.safetensors",
    ):
        assert name in names
    assert any(name.startswith("nextok/web/") and name.endswith(".html") for name in names)
    assert not any("corpus" in name or name.startswith("tests/") for name in names)


def test_the_source_distribution_can_be_tested_and_has_no_training_text():
    with tarfile.open(built("nextok-0*.tar.gz")) as archive:
        names = archive.getnames()
    for part in ("protos/nextok/v1/types.proto", "tests/conftest.py", "LICENSE", "Makefile"):
        assert any(name.endswith(f"/{part}") for name in names), part
    assert not any("/corpus/" in name for name in names)
