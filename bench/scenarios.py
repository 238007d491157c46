"""What is measured: prompts, lengths, who takes part.

Knows: token ids and the names of contenders. Does not know: how anything is run.

Every go has prompts of its own, the same for all contenders, so that nothing that was kept from an
earlier one can be reused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from bench.job import Job

WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Entry:
    """A contender in a scenario.

    Attributes:
        contender: Its name.
        drafts: Whether its jobs allow drafts.
        reuse: Whether they allow the reuse of what prompts share.
        goes: How often it does the work in a round, in turns with the others that still do.
    """

    contender: str
    drafts: bool = False
    reuse: bool = False
    goes: int = 1

    @property
    def key(self) -> str:
        """Its name in the scenario's results."""
        return self.contender + " +drafts" * self.drafts + " +reuse" * self.reuse


@dataclass(frozen=True)
class Scenario:
    """One kind of work.

    Attributes:
        name: Its key in the results.
        about: What it is, for people.
        entries: Who takes part.
        streams: Prompts at the same time.
        prompt_tokens: Tokens of each prompt.
        output_tokens: Tokens to generate for each.
        figures: The figures of `Outcome.figures` that mean something here, by how they begin.
        rounds: Most rounds, where fewer than all are enough.
        temperature: 0 is greedy.
        period: Prompts repeat themselves after so many tokens; 0: they do not.
        shared: How many first tokens all prompts share.
        parts: Jobs that follow each other, with other prompts behind the same shared tokens.
    """

    name: str
    about: str
    entries: tuple[Entry, ...]
    streams: int = 1
    prompt_tokens: int = 64
    output_tokens: int = 128
    figures: tuple[str, ...] = ("decode", "whole", "first_token")
    rounds: int = 1_000_000
    temperature: float = 0.0
    period: int = 0
    shared: int = 0
    parts: tuple[str, ...] = ("",)

    def jobs(self, entry: Entry, number: int, go: int, vocabulary: int) -> dict[str, Job]:
        """The jobs of a go, by part; round 0 is the one to warm up and is shorter.

        Args:
            entry: Who does them.
            number: Of the round.
            go: Which of the round's.
            vocabulary: Size; the last id, GPT-2's end of text, is left out.
        """
        random = np.random.default_rng((zlib.crc32(self.name.encode()), number, go))
        prefix = random.integers(0, vocabulary - 1, self.shared)
        length = self.output_tokens if number else min(WARM_UP_TOKENS, self.output_tokens)
        jobs = {}
        for part in self.parts:
            own = self.period or self.prompt_tokens - self.shared
            drawn = random.integers(0, vocabulary - 1, (self.streams, own))
            if self.period:
                drawn = np.tile(drawn, self.prompt_tokens // self.period)
            prompts = [np.concatenate([prefix, row]).tolist() for row in drawn]
            jobs[part] = Job(
                prompts, length, self.temperature, entry.drafts, entry.reuse, self.shared
            )
        return jobs


def _entries(text: str, goes: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry(name, goes=goes) for name in text.split())


PEERS = (
    "transformers-fp32 optimum-fp32 ortgenai-fp32 ctranslate2-fp32 llamacpp-fp32 openvino-fp32 "
    "llamacpp-fp16 ctranslate2-int8 llamacpp-int8 openvino-int8 llamacpp-int4 openvino-int4 "
)
NEXTOK = "nextok-fp32 nextok-int8 nextok-int4 "
WITH_DRAFTS = (Entry("nextok-int8", drafts=True),)
# What is over in a second says little where the machine is now fast and now slow: it has more goes
# where it is compared with something as short that is nearly as fast.
UNPREDICTABLE = (Entry("nextok-int8", goes=5), Entry("nextok-int8", drafts=True, goes=5))
UNPREDICTABLE_32 = (Entry("nextok-int8", goes=2), Entry("nextok-int8", drafts=True, goes=2))
DRAFTED = (
    Entry("nextok-int8"),
    *WITH_DRAFTS,
    Entry("openvino-int8"),
    Entry("openvino-int8", drafts=True),
    Entry("llamacpp-int8"),
)
REUSED = (
    Entry("nextok-int8"),
    *(Entry(name, reuse=True) for name in ("nextok-int8", "openvino-int8", "llamacpp-int8")),
)

SCENARIOS = (
    Scenario(
        "streams_1",
        "one stream",
        _entries(PEERS + "nextok-fp32")
        + _entries("nextok-int8 nextok-int4 nextok-bare-int8 memory", goes=6)
        + WITH_DRAFTS,
    ),
    Scenario("streams_8", "8 streams", _entries(PEERS + NEXTOK) + WITH_DRAFTS, streams=8),
    Scenario(
        "streams_32",
        "32 streams",
        _entries(PEERS + "nextok-fp32 nextok-int4 nextok-plain-int8")
        + _entries("nextok-int8 nextok-bare-int8", goes=2)
        + WITH_DRAFTS,
        streams=32,
    ),
    Scenario(
        "prompt_512",
        "a prompt of 512 tokens",
        _entries(PEERS + NEXTOK),
        prompt_tokens=512,
        output_tokens=32,
    ),
    Scenario(
        "growth_1",
        "one stream up to a context of 1,000",
        _entries(
            "optimum-fp32 ctranslate2-int8 llamacpp-int8 openvino-int8 nextok-int8 "
            "llamacpp-int4 openvino-int4 nextok-int4"
        ),
        output_tokens=930,
        figures=("decode", "rate_at"),
        rounds=2,
    ),
    Scenario(
        "growth_8",
        "8 streams up to a context of 1,000",
        _entries("llamacpp-int8 openvino-int8 nextok-int8"),
        streams=8,
        output_tokens=930,
        figures=("decode", "rate_at"),
        rounds=2,
    ),
    Scenario(
        "repetitive",
        "a text that repeats itself: every draft is right",
        DRAFTED,
        period=16,
        figures=("decode", "whole"),
    ),
    Scenario(
        "unpredictable",
        "drawn at temperature 1: many drafts are wrong",
        UNPREDICTABLE,
        temperature=1.0,
        figures=("decode", "whole"),
    ),
    Scenario(
        "unpredictable_32",
        "32 streams drawn at temperature 1",
        UNPREDICTABLE_32,
        streams=32,
        temperature=1.0,
        figures=("decode", "whole"),
    ),
    Scenario(
        "prefix",
        "32 requests at once whose first 400 tokens are the same",
        REUSED,
        streams=32,
        prompt_tokens=416,
        output_tokens=8,
        figures=("first_token", "last_first_token"),
        rounds=3,
        shared=400,
        parts=("cold", "warm"),
    ),
)


def select(scenarios: Iterable[str], contenders: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios named, with the contenders named; all of them where none is.

    Raises:
        ValueError: A name is unknown; the message lists those that are known.
    """
    wanted, who = set(scenarios), set(contenders)
    known = {scenario.name for scenario in SCENARIOS}
    takes_part = {entry.contender for scenario in SCENARIOS for entry in scenario.entries}
    for given, names, kind in ((wanted, known, "scenario"), (who, takes_part, "contender")):
        if unknown := given - names:
            raise ValueError(f"no {kind} {', '.join(sorted(unknown))}; {', '.join(sorted(names))}")
    chosen = []
    for scenario in SCENARIOS:
        entries = tuple(entry for entry in scenario.entries if not who or entry.contender in who)
        if entries and (not wanted or scenario.name in wanted):
            chosen.append(replace(scenario, entries=entries))
    return tuple(chosen)


def quick() -> tuple[Scenario, ...]:
    """One stream of nextok at int8 against optimum's, 32 of nextok's against one, drafts or not."""
    (one,) = select(["streams_1"], ["optimum-fp32", "nextok-int8", "memory"])
    (many,) = select(["streams_32"], ["nextok-int8"])
    return one, many
