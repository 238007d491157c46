"""How large the keys and values of a model get, channel by channel.

Knows the checkpoint in torch. Knows nothing of the serving graph.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch

from nextok_export.quantize import FloatArray
from nextok_export.serving import Ids

CacheScales = list[tuple[FloatArray, FloatArray]]
"""For each layer, the steps of its keys and of its values: float32 [heads * head_dim] each."""

_MARGIN: Final = 1.1
"""Room above the largest magnitude that was seen, for texts that were not."""


def cache_scales(model: Any, texts: Iterable[Ids]) -> CacheScales:
    """Chooses the steps of an int8 cache.

    A channel that was never anything but zero gets a step of one: it holds zero exactly.

    Args:
        model: the checkpoint, a GPT2LMHeadModel.
        texts: what the model reads; each at most the context's length.
    """
    layers = model.transformer.h
    largest = [torch.zeros(2 * model.config.n_embd) for _ in layers]

    def watch(i: int) -> Any:
        def seen(_module: Any, _inputs: Any, packed: torch.Tensor) -> None:
            states = packed[..., model.config.n_embd :]  # keys and values, side by side
            largest[i] = torch.maximum(largest[i], states.abs().flatten(0, -2).amax(dim=0))

        return layers[i].attn.c_attn.register_forward_hook(seen)

    hooks = [watch(i) for i in range(len(layers))]
    try:
        with torch.inference_mode():
            for ids in texts:
                model.transformer(torch.from_numpy(ids)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [_steps(states) for states in largest]


def _steps(largest: torch.Tensor) -> tuple[FloatArray, FloatArray]:
    steps = largest.numpy() * np.float32(_MARGIN / 127)
    steps[steps == 0] = 1
    keys, values = np.split(steps, 2)
    return keys, values
