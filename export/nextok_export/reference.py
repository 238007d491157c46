"""What a serving graph is measured against.

Two oracles that share no code with the serving graph: the checkpoint itself in torch, and the
portable ONNX graph that optimum makes of it. Both answer the same question: the distributions
after some positions of a text.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from transformers import GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from nextok_export.serving import Ids, open_session

_TEXTS_AT_A_TIME: Final = 8
"""Texts in one pass of torch: bounds what attention needs at once."""


class Reference(Protocol):
    """An oracle for one set of texts."""

    def logprobs(self, text: int, start: int, stop: int) -> torch.Tensor:
        """Log probabilities [stop - start, V] after positions start to stop of a text."""
        ...


def load_model(folder: Path) -> Any:
    """Reads the checkpoint into torch, as float32.

    Attention is eager: transformers' other implementations leave out
    `scale_attn_by_inverse_layer_idx` and `scale_attn_weights`.
    """
    with _quiet():
        model = GPT2LMHeadModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation="eager",
        )
    return model.eval()


def export_reference(model: Any, folder: Path) -> Path:
    """Writes optimum's portable graph with KV cache, task text-generation-with-past."""
    from optimum.exporters.onnx import onnx_export_from_model

    with _quiet():
        onnx_export_from_model(
            model=model,
            output=folder,
            task="text-generation-with-past",
            do_validation=False,  # it tries one random input and only warns; the certificate fails
        )
    return folder / "model.onnx"


class TorchReference:
    """The checkpoint in torch: texts of one length in one pass without a cache."""

    def __init__(self, model: Any, texts: Sequence[Ids]) -> None:
        """Computes the last hidden states [texts, n, W] of texts of one length."""
        self._head = model.lm_head
        ids = torch.from_numpy(np.stack(texts))
        starts = range(0, len(texts), _TEXTS_AT_A_TIME)
        parts = [ids[start : start + _TEXTS_AT_A_TIME] for start in starts]
        with torch.inference_mode():
            self._hidden = torch.cat(
                [model.transformer(part, use_cache=False).last_hidden_state for part in parts]
            )

    def logprobs(self, text: int, start: int, stop: int) -> torch.Tensor:
        """Log probabilities [stop - start, V] after positions start to stop of a text."""
        with torch.inference_mode():
            logits = self._head(self._hidden[text, start:stop])
            return torch.log_softmax(logits, dim=-1, dtype=torch.float64)


class OnnxReference:
    """The portable graph: the first tokens of all texts in one pass, then one at a time."""

    def __init__(self, path: Path, texts: Sequence[Ids], prompt: int) -> None:
        """Computes the logits of every text after its prompt's last token and from there on.

        Args:
            path: optimum's model.onnx.
            texts: of one length.
            prompt: tokens of the first pass; where it is the whole text, the logits of all
                positions are kept.
        """
        self._session = open_session(path)
        self._ids = np.stack(texts)
        self._past = {
            entry.name: np.zeros((len(texts), entry.shape[1], 0, entry.shape[3]), np.float32)
            for entry in self._session.get_inputs()
            if entry.name.startswith("past_key_values.")
        }
        first = self._forward(0, prompt)
        length = self._ids.shape[1]
        self._start = 0 if prompt == length else prompt - 1
        steps = [first[:, self._start :]]
        steps += [self._forward(place, place + 1) for place in range(prompt, length)]
        self._logits = np.concatenate(steps, axis=1)

    def logprobs(self, text: int, start: int, stop: int) -> torch.Tensor:
        """Log probabilities [stop - start, V] after positions start to stop of a text."""
        logits = self._logits[text, start - self._start : stop - self._start]
        return torch.log_softmax(torch.from_numpy(logits).double(), dim=-1)

    def _forward(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Logits [texts, stop - start, V]; the cache grows by as many tokens."""
        rows = len(self._ids)
        feeds = {
            "input_ids": self._ids[:, start:stop],
            "attention_mask": np.ones((rows, stop), np.int64),
            "position_ids": np.arange(start, stop)[None].repeat(rows, axis=0),
            **self._past,
        }
        names = [entry.name for entry in self._session.get_outputs()]
        results = dict(zip(names, self._session.run(None, feeds), strict=True))
        self._past = {
            name: results[name.replace("past_key_values", "present")] for name in self._past
        }
        return np.asarray(results["logits"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what torch, transformers and optimum say about their own insides."""
    optimum = logging.getLogger("optimum")
    levels = optimum.level, transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    optimum.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            traced: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]
            for category in (traced, UserWarning, FutureWarning, DeprecationWarning):
                warnings.filterwarnings("ignore", category=category)
            yield
    finally:
        optimum.setLevel(levels[0])
        transformers_logging.set_verbosity(levels[1])
        if bars:
            transformers_logging.enable_progress_bar()
