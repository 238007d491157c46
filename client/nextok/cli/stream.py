"""A generation as it streams: shaded text, or a line a step.

Knows how steps look while they come. Text goes to stdout, what is said about it to stderr, so
that a pipe gets the text alone.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from rich.console import Console

from nextok.candidates import Candidate
from nextok.cli import json_lines, looks
from nextok.formatting import percent, percent_of_logprob, quoted
from nextok.generation import Generation
from nextok.values import Finish, Step


def write_json(generation: Generation, *, events: bool) -> None:
    """Writes one object a step; with `events`, one GenerateResponse for all that comes.

    Ends of completions come after all steps.
    """
    if not events:
        for step in generation:
            json_lines.write_line(step)
        return
    json_lines.write_line({"prompt": generation.prompt})
    sent = 0
    for step in generation:
        scored = generation.prompt_logprobs
        if len(scored) > sent:
            json_lines.write_line({"prompt_logprobs": scored[sent:]})
            sent = len(scored)
        json_lines.write_line({"steps": [step]})
    if len(generation.prompt_logprobs) > sent:
        json_lines.write_line({"prompt_logprobs": generation.prompt_logprobs[sent:]})
    for finish in generation.finishes or (None,):
        json_lines.write_line({"finish": finish})
    json_lines.write_line({"summary": generation.summary})


def show(generation: Generation, *, choices: int = 1, with_candidates: bool = False) -> None:
    """Writes what comes as it comes, and at the end how it ended.

    Of several completions, the first is written as it comes. The next follows when that has ended,
    from what has come of it by then.

    Args:
        generation: Read to its end.
        choices: How many completions it has.
        with_candidates: A line a step, rather than the text alone.
    """
    console, about = looks.console(), looks.console(stderr=True)
    steps = _after_the_prompt(generation, console)
    for choice, own in enumerate(_in_turn(steps, generation, choices)):
        for step in own:
            if with_candidates:
                console.out(_step_line(step), highlight=False)
                console.file.flush()
            else:
                write_shaded(console, step.delta, step.surprisal)
        if not with_candidates:
            console.out("")
        if choices > 1:
            line = looks.completion_line(choice, _finish(generation, choice))
            about.print(line, style="dim", soft_wrap=True)
    for _ in steps:  # nothing but the end of the stream is left
        pass
    end = looks.finish_line(generation.finishes, generation.summary)
    about.print(end, style="dim", soft_wrap=True)


def _in_turn(
    steps: Iterator[Step], generation: Generation, choices: int
) -> Iterator[Iterator[Step]]:
    """Yields each completion's steps; they are to be read one completion after the other."""
    kept: defaultdict[int, deque[Step]] = defaultdict(deque)

    def of(choice: int) -> Iterator[Step]:
        count = 0
        while True:
            while kept[choice]:
                yield kept[choice].popleft()
                count += 1
            finish = _finish(generation, choice)
            if finish is not None and count == finish.completion_tokens:
                return
            step = next(steps, None)
            if step is None:
                return
            kept[step.choice].append(step)

    return map(of, range(choices))


def _finish(generation: Generation, choice: int) -> Finish | None:
    return next((finish for finish in generation.finishes if finish.choice == choice), None)


def _after_the_prompt(generation: Generation, console: Console) -> Iterator[Step]:
    """Yields the steps; writes the prompt before the first, if its probabilities came."""
    pending = True
    for step in generation:
        if pending and generation.prompt_logprobs:
            _write_prompt(generation, console)
        pending = False
        yield step


def _write_prompt(generation: Generation, console: Console) -> None:
    """Writes the prompt's tokens in lines of their own, shaded like the others."""
    for token in generation.prompt_logprobs:
        write_shaded(console, token.token, token.surprisal or 0.0)
    console.out("")


def write_shaded(console: Console, text: str, surprisal: float) -> None:
    """Writes a piece of a text that goes on, at once."""
    style = looks.shade(surprisal)
    # A coloured line end would paint the rest of the line.
    for number, line in enumerate(looks.clean(text).split("\n")):
        if number:
            console.out("")
        if line:
            console.out(line, style=style, end="", highlight=False)
    console.file.flush()


def _step_line(step: Step) -> str:
    chosen = f"{step.index:>4}  {quoted(step.token):<16} {percent_of_logprob(step.logprob):>8}"
    if step.allowed_mass is not None:
        chosen += f"  of {percent(step.allowed_mass):>7} allowed"
    others = "  ".join(short(c) for c in (*step.top_logprobs, *step.token_logprobs))
    return f"{chosen}  rank {step.rank:<5} {step.surprisal:5.2f} nats   {others}".rstrip()


def short(candidate: Candidate) -> str:
    """Returns a candidate in a few characters."""
    return f"{quoted(candidate.token)} {percent_of_logprob(candidate.logprob)}"
