"""A run as a line of JSON, and back."""

import dataclasses
import json
from pathlib import Path

import pytest
from support.loads import exchange, run

from nextok.bench.machine import ServerMemory, client_machine
from nextok.bench.points import check_comparable, points
from nextok.bench.report import SCHEMA, Resources, from_line, to_line
from nextok.bench.results import Failures, Results, Spread, summarize

SPREAD = ["count", "mean", "p50", "p90", "p99", "max"]


def tree(value):
    """Returns the names in an object, and those in the objects within."""
    return {name: tree(part) if isinstance(part, dict) else None for name, part in value.items()}


def test_a_line_is_read_as_the_run_that_was_written():
    for one in (run(), run(request_rate=2.0, streams=None, complete=False, timeout=3.0)):
        assert from_line(to_line(one)) == one
        assert "\n" not in to_line(one)


def test_failures_and_missing_figures_are_written_and_read_too():
    results = summarize([exchange(status="UNAVAILABLE", ended=0.0)], end=0.0)
    one = dataclasses.replace(run(), results=results)
    back = from_line(to_line(one))
    assert back == one
    assert back.results.errors == {"UNAVAILABLE": Failures(1, "about UNAVAILABLE")}
    assert json.loads(to_line(one))["results"]["output_throughput"] is None


def test_the_names_in_a_line_are_those_that_the_schema_promises():
    """Whoever changes this list changes SCHEMA too: programs read these lines."""
    value = json.loads(to_line(run()))
    assert SCHEMA == "nextok.bench/1"
    lengths = dict.fromkeys(["low", "high", "median", "sigma"])
    spread = dict.fromkeys(SPREAD)
    assert tree(value) == {
        **dict.fromkeys(["schema", "run", "runs", "repeat", "started_at", "complete", "target"]),
        "connections": None,
        "settings": {
            **dict.fromkeys(["streams", "request_rate", "context", "requests", "warmup"]),
            "prompt_tokens": lengths,
            "output_tokens": lengths,
            **dict.fromkeys(["prefix_share", "prefix_tokens", "seed", "temperature", "top_k"]),
            **dict.fromkeys(["top_p", "top_logprobs", "drafts", "bypass_prefix_reuse", "timeout"]),
        },
        "server": {
            **dict.fromkeys(["name", "precision", "layers", "heads", "width", "context_length"]),
            **dict.fromkeys(["artifact_sha256", "threads", "slots", "max_queue"]),
            **dict.fromkeys(["server_version", "onnxruntime_version"]),
        },
        "client": dict.fromkeys(
            ["processor", "processors", "system", "python", "nextok", "grpcio", "protobuf"]
        ),
        "resources": dict.fromkeys(
            [
                *("client_cpu_seconds", "load_average_before", "load_average_after"),
                *("server_rss_bytes", "server_peak_rss_bytes"),
            ]
        ),
        "results": {
            **dict.fromkeys(["duration", "completed", "failed", "unfinished"]),
            "errors": {},
            **dict.fromkeys(["prompt_tokens", "cached_tokens", "completion_tokens"]),
            **dict.fromkeys(["output_throughput", "request_throughput"]),
            **dict.fromkeys(["ttft_ms", "itl_ms", "tpot_ms", "e2el_ms", "queue_ms"], spread),
            **dict.fromkeys(["prefill_ms", "send_delay_ms"], spread),
        },
    }
    assert [field.name for field in dataclasses.fields(Spread)] == SPREAD


def test_the_documentation_tells_what_every_figure_is():
    text = (Path(__file__).parents[3] / "docs" / "bench.md").read_text()
    for kind in (Results, Resources, Spread):
        for field in dataclasses.fields(kind):
            assert f"{field.name}`" in text, field.name


def changed(*path, to):
    value = json.loads(to_line(run()))
    part = value
    for name in path[:-1]:
        part = part[name]
    if to is None:
        del part[path[-1]]
    else:
        part[path[-1]] = to
    return json.dumps(value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "Expecting property name"),
        ("[]", "schema: None is not 'nextok.bench/1'"),
        (changed("schema", to="nextok.bench/2"), "schema: 'nextok.bench/2' is not"),
        (changed("run", to=None), "the run: run is missing"),
        (changed("settings", "seed", to="x"), "settings.seed: 'x' is not a int"),
        (changed("settings", "seed", to=True), "settings.seed: True is not a int"),
        (changed("results", "ttft_ms", "p50", to=None), "results.ttft_ms: p50 is missing"),
        (changed("results", "errors", to={"X": 1}), "results.errors.X: 1 is not a dict"),
        (changed("server", to=[]), r"server: \[\] is not a dict"),
    ],
)
def test_another_line_is_refused_and_the_field_named(line, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_line(line)


def test_repeats_are_put_together_and_their_median_taken():
    runs = [run(1, speed=1.0), run(2, streams=8), run(3, speed=4.0), run(4, speed=2.0)]
    one, other = points(runs)
    assert ([r.run for r in one.runs], [r.run for r in other.runs]) == ([1, 3, 4], [2])
    values = one.values(lambda results: results.itl_ms.p50)
    assert one.median(lambda results: results.itl_ms.p50) == sorted(values)[1]


def test_runs_of_other_servers_or_other_work_do_not_stand_side_by_side():
    check_comparable([run(streams=1), run(streams=8, requests=3)])
    other = dataclasses.replace(run(), server=dataclasses.replace(run().server, threads=4))
    with pytest.raises(ValueError, match="different servers"):
        check_comparable([run(), other])
    with pytest.raises(ValueError, match="different seed: 0 and 1"):
        check_comparable([run(), run(seed=1)])


def test_the_machine_is_told():
    machine = client_machine()
    assert machine.processors >= 1
    assert all(getattr(machine, field.name) for field in dataclasses.fields(machine))


def test_the_memory_of_a_process_that_is_not_there_cannot_be_known():
    with pytest.raises(ValueError, match="/proc/2147483647/status does not tell"):
        ServerMemory(2**31 - 1)
