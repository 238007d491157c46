"""The certificate measures what it says it measures, and stops what must not be served."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nextok_export import CertificateError, export
from nextok_export.comparison import Comparer
from nextok_export.scenarios import scenarios
from nextok_export.texts import Texts

SCENARIOS = ["prefill", "chunked_prefill", "decode", "padded_batch", "context_end"]


def distributions(rows: int, size: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((rows, size)) * 2
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_the_figures_equal_numpy():
    expected = distributions(20, 50, 0)
    served = distributions(20, 50, 1) * 0.05 + expected * 0.95
    following = np.random.default_rng(2).integers(0, 50, 19)
    comparer = Comparer("prefill", "torch")
    for part in (slice(0, 8), slice(8, 20)):
        comparer.add(
            torch.from_numpy(expected[part]),
            torch.from_numpy(served[part]),
            torch.from_numpy(following[part]),
        )
    figures = comparer.finish()
    gap = np.abs(expected - served)
    assert figures.positions == 20
    assert figures.max_abs_logprob_difference == pytest.approx(gap.max())
    assert figures.mean_abs_logprob_difference == pytest.approx(gap.mean())
    p, q = np.exp(expected), np.exp(served)
    divergence = (p * (expected - served) - p + q).sum(axis=-1).mean()
    assert figures.mean_kl == pytest.approx(divergence)
    agree = expected.argmax(axis=-1) == served.argmax(axis=-1)
    assert figures.top1_agreement == agree.mean()
    shared = [
        len(set(np.argsort(-a)[:10]) & set(np.argsort(-b)[:10])) / 10
        for a, b in zip(expected, served, strict=True)
    ]
    assert figures.top10_agreement == pytest.approx(np.mean(shared))
    for logprobs, perplexity in (
        (expected, figures.reference_perplexity),
        (served, figures.perplexity),
    ):
        taken = logprobs[np.arange(19), following]
        assert perplexity == pytest.approx(np.exp(-taken.mean()))


def test_equal_distributions_differ_by_nothing():
    same = torch.from_numpy(distributions(4, 30, 0))
    comparer = Comparer("decode", "torch")
    comparer.add(same, same.clone(), torch.arange(3))
    figures = comparer.finish()
    assert figures.max_abs_logprob_difference == figures.mean_kl == 0
    assert figures.top1_agreement == figures.top10_agreement == 1


def test_a_tie_counts_as_agreement_and_a_real_difference_does_not():
    expected = torch.tensor([[-1.0, -1.0 - 1e-7, -3.0], [-1.0, -1.001, -3.0]]).double()
    served = expected[:, [1, 0, 2]]
    comparer = Comparer("decode", "torch")
    comparer.add(expected, served, torch.tensor([0]))
    assert comparer.finish().top1_agreement == 0.5


def test_nan_is_never_passed_over():
    expected = torch.from_numpy(distributions(2, 30, 0))
    served = expected.clone()
    served[0, 3] = float("nan")
    comparer = Comparer("prefill", "torch")
    comparer.add(expected, served, torch.tensor([1]))
    comparer.add(expected, expected.clone(), torch.tensor([1]))
    assert np.isnan(comparer.finish().max_abs_logprob_difference)


class Words:
    """A tokenizer of as many tokens as there are words."""

    class Encoding:
        def __init__(self, ids: list[int]) -> None:
            self.ids = ids

    def encode(self, text: str) -> Encoding:
        return self.Encoding([len(word) for word in text.split()])


@pytest.mark.parametrize("context", [8, 32, 100, 512, 1024])
def test_enough_positions_are_planned_whatever_the_context(context):
    planned = scenarios(Texts(Words(), 300), context, 2048)
    assert [scenario.name for scenario in planned] == SCENARIOS
    assert all(len(ids) <= context for scenario in planned for ids in scenario.texts)
    decoded = planned[2].texts
    assert context < 96 or all(len(ids) - planned[2].prompt >= 64 for ids in decoded)
    assert all(len(ids) == context for ids in planned[4].texts)


def test_texts_are_the_same_at_every_run():
    one, other = (Texts(Words(), 300) for _ in range(2))
    for length in (10, 300, 5, 40):
        np.testing.assert_array_equal(one.take(length), other.take(length))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_certificate_tells_of_every_scenario(checkpoint, tmp_path, precision):
    export(checkpoint, tmp_path / "out", precision=precision, positions=2000)
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["schema_version"] == 1
    assert certificate["precision"] == precision
    assert certificate["approximate"] is (precision != "fp32")
    assert certificate["positions"] >= 2000
    pairs = [(c["scenario"], c["reference"]) for c in certificate["comparisons"]]
    assert [scenario for scenario, reference in pairs if reference == "torch"] == SCENARIOS
    assert {("prefill", "onnx"), ("decode", "onnx")} < set(pairs)
    for c in certificate["comparisons"]:
        assert c["positions"] > 0
        assert 0 <= c["mean_abs_logprob_difference"] <= c["max_abs_logprob_difference"]
        assert 0 <= c["top1_agreement"] <= 1
        assert 0 <= c["top10_agreement"] <= 1
        if precision == "fp32":
            assert c["max_abs_logprob_difference"] <= 1e-4
            assert c["top1_agreement"] == 1
            assert c["perplexity"] == pytest.approx(c["reference_perplexity"], rel=1e-4)
    assert (certificate["tolerance"] is None) is (precision != "fp32")


@pytest.fixture
def tamper(monkeypatch):
    """Changes a weight on its way into the graph."""
    import nextok_export.pipeline as pipeline

    real = pipeline.build

    def apply(name: str, change) -> None:
        def build(checkpoint, precision, scales=None):
            class Tampered:
                architecture = checkpoint.architecture

                def tensor(self, wanted: str) -> np.ndarray:
                    tensor = checkpoint.tensor(wanted)
                    return change(tensor) if wanted == name else tensor

            return real(Tampered(), precision, scales)

        monkeypatch.setattr(pipeline, "build", build)

    return apply


def test_a_wrong_graph_writes_no_artifact(checkpoint, tmp_path, tamper):
    tamper("h.1.ln_2.bias", lambda tensor: tensor + 0.01)
    with pytest.raises(CertificateError, match=r"max_abs_logprob_difference is .* at most 0\.0001"):
        export(checkpoint, tmp_path / "out", precision="fp32", positions=100)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_graph_that_says_nan_writes_no_artifact(checkpoint, tmp_path, tamper, precision):
    tamper("ln_f.bias", lambda tensor: tensor * np.float32("nan"))
    with pytest.raises(CertificateError, match="not a finite number"):
        export(checkpoint, tmp_path / "out", precision=precision, positions=100)
    assert not list(tmp_path.iterdir())


def test_only_the_end_of_the_context_being_wrong_is_noticed(checkpoint, tmp_path, tamper):
    def shift(tensor: np.ndarray) -> np.ndarray:
        tensor = tensor.copy()
        tensor[-1, 0] += 1
        return tensor

    tamper("wpe.weight", shift)
    with pytest.raises(CertificateError):
        export(checkpoint, tmp_path / "out", precision="fp32", positions=100)
