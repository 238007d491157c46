"""Where a request is in the server, held there: nothing has to be timed.

For a server in the test's own process. Its engine is held before a call of the model, its
tokenizer before a text, whenever the test says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from nextok_kernels.course import BatchChooser

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.model import Chunk, Model
from nextok_server.outgoing import Outgoing
from nextok_server.service import Service
from nextok_server.tokenizer import Tokenizer

PATIENCE = 30


class _Door:
    """Lets through, on other threads, until something is to be held."""

    def __init__(self) -> None:
        self._held: Callable[[Any], bool] | None = None
        self._changed = threading.Condition()
        self._waiting = threading.Event()

    def hold(self, wanted: Callable[[Any], bool]) -> None:
        """Holds the next thing that is wanted."""
        self._waiting.clear()
        self._held = wanted

    def pass_through(self, thing: Any) -> None:
        with self._changed:
            if self._held is not None and self._held(thing):
                self._waiting.set()
                assert self._changed.wait_for(lambda: self._held is None, PATIENCE)

    async def is_held(self) -> None:
        """Waits until something is held."""
        assert await asyncio.to_thread(self._waiting.wait, PATIENCE)

    @property
    def holds(self) -> bool:
        """Whether something is held now."""
        return self._waiting.is_set() and self._held is not None

    def open(self) -> None:
        """Lets everything through."""
        with self._changed:
            self._held = None
            self._changed.notify_all()


class Stages:
    """The doors, and what went through them.

    Attributes:
        before: In front of every call of the model.
        after: Behind it, before anybody is told.
        tokenizer: In front of every text.
        calls: What the model was asked to compute.
        written: Steps that were sent.
        given_up: Texts that nobody waits for any more.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before, self.after, self.tokenizer = _Door(), _Door(), _Door()
        self.calls: list[list[Chunk]] = []
        self.written = 0
        self.given_up = 0
        forward, again, encode = Model.forward, Model.again, Tokenizer.encode
        write, await_encode = Outgoing.write, Service._encode

        def held_forward(model: Model, chunks: list[Chunk], *args: Any, **options: Any) -> Any:
            self.before.pass_through(chunks)
            self.calls.append(chunks)
            outputs = forward(model, chunks, *args, **options)
            self.after.pass_through(chunks)
            return outputs

        def held_again(model: Model, chooser: BatchChooser, _most: int, seconds: float) -> Any:
            last = self.calls[-1]
            tokens = model.tokens(len(last))
            assert tokens is not None
            chunks = [
                Chunk(chunk.slot, int(position), [int(token_id)], chunk.wanted)
                for chunk, token_id, position in zip(
                    last, tokens.ids, tokens.positions, strict=True
                )
            ]
            self.before.pass_through(chunks)
            self.calls.append(chunks)
            outputs = again(model, chooser, 1, seconds)
            self.after.pass_through(chunks)
            return outputs

        def held_encode(tokenizer: Tokenizer, text: str) -> list[int]:
            self.tokenizer.pass_through(text)
            return encode(tokenizer, text)

        async def counted_write(outgoing: Outgoing, message: Any) -> None:
            await write(outgoing, message)
            if isinstance(message, bytes):  # a message with steps, encoded already
                self.written += len(pb.GenerateResponse.FromString(message).steps)

        async def watched_encode(service: Service, text: str) -> list[int]:
            try:
                return await await_encode(service, text)
            except asyncio.CancelledError:
                self.given_up += 1
                raise

        monkeypatch.setattr(Model, "forward", held_forward)
        monkeypatch.setattr(Model, "again", held_again)
        monkeypatch.setattr(Tokenizer, "encode", held_encode)
        monkeypatch.setattr(Outgoing, "write", counted_write)
        monkeypatch.setattr(Service, "_encode", watched_encode)

    def open(self) -> None:
        """Lets everything go on."""
        for door in (self.before, self.after, self.tokenizer):
            door.open()
