"""A sweep, measured run by run.

Knows the order of runs and what is noted around each. How load is put on is in `runner`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from nextok.bench import machine, runner
from nextok.bench.plan import plan
from nextok.bench.report import SCHEMA, Resources, Run, server_of
from nextok.bench.results import summarize
from nextok.bench.runner import Recording
from nextok.bench.settings import Settings
from nextok.model import Model
from nextok.security import Connection


class Bench:
    """Measures a server.

    Args:
        target: HOST:PORT.
        model: What it serves.
        memory: Its memory, if it can be known.
        connection: How connections to it are made; None: in the clear.
    """

    def __init__(
        self,
        target: str,
        model: Model,
        *,
        memory: machine.ServerMemory | None = None,
        connection: Connection | None = None,
    ) -> None:
        self._target = target
        self._connection = connection or Connection()
        self._model = model
        self._memory = memory
        self._client = machine.client_machine()
        endings = set(model.eos_token_ids)
        self._vocabulary = [i for i in range(model.vocabulary_size) if i not in endings]

    def measure(self, sweep: Sequence[Settings], *, repeats: int) -> Iterator[Run]:
        """Measures every setting once a round, so that what drifts falls on all of them.

        Args:
            sweep: The settings.
            repeats: Rounds.

        Yields:
            Each run as it ends; the last one is incomplete if it was interrupted.

        Raises:
            KeyboardInterrupt: Ctrl-C, after the incomplete run.
        """
        order = list(itertools.product(range(1, repeats + 1), sweep))
        for number, (repeat, settings) in enumerate(order, start=1):
            recording = Recording(settings.requests)
            started_at = datetime.now(UTC).isoformat(timespec="seconds")
            before = machine.load_average()
            connections = self._connections(settings)
            interrupted = False
            try:
                asyncio.run(self._run(number, settings, connections, recording))
            except KeyboardInterrupt:
                interrupted = True
            rss, peak = self._memory.read() if self._memory else (None, None)
            yield Run(
                schema=SCHEMA,
                run=number,
                runs=len(order),
                repeat=repeat,
                started_at=started_at,
                complete=not interrupted,
                target=self._target,
                connections=connections,
                settings=settings,
                server=server_of(self._model),
                client=self._client,
                resources=Resources(
                    client_cpu_seconds=recording.cpu_seconds,
                    load_average_before=before,
                    load_average_after=machine.load_average(),
                    server_rss_bytes=rss,
                    server_peak_rss_bytes=peak,
                ),
                results=summarize(recording.exchanges, end=recording.ended_at or 0.0),
            )
            if interrupted:
                raise KeyboardInterrupt

    async def _run(
        self, number: int, settings: Settings, connections: int, recording: Recording
    ) -> None:
        requests = plan(settings, run=number, vocabulary=self._vocabulary)
        # Drawn now, so that nothing is drawn while it is measured; fillers are, one by one.
        drawn = list(itertools.islice(requests, settings.warmup + settings.requests))
        async with runner.connect(
            self._target,
            connections=connections,
            timeout=settings.timeout,
            connection=self._connection,
        ) as generate:
            await runner.drive(generate, settings, itertools.chain(drawn, requests), recording)

    def _connections(self, settings: Settings) -> int:
        """As many as the server's limit of streams on each asks for.

        What waited for room on a connection would wait where no server sees it.
        """
        limits = self._model.limits
        streams = settings.streams or limits.slots + limits.max_queue
        return -(-streams // max(1, limits.max_streams_per_connection))
