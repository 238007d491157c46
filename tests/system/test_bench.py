"""`nextok bench` on a real server: its counts are the server's."""

import subprocess
import sys

from nextok.bench.report import from_line


def bench(address, *arguments):
    """Runs it; returns its runs."""
    result = subprocess.run(
        [sys.executable, "-m", "nextok", "bench", "--target", address, "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [from_line(line) for line in result.stdout.splitlines()]


def test_a_sweep_counts_every_token_after_the_wire(start, tmp_path):
    process, address = start("--no-spinning")
    plots = tmp_path / "plots"
    runs = bench(
        address,
        *("--streams", "1,4", "--contexts", "8,32", "--output-tokens", "6", "--requests", "5"),
        *("--server-pid", str(process.pid), "--plots", str(plots)),
    )
    swept = [(run.settings.streams, run.settings.context) for run in runs]
    assert swept == [(1, 8), (1, 32), (4, 8), (4, 32)]
    for run in runs:
        results = run.results
        assert (results.completed, results.failed, results.errors) == (5, 0, {})
        assert results.completion_tokens == 5 * 6
        assert results.prompt_tokens == 5 * run.settings.context
        assert results.cached_tokens == 0
        assert results.itl_ms.count == 5 * 5
        assert results.ttft_ms.count == results.queue_ms.count == 5
        assert results.output_throughput > results.request_throughput > 0
        assert run.resources.server_peak_rss_bytes >= run.resources.server_rss_bytes > 1e7
        assert run.server.context_length == 128
    assert len(list(plots.iterdir())) == 3


def test_a_server_that_is_full_is_measured_with_its_refusals(start):
    _, address = start("--no-spinning", "--slots", "1", "--max-queue", "1")
    (run,) = bench(
        address,
        *("--streams", "6", "--requests", "6", "--warmup", "0"),
        *("--prompt-tokens", "4:16", "--output-tokens", "64"),
    )
    assert set(run.results.errors) == {"RESOURCE_EXHAUSTED"}
    assert run.results.completed + run.results.failed == 6
    assert run.results.completed >= 1


def test_an_open_loop_runs_to_its_end(start):
    _, address = start("--no-spinning")
    (run,) = bench(
        address,
        *("--request-rate", "40", "--requests", "20", "--warmup", "2", "--prompt-tokens", "4:16"),
        *("--output-tokens", "lognormal:6,0.5,2,16", "--prefix-share", "0.5"),
        *("--prefix-tokens", "3"),
    )
    assert (run.results.completed, run.results.failed) == (20, 0)
    assert run.results.send_delay_ms.count == 20
