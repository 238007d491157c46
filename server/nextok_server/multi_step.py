"""Several steps in a row that give the same sequences one token each.

Knows: which sequences need nothing but their next tokens, how these are chosen and fed back. Does
not know: who runs next, what a step costs, who reads.

While a step is read the processors wait, and most steps are like the last one. Here compiled code
chooses all tokens of a step, makes them the inputs of the next one, and has that computed in the
same run of the graph, until somebody is to be told or something else is to be done. What a sequence
is told of them is made when it is asked for, several tokens at once. Until then the sequence stands
where it stood before them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Protocol

from nextok_kernels.course import BatchChooser, Interrupt
from nextok_kernels.sampling import MOST_CANDIDATES, NOT_SETTLED, Chooser

from nextok_server.distribution import advance_at, changes_nothing
from nextok_server.events import Event, Step
from nextok_server.model import Distributions, Model, Tokens
from nextok_server.rows import Rows, described, request_of
from nextok_server.sequence import Sequence
from nextok_server.work import Work

# Fewer are not worth the preparation.
_LEAST_STEPS = 3
# Of one run, which nobody else learns anything of before it ends.
_MOST_STEPS, _MOST_SECONDS = 16, 0.1


@dataclass(slots=True)
class _Row:
    """A sequence, and what is known of it.

    Attributes:
        number: Of the row.
        known: What it has not been told.
        taken: Steps whose tokens it has, of those that are kept.
    """

    number: int
    sequence: Sequence
    known: list[Event] = field(default_factory=list)
    taken: int = 0


class Plan(Protocol):
    """What is planned of sequences from step to step."""

    def draft(self, sequence: Sequence) -> list[int]:
        """Tokens to compute behind its last one; the same when asked again."""

    def note_computed(self, work: Work) -> None:
        """Takes in what is computed."""


class MultiStep:
    """Steps of the same sequences. See `begin`.

    Attributes:
        sequences: By slot.
    """

    def __init__(
        self,
        model: Model,
        tokens: Tokens,
        sequences: Many[Sequence],
        most: int,
        plan: Plan,
        interrupt: Interrupt,
    ) -> None:
        self.sequences = sequences
        self._model = model
        self._tokens = tokens
        self._rows = [_Row(number, sequence) for number, sequence in enumerate(sequences)]
        self._left = most
        self._plan = plan
        self._drafting = [row for row in self._rows if row.sequence.drafter is not None]
        ends = (s.request.stop.eos_token_ids | s.request.stop.stop_token_ids for s in sequences)
        self._ends = frozenset[int]().union(*ends)
        self._chooser = BatchChooser(
            [_request(number, s, model.top_k) for number, s in enumerate(sequences)],
            tokens.outputs.packed,
            input_ids=tokens.ids.ctypes.data,
            position_ids=tokens.positions.ctypes.data,
            ends=self._ends,
            interrupt=interrupt,
            most=_MOST_STEPS,
        )
        # Of each step that not all have: when it ended, and what was chosen in it.
        self._chosen: list[tuple[float, bytes]] = []
        tokens.ids[:] = [sequence.tokens[-1] for sequence in sequences]
        tokens.positions[:] = [sequence.computed for sequence in sequences]

    @classmethod
    def begin(
        cls, model: Model, works: Many[Work], plan: Plan, interrupt: Interrupt
    ) -> MultiStep | None:
        """Makes ready for steps like the last one.

        Args:
            model: Has computed the works in its last call.
            works: By slot.
            plan: Knows what comes next.
            interrupt: Has runs end early.

        Returns:
            None where the next step is to be another one.
        """
        if model.top_k > MOST_CANDIDATES or not all(map(_goes_on, works)):
            return None
        sequences = [work.sequence for work in works]
        if any(map(plan.draft, sequences)):
            return None
        most = min(map(_most_steps, sequences))
        tokens = model.tokens(len(sequences))
        if most < _LEAST_STEPS or tokens is None:
            return None
        return cls(model, tokens, sequences, most, plan, interrupt)

    @property
    def over(self) -> bool:
        """Whether a sequence has ended, or is to be looked at before it goes on."""
        return self._left <= 0

    def step(self) -> list[float]:
        """Gives each sequence a token, and more while nobody is to be told.

        Returns:
            `time.monotonic()` when each was chosen.
        """
        began = time.monotonic()
        most = 1 if self._drafting else self._left
        until_told = min(row.sequence.tell_at for row in self._rows) - began
        outputs = self._model.again(self._chooser, most, min(until_told, _MOST_SECONDS))
        ended = [began + passed for passed in self._chooser.seconds]
        self._chosen += zip(ended, self._chooser.choices, strict=True)
        self._left -= len(ended)
        if not self._chooser.settled:
            self._choose_others(outputs)
        if self._ends and not self._ends.isdisjoint(self._tokens.ids.tolist()):
            self._left = 0
        for row in self._drafting:
            self._take(row)
            if not row.sequence.finished and self._plan.draft(row.sequence):
                self._left = 0
        return ended

    def due(self, now: float) -> list[tuple[Sequence, list[Event]]]:
        """What is known of the sequences that may be told again, and was not returned before."""
        told = [self._tell(row) for row in self._rows if row.sequence.tell_at <= now]
        self._drop_taken()
        return told

    def rest(self) -> list[tuple[Sequence, list[Event]]]:
        """The same of all that were not given up; these go on from there, other ways."""
        self._left = 0
        told = [self._tell(row) for row in self._rows if row.sequence.slot >= 0]
        return [(sequence, known) for sequence, known in told if known]

    def _choose_others(self, outputs: Distributions) -> None:
        """Chooses where a row's most likely tokens do not settle it."""
        rows = Rows(outputs, Chooser())
        for row in self._rows:
            if self._tokens.ids[row.number] != NOT_SETTLED:
                continue
            self._take(row)
            self._plan.note_computed(Work(row.sequence, 1))
            row.known.append(advance_at(row.sequence, rows, row.number))
            row.taken += 1
            self._tokens.ids[row.number] = row.sequence.tokens[-1]

    def _tell(self, row: _Row) -> tuple[Sequence, list[Event]]:
        self._take(row)
        known, row.known = row.known, []
        return row.sequence, known

    def _drop_taken(self) -> None:
        """Keeps no steps that all sequences have: a text's would be a kilobyte a token."""
        if done := min(row.taken for row in self._rows):
            del self._chosen[:done]
            for row in self._rows:
                row.taken -= done

    def _take(self, row: _Row) -> None:
        """Gives a sequence the tokens that were chosen for it and that it does not have."""
        sequence, known = row.sequence, len(row.known)
        for at, choices in self._chosen[row.taken :]:
            chosen = self._chooser.chosen(choices, row.number)
            if chosen is None:
                break
            token, distribution = described(chosen)
            step = Step(sequence.generated, token, False, distribution, None, at)
            step.drafted, step.accepted = sequence.drafted, sequence.accepted
            sequence.tokens.append(token.token_id)
            sequence.last_drawn_at = at
            row.known.append(step)
        if taken := len(row.known) - known:
            row.taken += taken
            self._plan.note_computed(Work(sequence, taken))
            # Only the last one can be the end: there are no steps behind that.
            step.finish = sequence.finish_reason()
            sequence.finished = step.finish is not None


def _goes_on(work: Work) -> bool:
    """Whether a sequence's next step is like this one, and the next token all that is chosen."""
    sequence = work.sequence
    return (
        work.size == 1
        and not sequence.request.open
        and not sequence.finished
        and sequence.first_drawn_at > 0
        and changes_nothing(sequence)
    )


def _most_steps(sequence: Sequence) -> int:
    """Steps after which a sequence ends at the latest, or pauses if nobody reads meanwhile."""
    unread = sequence.produced - sequence.read
    return min(sequence.request.stop.max_tokens - sequence.generated, sequence.window - unread)


def _request(number: int, sequence: Sequence, k: int) -> bytes:
    told = min(sequence.request.outputs.top, k)
    return request_of(number, sequence.sampling, len(sequence.tokens), told)
