"""The examples do what they say, against a real server."""

import importlib.util
import os
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest

from nextok import Client

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "one-token-at-a-time.ipynb"
PROMPT = "Once upon a time there was"
EXECUTE = """
import sys, nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
NotebookClient(notebook, km=manager, timeout=100).execute()
nbformat.write(notebook, sys.argv[2])
"""


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments, target):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment(target), check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def environment(target):
    return os.environ | {"NEXTOK_TARGET": target, "PYTHONUTF8": "1"}


@pytest.fixture(scope="module")
def executed(target, tmp_path_factory):
    """The notebook after its execution, its outputs a list for each cell of code."""
    path = tmp_path_factory.mktemp("executed") / "executed.ipynb"
    # In a process of its own, as by `jupyter execute`: nbclient leaves sockets for the collector.
    command = [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(path)]
    # There, since it leaves its sockets where it is run.
    subprocess.run(command, env=environment(target), cwd=path.parent, timeout=120, check=True)
    cells = nbformat.read(path, as_version=4).cells
    return [cell.outputs for cell in cells if cell.cell_type == "code"]


def shown(outputs, kind="text/html"):
    return "".join(output["data"][kind] for output in outputs if "data" in output)


def printed(outputs):
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_the_notebook_shows_the_sentences_tokens(executed):
    assert printed(executed[2]) == "40 1842 2980 876 9552\n"
    table = shown(executed[1])
    for word in ("I", " love", " Gener", "ative", " AI"):
        assert f"&#x27;{word}&#x27;" in table


def test_the_notebook_shows_candidates_and_appends_the_likeliest(executed, target):
    assert shown(executed[3]).count("<tr>") == 11
    assert shown(executed[4]).count(">cut<") == 2
    lines = printed(executed[5]).splitlines()
    with Client(target) as client:
        generated = client.generate("I love Generative AI", temperature=0, max_tokens=8)
        steps = list(generated)
    assert [int(line.rpartition("id")[2].split()[0]) for line in lines[:8]] == [s.id for s in steps]
    assert lines[-1] == "I love Generative AI" + generated.text


def test_the_notebook_shades_generations_scores_branches_and_contrasts(executed):
    generation, step, scores, branches, contrast = (shown(executed[i]) for i in (7, 8, 9, 10, 11))
    assert generation.count("rgba(255,110,0") == 60
    assert generation.count("5. &#x27;") >= 60
    assert step.count("<tr>") == 6
    assert "perplexity" in scores
    assert branches.count(", 15 tokens") == 3
    assert contrast.count("<tr>") == 9


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.text, self.hovers, self.addresses = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.hovers += [attrs["title"]] if tag == "span" else []
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]

    def handle_data(self, data):
        self.text += data


def test_the_heat_map_is_a_page_by_itself_with_every_token(target, tmp_path):
    source, page = tmp_path / "story.txt", tmp_path / "story.html"
    source.write_text("Once upon a time <b>there</b> was é 🙂.", encoding="utf-8")
    assert "perplexity" in run("surprisal_heatmap", source, page, target=target)
    shown = Page(page.read_text(encoding="utf-8"))
    assert "Once upon a time <b>there</b> was" in shown.text
    with Client(target) as client:
        tokens = client.tokenize(source.read_text(encoding="utf-8"))
    assert len(shown.hovers) == len(tokens)
    assert "5. " in shown.hovers[3]
    assert shown.addresses == []


def test_what_if_follows_each_of_the_likeliest_candidates(target):
    what_if = example("what_if").what_if
    with (
        Client(target) as client,
        client.interact(PROMPT, temperature=0, top_logprobs=5) as session,
    ):
        prompt = session.prompt.tokens.ids
        trunk = session.branch
        branches = what_if(session, 2, ways=3, tokens=4)
        here = trunk.distribution.top_logprobs[:3]
        for branch, candidate in zip(branches, here, strict=True):
            assert branch.token_ids[:3] == (*trunk.token_ids, candidate.id)
            begun = [*prompt, *branch.token_ids[:3]]
            steps = client.generate(begun, temperature=0, max_tokens=4)
            assert [step.id for step in steps] == [*branch.token_ids[3:]]
    assert len(run("what_if", PROMPT, 2, target=target).splitlines()) == 6


@pytest.mark.parametrize(("width", "length"), [(1, 5), (4, 6), (7, 3)])
def test_beam_search_finds_what_brute_force_with_torch_finds(target, torch_logprobs, width, length):
    beam_search = example("beam_search").beam_search
    with Client(target) as client, client.interact(PROMPT, top_logprobs=width) as session:
        prompt = session.prompt.tokens.ids
        found = [(b.token_ids, logprob) for b, logprob in beam_search(session, width, length)]
        # The last step of brute force below is as wide as the others: none was lost on the way.
        assert len(session.branches) == width
    beams = [((), 0.0)]
    for _ in range(length):
        rows = [torch_logprobs([*prompt, *ids])[-1] + before for ids, before in beams]
        best = np.argsort(-np.stack(rows), axis=None)[:width]
        places = [np.unravel_index(place, (len(rows), len(rows[0]))) for place in best]
        beams = [((*beams[beam][0], int(token)), rows[beam][token]) for beam, token in places]
    # No two are so close that rounding could decide between them.
    assert all(a - b > 1e-5 for (_, a), (_, b) in pairwise(beams))
    assert [ids for ids, _ in found] == [ids for ids, _ in beams]
    assert [logprob for _, logprob in found] == pytest.approx([x for _, x in beams], abs=1e-4)


def test_beam_search_runs_from_the_shell(target):
    lines = run("beam_search", PROMPT, 3, 4, target=target).splitlines()
    assert len(lines) == 3
    logprobs = [float(line.split()[0]) for line in lines]
    assert logprobs == sorted(logprobs, reverse=True)
