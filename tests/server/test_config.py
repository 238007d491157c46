"""Settings: flags over environment over file over defaults, and errors that name the value."""

from pathlib import Path

import pytest

from nextok_server.config import ConfigError, load


def test_flags_win_over_environment_over_file_over_defaults(tmp_path, monkeypatch):
    file = tmp_path / "nextok.toml"
    file.write_text('artifact = "from-file"\nslots = 3\nmax_queue = 3\nthreads = 3\n')
    monkeypatch.setenv("NEXTOK_MAX_QUEUE", "2")
    monkeypatch.setenv("NEXTOK_THREADS", "2")
    config, origins = load({"threads": "1"}, file)
    assert (config.threads, config.max_queue, config.slots) == (1, 2, 3)
    assert config.artifact == Path("from-file")
    assert config.prefill_chunk == 64
    expected = {
        "threads": "flag",
        "max_queue": "environment",
        "slots": "file",
        "prefill_chunk": "default",
    }
    assert {name: origins[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "artifact is missing"),
        ({"artifact": "x", "slots": "0"}, r"slots = '0' \(flag\): .*greater than or equal to 1"),
        ({"artifact": "x", "prefill_chunk": "63"}, r"prefill_chunk = '63' .*multiple of 2"),
        ({"artifact": "x", "listen": "nowhere"}, r"listen = 'nowhere' .*HOST:PORT"),
        ({"artifact": "x", "listen": "host:70000"}, r"listen = 'host:70000' .*0 to 65535"),
        ({"artifact": "x", "spinning": "perhaps"}, "spinning = 'perhaps'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_origin(flags, message, monkeypatch):
    monkeypatch.delenv("NEXTOK_ARTIFACT", raising=False)
    with pytest.raises(ConfigError, match=message):
        load(flags, None)


def test_an_unknown_name_in_the_file_is_refused(tmp_path):
    file = tmp_path / "nextok.toml"
    file.write_text('artifact = "x"\nslot = 3\n')
    with pytest.raises(ConfigError, match="slot = 3"):
        load({}, file)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="absent"):
        load({}, tmp_path / "absent.toml")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.0.0.1:1", "example.org:1"])
@pytest.mark.parametrize(
    ("guards", "message"),
    [
        ({}, "no authentication"),
        ({"tokens_file": "t"}, "no TLS"),
        ({"tls_certificate": "c", "tls_key": "k"}, "no authentication"),
    ],
)
def test_an_address_that_others_reach_needs_tls_and_authentication(listen, guards, message):
    with pytest.raises(ConfigError, match=f"refusing to listen on(.|\n)*{message}"):
        load({"artifact": "x", "listen": listen, **guards}, None)


@pytest.mark.parametrize(
    "flags",
    [
        {"listen": "0.0.0.0:0", "insecure": True},
        {"listen": "[::1]:0"},
        {"listen": "localhost:0"},
        {"listen": "0.0.0.0:0", "tls_certificate": "c", "tls_key": "k", "tokens_file": "t"},
        {"listen": "0.0.0.0:0", "tls_certificate": "c", "tls_key": "k", "tls_client_ca": "a"},
    ],
)
def test_loopback_guarded_and_waived_addresses_are_listened_on(flags):
    config, _ = load({"artifact": "x", **flags}, None)
    assert config.listen == flags["listen"]
