"""OpenAI's own client at the door, beside the gRPC stream that it has to agree with."""

import pytest
from support.serving import generate

from nextok.web.openai.shapes import token_name

PROMPT = "I love Generative AI"
SAMPLED = {"temperature": 0.9, "top_p": 0.95, "seed": 11}


async def chunks(client, **options):
    stream = await client.completions.create(stream=True, **options)
    return [chunk async for chunk in stream]


def pieces(found, index=0):
    return [c.choices[0] for c in found if c.choices and c.choices[0].index == index]


def joined(found, field, index=0):
    """A field of the log probabilities of all chunks of a choice, in one list."""
    logprobs = [piece.logprobs for piece in pieces(found, index) if piece.logprobs]
    return [value for part in logprobs for value in getattr(part, field)]


@pytest.mark.parametrize("sampling", [{"temperature": 0}, SAMPLED], ids=["greedy", "sampled"])
async def test_a_streams_tokens_and_log_probabilities_are_those_of_the_grpc_stream(
    server, client, model, sampling
):
    found = await chunks(client, model=model, prompt=PROMPT, max_tokens=24, logprobs=5, **sampling)
    expected = await generate(server, PROMPT, max_tokens=24, top_logprobs=5, **sampling)
    steps = expected.steps
    assert joined(found, "tokens") == [token_name(step.bytes) for step in steps]
    assert joined(found, "token_logprobs") == [step.logprob for step in steps]
    for told, step in zip(joined(found, "top_logprobs"), steps, strict=True):
        listed = {token_name(c.bytes): c.logprob for c in step.top_logprobs}
        assert told == {**listed, token_name(step.bytes): step.logprob}
    assert "".join(piece.text for piece in pieces(found)) == expected.text
    assert [piece.finish_reason for piece in pieces(found)] == [None] * len(steps) + ["length"]


async def test_a_whole_answer_says_what_its_stream_says(client, model):
    asked = {"model": model, "prompt": PROMPT, "max_tokens": 12, "logprobs": 3, **SAMPLED}
    whole = await client.completions.create(**asked)
    found = await chunks(client, **asked)
    (choice,) = whole.choices
    assert choice.text == "".join(piece.text for piece in pieces(found))
    for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert getattr(choice.logprobs, field) == joined(found, field)
    assert choice.finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    assert whole.usage.total_tokens == 17


async def test_echo_tells_the_prompts_log_probabilities_as_torch_has_them(
    client, model, torch_logprobs
):
    whole = await client.completions.create(
        model=model, prompt=PROMPT, echo=True, logprobs=2, max_tokens=3, temperature=0
    )
    (choice,) = whole.choices
    assert choice.text.startswith(PROMPT)
    assert choice.logprobs.tokens[:5] == ["I", " love", " Gener", "ative", " AI"]
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.top_logprobs[0] is None
    assert choice.logprobs.text_offset[:5] == [0, 1, 6, 12, 17]
    ids = [40, 1842, 2980, 876, 9552]
    expected = torch_logprobs(ids)
    told = choice.logprobs.token_logprobs[1:5]
    assert told == pytest.approx([expected[i][ids[i + 1]] for i in range(4)], abs=1e-4)


async def test_echo_without_new_tokens_scores_the_prompt(client, model):
    asked = {"model": model, "prompt": PROMPT, "echo": True, "logprobs": 2, "temperature": 0}
    scored = await client.completions.create(max_tokens=0, **asked)
    longer = await client.completions.create(max_tokens=1, **asked)
    assert scored.choices[0].text == PROMPT
    assert (
        scored.choices[0].logprobs.token_logprobs == (longer.choices[0].logprobs.token_logprobs[:5])
    )
    assert scored.usage.completion_tokens == 0


async def test_places_of_tokens_count_characters_from_the_prompts_first(client, model):
    prompt = "Größe 🦜"
    whole = await client.completions.create(model=model, prompt=prompt, logprobs=0, max_tokens=4)
    assert whole.choices[0].logprobs.text_offset[0] == len(prompt)
    echoed = await client.completions.create(
        model=model, prompt=prompt, logprobs=0, max_tokens=1, echo=True
    )
    tokens, offsets = echoed.choices[0].logprobs.tokens, echoed.choices[0].logprobs.text_offset
    # The emoji is one character of several tokens, none of which is text by itself.
    halves = [offset for token, offset in zip(tokens, offsets, strict=True) if "bytes:" in token]
    assert set(halves) >= {len(prompt) - 1}


