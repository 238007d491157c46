"""`nextok bench` against the fake server, whose every completion has three tokens."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading

import grpc
import pytest
from support.fake_service import PATIENCE_SECONDS, FakeService, Hold, Refuse, generation, serving
from support.loads import run
from typer.testing import CliRunner

from nextok.bench.report import from_line, to_line
from nextok.cli.app import app
from nextok.v1 import text_generation_pb2 as pb


@pytest.fixture
def bench(target):
    """Runs it against the fake server."""

    def invoke(*arguments):
        env = {"NEXTOK_TARGET": target, "COLUMNS": "100"}
        return CliRunner().invoke(app, ["bench", *arguments], env=env)

    return invoke


def told(result):
    """Returns what stands on stderr, without the frame and its line breaks."""
    return " ".join(result.stderr.replace("│", "").split())


def asked(service):
    return [request for request in service.requests if isinstance(request, pb.GenerateRequest)]


# What comes out.


def test_json_is_one_object_a_run_and_nothing_else(bench):
    result = bench("--streams", "1,3", "--repeats", "2", "--requests", "4", "--json")
    assert result.exit_code == 0, result.output
    runs = [from_line(line) for line in result.stdout.splitlines()]
    # Rounds alternate, so that what drifts falls on all.
    assert [(r.run, r.repeat, r.settings.streams) for r in runs] == [
        (1, 1, 1),
        (2, 1, 3),
        (3, 2, 1),
        (4, 2, 3),
    ]
    for one in runs:
        assert one.complete
        assert (one.results.completed, one.results.failed) == (4, 0)
        assert one.results.completion_tokens == 12
        assert one.results.prompt_tokens == 20
        assert one.results.itl_ms.count == 8
        assert one.results.queue_ms.p50 == pytest.approx(1)
        assert one.server.artifact_sha256 == "aa" * 32
        assert one.resources.server_rss_bytes is None


def test_the_table_has_every_figure_and_a_line_for_each_run_goes_to_stderr(bench):
    result = bench("--streams", "1,2", "--requests", "2", "--server-pid", str(os.getpid()))
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    for part in ("1 stream", "2 streams", "tokens/s", "ttft, ms p99", "itl, ms p50", "tpot, ms"):
        assert part in shown
    for part in ("queue, ms p50", "cached tokens", "failed", "client, cores", "server memory, MB"):
        assert part in shown
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "run 1 of 2, 1 stream",
        "run 2 of 2, 2 streams",
    ]


def test_many_points_take_several_tables(bench):
    result = bench("--streams", "1", "--contexts", "1,2,3,4,5,6,7", "--requests", "1")
    assert result.stdout.count("tokens/s") == 2
    assert result.stdout.count("context") == 7


def test_an_open_loop_sends_its_requests_and_tells_how_late(bench, service):
    result = bench("--request-rate", "500", "--requests", "20", "--warmup", "3")
    assert result.exit_code == 0
    assert "500 requests/s" in result.stdout
    assert "sent late, ms p99" in result.stdout
    assert len(asked(service)) >= 23


def test_output_holds_what_json_prints_and_from_shows_and_draws_it_again(bench, tmp_path):
    file, folder = tmp_path / "results.jsonl", tmp_path / "plots"
    first = bench("--streams", "1,2", "--requests", "2", "--json", "--output", str(file))
    assert first.exit_code == 0
    assert file.read_text() == first.stdout
    again = bench("--from", str(file), "--plots", str(folder))
    assert again.exit_code == 0, again.output
    assert "2 streams" in again.stdout
    assert sorted(path.name for path in folder.iterdir()) == [
        "latency_by_streams.svg",
        "throughput_by_streams.svg",
    ]
    assert bench("--from", str(file), "--json").stdout == first.stdout


def test_plots_are_drawn_of_what_was_measured(bench, tmp_path):
    result = bench("--contexts", "4,8", "--requests", "2", "--plots", str(tmp_path / "plots"))
    assert result.exit_code == 0
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["latency_by_context.svg"]
    assert "latency_by_context.svg" in result.stderr


def test_prompts_that_were_kept_though_none_should_be_are_told(bench, service):
    service.script[-1].summary.usage.cached_tokens = 4
    arguments = ["--requests", "2", "--prompt-tokens", "8"]
    assert "take another --seed" in " ".join(bench(*arguments).stdout.split())
    shared = bench(*arguments, "--prefix-share", "1", "--prefix-tokens", "4")
    assert "take another --seed" not in " ".join(shared.stdout.split())


# What is asked.


def test_the_options_reach_the_requests(bench, service):
    result = bench(
        *("--streams", "1", "--requests", "3", "--warmup", "0", "--prompt-tokens", "5:7"),
        *("--output-tokens", "9", "--top", "4", "--temperature", "0.5", "--seed", "6"),
        *("--prefix-share", "1", "--prefix-tokens", "3", "--no-drafts", "--bypass-prefix-reuse"),
    )
    assert result.exit_code == 0, result.output
    requests = asked(service)
    assert len({tuple(r.prompt.token_ids.ids[:3]) for r in requests}) == 1
    for request in requests:
        assert 5 <= len(request.prompt.token_ids.ids) <= 7
        assert request.stop_conditions.max_tokens == 9
        assert request.logprobs.top_logprobs == 4
        assert (request.sampling.temperature, request.sampling.seed) == (0.5, 6)
        assert request.HasField("drafts")
        assert not request.drafts
        assert request.bypass_prefix_reuse


def test_by_default_it_is_greedy_with_ten_candidates_and_drafts_are_the_servers(bench, service):
    assert bench("--requests", "1").exit_code == 0
    request = asked(service)[0]
    assert request.sampling.temperature == 0
    assert request.sampling.HasField("temperature")
    assert request.logprobs.top_logprobs == 10
    assert not request.HasField("drafts")
    assert len(request.prompt.token_ids.ids) == 64
    assert 50256 not in request.prompt.token_ids.ids


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--streams", "1,x"], "'--streams': 'x' in '1,x' is not a number"),
        (["--streams", "0"], "'--streams': 0 in '0' is not from 1 to 10000"),
        (["--streams", "4,4"], "'--streams': 4 stands twice"),
        (["--request-rate", "nan"], "'--request-rate': nan in 'nan' is not from 0.001 to 100000"),
        (["--contexts", "-5"], "'--contexts': -5 in '-5' is not from 1 to 1000000"),
        (["--requests", "0"], "'--requests': 0 is not a whole number from 1 to 1000000"),
        (["--warmup", "-1"], "'--warmup': -1 is not a whole number from 0 to 1000000"),
        (["--repeats", "x"], "'--repeats': x is not a whole number from 1 to 1000"),
        (["--prompt-tokens", "9:8"], "'--prompt-tokens': '9:8' begins at 9"),
        (["--output-tokens", "0"], "'--output-tokens': 0 in '0' is not from 1 to 1000000"),
        (["--prefix-share", "2"], "'--prefix-share': 2 is not from 0 to 1"),
        (["--prefix-share", "0.5"], "'--prefix-tokens': a shared prefix needs both"),
        (["--prefix-tokens", "64", "--prefix-share", "1"], "'--prefix-tokens': 64 is not from 0"),
        (["--seed", "-1"], "'--seed': -1 is not a whole number from 0 to 18446744073709551615"),
        (["--timeout", "0"], "'--timeout': 0 is not a number of seconds over 0"),
        (["--prompt-tokens", "1000"], "'--prompt-tokens': 1000 tokens and 128 of --output-tokens"),
        (["--top", "65"], "'--top': 65 is not from 0 to 64"),
        (["--drafts"], "'--drafts': this server does not draft tokens"),
        (["--streams", "1", "--request-rate", "1"], "'--request-rate': an open loop has no"),
        (["--contexts", "4", "--prompt-tokens", "4"], "'--contexts': these are the prompts'"),
        (["--server-pid", "2147483647"], "'--server-pid': /proc/2147483647/status does not tell"),
        (["--plots", "x"], "'--plots': a curve needs two or more values"),
        (["--output", "/no/such/folder"], "'--output': [Errno 2] No such file"),
        (["--from", "/no/such/file"], "'--from': /no/such/file: [Errno 2]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_is_named_with_its_value_and_range_and_nothing_is_sent(
    bench, service, tmp_path, monkeypatch, arguments, complaint
):
    monkeypatch.chdir(tmp_path)
    result = bench(*arguments)
    assert result.exit_code == 2, result.output
    assert complaint in told(result)
    assert asked(service) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no run"),
        (to_line(run()) + "\n{}\n", "line 2: schema: None"),
        (to_line(run()) + "\n" + to_line(run(seed=1)), "the runs have different seed: 0 and 1"),
    ],
)
def test_from_refuses_what_output_did_not_write(bench, tmp_path, monkeypatch, text, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text(text)
    result = bench("--from", "f")
    assert result.exit_code == 2
    assert complaint in told(result)


def test_with_from_no_option_is_ignored_in_silence(bench, tmp_path):
    file = tmp_path / "f"
    file.write_text(to_line(run()))
    result = bench("--from", str(file), "--streams", "3")
    assert result.exit_code == 2
    assert "'--streams': nothing is measured with --from" in result.stderr


# How it ends.


def test_refusals_are_counted_and_are_no_failure_of_the_command(service):
    class Every(FakeService):
        """Refuses every other request."""

        def Generate(self, request, context):  # noqa: N802 - named by the contract
            full = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
            self.script = [full] if len(asked(self)) % 2 else generation("a", "b", "c")
            yield from super().Generate(request, context)

    with serving(Every()) as target:
        arguments = ["bench", "--requests", "6", "--warmup", "0", "--target", target]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "3 x RESOURCE_EXHAUSTED: the queue is full" in result.stdout
    assert "3 failed" in result.stderr


def test_where_every_request_fails_it_ends_with_1_and_says_why(bench, service):
    service.script = [Refuse(grpc.StatusCode.INVALID_ARGUMENT, "sampling.top_p: 2 is over 1")]
    result = bench("--top-p", "2", "--requests", "2", "--warmup", "0")
    assert result.exit_code == 1
    assert "no request of run 1 ended well: INVALID_ARGUMENT: sampling.top_p: 2" in result.stderr


def test_a_server_that_is_not_there_ends_with_3_and_leaves_earlier_results(tmp_path):
    file = tmp_path / "f"
    file.write_text("earlier")
    arguments = ["bench", "--target", "127.0.0.1:1", "--output", str(file)]
    assert CliRunner().invoke(app, arguments).exit_code == 3
    assert file.read_text() == "earlier"


def test_plots_without_the_extra_are_refused_before_anything_is_measured(
    bench, service, monkeypatch, tmp_path
):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = bench("--streams", "1,2", "--plots", str(tmp_path))
    assert result.exit_code == 1
    assert "pip install 'nextok[bench]'" in result.stderr
    assert service.requests == []


class _HoldsTheThird(FakeService):
    """Answers two requests; the third gets one token and no more."""

    def __init__(self):
        super().__init__()
        self.held = threading.Event()

    def Generate(self, request, context):  # noqa: N802 - named by the contract
        if len(asked(self)) == 2:
            self.script = [*generation("a")[:2], Hold()]
            self.held.set()
        yield from super().Generate(request, context)


def test_a_sweep_that_lacks_runs_is_marked_incomplete(bench, tmp_path):
    file = tmp_path / "f"
    file.write_text(to_line(dataclasses.replace(run(2), runs=3)))
    assert "INCOMPLETE: interrupted after run 2 of 3." in bench("--from", str(file)).stdout


@pytest.mark.parametrize("form", ["table", "json"])
def test_ctrl_c_gives_what_was_measured_so_far_marked_incomplete(form, tmp_path):
    service, file = _HoldsTheThird(), tmp_path / "results.jsonl"
    with serving(service) as target:
        command = [sys.executable, "-m", "nextok", "bench", "--requests", "5", "--warmup", "0"]
        command += ["--target", target, "--output", str(file), *(["--json"] * (form == "json"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert service.held.wait(PATIENCE_SECONDS)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert service.given_up.wait(PATIENCE_SECONDS)
    assert process.returncode == 130
    value = json.loads(file.read_text())
    assert value["complete"] is False
    assert (value["results"]["completed"], value["results"]["unfinished"]) == (2, 1)
    assert value["results"]["output_throughput"] > 0
    assert b"Traceback" not in err
    if form == "json":
        assert out == file.read_bytes()
    else:
        assert "INCOMPLETE: interrupted in run 1, 1 stream, after 2 of 5" in out.decode()
