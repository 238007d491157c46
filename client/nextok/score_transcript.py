"""What a scoring has sent so far.

Knows the messages of a Score stream. Does not know how they arrive, which is why the sync and the
asyncio scoring share it.
"""

from __future__ import annotations

from collections import deque

from nextok import notebook, replies
from nextok.formatting import tokens
from nextok.scores import ScoreSummary, ScoreTotal
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import PromptInfo, ScoredToken


class ScoreTranscript:
    """What a scoring has sent so far, and which tokens were handed out.

    `tokens` holds those that `take` has handed out, `totals` whatever has arrived.
    """

    def __init__(self) -> None:
        self.prompt: PromptInfo | None = None
        self.tokens: list[ScoredToken] = []
        self.totals: list[ScoreTotal] = []
        self.summary: ScoreSummary | None = None
        self._waiting: deque[ScoredToken] = deque()

    def add(self, message: pb.ScoreResponse) -> None:
        """Takes in the next message of the stream."""
        if message.HasField("prompt"):
            self.prompt = replies.prompt_info(message.prompt)
        self._waiting.extend(map(replies.scored_token, message.tokens))
        if message.HasField("total"):
            self.totals.append(replies.score_total(message.total))
        if message.HasField("summary"):
            self.summary = replies.score_summary(message.summary)

    def take(self) -> ScoredToken | None:
        """Hands out the next token that has arrived, if one has."""
        if not self._waiting:
            return None
        token = self._waiting.popleft()
        self.tokens.append(token)
        return token

    def __repr__(self) -> str:
        state = "" if self.summary else ", not finished"
        return f"{tokens(len(self.tokens))} scored, {len(self.totals)} totals{state}"

    def _repr_html_(self) -> str:
        return notebook.scoring(self.tokens, self.totals)
