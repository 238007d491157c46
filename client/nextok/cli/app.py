"""The commands.

Knows what each command asks the server and where its answer goes. How an answer looks is in
`looks` and `stream`; how failures end is in `ending`.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from nextok.attempts import DEFAULT_RESUME
from nextok.cli import connecting, forms, json_lines, looks, options, recordings, stream
from nextok.cli.bench import bench
from nextok.cli.contrast import contrast
from nextok.cli.demo import demo
from nextok.cli.doctor import doctor
from nextok.cli.ending import EPILOG, ExitCode, ends_well
from nextok.cli.explore import explore
from nextok.cli.score import score
from nextok.cli.step import step
from nextok.cli.web import web
from nextok.health import ServingStatus

app = typer.Typer(
    name="nextok",
    help="GPT-2, one token at a time: tokens and their probabilities from a nextok server.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run() -> None:
    """Runs the command that the arguments name, and exits."""
    for stream_ in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks is shown as "?", and ends nothing.
        if isinstance(stream_, io.TextIOWrapper):
            stream_.reconfigure(errors="replace")
    app(prog_name="nextok")


@app.command()
@ends_well
@connecting.connects
def tokenize(
    text: options.Text,
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Shows a text's tokens. With --json: one TextToken a line."""
    text = options.read_text(text)
    with connecting.client(target) as client:
        tokens = client.tokenize(text, timeout=timeout)
    if json:
        for token in tokens:
            json_lines.write_line(token)
    else:
        looks.console().print(looks.token_table(tokens))


@app.command()
@ends_well
@connecting.connects
def detokenize(
    ids: options.Ids,
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Writes the text of tokens. With --json: one DetokenizeResponse."""
    with connecting.client(target) as client:
        result = client.detokenize(ids, timeout=timeout)
    if json:
        json_lines.write_line(result)
    else:
        looks.console().out(looks.clean(result.text), highlight=False)


@app.command(name="next")
@ends_well
@connecting.connects
def next_token(
    text: options.Text,
    top: options.Top = 10,
    token_id: options.TokenId = [],  # noqa: B006 - typer's form of "none given"
    full_vocabulary: options.FullVocabulary = False,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    logit_bias: options.LogitBias = [],  # noqa: B006 - typer's form of "none given"
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Shows what could come next. With --json: one Distribution."""
    text, biases = options.read_text(text), options.read_logit_bias(logit_bias)
    with connecting.client(target) as client:
        distribution = client.next_token(
            text,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            logit_bias=biases,
            top_logprobs=top or 0,
            logprob_token_ids=token_id,
            full_vocabulary=full_vocabulary,
            timeout=timeout,
        )
    if json:
        json_lines.write_line(distribution)
        return
    console = looks.console()
    console.print(looks.candidate_table((*distribution.top_logprobs, *distribution.token_logprobs)))
    console.out(
        f"all others {distribution.tail_mass:.2%}, entropy {distribution.entropy:.2f} nats",
        highlight=False,
    )


@app.command()
@ends_well
@connecting.connects
def generate(
    text: options.Text,
    n: options.N = None,
    max_tokens: options.MaxTokens = None,
    min_tokens: options.MinTokens = None,
    stop: options.Stop = [],  # noqa: B006 - typer's form of "none given"
    stop_token_id: options.StopTokenId = [],  # noqa: B006 - typer's form of "none given"
    ignore_eos: options.IgnoreEos = False,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    logit_bias: options.LogitBias = [],  # noqa: B006 - typer's form of "none given"
    seed: options.Seed = None,
    top: options.Top = None,
    token_id: options.TokenId = [],  # noqa: B006 - typer's form of "none given"
    full_vocabulary: options.FullVocabulary = False,
    prompt_logprobs: Annotated[
        bool, typer.Option("--prompt-logprobs", help="Shows the prompt's own probabilities too.")
    ] = False,
    json_schema: forms.JsonSchema = None,
    regex: forms.Regex = None,
    grammar: forms.Grammar = None,
    choice: forms.Choice = [],  # noqa: B006 - typer's form of "none given"
    drafts: options.Drafts = None,
    record: recordings.Record = None,
    target: options.Target = options.DEFAULT_TARGET,
    resume: options.Resume = DEFAULT_RESUME,
    timeout: options.Timeout = None,
    json: options.Json = False,
    json_events: Annotated[
        bool,
        typer.Option(
            "--json-events",
            help="Like --json, but each line is a GenerateResponse: first prompt, then "
            "prompt_logprobs and steps, then finish and summary.",
        ),
    ] = False,
) -> None:
    """Continues a text, each token shaded by how surprising it was.

    With --top, a line a step with its candidates. With --n, one completion after the other. With
    --json, one Step a line, nothing else; steps of several completions come as they are computed.
    """
    text, biases = options.read_text(text), options.read_logit_bias(logit_bias)
    if record is not None and (n or 1) > 1:
        raise typer.BadParameter("--record takes one completion, without --n")
    form = forms.read_form(json_schema, regex, grammar, choice)
    with (
        connecting.client(target) as client,
        client.generate(
            text,
            n=n,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            logit_bias=biases,
            seed=seed,
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            stop=stop,
            stop_token_ids=stop_token_id,
            ignore_eos=ignore_eos,
            top_logprobs=top,
            logprob_token_ids=token_id,
            full_vocabulary=full_vocabulary,
            prompt_logprobs=prompt_logprobs,
            **form,
            drafts=drafts,
            resume=resume,
            timeout=timeout,
        ) as generation,
        recordings.recording(generation, record),
    ):
        if json or json_events:
            stream.write_json(generation, events=json_events)
        else:
            stream.show(generation, choices=n or 1, with_candidates=bool(top or token_id))


@app.command()
@ends_well
@connecting.connects
def info(
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Shows what is served. With --json: one GetModelResponse."""
    with connecting.client(target) as client:
        model = client.get_model(timeout=timeout)
    if json:
        json_lines.write_line(model)
    else:
        console = looks.console()
        console.print(looks.model_table(model))
        if model.certificate.comparisons:
            console.print(looks.certificate_table(model))


@app.command()
@ends_well
@connecting.connects
def health(
    service: Annotated[str, typer.Option(help="A service's full name.")] = "",
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Tells whether the server is ready; exits with 1 if not. With --json: its status."""
    with connecting.client(target) as client:
        status = client.health(service, timeout=timeout)
    if json:
        json_lines.write_line({"status": status})
    else:
        print(status)
    if status is not ServingStatus.SERVING:
        raise typer.Exit(ExitCode.ERROR)


app.command()(ends_well(connecting.connects(score)))
app.command()(ends_well(connecting.connects(explore)))
app.command()(ends_well(connecting.connects(contrast)))
app.command()(ends_well(connecting.connects(step)))
app.command()(ends_well(connecting.connects(bench)))
app.command()(ends_well(connecting.connects(recordings.replay)))
app.command()(ends_well(connecting.connects(doctor)))
app.command()(ends_well(demo))
app.command()(ends_well(connecting.connects(web)))