async def test_prompts_and_completions_of_each_are_numbered_one_after_the_other(client, model):
    asked = {"model": model, "max_tokens": 6, "logprobs": 0, "seed": 5, "temperature": 1.2}
    together = await client.completions.create(prompt=["Once", "Never"], n=2, **asked)
    assert [choice.index for choice in together.choices] == [0, 1, 2, 3]
    assert together.choices[0].text != together.choices[1].text
    for first, prompt in ((0, "Once"), (2, "Never")):
        alone = await client.completions.create(prompt=prompt, **asked)
        assert alone.choices[0].logprobs == together.choices[first].logprobs
    assert together.usage.prompt_tokens == 2  # each is computed once
    assert together.usage.completion_tokens == 24
    streamed = await chunks(client, prompt=["Once", "Never"], n=2, **asked)
    for choice in together.choices:
        assert joined(streamed, "token_logprobs", choice.index) == choice.logprobs.token_logprobs
        ends = [piece.finish_reason for piece in pieces(streamed, choice.index)]
        assert ends == [None] * 6 + ["length"]


async def test_a_prompt_may_be_ids_and_a_missing_one_is_the_end_of_a_text(client, model, server):
    asked = {"model": model, "max_tokens": 5, "temperature": 0}
    as_text = await client.completions.create(prompt=PROMPT, **asked)
    as_ids = await client.completions.create(prompt=[40, 1842, 2980, 876, 9552], **asked)
    several = await client.completions.create(prompt=[[40], [40, 1842]], **asked)
    assert as_ids.choices[0].text == as_text.choices[0].text
    assert len(several.choices) == 2
    found = await client.post("/completions", body=asked, cast_to=object)
    expected = await generate(server, [50256], max_tokens=5, temperature=0)
    assert found["choices"][0]["text"] == expected.text


@pytest.mark.parametrize("as_list", [False, True])
async def test_a_stop_string_ends_the_text_before_it(client, model, as_list):
    asked = {"model": model, "prompt": PROMPT, "max_tokens": 30, **SAMPLED}
    whole = (await client.completions.create(**asked)).choices[0].text
    stop = whole[5:9]
    stopped = await client.completions.create(stop=[stop] if as_list else stop, **asked)
    assert stopped.choices[0].text == whole[: whole.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"


async def test_penalties_bias_and_what_openai_has_not_reach_the_sampler(client, model, server):
    given = {
        "temperature": 0.7,
        "top_p": 0.9,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "seed": 3,
    }
    own = {"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.1}
    found = await client.completions.create(
        model=model,
        prompt=PROMPT,
        max_tokens=16,
        logprobs=0,
        logit_bias={"11": -100, "13": 2.5},
        extra_body=own,
        **given,
    )
    expected = await generate(
        server, PROMPT, max_tokens=16, logit_bias={11: -100, 13: 2.5}, **given, **own
    )
    assert found.choices[0].logprobs.token_logprobs == [s.logprob for s in expected.steps]


async def test_16_tokens_are_generated_where_nothing_is_said(client, model):
    found = await client.completions.create(model=model, prompt=PROMPT, seed=1)
    assert found.usage.completion_tokens == 16
    assert found.choices[0].logprobs is None


async def test_a_stream_ends_with_usage_where_it_is_asked_for(client, model):
    options = {"include_usage": True}
    found = await chunks(client, model=model, prompt=PROMPT, max_tokens=4, stream_options=options)
    assert found[-1].choices == []
    assert (found[-1].usage.prompt_tokens, found[-1].usage.completion_tokens) == (5, 4)
    assert all(chunk.usage is None for chunk in found[:-1])


async def test_the_served_model_is_listed_and_found_by_its_name(client, model, server):
    listed = (await client.models.list()).data
    assert [entry.id for entry in listed] == [model]
    assert (await client.models.retrieve(model)).id == model
