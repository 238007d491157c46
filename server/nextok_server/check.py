"""`nextok-server --check ARTIFACT`: whether an artifact could be served here, without serving it.

Knows: the order in which an artifact is proved, how to run one token. Does not know: the wire.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from nextok_server.artifact import Artifact, load_artifact
from nextok_server.candidates import Candidate
from nextok_server.config import Config
from nextok_server.engine import Engine
from nextok_server.errors import ArtifactError
from nextok_server.events import Event, Step
from nextok_server.loading import build_engine
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, Request, Sequence, StopParams
from nextok_server.tokenizer import Tokenizer

_TEXT = "I love Generative AI"


def check(config: Config) -> Iterator[str]:
    """Does what a server does before its first answer, and says what was found, step by step.

    Raises:
        ArtifactError: The artifact cannot be served; the message says what is wrong.
    """
    artifact = load_artifact(config.artifact)
    yield f"files: sizes and SHA-256 are the manifest's; artifact {artifact.sha256}"
    yield (
        f"model: {artifact.model_name}, {artifact.precision}, {artifact.layers} layers of "
        f"{artifact.width}, vocabulary {artifact.vocabulary_size}, "
        f"context {artifact.context_length}"
    )
    tokenizer = Tokenizer.from_file(artifact.tokenizer_path)
    ids = tokenizer.encode(_TEXT)
    yield f"tokenizer: {_TEXT!r} is {' '.join(map(str, ids))}"
    began = time.monotonic()
    model, engine = build_engine(config, artifact)
    yield f"graph: loaded by ONNX Runtime {model.runtime_version} in {_since(began)}"
    began = time.monotonic()
    token = _one_token(engine, artifact, ids)
    text = tokenizer.token_text(token.token_id)
    yield f"run: {text!r} is the likeliest next token, logprob {token.logprob:.4f}, {_since(began)}"


def _one_token(engine: Engine, artifact: Artifact, ids: list[int]) -> Candidate:
    """The likeliest token after a text, from a whole distribution that makes sense."""
    outputs = Outputs(top=1, full=True)
    request = Request(tuple(ids), SamplingParams(temperature=0.0), StopParams(1), outputs)
    engine.scheduler.add(Sequence(request, window=len(ids)))
    events: list[Event] = []
    while engine.has_work:
        for _, produced in engine.step():
            events += produced
    (step,) = events
    assert isinstance(step, Step)
    full = step.distribution.full
    assert full is not None
    total = math.fsum(math.exp(value) for value in full.tolist())
    if not abs(total - 1.0) < 1e-3:
        raise ArtifactError(
            f"{artifact.folder}: the probabilities after {_TEXT!r} add up to {total}, not to 1"
        )
    return step.token


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.2f} s"
