"""From what a person calls a model to a folder on disk.

Knows the bundled checkpoint, local folders and the Hugging Face hub.
"""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from nextok_export.errors import UsageError

DEMO: Final = "demo"
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WANTED: Final = ("*.json", "*.safetensors", "merges.txt")


@dataclass(frozen=True)
class Source:
    """A checkpoint's folder, and the name that the model goes by."""

    folder: Path
    name: str


def locate(model: str) -> Source:
    """Finds a checkpoint, downloading it if it is a hub id.

    Args:
        model: `demo`, a folder, or a hub id such as `openai-community/gpt2`. A folder goes before
            a hub id of the same name.

    Raises:
        UsageError: there is no such checkpoint.
    """
    if model == DEMO:
        return Source(Path(str(files("nextok_export"))) / "demo", "nextok-demo")
    folder = Path(model)
    if model and folder.is_dir():
        return Source(folder, folder.resolve().name)
    if folder.is_file():
        raise UsageError(f"MODEL is {model!r}; allowed: a folder, this is a file")
    if not _HUB_ID.fullmatch(model):
        raise UsageError(f"MODEL is {model!r}; allowed: 'demo', a folder, or a hub id")
    return Source(_download(model), model)


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(model, allow_patterns=list(_WANTED), ignore_patterns=["*/*"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"MODEL is {model!r}; there is no such folder, and the hub says: {error}"
        ) from error
    return Path(found)
