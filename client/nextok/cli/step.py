"""`nextok step`: the full-screen explorer.

Knows the command's options, and what is written when the explorer was left. The screen is in
`nextok.explorer`, which is imported only here, and only when the command runs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from nextok.async_branch import AsyncBranch
from nextok.cli import connecting, json_lines, looks, options
from nextok.cli.ending import CheckFailed
from nextok.errors import NextokError

_TOP = 50


def step(
    text: options.Text,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    logit_bias: options.LogitBias = [],  # noqa: B006 - typer's form of "none given"
    seed: options.Seed = None,
    top: options.Top = _TOP,
    target: options.Target = options.DEFAULT_TARGET,
    json: options.Json = False,
) -> None:
    """Steps through a text on the whole screen: look, choose, sample, type, undo, fork.

    Writes the branches' texts when it is left; with --json, one object a branch. Needs the
    extra `step`.
    """
    if importlib.util.find_spec("textual") is None:
        raise CheckFailed("textual is not installed; try: pip install 'nextok[step]'")
    if not sys.stdin.isatty():
        raise CheckFailed("the explorer needs a terminal to take keys from")
    from nextok.explorer.screen import Explorer

    text, biases = options.read_text(text), options.read_logit_bias(logit_bias)
    explorer = Explorer(
        lambda: connecting.async_client(target),
        lambda client: client.interact(
            text,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            logit_bias=biases,
            seed=seed,
            top_logprobs=_TOP if top is None else top,
        ),
    )
    explorer.run()
    _write(text, explorer.branches, json=json)
    match explorer.failure:
        case None:
            return
        case NextokError() as error:
            raise error
        case error:
            raise CheckFailed(str(error))


def _write(prompt: str, branches: Sequence[AsyncBranch], *, json: bool) -> None:
    for branch in branches:
        if json:
            json_lines.write_line(
                {
                    "branch_id": branch.branch_id,
                    "text": branch.text,
                    "token_ids": branch.token_ids,
                    "steps": branch.steps,
                }
            )
        else:
            console = looks.console()
            if len(branches) > 1:
                console.out(f"branch {branch.branch_id}", style="dim", highlight=False)
            console.out(looks.clean(prompt + branch.text), highlight=False)
