"""How tokens are chosen, as both doors of the application take it.

Knows the names of the options and their types. Ranges are the nextok server's to check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from nextok.web import bodies
from nextok.web.bodies import Body

Readers = Mapping[str, Callable[[str, Any], Any]]

# Under the names that Client.generate has for them.
SAMPLING: Final[Readers] = MappingProxyType(
    {
        "temperature": bodies.number,
        "top_k": bodies.count,
        "top_p": bodies.number,
        "min_p": bodies.number,
        "repetition_penalty": bodies.number,
        "presence_penalty": bodies.number,
        "frequency_penalty": bodies.number,
        "logit_bias": bodies.biases,
    }
)


def take_options(body: Body, readers: Readers) -> dict[str, Any]:
    """Takes the options that are given; the others keep the server's defaults."""
    return {
        name: value
        for name, read in readers.items()
        if (value := body.take(name, read, None)) is not None
    }
