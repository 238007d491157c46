"""`nextok explore`: what may follow a text, as a tree.

Knows what the command asks the server and how a tree looks. The tree goes to stdout, what is said
about it to stderr.
"""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from nextok.cli import connecting, json_lines, looks, options
from nextok.exploration import Exploration
from nextok.formatting import percent_of_logprob, quoted, tokens, tree_line
from nextok.trees import ExploreNode

_BAR_WIDTH = 10
_NODES = 64


def explore(
    text: options.Text,
    depth: options.Depth = None,
    width: options.Width = None,
    min_probability: options.MinProbability = None,
    max_nodes: options.MaxNodes = _NODES,
    max_seconds: options.MaxSeconds = None,
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
    json_events: Annotated[
        bool,
        typer.Option(
            "--json-events",
            help="Like --json, but each line is an ExploreResponse: first prompt, then nodes, "
            "then summary.",
        ),
    ] = False,
) -> None:
    """Shows the tree of likely continuations: each token with its probability after its parent.

    The likeliest nodes are shown, as measured from the text. With --json, one ExploreNode a line as
    they come, nothing else.
    """
    text = options.read_text(text)
    with (
        connecting.client(target) as client,
        client.explore(
            text,
            max_depth=depth,
            max_width=width,
            min_probability=min_probability,
            max_nodes=max_nodes,
            max_seconds=max_seconds,
            timeout=timeout,
        ) as exploration,
    ):
        if json_events:
            _write_events(exploration)
        elif json:
            for node in exploration:
                json_lines.write_line(node)
        else:
            _show(exploration, text)


def _write_events(exploration: Exploration) -> None:
    json_lines.write_line({"prompt": exploration.prompt})
    for node in exploration:
        json_lines.write_line({"nodes": [node]})
    json_lines.write_line({"summary": exploration.summary})


def _show(exploration: Exploration, text: str) -> None:
    exploration.read_nodes()
    tree = Tree(Text(quoted(text), style="bold"), guide_style="dim")
    branches = {0: tree}
    # A parent comes before its children, and of siblings the likelier one first.
    for node in exploration.nodes:
        branches[node.node_id] = branches[node.parent_id].add(_label(node))
    looks.console().print(tree, soft_wrap=True)
    about = looks.console(stderr=True)
    summary = exploration.summary
    if summary is not None:
        usage = summary.usage
        prompt = f"prompt {tokens(usage.prompt_tokens)} ({usage.cached_tokens} cached)"
        about.print(f"{tree_line(summary)}, {prompt}", style="dim", soft_wrap=True)


def _label(node: ExploreNode) -> Text:
    """A node's probability after its parent, a bar of it, the token, and that from the root."""
    candidate = node.candidate
    shown = looks.bar(math.exp(candidate.logprob), _BAR_WIDTH).ljust(_BAR_WIDTH)
    label = Text(f"{percent_of_logprob(candidate.logprob):>7} ")
    label.append(shown, style="cyan")
    label.append(f" {quoted(candidate.token)}", style="bold")
    if node.depth > 1:
        label.append(f"  {percent_of_logprob(node.cumulative_logprob)}", style="dim")
    return label
