"""The pictures: whole SVG files with every curve in them."""

import dataclasses
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from support.loads import run

from nextok.bench.lengths import Lengths
from nextok.bench.plots import write_plots

SVG = "{http://www.w3.org/2000/svg}"


def drawn(runs, folder):
    """Draws; returns each file's root by its name."""
    return {file.name: ElementTree.parse(file).getroot() for file in write_plots(runs, folder)}


def curves(root):
    """Returns the number of marked points of each curve, by the curve's id."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        name = group.get("id", "")
        if name.startswith(("output_throughput", "ttft_ms", "itl_ms")):
            found[name] = sum(1 for _ in group.iter(f"{SVG}use"))
    return found


def texts(root):
    return {text.text for text in root.iter(f"{SVG}text")}


def latencies(points, suffix=""):
    return {
        f"{figure}-{percentile}{suffix}": points
        for figure in ("ttft_ms", "itl_ms")
        for percentile in ("p50", "p90", "p99")
    }


def test_streams_give_throughput_and_latency_against_streams(tmp_path):
    roots = drawn([run(i, streams=s, speed=i) for i, s in enumerate((1, 8, 32), 1)], tmp_path)
    assert sorted(roots) == ["latency_by_streams.svg", "throughput_by_streams.svg"]
    assert all(root.tag == f"{SVG}svg" for root in roots.values())
    assert curves(roots["throughput_by_streams.svg"]) == {"output_throughput": 3}
    assert curves(roots["latency_by_streams.svg"]) == latencies(3)
    assert {"streams", "time to first token, ms", "p50", "p99"} <= texts(
        roots["latency_by_streams.svg"]
    )


def test_contexts_give_latency_against_context_with_a_curve_for_each_load(tmp_path):
    runs = [
        run(i, streams=s, context=c, prompt_tokens=Lengths(c, c))
        for i, (s, c) in enumerate([(s, c) for s in (1, 8) for c in (16, 32, 64)], 1)
    ]
    roots = drawn(runs, tmp_path)
    assert curves(roots["latency_by_context.svg"]) == (
        latencies(3, "-1-streams") | latencies(3, "-8-streams")
    )
    assert set(curves(roots["throughput_by_streams.svg"])) == {
        f"output_throughput-{c}-tokens-of-the-prompt" for c in (16, 32, 64)
    }


def test_rates_give_pictures_against_the_rate(tmp_path):
    runs = [run(i, streams=None, request_rate=float(i)) for i in (1, 2)]
    assert sorted(drawn(runs, tmp_path)) == [
        "latency_by_request_rate.svg",
        "throughput_by_request_rate.svg",
    ]


def test_where_nothing_was_swept_nothing_is_drawn(tmp_path):
    assert drawn([run(), run()], tmp_path) == {}


def test_the_same_runs_make_the_same_bytes(tmp_path):
    runs = [run(streams=1), run(streams=2)]
    one, other = write_plots(runs, tmp_path / "a"), write_plots(runs, tmp_path / "b")
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]


def test_the_title_tells_what_was_measured_and_that_it_is_incomplete(tmp_path):
    server = dataclasses.replace(run().server, name="$a_1$")
    runs = [run(streams=1), run(streams=2, complete=False)]
    runs = [dataclasses.replace(one, server=server) for one in runs]
    roots = drawn(runs, tmp_path)
    title = "$a_1$, int8, 2 threads: prompts of 8, outputs of 4 tokens (incomplete)"
    assert all(title in texts(root) for root in roots.values())


@pytest.mark.parametrize("module", ["nextok.bench.measure", "nextok.cli.app"])
def test_measuring_does_without_matplotlib(module):
    code = f"import sys; sys.modules['matplotlib'] = None; import {module}"
    subprocess.run([sys.executable, "-c", code], check=True)
