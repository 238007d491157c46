"""Prints, as JSON, what a client gets from a server: python front_door.py HOST:PORT."""

from __future__ import annotations

import json
import sys

from nextok import Client, InvalidArgument

TEXT = "I love Generative AI"


def main(address: str) -> None:
    """Asks for a table of tokens, a stream, the whole vocabulary, and what is out of range."""
    with Client(address) as client:
        table = [(token.id, token.token) for token in client.tokenize(TEXT)]
        asked = {"temperature": 0.8, "seed": 15, "ignore_eos": True}
        stream = client.generate(TEXT, max_tokens=40, top_logprobs=5, **asked)
        steps = [
            (
                step.id,
                step.logprob,
                step.entropy,
                [(top.id, top.logprob) for top in step.top_logprobs],
            )
            for step in stream
        ]
        (step,) = client.generate(TEXT, max_tokens=1, full_vocabulary=True, **asked)
        refused = []
        try:
            list(client.generate(TEXT, temperature=-1.0))
        except InvalidArgument as error:
            refused = [violation.field for violation in error.violations]
    whole = list(step.full_logprobs)
    print(json.dumps({"table": table, "steps": steps, "whole": whole, "refused": refused}))


if __name__ == "__main__":
    main(sys.argv[1])
