"""Reliability 11: certificates with which one may connect, tokens that are answered."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import trustme
from support.certificates import Files, write
from support.serving import running_server

from nextok import TLS, AsyncClient, Unavailable
from nextok.v1 import text_generation_pb2 as pb
from nextok_server import tokens_file
from nextok_server.access import Access
from nextok_server.tokens_file import make_token

OWN = (("grpc.use_local_subchannel_pool", 1),)
ROTATIONS = 3


class Papers:
    """Authorities, certificates of theirs, and clients that show and trust them."""

    def __init__(self, folder) -> None:
        self.ours, self.theirs = trustme.CA(), trustme.CA()
        self.folder = folder
        self.authority = folder / "authority.pem"
        self.ours.cert_pem.write_to_path(self.authority)
        self.server = write(folder / "server", self.ours)
        self.client = write(folder / "client", self.ours, "alice")
        self.stranger = write(folder / "stranger", self.theirs, "mallory")
        self.late = write(folder / "late", self.ours, "alice", expired=True)
        self.late_server = write(folder / "late_server", self.ours, expired=True)
        self.other_name = write(folder / "other_name", self.ours, "elsewhere.example")
        self.unknown = write(folder / "unknown", trustme.CA())

    def client_tls(self, files: Files | None = None, ca: Any = None, **fields: Any) -> TLS:
        certificate, key = files.pem if files else (None, None)
        ca = (ca or self.ours).cert_pem.bytes()
        return TLS(ca=ca, certificate=certificate, key=key, **fields)


@dataclass(frozen=True)
class Case:
    """A server, a client, and whether they may talk.

    Attributes:
        server: The server's certificate; None: in the clear.
        mutual: Whether it asks for the client's.
        client: The client's settings; False: in the clear.
        allowed: Whether it is to be answered.
    """

    server: Files | None
    mutual: bool
    client: TLS | bool
    allowed: bool


def cases(papers: Papers) -> dict[str, Case]:
    tls, named = papers.client_tls, {"server_name": "elsewhere.example"}
    server = papers.server
    return {
        "a trusted server": Case(server, False, tls(), True),
        "a server of another authority": Case(server, False, tls(ca=papers.theirs), False),
        "an expired server": Case(papers.late_server, False, tls(), False),
        "a server of another name": Case(papers.other_name, False, tls(), False),
        "a server of the name that is expected": Case(papers.other_name, False, tls(**named), True),
        "a server that nobody vouches for": Case(papers.unknown, False, tls(), False),
        "a client with a certificate": Case(server, True, tls(papers.client), True),
        "a client without": Case(server, True, tls(), False),
        "a client of another authority": Case(server, True, tls(papers.stranger), False),
        "an expired client": Case(server, True, tls(papers.late), False),
        "a client in the clear": Case(server, False, False, False),
        "a server in the clear": Case(None, False, tls(), False),
    }


async def answered(target: str, tls: TLS | bool) -> bool:
    async with AsyncClient(target, tls=tls, options=OWN) as client:
        try:
            return bool(await client.tokenize("hello", timeout=30))
        except Unavailable:
            return False


async def wrong_cases(artifact, papers: Papers, table: dict[str, Case]) -> list[str]:
    """The cases in which somebody is let in who should not be, or the other way round."""
    wrong = []
    servers: dict[tuple[Files | None, bool], list[str]] = {}
    for name, case in table.items():
        servers.setdefault((case.server, case.mutual), []).append(name)
    for (files, mutual), names in servers.items():
        settings = {}
        if files is not None:
            settings = {"tls_certificate": files.certificate, "tls_key": files.key}
        if mutual:
            settings["tls_client_ca"] = papers.authority
        async with running_server(artifact, **settings) as running:
            for name in names:
                if await answered(running.target, table[name].client) != table[name].allowed:
                    wrong.append(name)
    return wrong


async def lost_in_rotation(artifact, papers: Papers, rotations: int) -> int:
    """Streams that are not whole after certificates were replaced under them."""
    files = write(papers.folder / "rotating", papers.ours)
    lost = 0
    async with running_server(
        artifact, tls_certificate=files.certificate, tls_key=files.key
    ) as running:
        for number in range(rotations):
            before, after = papers.ours, papers.theirs
            if number % 2:
                before, after = after, before
            tls = papers.client_tls(ca=before)
            async with AsyncClient(running.target, tls=tls, options=OWN) as client:
                streams = [
                    client.generate([n], max_tokens=60, ignore_eos=True, resume=0) for n in range(8)
                ]
                for stream in streams:
                    await anext(stream)
                write(papers.folder / "rotating", after)
                assert await answered(running.target, papers.client_tls(ca=after))
                counts = await asyncio.gather(*(_count(stream) for stream in streams))
                lost += sum(count != 59 for count in counts)
    return lost


async def _count(stream: Any) -> int:
    return len([step async for step in stream])


METHODS = pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods
PATHS = [
    *((f"/{m.containing_service.full_name}/{m.name}", m.client_streaming) for m in METHODS),
    ("/grpc.health.v1.Health/Check", False),
    ("/grpc.health.v1.Health/Watch", False),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
    ("/no.such.Service/Method", False),
]


async def let_in(artifact, folder) -> list[str]:
    """Rpcs that answer something else than UNAUTHENTICATED to who has no good token."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired, entry = make_token("late", tokens_file.SCOPES, past)
    path = folder / "tokens.toml"
    path.write_text(entry.toml())
    tokens = {"missing": None, "wrong": "nextok_wrong", "expired": expired}
    found = []
    async with running_server(artifact, tokens_file=path, reflection=True) as running:
        for name, token in tokens.items():
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            for rpc, streams in PATHS:
                channel = running.channel
                make = channel.stream_stream if streams else channel.unary_stream
                # A stream is refused for its metadata. A request on its way as the refusal
                # comes would fail at the client, which may then tell its own error instead.
                call = make(rpc)(*([] if streams else [b""]), metadata=metadata, timeout=20)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.read()
                    call.cancel()
                if (code := await call.code()) is not grpc.StatusCode.UNAUTHENTICATED:
                    found.append(f"{rpc}, {name}: {code.name}")
    return found


