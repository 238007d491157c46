"""GetModel, Tokenize and Detokenize over the wire."""

import json

import pytest
from support.serving import running_server

from nextok.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_tokenize_gives_ids_bytes_and_both_kinds_of_offsets(fp32_server):
    text = "I love \N{GRINNING FACE} \u65e5\u672c"
    reply = await fp32_server.stub.Tokenize(pb.TokenizeRequest(text=text))
    data = text.encode()
    assert b"".join(token.bytes for token in reply.tokens) == data
    for token in reply.tokens:
        assert data[token.byte_start : token.byte_end] == token.bytes
        chars = text[token.char_start : token.char_end].encode()
        assert token.bytes in chars
    seed = await fp32_server.stub.Tokenize(pb.TokenizeRequest(text="I love Generative AI"))
    assert [token.id for token in seed.tokens] == [40, 1842, 2980, 876, 9552]
    assert [token.token for token in seed.tokens] == ["I", " love", " Gener", "ative", " AI"]


async def test_an_empty_text_has_no_tokens(fp32_server):
    assert not (await fp32_server.stub.Tokenize(pb.TokenizeRequest())).tokens


async def test_a_long_text_is_tokenized_too(fp32_server):
    text = "word " * 12_000
    reply = await fp32_server.stub.Tokenize(pb.TokenizeRequest(text=text))
    assert b"".join(token.bytes for token in reply.tokens).decode() == text


async def test_detokenize_undoes_tokenize_to_the_byte(fp32_server):
    text = "caf\u00e9 \N{GRINNING FACE}\n\n"
    tokens = (await fp32_server.stub.Tokenize(pb.TokenizeRequest(text=text))).tokens
    ids = [token.id for token in tokens]
    reply = await fp32_server.stub.Detokenize(pb.DetokenizeRequest(token_ids=ids))
    assert reply.text == text
    assert reply.bytes == text.encode()
    assert list(reply.tokens) == list(tokens)


async def test_detokenize_shows_what_is_not_utf8_and_keeps_its_bytes(fp32_server):
    emoji = (await fp32_server.stub.Tokenize(pb.TokenizeRequest(text="\N{GRINNING FACE}"))).tokens
    reply = await fp32_server.stub.Detokenize(pb.DetokenizeRequest(token_ids=[emoji[0].id]))
    assert reply.text == "\N{REPLACEMENT CHARACTER}"
    assert reply.bytes == emoji[0].bytes


async def test_get_model_tells_sizes_limits_hashes_and_the_certificate(artifacts):
    async with running_server(artifacts["int8"], slots=5, max_queue=7, threads=1) as running:
        reply = await running.stub.GetModel(pb.GetModelRequest())
    manifest = json.loads((artifacts["int8"] / "manifest.json").read_text())
    certificate = json.loads((artifacts["int8"] / "certificate.json").read_text())
    for name in ("precision", "layers", "heads", "width", "vocabulary_size", "context_length"):
        assert getattr(reply, name) == manifest[name]
    assert reply.source_sha256 == manifest["source"]["sha256"]
    assert len(reply.artifact_sha256) == 64
    assert (reply.limits.slots, reply.limits.max_queue, reply.threads) == (5, 7, 1)
    assert reply.limits.max_top_logprobs == manifest["top_k"]
    assert all(value for _, value in reply.limits.ListFields())
    assert reply.certificate.positions == certificate["positions"]
    assert reply.certificate.approximate
    for ours, theirs in zip(reply.certificate.comparisons, certificate["comparisons"], strict=True):
        for name, value in theirs.items():
            assert getattr(ours, name) == value
