"""What a completion went through, for whoever traces the call that it belongs to.

Knows: the times that a sequence keeps. Does not know: spans.
"""

from __future__ import annotations

import time

from nextok_server import current_call
from nextok_server.sequence import Sequence


def tell_phases(sequence: Sequence) -> None:
    """Tells queue, prefill and decode, as far as it came."""
    tell, now = current_call.trace.get(), time.monotonic()
    started, first = sequence.started_at, sequence.first_drawn_at
    tell("queue", sequence.arrived_at, started or now, {})
    if started:
        prompt = {
            "gen_ai.usage.input_tokens": len(sequence.request.prompt),
            "nextok.cached_tokens": sequence.cached,
        }
        tell("prefill", started, first or now, prompt)
    if first:
        drawn = {"gen_ai.usage.output_tokens": sequence.generated}
        tell("decode", first, sequence.last_drawn_at, drawn)