async def test_only_those_are_answered_who_may_be(small, tmp_path, figures):
    papers = Papers(tmp_path)
    table = cases(papers)
    rotations = 100 if figures.minutes else ROTATIONS
    wrong = await wrong_cases(small["fp32"], papers, table)
    lost = await lost_in_rotation(small["fp32"], papers, rotations)
    open_rpcs = await let_in(small["fp32"], tmp_path)
    figures.add(
        11,
        f"TLS and tokens: {len(wrong)} of {len(table)} certificate cases wrong, {lost} of "
        f"{8 * rotations} streams lost in {rotations} rotations, {len(open_rpcs)} of "
        f"{3 * len(PATHS)} calls without a good token answered (bounds: 0)",
        cases=len(table),
        wrong=len(wrong),
        rotations=rotations,
        lost=lost,
        answered=len(open_rpcs),
    )
    assert wrong == []
    assert lost == 0
    assert open_rpcs == []


async def test_the_check_finds_a_server_that_trusts_strangers(small, tmp_path):
    papers = Papers(tmp_path)
    with papers.authority.open("ab") as file:
        file.write(papers.theirs.cert_pem.bytes())
    wrong = await wrong_cases(small["fp32"], papers, cases(papers))
    assert wrong == ["a client of another authority"]


async def test_the_check_finds_an_rpc_that_asks_for_no_token(small, tmp_path, monkeypatch):
    real = Access._check

    def careless(self, entries, details):
        return "anybody" if details.method.endswith("/Tokenize") else real(self, entries, details)

    monkeypatch.setattr(Access, "_check", careless)
    found = await let_in(small["fp32"], tmp_path)
    assert {path.split(",")[0].rpartition("/")[2] for path in found} == {"Tokenize"}
