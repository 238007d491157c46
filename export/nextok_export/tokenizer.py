"""The checkpoint's tokenizer, in the one form that the server reads.

Knows `tokenizers` and how transformers reads a folder. Accepts GPT-2's kind alone: byte-level
byte-pair encoding.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from nextok_export.errors import UnsupportedModelError


def load_tokenizer(folder: Path, vocabulary_size: int) -> Any:
    """Reads a checkpoint's tokenizer.

    Args:
        folder: holds tokenizer.json, or vocab.json and merges.txt.
        vocabulary_size: ids that the model has an embedding for.

    Returns:
        A `tokenizers.Tokenizer` that neither cuts nor pads.

    Raises:
        UnsupportedModelError: there is none, it is of another kind, or it has ids that the model
            has not.
    """
    whole = (folder / "tokenizer.json").is_file()
    if not whole and not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        raise UnsupportedModelError(f"{folder}: no tokenizer.json, nor vocab.json and merges.txt")
    backend = _read(folder)
    backend.no_truncation()
    backend.no_padding()
    form = json.loads(backend.to_str())
    kind, decoder = form["model"]["type"], (form["decoder"] or {}).get("type")
    if (kind, decoder) != ("BPE", "ByteLevel"):
        raise UnsupportedModelError(
            f"{folder}: the tokenizer's model is {kind!r} and its decoder {decoder!r}; "
            "supported: 'BPE' with 'ByteLevel'"
        )
    highest = max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= vocabulary_size:
        raise UnsupportedModelError(
            f"{folder}: the tokenizer has the id {highest}, vocab_size is {vocabulary_size}"
        )
    return backend


def _read(folder: Path) -> Any:
    from transformers import GPT2TokenizerFast

    try:
        with warnings.catch_warnings():
            # Advice on transformers' own use of tokenizers.
            warnings.filterwarnings("ignore", category=FutureWarning)
            fast = GPT2TokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises bare Exception on bad files
        raise UnsupportedModelError(f"{folder}: the tokenizer cannot be read: {error}") from error
    return fast.backend_tokenizer
