"""The commands, run in this process against the fake server."""

import json

import grpc
import pytest
from support.fake_service import (
    SENTENCE,
    FakeService,
    Refuse,
    candidate,
    first,
    last,
    serving,
    step,
)
from typer.testing import CliRunner

from nextok.cli.app import app
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types


@pytest.fixture
def nextok(target):
    """Runs a command against the fake server."""

    def run(*arguments, stdin=None):
        env = {"NEXTOK_TARGET": target, "COLUMNS": "100"}
        return CliRunner().invoke(app, list(arguments), env=env, input=stdin)

    return run


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def names(message):
    return [field.name for field in message.DESCRIPTOR.fields]


# For programs.


def test_tokenize_json_is_a_token_a_line_with_the_wires_names(nextok):
    tokens = lines(nextok("tokenize", SENTENCE, "--json"))
    assert [token["id"] for token in tokens] == [40, 1842, 2980, 876, 9552]
    assert all(list(token) == names(types.TextToken) for token in tokens)
    assert tokens[1]["bytes"] == list(b" love")


def test_generate_json_is_a_step_a_line_with_the_wires_names_and_nothing_else(nextok):
    arguments = ["generate", "Once upon a", "--max-tokens", "40", "--top", "5", "--json"]
    result = nextok(*arguments)
    steps = lines(result)
    assert [s["index"] for s in steps] == [0, 1, 2]
    for one in steps:
        assert list(one) == names(types.Step)
        assert all(list(c) == names(types.Candidate) for c in one["top_logprobs"])
    assert steps[0]["allowed_mass"] is None
    assert steps[0]["bytes"] == list(b" and")
    assert result.stderr == ""


def test_generate_json_events_are_generate_responses(nextok, service):
    scored = types.ScoredToken(token="I", position=0)
    service.script.insert(1, pb.GenerateResponse(prompt_logprobs=[scored]))
    events = lines(nextok("generate", "x", "--json-events", "--prompt-logprobs"))
    keys = [key for event in events for key in event]
    assert keys == ["prompt", "prompt_logprobs", "steps", "steps", "steps", "finish", "summary"]
    assert set(keys) <= set(names(pb.GenerateResponse))
    assert events[1]["prompt_logprobs"][0]["logprob"] is None
    assert list(events[0]["prompt"]) == names(pb.PromptInfo)
    assert list(events[-2]["finish"]) == names(types.Finish)
    assert events[-2]["finish"]["finish_reason"] == "length"
    assert list(events[-1]["summary"]) == names(pb.GenerateSummary)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["next", "x"], pb.Distribution),
        (["info"], pb.GetModelResponse),
        (["detokenize", "40", "1842"], pb.DetokenizeResponse),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value.__name__,
)
def test_other_json_is_one_object_with_the_wires_names(nextok, arguments, message):
    (value,) = lines(nextok(*arguments, "--json"))
    assert list(value) == names(message)


def test_health_json_is_the_status(nextok):
    assert lines(nextok("health", "--json")) == [{"status": "SERVING"}]


# For people.


def test_tokenize_shows_the_table(nextok):
    shown = nextok("tokenize", SENTENCE).stdout
    for cell in ("40", "1842", "2980", "876", "9552", "' love'", "20 6c 6f 76 65", "1-6"):
        assert cell in shown


def test_detokenize_writes_the_text(nextok):
    assert nextok("detokenize", "40", "1842").stdout == "I love\n"


def test_next_shows_bars_in_proportion_to_the_probabilities(nextok):
    rows = [line for line in nextok("next", "x").stdout.splitlines() if "%" in line]
    assert "' and'" in rows[0]
    assert "50.00%" in rows[0]
    assert rows[0].count("█") == 30
    assert rows[1].count("█") == 15
    assert "all others 25.00%" in rows[-1]


def test_next_shows_what_the_sampler_cut(nextok, service):
    sampled = step(0, "a")
    sampled.top_logprobs[0].prob = 1.0
    sampled.top_logprobs[1].prob = 0.0
    sampled.top_logprobs[1].kept = False
    service.script = [first(), pb.GenerateResponse(steps=[sampled]), last(1)]
    shown = nextok("next", "x", "--top-k", "1").stdout
    assert "sampler" in shown
    assert "100.00%" in shown
    assert "cut" in shown
    assert service.requests[0].sampling.top_k == 1


