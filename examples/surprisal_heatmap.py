"""How surprising each token of a text is, as a page to look at.

python examples/surprisal_heatmap.py story.txt story.html

Needs `pip install nextok` and a server, by default localhost:50051 (NEXTOK_TARGET says where).
"""

from __future__ import annotations

import os
import sys
from html import escape
from pathlib import Path

from nextok import Client, Scoring

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 18px/1.6 Georgia, serif; max-width: 44em; margin: 2em auto; padding: 0 1em }}
</style>
<h1>{title}</h1>
<p>The stronger the colour of a token, the more it surprised {model}. Hover over it for what else
the model expected there.</p>
{text}
<h2>Most surprising</h2>
<ol>
{list}
</ol>
</html>
"""


def heatmap(scoring: Scoring, *, title: str, model: str) -> str:
    """Returns a page for a scoring that was read to its end."""
    told = [token for token in scoring.tokens if token.surprisal is not None]
    worst = sorted(told, key=lambda token: token.surprisal or 0.0, reverse=True)[:10]
    items = [
        f"<li><code>{escape(repr(token.token))}</code> at token {token.position}: "
        f"{token.surprisal:.1f} nats, rank {token.rank}</li>"
        for token in worst
    ]
    return PAGE.format(
        title=escape(title), model=escape(model), text=scoring._repr_html_(), list="\n".join(items)
    )


def main(source: str, target: str) -> None:
    """Scores a file, and writes the page."""
    with Client(os.environ.get("NEXTOK_TARGET", "localhost:50051")) as client:
        scoring = client.score(Path(source).read_text(encoding="utf-8"), top_logprobs=5)
        (total,) = scoring.read_totals()
        page = heatmap(scoring, title=Path(source).name, model=client.get_model().name)
    Path(target).write_text(page, encoding="utf-8")
    perplexity = "none" if total.perplexity is None else f"{total.perplexity:.1f}"
    print(f"{total.scored_tokens} tokens, perplexity {perplexity}: {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
