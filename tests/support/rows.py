"""Rows as the graph would give them, from logits."""

import numpy as np

from nextok_server.sampling import Row, SamplingParams, inverse_temperature


def row_of(logits: np.ndarray, params: SamplingParams, k: int) -> Row:
    """A row of logits (V,) with its k most likely tokens, in the graph's float32 arithmetic."""
    logits = logits.astype(np.float32)
    shifted = logits - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum())
    order = np.array(sorted(range(len(logits)), key=lambda i: (-logprobs[i], i)))[:k]
    scaled = (logprobs - logprobs.max()) * np.float32(inverse_temperature(params))
    mass = float(np.exp(scaled).sum())
    entropy = -float((np.exp(logprobs) * logprobs).sum())
    return Row(logprobs, logprobs[order], order, float(logits.max()), mass, entropy)