def test_generate_writes_the_text_to_stdout_and_its_end_to_stderr(nextok):
    result = nextok("generate", "x")
    assert result.stdout == " and it.\n"
    assert result.stderr == (
        "length, 3 tokens, 20.0 tokens/s, prompt 5 tokens (0 cached), 11 ms to the first token\n"
    )


def test_generate_tells_how_many_drafts_were_right(nextok, service):
    end = last(3)
    end.summary.usage.drafted_tokens, end.summary.usage.accepted_draft_tokens = 5, 3
    service.script = [first(), end]
    result = nextok("generate", "x", "--drafts")
    assert "prompt 5 tokens (0 cached), drafts 5 tokens (3 right), " in result.stderr
    assert service.requests[0].drafts


def test_generate_top_writes_a_line_a_step_with_candidates(nextok):
    shown = nextok("generate", "x", "--top", "2").stdout.splitlines()
    assert len(shown) == 3
    assert "' and'" in shown[0]
    assert "rank 1" in shown[0]
    assert "'.' 25.00%" in shown[0]


def test_generate_shows_the_prompt_where_its_probabilities_are_asked_for(nextok, service):
    scored = [types.ScoredToken(token="I"), types.ScoredToken(token=" am", logprob=-1.0)]
    service.script.insert(1, pb.GenerateResponse(prompt_logprobs=scored))
    assert nextok("generate", "x", "--prompt-logprobs").stdout == "I am\n and it.\n"


@pytest.mark.parametrize(
    ("matched", "told"),
    [
        ({"stop": "\n"}, "stop at '\\n'"),
        ({"stop_token_id": 0}, "stop at token 0"),
        ({"eos_token_id": 50256}, "stop at token 50256"),
    ],
    ids=str,
)
def test_generate_names_what_ended_the_text(nextok, service, matched, told):
    finish = types.Finish(finish_reason=types.FINISH_REASON_STOP, **matched)
    service.script = [first(), pb.GenerateResponse(finish=finish)]
    assert nextok("generate", "x").stderr == f"{told}\n"


def test_info_shows_sizes_hashes_and_the_certificate(nextok):
    shown = nextok("info").stdout
    for part in ("demo", "int8", "1024 tokens", "aa" * 32, "approximate", "99.00%", "torch"):
        assert part in shown


def test_no_text_of_a_model_is_taken_for_markup_or_reaches_the_terminal_raw(nextok, service):
    nasty = step(0, "[red]\x1b[31m\x07:smile:\x9b1m\n")
    nasty.top_logprobs.append(candidate(5, "[/red]\x1b", 0.1, 3))
    service.script = [first(), pb.GenerateResponse(steps=[nasty]), last(1)]
    assert nextok("generate", "x").stdout == "[red]\ufffd[31m\ufffd:smile:\ufffd1m\n\n"
    for arguments in (["generate", "x", "--top", "3"], ["next", "x"]):
        shown = nextok(*arguments).stdout
        assert "\x1b" not in shown
        assert "[/red]\\x1b" in shown


# What is asked.


def test_every_option_reaches_the_server(nextok, service):
    pairs = {
        "--max-tokens": 4,
        "--min-tokens": 5,
        "--stop": "a",
        "--stop-token-id": 6,
        "--temperature": 0.5,
        "--top-k": 1,
        "--top-p": 0.75,
        "--min-p": 0.25,
        "--repetition-penalty": 1.5,
        "--presence-penalty": -0.5,
        "--frequency-penalty": 2.0,
        "--logit-bias": "3=-100",
        "--seed": 2**64 - 1,
        "--top": 7,
        "--token-id": 8,
    }
    arguments = [str(part) for pair in pairs.items() for part in pair]
    flags = ["--ignore-eos", "--full-vocabulary", "--prompt-logprobs", "--no-drafts"]
    assert nextok("generate", "x", *arguments, *flags).exit_code == 0
    assert service.requests == [
        pb.GenerateRequest(
            prompt=types.Prompt(text="x"),
            sampling=types.SamplingParams(
                temperature=0.5,
                top_k=1,
                top_p=0.75,
                min_p=0.25,
                repetition_penalty=1.5,
                presence_penalty=-0.5,
                frequency_penalty=2.0,
                logit_bias={3: -100.0},
                seed=2**64 - 1,
            ),
            stop_conditions=types.StopConditions(
                max_tokens=4, min_tokens=5, stop=["a"], stop_token_ids=[6], ignore_eos=True
            ),
            logprobs=types.LogprobOptions(top_logprobs=7, token_ids=[8], full_vocabulary=True),
            prompt_logprobs=True,
            drafts=False,
        )
    ]


