"""`nextok generate --record` and `nextok replay`, against the fake server."""

import json

import grpc
import pytest
from support.broken_streams import STEPS, WHOLE, behind, steps
from support.fake_service import ARTIFACT, LOST, Refuse, first, last
from typer.testing import CliRunner

from nextok import Recording
from nextok.cli.app import app

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def nextok(target, service):
    """Runs a command against the fake server."""
    service.script = WHOLE

    def run(*arguments):
        return CliRunner().invoke(app, list(map(str, arguments)), env={"NEXTOK_TARGET": target})

    return run


@pytest.fixture
def file(nextok, tmp_path):
    """A recording."""
    path = tmp_path / "recording.jsonl"
    assert nextok("generate", "x", "--record", path).exit_code == 0
    return path


@pytest.mark.parametrize("options", [(), ("--json",), ("--json-events",), ("--top", 2)], ids=str)
def test_record_changes_nothing_that_is_shown_and_writes_a_recording(nextok, tmp_path, options):
    path = tmp_path / "a file"
    plain = nextok("generate", "x", *options)
    result = nextok("generate", "x", *options, "--record", path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, plain.stdout, plain.stderr)
    recording = Recording.loads(path.read_bytes())
    assert [step.id for step in recording.steps] == [message.id for message in STEPS]
    assert recording.request.sampling.seed == 7


def test_a_refused_request_leaves_an_older_recording_alone(nextok, service, file):
    before = file.read_bytes()
    service.refusal = Refuse(grpc.StatusCode.INVALID_ARGUMENT, "no")
    assert nextok("generate", "x", "--record", file).exit_code == 1
    assert file.read_bytes() == before


def test_a_recording_that_cannot_be_written_is_told_before_anything_is_shown(nextok, tmp_path):
    result = nextok("generate", "x", "--record", tmp_path / "absent" / "file")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("nextok: --record: ")


def test_a_generation_that_fails_leaves_what_replay_refuses(nextok, service, file):
    service.script = [*WHOLE[:5], Refuse(grpc.StatusCode.INTERNAL, "fault")]
    assert nextok("generate", "x", "--record", file).exit_code == 1
    result = nextok("replay", file)
    assert result.exit_code == 2
    assert result.stderr == f"nextok: {file}: line 1: is missing: there is nothing\n"


def test_a_stream_without_an_end_is_not_recorded(nextok, service, tmp_path):
    service.script = WHOLE[:-1]
    result = nextok("generate", "x", "--record", tmp_path / "file")
    assert result.exit_code == 1
    assert "without a finish" in result.stderr


def test_an_identical_replay_ends_with_0(nextok, file):
    result = nextok("replay", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"identical: 4 tokens, digest {'ab' * 32}\n"
    result = nextok("replay", file, "--json")
    assert json.loads(result.stdout) == {
        "identical": True,
        "difference": None,
        "steps": 4,
        "digest": "ab" * 32,
    }


def test_a_replay_that_differs_ends_with_4_and_tells_step_field_and_both_values(
    nextok, service, file
):
    other = type(STEPS[1])()
    other.CopyFrom(STEPS[1])
    other.logprob = -0.5
    service.script = [first(), *steps(STEPS[0], other, *STEPS[2:]), last(4)]
    result = nextok("replay", file)
    assert result.exit_code == 4
    assert result.stdout == (
        "different: step 1, logprob: recorded -0.9162907600402832 (bits bf6a9208), "
        "replayed -0.5 (bits bf000000)\n"
    )
    result = nextok("replay", file, "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["difference"] == {
        "step": 1,
        "field": "logprob",
        "recorded": -0.9162907600402832,
        "replayed": -0.5,
    }


def test_an_end_that_differs_is_told_without_a_step(nextok, service, file):
    end = last(4)
    end.finish.stop = "\n"
    service.script = [first(), *steps(*STEPS), end]
    assert nextok("replay", file).stdout == "different: stop: recorded none, replayed '\\n'\n"


def test_a_replay_on_another_artifact_ends_with_5(nextok, service, file):
    other = first()
    other.prompt.artifact_sha256 = "cc" * 32
    service.script = [other, *WHOLE[1:]]
    result = nextok("replay", file)
    assert result.exit_code == 5
    assert result.stdout == (
        f"different: artifact_sha256: recorded {ARTIFACT}, replayed {'cc' * 32}\n"
    )


def test_a_file_that_is_not_there_or_no_recording_ends_with_2(nextok, tmp_path):
    path = tmp_path / "file"
    result = nextok("replay", path)
    assert (result.exit_code, str(path) in result.stderr) == (2, True)
    path.write_text('{"recording": 1}\n')
    result = nextok("replay", path)
    assert result.exit_code == 2
    assert result.stderr == f"nextok: {path}: line 1: artifact_sha256 is missing\n"


@pytest.mark.parametrize("command", [("generate", "x"), ("replay", "FILE")], ids=str)
def test_both_come_over_a_break_unless_told_not_to(nextok, service, file, command):
    arguments = [file if part == "FILE" else part for part in command]
    service.scripts = [[*WHOLE[:5], LOST], behind(2)]
    assert nextok(*arguments).exit_code == 0
    service.scripts = [[*WHOLE[:5], LOST], behind(2)]
    result = nextok(*arguments, "--resume", "0")
    assert result.exit_code == 3
    assert result.stderr.endswith("nextok: UNAVAILABLE: connection lost\n")


def test_help_tells_the_exit_codes_of_a_replay(nextok):
    shown = " ".join(nextok("--help").stdout.split())
    assert "4 a replay differs, 5 a replay met another artifact" in shown
