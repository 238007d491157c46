"""One client and several servers, one of which leaves and one of which joins."""

import re
import signal
import socket
import time
import urllib.request

from nextok import Client

REQUESTS = 12
# gRPC looks for servers that are not there with growing pauses.
OPTIONS = [("grpc.max_reconnect_backoff_ms", 500)]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, start):
        self.port, self._metrics = free_port(), free_port()
        self._start = start

    def run(self):
        self.process, _ = self._start(
            *("--listen", f"127.0.0.1:{self.port}", "--no-spinning"),
            *("--metrics-listen", f"127.0.0.1:{self._metrics}"),
        )

    @property
    def answered(self):
        """How many generations it says that it did."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics") as page:
            text = page.read().decode()
        found = re.findall(r'^nextok:requests_total\{.*rpc="Generate".*\} (\S+)$', text, re.M)
        return sum(map(float, found))


def test_a_client_takes_turns_among_servers_while_one_leaves_and_one_joins(start):
    first, second, third = servers = [Server(start) for _ in range(3)]
    target = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)

    def transcripts():
        for number in range(REQUESTS):
            steps = client.generate("Once upon a", max_tokens=4, seed=number, ignore_eos=True)
            yield [(step.id, step.logprob) for step in steps]

    first.run()
    second.run()
    with Client(target, options=OPTIONS) as client:
        expected = list(transcripts())
        while not (first.answered and second.answered):
            assert list(transcripts()) == expected
        third.run()
        first.process.send_signal(signal.SIGTERM)
        assert list(transcripts()) == expected
        assert first.process.wait(60) == 0
        deadline = time.monotonic() + 60
        while not third.answered:
            assert time.monotonic() < deadline, "the server that joined was never asked"
            assert list(transcripts()) == expected
        before = second.answered, third.answered
        assert list(transcripts()) == expected
        shares = second.answered - before[0], third.answered - before[1]
        assert sum(shares) == REQUESTS
        # By turns; but gRPC starts anew with any server each time it has looked for the first.
        assert min(shares) >= REQUESTS / 4
