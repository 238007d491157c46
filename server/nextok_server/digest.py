"""The digest that a completion carries.

Two completions have one digest exactly where the artifact, the effective parameters, the token
ids and every bit of the log probabilities are the same.

SHA-256 over these parts, each preceded by its length as 8 bytes, little-endian:

1. the artifact's SHA-256, as 64 hexadecimal digits in ASCII;
2. the parameters, as JSON with sorted keys and no spaces, in ASCII: `temperature`, `top_k`,
   `top_p`, `min_p`, `repetition_penalty`, `presence_penalty`, `frequency_penalty`,
   `logit_bias` (pairs, by id), `seed`, `min_tokens`, `stop_token_ids` and `eos_token_ids`
   (sorted; the latter empty where end tokens are ignored), `drafts`, true, only where tokens
   were drafted or could have been, and `constraint`, only where there is one: an object whose one
   key is its kind, with the list of its texts, one but for choices;
3. the prompt's token ids, 4 bytes each, little-endian;
4. the completion's token ids, likewise;
5. their raw log probabilities, as IEEE 754 binary32, little-endian.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nextok_server.sequence import Request


def completion_digest(
    artifact_sha256: str,
    request: Request,
    token_ids: Sequence[int],
    logprobs: Sequence[float],
) -> str:
    """The digest of one completion, in hexadecimal."""
    stop = request.stop
    parameters: dict[str, Any] = {
        **asdict(request.sampling),
        "min_tokens": stop.min_tokens,
        "stop_token_ids": sorted(stop.stop_token_ids),
        "eos_token_ids": sorted(stop.eos_token_ids),
    }
    if request.drafts:
        parameters["drafts"] = True
    if request.grammar is not None:
        form = request.grammar.form
        parameters["constraint"] = {form.kind: form.texts}
    parts = (
        artifact_sha256.encode("ascii"),
        json.dumps(parameters, sort_keys=True, separators=(",", ":")).encode("ascii"),
        np.asarray(request.prompt, "<u4").tobytes(),
        np.asarray(token_ids, "<u4").tobytes(),
        np.asarray(logprobs, "<f4").tobytes(),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
