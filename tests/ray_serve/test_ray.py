"""Replicas behind Ray Serve's proxy keep the contract that the plain server keeps.

Runs where Ray is installed: `make test-ray`.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

pytest.importorskip("ray", reason="needs the extra ray: make test-ray")

from google.rpc import error_details_pb2, status_pb2

from nextok import Client, InvalidArgument, NextokError, ServingStatus
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc

# What Ray and its libraries warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

PROMPTS = ["I love Generative AI", "Once upon a time", "\N{GRINNING FACE}", [464, 3290], "x " * 40]


@pytest.fixture(scope="module")
def two(cluster):
    """Two replicas with the settings by default."""
    cluster.deploy(replicas=2)
    cluster.wait_for_replicas(2)
    return cluster


def options(number):
    return {
        "temperature": (number % 2) * 0.9,
        "seed": number,
        "ignore_eos": True,
        "max_tokens": 16,
        "top_logprobs": 3,
    }


def run(client, number, **more):
    """A stream's bits, and the digest that the server made of them."""
    generation = client.generate(PROMPTS[number % len(PROMPTS)], **(options(number) | more))
    bits = [(step.id, step.logprob, step.entropy, step.delta) for step in generation]
    return bits, generation.finish.digest


def is_refused(call):
    """Waits for a stream's first message, or for its end without one."""
    try:
        next(call)
    except grpc.RpcError:
        return True
    return False


def test_streams_are_those_of_the_plain_server_bit_for_bit(two, plain):
    with Client(two.target) as ours, Client(plain) as theirs, ThreadPoolExecutor(8) as pool:
        numbers = range(24)
        expected = list(pool.map(lambda n: run(theirs, n), numbers))
        assert list(pool.map(lambda n: run(ours, n), numbers)) == expected


def test_scores_tokens_and_the_model_are_those_of_the_plain_server(two, plain):
    with Client(two.target) as ours, Client(plain) as theirs:
        assert ours.get_model() == theirs.get_model()
        assert ours.tokenize(PROMPTS[0]) == theirs.tokenize(PROMPTS[0])
        assert [token.logprob for token in ours.score("Once upon a time")] == [
            token.logprob for token in theirs.score("Once upon a time")
        ]


def test_a_bad_request_gets_the_same_status_with_the_same_details(two, plain):
    errors = []
    for target in (two.target, plain):
        with Client(target) as client, pytest.raises(InvalidArgument) as raised:
            list(client.generate("x", top_logprobs=10**6))
        errors.append(raised.value)
        assert raised.value.request_id
    assert errors[0].violations == errors[1].violations


def test_a_request_that_is_no_protobuf_is_an_invalid_argument(two):
    with grpc.insecure_channel(two.target) as channel:
        call = channel.unary_unary("/nextok.v1.TextGenerationService/Tokenize")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"\xff\xff")
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_is_answered(two):
    with Client(two.target) as client:
        assert client.health() is ServingStatus.SERVING


def test_prompts_that_begin_alike_go_to_the_replica_that_knows_the_beginning(two):
    with Client(two.target) as client:
        for number in range(8):
            beginning = [(number * 97 + i) % 50257 for i in range(64)]
            cached = []
            for last in range(3):
                generation = client.generate([*beginning, last], max_tokens=1)
                list(generation)
                cached.append(generation.summary.usage.cached_tokens)
            assert cached == [0, 64, 64]


def test_a_cancelled_stream_frees_its_slot(cluster):
    cluster.deploy(replicas=1, slots=1, max_queue=1)
    cluster.wait_for_replicas(1)
    with Client(cluster.target) as client:
        for _ in range(10):
            for _step in client.generate("x", ignore_eos=True, max_tokens=100):
                break  # leaving the loop cancels it when the generation goes
        assert len(list(client.generate("x", ignore_eos=True, max_tokens=3))) == 3


def test_more_than_replicas_and_queue_hold_is_refused_with_a_time_to_come_back(cluster):
    cluster.deploy(replicas=1, slots=1, max_queue=1)
    cluster.wait_for_replicas(1)
    request = pb.GenerateRequest()
    request.prompt.text = "x"
    request.stop_conditions.ignore_eos = True
    with grpc.insecure_channel(cluster.target) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        calls = [stub.Generate(request) for _ in range(12)]
        refused = [call for call in calls if is_refused(call)]
        for call in calls:
            call.cancel()
    assert refused
    for error in refused:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = status_pb2.Status()
        status.ParseFromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToTimedelta().total_seconds() > 0


def test_without_a_token_nothing_is_answered_where_there_are_tokens(cluster, tmp_path):
    tokens = tmp_path / "tokens.toml"
    tokens.write_text("")
    cluster.deploy(replicas=1, tokens_file=tokens)
    cluster.wait_for_replicas(1)
    with Client(cluster.target) as client, pytest.raises(NextokError) as raised:
        client.get_model()
    assert raised.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_streams_of_a_killed_replica_go_on_at_the_other_with_the_same_bits(cluster, plain):
    cluster.scale(2)
    started = threading.Barrier(9)

    def stream(number):
        with Client(cluster.target) as client:
            generation = client.generate(
                PROMPTS[number % len(PROMPTS)], **(options(number) | {"max_tokens": 80})
            )
            bits = []
            for step in generation:
                bits.append((step.id, step.logprob, step.entropy, step.delta))
                if len(bits) == 3:
                    started.wait(60)
            return bits, generation.finish.digest, generation.resumed

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(stream, number) for number in range(8)]
        started.wait(60)
        cluster.kill_one()
        results = [one.result(120) for one in running]
    assert any(resumed for _, _, resumed in results)
    with Client(plain) as client:
        for number, (bits, digest, _) in enumerate(results):
            assert (bits, digest) == run(client, number, max_tokens=80)


def test_scaling_from_one_to_two_to_one_under_load_loses_nothing(cluster, plain):
    cluster.scale(1)
    with Client(plain) as client:
        expected = [run(client, number, max_tokens=60) for number in range(4)]
    done = threading.Event()

    def load(number):
        count = 0
        with Client(cluster.target) as client:
            while not done.is_set():
                assert run(client, number, max_tokens=60) == expected[number]
                count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load, number) for number in range(4)]
        try:
            cluster.scale(2)
            cluster.scale(1)
        finally:
            done.set()
        assert all(one.result(120) for one in running)
