"""nextok beside the harness's own `hf` model: the same checkpoint, the same task files.

Runs where the harness is installed: `make test-lm-eval`.
"""

import asyncio
import json
import os
import subprocess
import sys

import numpy as np
import pytest

# Nothing is downloaded: the harness's libraries ask no hub.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
pytest.importorskip("lm_eval", reason="needs the extra lm-eval: make test-lm-eval")

import trustme
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from support.certificates import write
from support.serving import running_server

from nextok import lm_eval as adapter
from nextok_server.tokens_file import make_token

# What the harness and its libraries warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

CHOICES = """
task: tiny_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: "{delimiter}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
ROLLING = """
task: tiny_rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
"""
GENERATE = """
task: tiny_generate
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
generation_kwargs: {{until: ["e", "\\n\\n"], max_gen_toks: 20, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "king",
    "went",
    "to",
    "said",
    "and",
    "old",
    "house",
    "river,",
    "gold.",
    "never",
]
WORDS += ["\n", "\N{GRINNING FACE}"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Task files, with texts shorter and longer than the model's context of 128 tokens."""
    folder = tmp_path_factory.mktemp("tasks")
    random = np.random.default_rng(0)

    def text(words):
        return " ".join(random.choice(WORDS, words))

    documents = [
        {
            "question": "" if number == 7 else text(length),
            "choices": [text(int(n)) for n in random.integers(1, 9, 4)],
            "answer": number % 4,
        }
        for number, length in enumerate([3, 1, 40, 90, 118, 126, 300, 0, 1000, 12])
    ]
    (folder / "documents.jsonl").write_text("\n".join(map(json.dumps, documents)))
    # The hf model generates nothing from an empty text.
    whole = [document for document in documents if document["question"]]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, whole)))
    made = (
        ("choices", CHOICES, "documents"),
        ("rolling", ROLLING, "texts"),
        ("generate", GENERATE, "texts"),
    )
    for name, content, file in made:
        path = folder / f"{file}.jsonl"
        (folder / f"{name}.yaml").write_text(content.format(file=path, delimiter=" "))
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(scope="module")
def target(artifacts):
    """A server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "nextok_server", str(artifacts["fp32"]), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("nextok: listening on"), line
        yield line.split()[-1]
        process.kill()


def evaluate(tasks, task, model, **arguments):
    result = simple_evaluate(
        model=model, model_args=arguments, tasks=[task], task_manager=tasks, device="cpu"
    )
    samples = sorted(result["samples"][task], key=lambda sample: sample["doc_id"])
    return [sample["filtered_resps"] for sample in samples], result["results"][task]


@pytest.fixture(scope="module")
def both(tasks, target, checkpoint):
    """Evaluates a task by both models."""

    def run(task):
        hf = evaluate(tasks, task, "hf", pretrained=str(checkpoint), dtype="float32")
        return hf, evaluate(tasks, task, "nextok", target=target)

    return run


def test_multiple_choice_has_the_scores_of_hf(both):
    (expected, metrics), (found, our_metrics) = both("tiny_choices")
    assert len(found) == 10
    for theirs, ours in zip(expected, found, strict=True):
        assert [o[0] for o in ours] == pytest.approx([t[0] for t in theirs], abs=1e-4)
        assert [o[1] for o in ours] == [t[1] for t in theirs]
    for name in ("acc,none", "acc_norm,none"):
        assert our_metrics[name] == metrics[name]


def test_rolling_has_the_scores_of_hf_also_past_the_context(both):
    (expected, metrics), (found, our_metrics) = both("tiny_rolling")
    for theirs, ours in zip(expected, found, strict=True):
        # A text's is a sum over up to 1,700 tokens, each of them within 1e-4.
        assert ours == pytest.approx(theirs, abs=1e-4, rel=1e-6)
    for name in ("word_perplexity,none", "bits_per_byte,none"):
        assert our_metrics[name] == pytest.approx(metrics[name], rel=1e-4)


def test_generate_until_gives_the_texts_of_hf(both):
    (expected, _), (found, _) = both("tiny_generate")
    assert found == expected


def test_the_harnesss_command_line_knows_the_model(tasks, target, tmp_path):
    folder = tasks.include_path
    run = subprocess.run(
        [
            *(sys.executable, "-m", "nextok.lm_eval", "run", "--model", "nextok"),
            *("--model_args", f"target={target}", "--tasks", "tiny_choices"),
            *("--include_path", str(folder), "--output_path", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "tiny_choices" in run.stdout


async def test_the_model_connects_with_tls_and_a_token_from_files(artifacts, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server, client = write(tmp_path / "server", authority), write(tmp_path / "client", authority)
    token, entry = make_token("harness", ["model"], None)
    (tmp_path / "tokens.toml").write_text(entry.toml())
    (tmp_path / "token").write_text(token + "\n")
    async with running_server(
        artifacts["fp32"],
        tls_certificate=server.certificate,
        tls_key=server.key,
        tls_client_ca=tmp_path / "ca.pem",
        tokens_file=tmp_path / "tokens.toml",
    ) as running:
        model = await asyncio.to_thread(
            adapter.NextokLM,
            running.target,
            ca=str(tmp_path / "ca.pem"),
            certificate=str(client.certificate),
            key=str(client.key),
            token_file=str(tmp_path / "token"),
        )
        assert model.max_length == 128
        assert await asyncio.to_thread(model.tok_encode, "I love") == [40, 1842]


def test_a_generation_option_that_is_not_there_is_named(target):
    model = adapter.NextokLM(target)
    with pytest.raises(ValueError, match="num_beams"):
        model._generate("x", {"max_gen_toks": 4, "num_beams": 4})


def test_more_to_generate_than_the_context_holds_is_refused(target):
    model = adapter.NextokLM(target)
    with pytest.raises(ValueError, match="max_gen_toks: is 128, the range is 1 to 127"):
        model._generate("x", {"max_gen_toks": 128})
