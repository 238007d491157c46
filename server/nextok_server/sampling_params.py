"""What a request says about choosing tokens.

Knows the parameters and what they ask of a step. Knows nothing of distributions. The values are
checked where requests come in, so nothing is checked here.
"""

from dataclasses import dataclass

import numpy as np

# Keeps differences of logits, times this, inside float32.
_LARGEST_INVERSE_TEMPERATURE = 1e30


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen from the model's distribution.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token.
        top_k: how many of the most likely tokens to keep; 0 keeps all.
        top_p: the most likely tokens are kept until their probabilities reach this sum.
        min_p: least probability to keep, as a fraction of the most likely token's.
        repetition_penalty: divides positive and multiplies negative logits of the tokens in the
            prompt and the completion.
        presence_penalty: taken off the logit of each token in the completion.
        frequency_penalty: taken off once for each time that the completion holds the token.
        logit_bias: pairs of a token id and what is added to its logit; each id once.
        seed: of the draws, 64 bits, unsigned.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, with no draw."""
        return self.temperature == 0


def inverse_temperature(params: SamplingParams) -> float:
    """The factor on the logits, for the graph's `inverse_temperature` and for the sampler alike.

    Rounded to float32, so that the graph's `temperature_mass` and the weights computed here are
    sums of the same terms. 1 where the request is greedy.
    """
    if params.greedy:
        return 1.0
    return float(np.float32(min(1.0 / params.temperature, _LARGEST_INVERSE_TEMPERATURE)))


def needs_occurrences(params: SamplingParams) -> bool:
    """Whether the parameters look at which tokens were there before."""
    return (
        params.repetition_penalty != 1
        or params.presence_penalty != 0
        or params.frequency_penalty != 0
    )
