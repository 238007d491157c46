"""A server's process, seen from outside: its memory, and whether all of its places are free."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from h2.settings import SettingCodes
from support.h2_client import H2Client, message
from support.serving import generate_request

from nextok.v1 import text_generation_pb2 as pb

# Room for a prompt and some steps, after which a sequence pauses long before its last one.
WINDOW_BYTES = 1000
# Without anything new, after which nothing more will come.
PATIENCE_SECONDS = 5


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


async def free_slots(address: str, slots: int, waiting: int = 0) -> int:
    """How many slots are free, of those that there should be; the server does nothing else.

    As many streams start as there are places, and all have to be let in. Nobody reads more of one
    than its first steps, so who gets a slot keeps it: each that has a step has a slot of its own.
    """
    found, began = 0, time.monotonic()
    while found < slots and time.monotonic() - began < PATIENCE_SECONDS:
        async with H2Client(address) as client:
            found = max(found, await _slots_taken(client, slots, waiting))
        await asyncio.sleep(0.05)
    return found


async def _slots_taken(client: H2Client, slots: int, waiting: int) -> int:
    client.acknowledging = False
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
    client.h2.increment_flow_control_window(WINDOW_BYTES * (slots + waiting))
    streams = []
    for number in range(slots + waiting):
        request = generate_request([number + 1], max_tokens=120, ignore_eos=True)
        streams.append(client.call("Generate", message(request.SerializeToString())))
    await client.flush()

    def refused() -> int:
        return sum(client.status(stream) is not None for stream in streams)

    def taken() -> int:
        return sum(_has_a_step(client, stream) for stream in streams)

    def all_heard() -> bool:
        """Whether each was told its prompt, which is at once, or why it is not let in."""
        return all(client.messages(stream)[0] or client.status(stream) for stream in streams)

    with contextlib.suppress(TimeoutError):
        await client.until(lambda: taken() >= slots and all_heard(), PATIENCE_SECONDS)
    # Refused is who came before the server had heard of all that were given up before.
    return min(taken(), slots - refused())


def _has_a_step(client: H2Client, stream: int) -> bool:
    """Whether more came than the prompt; a message of many steps does not come in whole."""
    messages, more = client.messages(stream)
    return bool(more and messages) or any(
        pb.GenerateResponse.FromString(told).steps for told in messages
    )
