"""The table of where a step's time goes, on a small artifact."""

from __future__ import annotations

import pytest

from bench import step_times


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_each_point_has_a_line_whose_parts_make_up_the_step(
    artifacts, precision, monkeypatch, capsys
):
    monkeypatch.setattr(step_times, "POINTS", ((1, 20), (3, 100)))
    monkeypatch.setattr(step_times, "RUNS", 5)
    monkeypatch.setattr("sys.argv", ["step_times", str(artifacts[precision]), "--threads", "1"])
    step_times.main()
    _, _, *lines = capsys.readouterr().out.splitlines()
    cells = [[float(cell) for cell in line.strip("| ").split(" | ")] for line in lines]
    assert [line[:2] for line in cells] == [[1, 20], [3, 100]]
    for _, _, step, *parts in cells:
        assert len(parts) == len(step_times.PARTS)
        assert sum(parts) == pytest.approx(step, abs=0.01 * len(parts))
        assert step > 0


def test_the_head_and_the_layers_products_are_told_apart(artifacts):
    artifact = step_times.load_artifact(artifacts["int8"])
    parts = step_times.step_parts(artifact, rows=1, context=20, threads=1)
    assert all(parts[name] > 0 for name in ("products", "head", "attention", "probabilities"))