@pytest.mark.parametrize(
    ("stdin", "text"),
    [("a b\n", "a b"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("ä", "ä"), ("", "")],
    ids=repr,
)
def test_a_dash_reads_stdin_less_one_line_end(nextok, service, stdin, text):
    assert nextok("tokenize", "-", stdin=stdin.encode()).exit_code == 0
    assert service.requests[0].text == text


def test_target_wins_over_the_environment(nextok, target):
    assert nextok("health", "--target", "127.0.0.1:1").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "constraint"),
    [
        (["--json-schema", '{"type": "null"}'], {"json_schema": '{"type": "null"}'}),
        (["--json-schema", "schema.json"], {"json_schema": '{"type": "object"}'}),
        (["--regex", "a+"], {"regex": "a+"}),
        (["--grammar", "g.lark"], {"grammar": 'start: "ä"'}),
        (["--choice", "a", "--choice", "b"], {"choices": {"texts": ["a", "b"]}}),
    ],
    ids=str,
)
def test_generate_takes_a_form(nextok, service, tmp_path, monkeypatch, arguments, constraint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    (tmp_path / "g.lark").write_text('start: "ä"', encoding="utf-8")
    assert nextok("generate", "x", *arguments).exit_code == 0
    assert service.requests[0].constraint == types.Constraint(**constraint)


def test_two_forms_and_a_form_that_cannot_be_read_are_wrong_usage(nextok, service, tmp_path):
    result = nextok("generate", "x", "--regex", "a", "--choice", "b")
    assert result.exit_code == 2
    assert "--regex, --choice: only one of them can be given" in " ".join(result.stderr.split())
    missing = str(tmp_path / "missing.lark")
    result = nextok("generate", "x", "--grammar", missing)
    assert (result.exit_code, missing in result.stderr) == (2, True)
    assert service.requests == []


def test_a_line_a_step_tells_what_the_form_allowed(nextok, service):
    told, end = step(0, "a"), last(1)
    told.allowed_mass = 0.125
    end.finish.finish_reason = types.FINISH_REASON_STOP
    service.script = [first(), pb.GenerateResponse(steps=[told]), end]
    result = nextok("generate", "x", "--regex", "a", "--top", "1")
    assert "of  12.50% allowed" in result.stdout
    assert result.stderr.startswith("stop, the form is complete, ")


# How it ends.


def test_an_error_of_the_server_ends_with_1_and_its_text(nextok, service):
    service.refusal = Refuse(grpc.StatusCode.INVALID_ARGUMENT, "sampling.top_p: 2 is over 1")
    result = nextok("generate", "x", "--top-p", "2")
    assert result.exit_code == 1
    assert result.stderr == "nextok: INVALID_ARGUMENT: sampling.top_p: 2 is over 1\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["tokenize"],
        ["nonsense"],
        ["detokenize", "-1"],
        ["detokenize", "4294967296"],
        ["detokenize", "x"],
        ["generate", "x", "--logit-bias", "3"],
        ["generate", "x", "--logit-bias", "-3=1"],
        ["generate", "x", "--seed", "-1"],
        ["tokenize", "\udcff"],
    ],
    ids=repr,
)
def test_wrong_usage_ends_with_2_and_asks_nothing(nextok, service, arguments):
    assert nextok(*arguments).exit_code == 2
    assert service.requests == []


def test_stdin_that_is_not_utf8_is_wrong_usage(nextok, service):
    assert nextok("tokenize", "-", stdin=b"\xff").exit_code == 2
    assert service.requests == []


def test_a_server_that_is_not_there_ends_with_3(nextok):
    result = nextok("info", "--target", "127.0.0.1:1")
    assert result.exit_code == 3
    assert result.stderr.startswith("nextok: UNAVAILABLE: ")


def test_a_server_that_is_not_ready_ends_health_with_1():
    with serving(FakeService(), healthy=False) as target:
        result = CliRunner().invoke(app, ["health", "--target", target])
    assert (result.exit_code, result.stdout) == (1, "NOT_SERVING\n")


def test_help_tells_the_exit_codes(nextok):
    shown = nextok("--help").stdout
    for code in ("0 done", "1 the server", "2 wrong usage", "3 the server", "130 inter", "141 "):
        assert code in " ".join(shown.split())
