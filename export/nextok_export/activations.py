"""The activations of an MLP, by the names that config.json gives them."""

from dataclasses import dataclass, field
from typing import Final

from nextok_export.tape import MICROSOFT


@dataclass(frozen=True)
class Activation:
    """An operator that computes an activation.

    Attributes:
        operator: its name.
        domain: its domain.
        attributes: its attributes.
        takes_bias: whether it adds a bias itself, as its second input.
    """

    operator: str
    domain: str = ""
    attributes: dict[str, float] = field(default_factory=dict)
    takes_bias: bool = False


_TANH_GELU: Final = Activation("FastGelu", MICROSOFT, takes_bias=True)
_ERF_GELU: Final = Activation("Gelu", MICROSOFT)
_SILU: Final = Activation("QuickGelu", MICROSOFT, {"alpha": 1.0})

ACTIVATIONS: Final[dict[str, Activation]] = {
    "gelu_new": _TANH_GELU,
    "gelu_fast": _TANH_GELU,
    "gelu_accurate": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "gelu_python_tanh": _TANH_GELU,
    "gelu": _ERF_GELU,
    "gelu_python": _ERF_GELU,
    "quick_gelu": Activation("QuickGelu", MICROSOFT, {"alpha": 1.702}),
    "silu": _SILU,
    "swish": _SILU,
    "relu": Activation("Relu"),
    "mish": Activation("Mish"),
    "sigmoid": Activation("Sigmoid"),
    "tanh": Activation("Tanh"),
}
