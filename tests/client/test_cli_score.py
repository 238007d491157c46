"""`nextok score`, run in this process against the fake server."""

import json

import pytest
from support.fake_service import scoring
from typer.testing import CliRunner

from nextok.cli.app import app
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types


@pytest.fixture
def nextok(target, service):
    """Runs a command against the fake server, which scores a text of three tokens."""
    service.script = list(scoring(["I", " love", " it"]))

    def run(*arguments, stdin=None):
        env = {"NEXTOK_TARGET": target, "COLUMNS": "100"}
        return CliRunner().invoke(app, ["score", *arguments], env=env, input=stdin)

    return run


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("I love it\n", encoding="utf-8")
    return str(path)


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def names(message):
    return [field.name for field in message.DESCRIPTOR.fields]


def test_json_is_a_scored_token_a_line_with_the_wires_names_and_nothing_else(nextok, file):
    result = nextok(file, "--json")
    tokens = lines(result)
    assert [token["token"] for token in tokens] == ["I", " love", " it"]
    assert all(list(token) == names(types.ScoredToken) for token in tokens)
    assert tokens[0]["logprob"] is None
    assert result.stderr == ""


def test_json_events_are_score_responses(nextok, service, file):
    service.script = list(scoring([" a", " b"], [" c"], continuations=True))
    events = lines(nextok(file, "--json-events", "--continuation", " a b", "--continuation", " c"))
    keys = [key for event in events for key in event]
    assert keys == ["prompt", "tokens", "tokens", "total", "tokens", "total", "summary"]
    assert set(keys) <= set(names(pb.ScoreResponse))
    assert list(events[3]["total"]) == names(pb.ScoreTotal)
    assert list(events[-1]["summary"]) == names(pb.ScoreSummary)
    assert [c.text for c in service.requests[0].continuations] == [" a b", " c"]


def test_the_text_goes_to_stdout_and_its_score_to_stderr(nextok, file):
    result = nextok(file)
    assert result.stdout == "I love it\n"
    assert result.stderr == "2 tokens, -1.39 nats, perplexity 2.00, greedy\n"


def test_continuations_have_a_line_each(nextok, service, file):
    service.script = list(scoring([" a", " b"], [" c"], continuations=True))
    result = nextok(file, "--continuation", " a b", "--continuation", " c")
    assert result.stdout == " a b\n c\n"
    assert result.stderr.splitlines() == [
        "continuation 0: 2 tokens, -1.39 nats, perplexity 2.00, greedy",
        "continuation 1: 1 token, -0.69 nats, perplexity 2.00, greedy",
    ]


def test_top_shows_a_line_a_token(nextok, service, file):
    first, second, _ = nextok(file, "--top", "2").stdout.splitlines()
    assert first.split() == ["0", "'I'", "-"]
    for piece in ("1", "' love'", "50.00%", "rank 1", "0.69 nats", "'.' 25.00%"):
        assert piece in second
    assert service.requests[0].logprobs.top_logprobs == 2


def test_the_file_and_stdin_are_taken_as_they_stand(nextok, service, file):
    nextok(file, "--stride", "7")
    nextok("-", stdin="I love it\n")
    assert [request.prompt.text for request in service.requests] == ["I love it\n"] * 2
    assert service.requests[0].stride == 7


def test_characters_that_span_tokens_are_shown_whole(nextok, service, file):
    script = scoring(["a", "b"])
    head, tail = "\N{GRINNING FACE}".encode()[:2], "\N{GRINNING FACE}".encode()[2:]
    script[1].tokens[0].bytes, script[1].tokens[1].bytes = head, tail
    service.script = script
    assert nextok(file).stdout == "\N{GRINNING FACE}\n"


def test_a_file_that_cannot_be_read_is_wrong_usage(nextok, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    for name, complaint in (("none.txt", "cannot be read: No such file"), ("bad.txt", "not UTF-8")):
        result = nextok(str(tmp_path / name))
        assert result.exit_code == 2
        # In a box as wide as the terminal.
        assert complaint in " ".join(result.stderr.replace("│", " ").split())
