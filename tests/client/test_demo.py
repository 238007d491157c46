"""`nextok demo`, with an export and a server that stand in for the real ones.

They are modules of the same names that Python finds first, so that the demo starts programs as
it does for people.
"""

from importlib.util import find_spec

import pytest
from support.fake_service import WORDS
from typer.testing import CliRunner

from nextok.cli.app import app
from nextok.cli.demo import SENTENCE, SENTENCE_IDS

EXPORT = """
import pathlib, sys
model, out, _, precision = sys.argv[1:]
if precision == "bad":
    sys.exit(4)
pathlib.Path(out).mkdir(parents=True)
pathlib.Path(out, "manifest.json").write_text(model + " " + precision)
"""

SERVER = """
import pathlib, signal, sys, threading
from support.fake_service import *
MODE = pathlib.Path(sys.argv[1], "manifest.json").read_text()
print("a line of another kind")
if "dies" in MODE:
    sys.exit("no such artifact")
if "tokens" in MODE:
    WORDS[41] = WORDS.pop(40)
one = step(0, " and", 40, 0.55)
del one.top_logprobs[:]
one.top_logprobs.extend(candidate(i, WORDS.get(i, "x"), 0.55 - i / 20, i + 1) for i in range(10))
one.top_mass, one.tail_mass = (0.25, 0.25) if "mass" in MODE else (0.75, 0.25)
refusal = Refuse(grpc.StatusCode.INTERNAL, "engine fault") if "fault" in MODE else None
script = [first(), pb.GenerateResponse(steps=[one]), last(1)]
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
with serving(FakeService(script=script, refusal=refusal)) as target:
    print(f"nextok: listening on {target}", flush=True)
    print("the log's last line", file=sys.stderr, flush=True)
    stopped.wait(30)
sys.exit(9 if "unclean" in MODE else 0)
"""


# The demo looks for this library of the extra before it starts an export.
needs_export = pytest.mark.skipif(find_spec("onnx_ir") is None, reason="needs the extra export")


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Runs the demo; returns its result."""
    for name, code in (("nextok_export", EXPORT), ("nextok_server", SERVER)):
        package = tmp_path / "fakes" / name
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(code)
    tests = __file__.rpartition("/client/")[0]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'fakes'}:{tests}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    return lambda *arguments: CliRunner().invoke(app, ["demo", *arguments], env={"COLUMNS": "100"})


@pytest.fixture
def artifact(tmp_path):
    """Makes an artifact that tells the fake server how to behave."""

    def make(mode):
        folder = tmp_path / "artifact"
        folder.mkdir()
        (folder / "manifest.json").write_text(mode)
        return str(folder)

    return make


def test_the_sentence_has_the_ids_that_gpt2_gives_it():
    assert SENTENCE_IDS == (40, 1842, 2980, 876, 9552) == tuple(WORDS)
    assert "".join(WORDS.values()) == SENTENCE


@needs_export
def test_it_exports_serves_shows_every_step_and_leaves_nothing_behind(demo, tmp_path):
    result = demo()
    assert result.exit_code == 0, result.output
    for part in ("int8", "listening on 127.0.0.1:", "1842", "55.00%", "all others together 25.00%"):
        assert part in result.stdout
    assert f"'{SENTENCE} ? ? ? ? ? ?'" in result.stdout
    assert "Once upon a time and\n" in result.stdout
    assert result.stdout.endswith("server stopped, all checks held\n")
    assert "1 token," in result.stderr
    assert list((tmp_path / "temporary").iterdir()) == []


@needs_export
def test_keep_leaves_the_artifact_where_it_was_asked_for(demo, tmp_path):
    result = demo("--keep", str(tmp_path / "kept"), "--precision", "fp32")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "kept" / "manifest.json").read_text() == "demo fp32"


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("tokens", "the tokens are (1842, 2980, 876, 9552, 41), and should be (40, "),
        ("mass", "the probabilities do not add up to 1"),
        ("dies", "the server did not get ready\nno such artifact"),
        ("fault", "INTERNAL: engine fault\nthe log's last line"),
        ("unclean", "the server ended with exit code 9\nthe log's last line"),
    ],
)
def test_a_check_that_fails_ends_it_with_1_and_says_why(demo, artifact, mode, told):
    result = demo("--artifact", artifact(mode))
    assert result.exit_code == 1
    assert f"nextok: {told}" in result.stderr
    assert "all checks held" not in result.stdout


@needs_export
def test_an_export_that_fails_ends_it_with_1(demo):
    result = demo("--precision", "bad")
    assert (result.exit_code, result.stderr) == (1, "nextok: the export ended with exit code 4\n")


def test_without_the_extras_it_says_what_to_install(demo, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    result = demo()
    assert (result.exit_code, result.stderr) == (
        1,
        "nextok: the demo needs more: pip install 'nextok[server]'\n",
    )
