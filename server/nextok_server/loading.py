"""From an artifact's folder to an engine that is ready to run.

Knows: the order in which an artifact is proved and loaded, what an engine is made of. Does not
know: the wire, threads, the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from nextok_server.artifact import Artifact, load_artifact
from nextok_server.calls import OneCall, SeparateCalls
from nextok_server.config import Config
from nextok_server.engine import Engine
from nextok_server.kv_cache import KVCache
from nextok_server.model import Model
from nextok_server.scheduler import Scheduler
from nextok_server.shelf import Shelf
from nextok_server.tokenizer import Tokenizer

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a server serves.

    Attributes:
        runtime_version: ONNX Runtime's.
    """

    artifact: Artifact
    tokenizer: Tokenizer
    engine: Engine
    runtime_version: str


def load(config: Config) -> Loaded:
    """Proves the artifact's files, then loads them.

    Raises:
        ArtifactError: The artifact cannot be served.
    """
    artifact = load_artifact(config.artifact)
    tokenizer = Tokenizer.from_file(artifact.tokenizer_path)
    model, engine = build_engine(config, artifact)
    return Loaded(artifact, tokenizer, engine, model.runtime_version)


def build_engine(config: Config, artifact: Artifact) -> tuple[Model, Engine]:
    """Loads a proved artifact's graph, and makes an engine of it.

    Raises:
        ArtifactError: ONNX Runtime cannot load it.
    """
    calls = (SeparateCalls if artifact.kernels is None else OneCall)(
        config.prefill_chunk, config.slots
    )
    model = Model(
        artifact,
        slots=config.slots,
        chunk=config.prefill_chunk,
        tokens=calls.most_tokens,
        threads=config.threads,
        spinning=config.spinning,
        gives_way=config.give_way,
        shelf_bytes=config.shelf_mb * _MEBIBYTE,
    )
    retained_tokens = config.retained_mb * _MEBIBYTE // model.cache.token_bytes
    shelf = Shelf(model.cache.shelf_tokens)
    cache = KVCache(config.slots, model.cache, retained_tokens, shelf)
    scheduler = Scheduler(cache, calls, config.prefill_chunk, reuse=config.prefix_reuse)
    return model, Engine(model, scheduler)
