"""Completions that keep to a form, and what each step shows of it."""

from __future__ import annotations

import asyncio
import json
import re

import numpy as np
import pytest
from support.serving import generate, running_server

from nextok.v1 import types_pb2 as types

pytestmark = pytest.mark.asyncio(loop_scope="session")

EOS = 50256
STOP, LENGTH = types.FINISH_REASON_STOP, types.FINISH_REASON_LENGTH


def choices(*texts: str) -> types.Constraint:
    return types.Constraint(choices=types.Constraint.Choices(texts=texts))


def regex(pattern: str) -> types.Constraint:
    return types.Constraint(regex=pattern)


def matched(finish: types.Finish) -> str | None:
    return finish.WhichOneof("matched")


@pytest.mark.parametrize(
    "pattern",
    [
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
        r"(yes|no|maybe)( (yes|no|maybe)){0,3}\.",
        r"[a-z]{3,12} [A-Z][a-z]{0,5}",
        r"[\u03b1-\u03c9]{2,6}",
        r"(🎉|é|ß){1,4}",
        r"\d{1,4}(\.\d{2})?(e[+-]\d{1,3})?!",
        r"a?b?c?d",
    ],
)
async def test_a_completion_matches_the_whole_expression(fp32_server, pattern):
    replies = await asyncio.gather(
        *(
            generate(fp32_server, "Say", constraint=regex(pattern), seed=seed, max_tokens=100)
            for seed in range(8)
        )
    )
    ended = [reply for reply in replies if reply.finish.finish_reason == STOP]
    assert len(ended) >= 6
    for reply in ended:
        assert re.fullmatch(pattern, reply.text), reply.text
    for reply in replies:
        assert reply.ids.count(EOS) == (matched(reply.finish) == "eos_token_id")


async def test_a_completion_is_exactly_one_of_the_choices(fp32_server):
    texts = ["yes", "no", "yesterday", "not yet", 'a "quote"\\\n', "\x00\x7f", "🎉é", "/a/", " yes"]
    replies = await asyncio.gather(
        *(
            generate(fp32_server, "Well?", constraint=choices(*texts), seed=seed, temperature=100)
            for seed in range(60)
        )
    )
    assert {reply.text for reply in replies} == set(texts)
    assert {reply.finish.finish_reason for reply in replies} == {STOP}
    for reply in replies:
        # Where nothing may follow, the completion ends; where something may, the model ends it.
        may_go_on = reply.text in ("yes", "no")
        assert matched(reply.finish) == ("eos_token_id" if may_go_on else None)


async def test_a_grammar_of_rules_is_kept_to(fp32_server):
    grammar = """
        start: "(" list ")"
        list: item ("," item)*
        item: NUMBER | "(" list ")"
        NUMBER: /[1-9][0-9]{0,2}/
    """
    constraint = types.Constraint(grammar=grammar)
    replies = await asyncio.gather(
        *(
            generate(fp32_server, "x =", constraint=constraint, seed=seed, temperature=0.5)
            for seed in range(8)
        )
    )
    ended = [reply.text for reply in replies if reply.finish.finish_reason == STOP]
    assert ended
    for text in ended:
        json.loads(text.replace("(", "[").replace(")", "]"))


async def test_a_form_that_is_not_complete_when_the_tokens_end_says_so(fp32_server):
    reply = await generate(fp32_server, "x", constraint=regex("[a-z]{200}"), max_tokens=5)
    assert reply.finish.finish_reason == LENGTH
    reply = await generate(fp32_server, [1] * 120, constraint=regex("[a-z]{2000}"))
    assert reply.finish.finish_reason == types.FINISH_REASON_CONTEXT
    assert re.fullmatch("[a-z]+", reply.text)


async def test_a_step_shows_what_the_mask_does_and_leaves_raw_values_as_they_are(fp32_server):
    options = {"top_logprobs": 64, "full_vocabulary": True, "max_tokens": 4, "seed": 3}
    plain = await generate(fp32_server, "Once", **options)
    reply = await generate(fp32_server, "Once", constraint=regex("[a-z ]+"), **options)
    assert not any(step.HasField("allowed_mass") for step in plain.steps)
    first, free = reply.steps[0], plain.steps[0]
    assert first.full_logprobs == free.full_logprobs
    for name in ("entropy", "top_mass", "tail_mass", "margin"):
        assert getattr(first, name) == getattr(free, name)
    for raw, shown in zip(free.top_logprobs, first.top_logprobs, strict=True):
        assert (raw.id, raw.logprob, raw.rank) == (shown.id, shown.logprob, shown.rank)
        assert shown.kept == bool(re.fullmatch("[a-z ]+", shown.token))
        assert (shown.prob > 0) == shown.kept


