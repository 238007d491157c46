"""Who is let in, and what browsers are told."""

import asyncio
import base64
import ssl
import urllib.error
import urllib.request
from asyncio import to_thread
from urllib.parse import urlsplit

import pytest
import trustme
from support import certificates
from support.fake_service import serving
from support.web import running_web

from nextok.web import exposure
from nextok.web.serving import Listening

KEY = "a-key-of-24-characters-1"


async def ask(url, *, method="GET", data=None, context=None, **headers):
    """Status, headers and body of an answer, whatever it is."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, names, method=method)

    def run():
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    return await to_thread(run)


@pytest.fixture
async def page(service):
    with serving(service) as target:
        async with running_web(target) as url:
            yield url


async def test_a_page_may_load_from_here_only_and_run_nothing_inline(page):
    for path in ("", "v1/models", "nothing"):
        _, headers, _ = await ask(page + path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


async def test_names_that_are_not_this_machines_own_are_refused(page):
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]", ""):
        status, _, _ = await ask(page + "v1/models", Host=host)
        assert status in (400, 421), host
    for host in ("localhost", "127.0.0.1:1", "[::1]:8080"):
        assert (await ask(page + "v1/models", Host=host))[0] == 200


async def test_pages_of_other_sites_are_refused(page):
    body = b'{"model": "demo", "prompt": "x"}'
    asked = {"method": "POST", "data": body}
    own = page.rstrip("/")
    json = "application/json"
    status, _, _ = await ask(page + "v1/completions", Content_Type=json, Origin=own, **asked)
    assert status == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        found = await ask(page + "v1/completions", Content_Type=json, Origin=origin, **asked)
        assert found[0] == 403
    # What a page may send without asking first.
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert (await ask(page + "v1/completions", Content_Type=kind, **asked))[0] == 415


async def test_a_body_over_the_limit_is_refused_before_it_is_read(page):
    big = b"[" + b" " * (12 << 20) + b"]"
    json = "application/json"
    for headers in ({}, {"Transfer_Encoding": "chunked"}):
        data = iter([big]) if headers else big
        # Which looks for the answer only once it has sent everything.
        status, _, body = await ask(
            page + "v1/completions", method="POST", data=data, Content_Type=json, **headers
        )
        assert status == 413
        assert b"1048576" in body


async def test_the_answer_to_a_body_over_the_limit_does_not_wait_for_it(page):
    address = urlsplit(page)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Connection: close\r\nContent-Type: application/json\r\n"
        "Content-Length: 99999999\r\n\r\n[".encode()
    )
    assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
    await reader.read()  # ends, although the rest is never sent
    writer.close()


async def test_unknown_paths_and_methods_have_the_same_errors(page):
    for path, method, status in (("v1/nothing", "GET", 404), ("v1/completions", "GET", 405)):
        found, headers, body = await ask(page + path, method=method)
        assert found == status
        assert headers["content-type"] == "application/json"
        assert b'"invalid_request_error"' in body


async def test_with_keys_only_who_shows_one_is_answered(service):
    basic = "Basic " + base64.b64encode(f"anyone:{KEY}".encode()).decode()
    with serving(service) as target:
        async with running_web(target, keys=("another-key-0123456789", KEY)) as url:
            for shown in (f"Bearer {KEY}", basic):
                assert (await ask(url + "v1/models", Authorization=shown))[0] == 200
            for shown in ("", "Bearer", f"Bearer {KEY}x", "Basic !", "Basic " + "A" * 9, KEY):
                for path in ("", "v1/models"):
                    status, headers, _ = await ask(url + path, Authorization=shown)
                    assert status == 401
                    assert headers["www-authenticate"].startswith("Basic")


async def test_with_a_certificate_the_page_is_served_with_tls(service, tmp_path):
    authority = trustme.CA()
    files = certificates.write(tmp_path, authority)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serving(service) as target:
        async with running_web(target, certificate=files.certificate, key=files.key) as url:
            assert url.startswith("https://127.0.0.1:")
            assert (await ask(url + "v1/models", context=context))[0] == 200


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "example.com:80"])
def test_other_than_loopback_addresses_need_tls_and_keys_or_the_word_insecure(address, tmp_path):
    chain = key = tmp_path / "file"
    with pytest.raises(ValueError, match="refusing to listen") as caught:
        Listening(address)
    for said in ("--tls-certificate", "--keys-file", "--insecure"):
        assert said in str(caught.value)
    with pytest.raises(ValueError, match="no authentication"):
        Listening(address, certificate=chain, key=key)
    with pytest.raises(ValueError, match="no TLS"):
        Listening(address, keys=(KEY,))
    with pytest.raises(ValueError, match="without --tls-key"):
        Listening(address, certificate=chain)
    Listening(address, keys=(KEY,), certificate=chain, key=key)
    Listening(address, insecure=True)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":80", "localhost:65536", "a:-1"])
def test_an_address_has_a_host_and_a_port(address):
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        Listening(address)


def test_a_file_of_keys_is_read_and_none_is_ever_shown(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# for the team\n\n{KEY}\n  another-key-0123456789\n")
    assert exposure.read_keys(file) == (KEY, "another-key-0123456789")
    assert KEY not in repr(Listening("localhost:0", exposure.read_keys(file)))
    for text in (
        "",
        "# nothing\n",
        "short-secret",
        "with space inside secret",
        "größerer-secret-x",
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=str(file)) as caught:
            exposure.read_keys(file)
        assert "secret" not in str(caught.value)
