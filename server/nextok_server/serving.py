"""What the rpcs that compute share: their means, a request's place, its messages' way out.

Knows: gRPC's context, the runner. Does not know: what an rpc does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.handlers import Context
from nextok_server.outgoing import Outgoing
from nextok_server.replies import Replies
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.score_requests import Encode
from nextok_server.sequence import Outputs
from nextok_server.streams import Admission
from nextok_server.write_limit import WriteLimit


@dataclass(frozen=True, slots=True)
class Serving:
    """What a call is served with.

    Attributes:
        runner: Runs sequences.
        limits: Of requests.
        encode: Text to token ids.
        prompt_info: What a prompt was read as.
        replies: Builds messages.
        write_limit: How long a message may be left unread.
    """

    runner: Runner
    limits: Limits
    encode: Encode
    prompt_info: Callable[[Many[int]], pb.PromptInfo]
    replies: Replies
    write_limit: WriteLimit

    @contextlib.contextmanager
    def admitted(self, context: Context, tokens: int = 0) -> Iterator[Admission]:
        """A place for a call, until it ends in whichever way.

        Args:
            context: Of the call.
            tokens: That it is sure to draw, at least.

        Raises:
            ServerError: There is none; see `Runner.admit`.
        """
        admission = self.runner.admit(tokens)
        # Besides `finally` below: a handler that is torn down may not get to it in time.
        # (The stubs type the callback as a class rather than a protocol.)
        context.add_done_callback(lambda _: self.runner.leave(admission))  # type: ignore[arg-type]
        try:
            yield admission
        finally:
            self.runner.leave(admission)

    def outgoing(self, context: Context, outputs: Outputs) -> Outgoing:
        """The way out of a call's messages, with events that hold so much."""
        return Outgoing(context, self.runner, outputs, self.write_limit)