@pytest.mark.parametrize("form", ["[a-z ]+", "[0-9]{9}", "[^x]*", "(yes|no)+"])
async def test_the_allowed_mass_is_the_float64_sum_over_the_tokens_that_fit(fp32_server, form):
    tokens = [fp32_server.tokenizer.token_bytes(i).decode("utf-8", "replace") for i in range(EOS)]
    reply = await generate(
        fp32_server, "Once", constraint=regex(form), full_vocabulary=True, max_tokens=3, seed=3
    )
    # Of the first token, what fits can be told without a matcher.
    fits = {"(yes|no)+": "y|ye|(yes|no)+(y|ye|n)?|n", "[0-9]{9}": "[0-9]{1,9}"}.get(form, form)
    (step, *_) = reply.steps
    logprobs = np.array(step.full_logprobs, np.float64)
    allowed = [i for i, t in enumerate(tokens) if "\ufffd" not in t and re.fullmatch(fits, t)]
    exact = np.exp(logprobs[allowed]).sum()
    # Tokens that are half a character fit some forms too.
    halves = [i for i, t in enumerate(tokens) if "\ufffd" in t]
    slack = np.exp(logprobs[halves]).sum() + np.exp(logprobs[EOS]) if form == "[^x]*" else 0.0
    assert exact * (1 - 1e-5) <= step.allowed_mass <= (exact + slack) * (1 + 1e-5)


async def test_the_mask_comes_before_temperature_and_filters(fp32_server):
    options = {"top_logprobs": 64, "full_vocabulary": True, "max_tokens": 1}
    for temperature, top_k, top_p in ((0.5, 0, 1.0), (2.0, 5, 1.0), (0.7, 40, 0.8), (0.0, 0, 1.0)):
        reply = await generate(
            fp32_server,
            "Once",
            constraint=choices(*"abcdefghijklmnopqrstuvwxyz"),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            token_ids=range(64, 90),  # the letters
            seed=1,
            **options,
        )
        (step,) = reply.steps
        letters = np.array([c.logprob for c in step.token_logprobs], np.float64)
        order = np.argsort(-letters, kind="stable")
        keep = order[: (1 if temperature == 0 else top_k or 26)]
        weights = np.exp((letters[keep] - letters[keep[0]]) / (temperature or 1.0))
        probs = weights / weights.sum()
        count = int(np.searchsorted(np.cumsum(probs), top_p)) + 1 if top_p < 1 else len(keep)
        expected = np.zeros(26)
        expected[keep[:count]] = probs[:count] / probs[:count].sum()
        shown = [c.prob for c in step.token_logprobs]
        np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-9)
        assert [c.kept for c in step.token_logprobs] == (expected > 0).tolist()


async def test_greedy_takes_the_likeliest_token_that_is_allowed(fp32_server):
    for pattern in ("[a-z ]+", "[0-9]{20}", "(yes|no)+"):
        reply = await generate(
            fp32_server,
            "Once",
            constraint=regex(pattern),
            temperature=0,
            max_tokens=8,
            full_vocabulary=True,
            seed=1,
        )
        for step in reply.steps:
            logprobs = np.array(step.full_logprobs)
            better = np.flatnonzero(logprobs > step.logprob)
            text = b"".join(s.bytes for s in reply.steps[: step.index])
            for token_id in better[better != EOS][:50].tolist():
                longer = text + fp32_server.tokenizer.token_bytes(token_id)
                assert not re.fullmatch(pattern.replace("{20}", "{1,20}"), longer.decode("latin-1"))


async def test_the_same_constrained_request_gives_the_same_bits_alone_and_in_a_crowd(artifacts):
    forms = [
        regex("[a-z ]{40,}"),
        choices("yes", "no", "maybe"),
        types.Constraint(json_schema="{}"),
    ]
    async with running_server(artifacts["int8"], slots=8) as running:

        def run(index):
            constraint = {} if index % 4 == 3 else {"constraint": forms[index % 4]}
            return generate(
                running, [index + 1] * (index + 1), seed=index, max_tokens=20, **constraint
            )

        alone = [await run(index) for index in range(16)]
        crowd = await asyncio.gather(*map(run, range(16)))
    for single, together in zip(alone, crowd, strict=True):
        assert together.bits == single.bits
        assert together.finish.digest == single.finish.digest


