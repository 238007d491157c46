"""How an open sequence goes on once the distribution behind its last token is known.

Knows: orders, what is told of them. Does not know: slots, the model, who runs next.
"""

from __future__ import annotations

from nextok_server.distribution import advance, outlook
from nextok_server.events import Event
from nextok_server.orders import Fork
from nextok_server.sampling import Row
from nextok_server.sequence import Sequence


def go_on(sequence: Sequence, row: Row | None, *, lend: bool) -> list[tuple[Sequence, list[Event]]]:
    """Does what a sequence has been ordered to, as far as that needs no computation.

    Args:
        sequence: An open one that is not being computed.
        row: What stands behind its last token, with arrays of its own; None where that is to be
            computed again.
        lend: Whether sequences that are forked get the row too, before they have a slot.

    Returns:
        What became known, by sequence: of this one, and of those that were forked from it. Those
        that are `at_work` now have something to compute, and so have those that are not open.
    """
    own: list[Event] = []
    events = [(sequence, own)]
    while True:
        if sequence.at_work and row is not None:
            if sequence.forced or sequence.draws:
                own.append(advance(sequence, row))
                row = None
            else:
                own.append(outlook(sequence, row))
                sequence.at_work = False
        if sequence.at_work or not sequence.orders:
            sequence.row = row
            return events
        order = sequence.orders.popleft()
        if isinstance(order, Fork):
            events += _begin(order, sequence, row if lend else None, lend=lend)
        else:
            row = row if order.begin(sequence) else None
            sequence.at_work = True


def _begin(
    fork: Fork, sequence: Sequence, row: Row | None, *, lend: bool
) -> list[tuple[Sequence, list[Event]]]:
    """Begins a forked sequence, with the row if there is one that is of use to it."""
    child = fork.child
    if child.finished:
        return []
    known = fork.begin(sequence)
    if row is None or not known:
        return [(child, [])]
    if child.request.open:
        return go_on(child, row, lend=lend)
    return [(child, [advance(child, row)])]
