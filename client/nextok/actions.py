"""What a client can say in an interactive generation, as messages of nextok.v1.

Knows the actions of Interact. Does not know when they are sent, nor what is answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from nextok.requests import filled, prompt_message
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types


def start(
    prompt: str | Sequence[int],
    *,
    sampling: types.SamplingParams,
    logprobs: types.LogprobOptions,
    constraint: types.Constraint | None = None,
) -> pb.InteractRequest:
    """Begins; branch 0 is there from then on."""
    return pb.InteractRequest(
        start=pb.StartAction(
            prompt=prompt_message(prompt),
            sampling=sampling,
            logprobs=logprobs,
            constraint=constraint,
        )
    )


def pick(branch_id: int, token_id: int) -> pb.InteractRequest:
    """Appends one token.

    Raises:
        ValueError: The id is not in 0 to 2**32 - 1.
    """
    action = filled(pb.PickAction(), token_id=token_id)
    return pb.InteractRequest(branch_id=branch_id, pick=action)


def sample(branch_id: int, count: int, sampling: types.SamplingParams | None) -> pb.InteractRequest:
    """Appends drawn tokens.

    Args:
        branch_id: Where.
        count: How many, at least 1.
        sampling: How from now on; None: as before.

    Raises:
        ValueError: `count` is less than 1, or no uint32.
    """
    if count < 1:
        # Each is answered once, so that there would be nothing to wait for.
        raise ValueError(f"count: is {count}, the least is 1")
    action = filled(pb.SampleAction(sampling=sampling), count=count)
    return pb.InteractRequest(branch_id=branch_id, sample=action)


def force(branch_id: int, tokens: str | Sequence[int]) -> pb.InteractRequest:
    """Appends a text or token ids."""
    action = pb.ForceAction(tokens=prompt_message(tokens, "tokens"))
    return pb.InteractRequest(branch_id=branch_id, force=action)


def rewind(branch_id: int, count: int) -> pb.InteractRequest:
    """Takes tokens off the end."""
    action = filled(pb.RewindAction(), count=count)
    return pb.InteractRequest(branch_id=branch_id, rewind=action)


def fork(branch_id: int) -> pb.InteractRequest:
    """Makes a new branch that starts as a copy of this one."""
    return pb.InteractRequest(branch_id=branch_id, fork=pb.ForkAction())


def switch(branch_id: int) -> pb.InteractRequest:
    """Makes a branch the current one."""
    return pb.InteractRequest(branch_id=branch_id, switch=pb.SwitchAction())


def drop(branch_id: int) -> pb.InteractRequest:
    """Gives a branch up."""
    return pb.InteractRequest(branch_id=branch_id, drop=pb.DropAction())


def stop() -> pb.InteractRequest:
    """Ends the call."""
    return pb.InteractRequest(stop=pb.StopAction())