async def test_a_stream_that_broke_goes_on_in_the_midst_of_the_form(fp32_server):
    constraint = types.Constraint(
        json_schema='{"type": "array", "items": {"enum": ["red", "green", 12345]}, "minItems": 9,'
        ' "maxItems": 9}'
    )
    options = {"constraint": constraint, "seed": 11, "drafts": False}
    whole = await generate(fp32_server, "Once", **options)
    assert whole.finish.finish_reason == STOP
    json.loads(whole.text)
    for cut in (1, 2, 7, len(whole.ids) - 1, len(whole.ids)):
        rest = await generate(fp32_server, "Once", resume_token_ids=whole.ids[:cut], **options)
        assert rest.bits == whole.bits[cut:]
        assert rest.finish == whole.finish
        assert [s.allowed_mass for s in rest.steps] == [s.allowed_mass for s in whole.steps[cut:]]


async def test_a_completion_that_the_model_ended_can_be_resumed_with_its_end(fp32_server):
    options = {"constraint": choices("yes", "yes yes"), "seed": 2, "logit_bias": {EOS: 50.0}}
    whole = await generate(fp32_server, "Once", **options)
    assert whole.ids[-1] == EOS
    rest = await generate(fp32_server, "Once", resume_token_ids=whole.ids, **options)
    assert (rest.steps, rest.finish) == ([], whole.finish)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
async def test_drafts_change_no_bit_and_what_is_drafted_fits(artifacts, precision):
    schema = {"type": "array", "minItems": 12, "items": {"enum": ["the quick brown fox"]}}
    constraint = types.Constraint(json_schema=json.dumps(schema))
    async with running_server(artifacts[precision]) as running:
        options = {"constraint": constraint, "seed": 5, "max_tokens": 80}
        plain = await generate(running, "Once", drafts=False, **options)
        drafted = await generate(running, "Once", drafts=True, **options)
    assert drafted.usage.accepted_draft_tokens > 20
    assert drafted.bits == plain.bits
    assert [s.allowed_mass for s in drafted.steps] == [s.allowed_mass for s in plain.steps]


async def test_stop_strings_and_stop_tokens_end_a_completion_in_the_midst_of_its_form(fp32_server):
    reply = await generate(
        fp32_server, "x", constraint=choices("one two three"), stop=["two"], seed=1
    )
    assert (reply.text, matched(reply.finish)) == ("one ", "stop")
    digits = list(range(15, 25))  # 0 to 9
    reply = await generate(
        fp32_server, "x", constraint=regex("a[0-9]b"), stop_token_ids=digits, seed=1
    )
    assert (reply.text, matched(reply.finish)) == ("a", "stop_token_id")


async def test_ends_that_come_too_early_are_chosen_where_the_form_goes_on_with_nothing_else(
    fp32_server,
):
    letter_b = 65
    options = {"stop_token_ids": [letter_b], "min_tokens": 5, "max_tokens": 9, "seed": 1}
    reply = await generate(fp32_server, "x", constraint=regex("abac"), **options)
    # The ban of b gives way to the form, and the form's end to nothing.
    assert (reply.text, reply.finish.finish_reason) == ("abac", STOP)
    reply = await generate(
        fp32_server, "x", constraint=regex("a+"), min_tokens=5, seed=1, logit_bias={EOS: 100.0}
    )
    assert len(reply.ids) == 6
    assert reply.ids[-1] == EOS


async def test_an_end_of_text_that_is_ignored_is_never_chosen(fp32_server):
    reply = await generate(
        fp32_server,
        "x",
        constraint=regex("a{1,40}"),
        ignore_eos=True,
        seed=1,
        logit_bias={EOS: 100.0},
    )
    assert (reply.text, matched(reply.finish)) == ("a" * 40, None)
    assert reply.finish.finish_reason == STOP


async def test_the_digest_tells_constraints_apart(fp32_server):
    forms = [choices("yes"), regex("yes"), types.Constraint(grammar='start: "yes"'), regex("(yes)")]
    replies = [
        await generate(fp32_server, "x", constraint=form, temperature=0, seed=1) for form in forms
    ]
    assert {reply.text for reply in replies} == {"yes"}
    assert len({reply.finish.digest for reply in replies}) == 4
