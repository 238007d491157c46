"""Steps of an int8 cache, against the keys and values that torch keeps itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nextok_export.calibration import cache_scales
from nextok_export.texts import calibration_texts
from nextok_export.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def texts():
    random = np.random.default_rng(1)
    return [random.integers(0, 512, length) for length in (96, 5)]


def test_a_step_is_the_largest_magnitude_of_its_channel_with_room_for_a_tenth(oracle, texts):
    with torch.inference_mode():
        kept = [oracle.model(torch.from_numpy(ids)[None]).past_key_values for ids in texts]
    for layer, steps in enumerate(cache_scales(oracle.model, texts)):
        for part, step in enumerate(steps):
            states = [past[layer][part][0].abs().amax(dim=1) for past in kept]  # [heads, size]
            largest = torch.stack(states).amax(dim=0).flatten().numpy()
            np.testing.assert_allclose(step * 127, largest * 1.1, rtol=1e-5)


def test_looking_leaves_the_model_as_it_was(oracle, texts, text):
    before = oracle.logprobs(text)
    cache_scales(oracle.model, texts)
    np.testing.assert_array_equal(oracle.logprobs(text), before)
    assert not any(module._forward_hooks for module in oracle.model.modules())


def test_texts_fit_the_context_and_the_vocabulary(checkpoint):
    texts = calibration_texts(load_tokenizer(checkpoint, 512), 512, context=96)
    assert sum(map(len, texts)) > 500
    assert all(0 < len(ids) <= 96 and 0 <= ids.min() <= ids.max() < 512 for ids in texts)
