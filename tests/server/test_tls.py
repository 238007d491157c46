"""TLS: who may connect, who is trusted, and certificates that are replaced under load."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import structlog
import trustme
from support.certificates import replace, write
from support.serving import running_server

from nextok import TLS, AsyncClient, Client, Unavailable, Unimplemented


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def other():
    return trustme.CA()


@pytest.fixture
def serve(artifacts, authority, tmp_path):
    """Starts a server whose certificate is in tmp_path / "server"."""
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)

    @contextlib.asynccontextmanager
    async def run(*, files=None, mutual=False, **settings):
        files = files or write(tmp_path / "server", authority)
        async with running_server(
            artifacts["fp32"],
            tls_certificate=files.certificate,
            tls_key=files.key,
            tls_client_ca=ca if mutual else None,
            **settings,
        ) as running:
            yield running

    return run


def trusting(authority, client=None, **fields):
    certificate, key = client.pem if client else (None, None)
    return TLS(ca=authority.cert_pem.bytes(), certificate=certificate, key=key, **fields)


async def is_answered(target, tls, **arguments):
    async with AsyncClient(target, tls=tls, **arguments) as client:
        try:
            return bool(await client.tokenize("hello", timeout=20))
        except Unavailable:
            return False


async def test_a_certificate_of_a_trusted_authority_is_accepted(serve, authority):
    async with serve() as running:
        assert await is_answered(running.target, trusting(authority))


async def test_a_certificate_of_another_authority_is_refused(serve, other):
    async with serve() as running:
        assert not await is_answered(running.target, trusting(other))


async def test_an_expired_certificate_is_refused(serve, authority, tmp_path):
    files = write(tmp_path / "server", authority, expired=True)
    async with serve(files=files) as running:
        assert not await is_answered(running.target, trusting(authority))


async def test_a_certificate_for_another_name_is_refused_unless_that_name_is_expected(
    serve, authority, tmp_path
):
    files = write(tmp_path / "server", authority, "elsewhere.example")
    async with serve(files=files) as running:
        assert not await is_answered(running.target, trusting(authority))
        expecting = trusting(authority, server_name="elsewhere.example")
        assert await is_answered(running.target, expecting)


async def test_a_certificate_that_nobody_known_signed_is_refused(serve, tmp_path):
    # What the server shows is signed by an authority of its own that no client has.
    files = write(tmp_path / "server", trustme.CA())
    async with serve(files=files) as running:
        assert not await is_answered(running.target, True)


async def test_mutual_tls_lets_in_who_has_a_certificate_of_its_authority(
    serve, authority, tmp_path
):
    client = write(tmp_path / "client", authority, "alice@example.org")
    async with serve(mutual=True) as running:
        assert await is_answered(running.target, trusting(authority, client))


async def test_mutual_tls_refuses_who_has_no_certificate(serve, authority):
    async with serve(mutual=True) as running:
        assert not await is_answered(running.target, trusting(authority))


async def test_mutual_tls_refuses_certificates_of_other_authorities(
    serve, authority, other, tmp_path
):
    client = write(tmp_path / "client", other, "alice@example.org")
    async with serve(mutual=True) as running:
        assert not await is_answered(running.target, trusting(authority, client))


async def test_mutual_tls_refuses_expired_certificates(serve, authority, tmp_path):
    client = write(tmp_path / "client", authority, "alice@example.org", expired=True)
    async with serve(mutual=True) as running:
        assert not await is_answered(running.target, trusting(authority, client))


async def test_plaintext_to_a_port_with_tls_gets_no_answer(serve):
    async with serve() as running:
        assert not await is_answered(running.target, False)


async def test_tls_to_a_port_without_it_gets_no_answer(artifacts, authority):
    async with running_server(artifacts["fp32"]) as running:
        assert not await is_answered(running.target, trusting(authority))


async def test_a_new_certificate_is_used_at_once_and_no_running_stream_is_lost(
    serve, authority, other, tmp_path
):
    async with (
        serve() as running,
        AsyncClient(running.target, tls=trusting(authority)) as client,
    ):
        streams = [
            client.generate(f"Number {n}", max_tokens=60, ignore_eos=True, resume=0)
            for n in range(8)
        ]
        for stream in streams:
            await anext(stream)
        write(tmp_path / "server", other)
        # Channels of one target share connections, and only new ones see the new certificate.
        own = (("grpc.use_local_subchannel_pool", 1),)
        assert await is_answered(running.target, trusting(other), options=own)
        assert not await is_answered(running.target, trusting(authority), options=own)
        counts = await asyncio.gather(*(count_rest(stream) for stream in streams))
        assert counts == [59] * 8


async def count_rest(stream):
    return len([step async for step in stream])


@pytest.mark.parametrize("broken", [b"", b"nonsense", "key of another"])
async def test_files_that_make_no_certificate_leave_the_old_one_and_are_logged(
    serve, authority, other, tmp_path, broken
):
    own = (("grpc.use_local_subchannel_pool", 1),)
    async with serve() as running:
        if isinstance(broken, str):
            broken = write(tmp_path / "another", other).key.read_bytes()
        with structlog.testing.capture_logs() as logs:
            replace(tmp_path / "server" / "key.pem", broken)
            for _ in range(2):
                assert await is_answered(running.target, trusting(authority), options=own)
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["reload_failed"]


@pytest.mark.parametrize("client_class", [Client, AsyncClient])
async def test_a_client_connects_anew_when_its_files_change_and_its_streams_go_on(
    serve, authority, tmp_path, client_class
):
    files = write(tmp_path / "client", authority, "one.example")
    tls = TLS.from_files(ca=tmp_path / "ca.pem", certificate=files.certificate, key=files.key)
    merge = structlog.contextvars.merge_contextvars
    async with serve(mutual=True) as running:
        with structlog.testing.capture_logs(processors=[merge]) as logs:
            if client_class is AsyncClient:
                async with AsyncClient(running.target, tls=tls) as client:
                    await use_while_renewed(client, tmp_path, authority)
            else:
                await asyncio.to_thread(use_sync, running.target, tls, tmp_path, authority)
    callers = [line["caller"] for line in logs if line["event"] == "generated"]
    # The last one began before its file was gone, and had not been read until then.
    assert callers == ["one.example", "two.example", "two.example", "one.example"]


async def use_while_renewed(client, folder, authority):
    long = client.generate("x", max_tokens=100, full_vocabulary=True, ignore_eos=True, resume=0)
    await anext(long)
    await count_rest(client.generate("x", max_tokens=1))
    write(folder / "client", authority, "two.example")
    await count_rest(client.generate("x", max_tokens=1))
    (folder / "client" / "key.pem").write_text("nonsense")
    await count_rest(client.generate("x", max_tokens=1))
    assert await count_rest(long) == 99


def use_sync(target, tls, folder, authority):
    with Client(target, tls=tls) as client:
        long = client.generate("x", max_tokens=100, full_vocabulary=True, ignore_eos=True, resume=0)
        next(long)
        for step in client.generate("x", max_tokens=1):
            assert step
        write(folder / "client", authority, "two.example")
        assert len(list(client.generate("x", max_tokens=1))) == 1
        (folder / "client" / "key.pem").write_text("nonsense")
        assert len(list(client.generate("x", max_tokens=1))) == 1
        assert len(list(long)) == 99


async def test_health_on_a_port_of_its_own_needs_no_tls_and_tells_nothing_else(serve, authority):
    async with (
        serve(health_listen="127.0.0.1:0") as running,
        AsyncClient(f"127.0.0.1:{running.app.health_port}") as client,
    ):
        assert await client.health() == "SERVING"
        with pytest.raises(Unimplemented):
            await client.tokenize("hello")
