"""How a client shows who it is, and makes sure of who it talks to.

Knows TLS's files and tokens, and when a token may be sent. Does not know what is called.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750
_SCHEME: Final = re.compile(r"(ipv4|ipv6|dns):(//[^/]*/)?")


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Where TLS was read from, and what tells whether the files are still the same.

    Attributes:
        ca: Path, or None, as the next two.
        certificate: Path.
        key: Path.
        stamp: Of the files, as they were read.
    """

    ca: str | Path | None
    certificate: str | Path | None
    key: str | Path | None
    stamp: tuple[tuple[int, ...], ...] = ()

    def stamp_now(self) -> tuple[tuple[int, ...], ...]:
        """The files' stamp as they are."""
        return tuple(_stamp(path) for path in (self.ca, self.certificate, self.key))


@dataclass(frozen=True, slots=True)
class TLS:
    """What TLS is done with; everything is PEM.

    Attributes:
        ca: Authorities to trust. None: those that gRPC brings, for public servers.
        certificate: The client's own chain, for servers that ask for one.
        key: Its private key.
        server_name: The name that the server's certificate has to have. None: the target's.
        files: Where it was read from, if from files; see `from_files`.

    Raises:
        ValueError: Certificate and key are not given together.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    files: TLSFiles | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.certificate else ("key", "certificate")
            raise ValueError(f"{given}: is given without {missing}")

    @classmethod
    def from_files(
        cls,
        *,
        ca: str | Path | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        server_name: str | None = None,
    ) -> TLS:
        """Reads the files.

        Clients look whether they have changed with every call, and connect anew if so; calls that
        run go on. Replace files as a whole.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file holds no PEM, or certificate and key are not given together.
        """
        files = TLSFiles(ca, certificate, key)
        # Before they are read: a change in between is seen the next time.
        stamped = replace(files, stamp=files.stamp_now())
        return cls(_read(ca), _read(certificate), _read(key), server_name, stamped)

    @property
    def is_from_files(self) -> bool:
        """Whether there is anything that may change."""
        return self.files is not None

    def renewed(self) -> TLS | None:
        """The same, read anew, where its files have changed and can be used; else None."""
        files = self.files
        if files is None or files.stamp_now() == files.stamp:
            return None
        try:
            return TLS.from_files(
                ca=files.ca,
                certificate=files.certificate,
                key=files.key,
                server_name=self.server_name,
            )
        except (OSError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Connection:
    """How to open a channel, and what goes with each of its calls.

    Attributes:
        credentials: None connects in the clear.
        options: gRPC channel arguments.
        authorize: Takes a channel, gives what to make stubs of.
    """

    credentials: grpc.ChannelCredentials | None = None
    options: tuple[tuple[str, str | int], ...] = ()
    authorize: Callable[[Any], Any] = lambda channel: channel


def plan_connection(
    target: str,
    *,
    tls: TLS | bool = False,
    token: str | None = None,
    token_in_clear: bool = False,
    credentials: grpc.ChannelCredentials | None = None,
) -> Connection:
    """Checks what a caller said about security, and makes of it what gRPC takes.

    Raises:
        ValueError: Both `tls` and `credentials` are given; the token is none; or it would go
            over a network in the clear.
    """
    options: tuple[tuple[str, str | int], ...] = ()
    if tls is not False:
        if credentials is not None:
            raise ValueError("tls: is given with credentials, which are another way to say it")
        tls = TLS() if tls is True else tls
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
        if tls.server_name is not None:
            options = (("grpc.ssl_target_name_override", tls.server_name),)
    if token is None:
        return Connection(credentials, options, lambda channel: channel)
    if not _TOKEN.fullmatch(token):
        # Not shown: it may be one with a typing error.
        raise ValueError("token: holds something else than A-Z a-z 0-9 . _ ~ + / = -")
    if credentials is None and not token_in_clear and not is_loopback(target):
        raise ValueError(
            f"token: would be sent to {target} in the clear, where others can read it; connect "
            "with tls, or set token_in_clear if something else protects the way"
        )
    metadata = (("authorization", f"Bearer {token}"),)
    return Connection(credentials, options, partial(_WithMetadata, metadata))


class _WithMetadata:
    """A channel, sync or asyncio, whose calls all carry some metadata.

    An interceptor would do the same, but asyncio's stand between a stream and every message.
    """

    def __init__(self, metadata: tuple[tuple[str, str], ...], channel: Any) -> None:
        self._metadata = metadata
        self._channel = channel

    def __getattr__(self, shape: str) -> Callable[..., Any]:
        """unary_unary and its like."""
        make = getattr(self._channel, shape)
        return lambda *args, **kwargs: partial(make(*args, **kwargs), metadata=self._metadata)


def is_loopback(target: str) -> bool:
    """Whether every address of a target is this machine's own."""
    if target.startswith("unix:"):
        return True
    addresses = _SCHEME.sub("", target, count=1).split(",")
    return all(_is_loopback_address(address) for address in addresses)


def _is_loopback_address(address: str) -> bool:
    # With a port, as an IPv6 address in brackets, or as one without port and brackets.
    for host in (address, address.rpartition(":")[0]):
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
        except ValueError:
            continue
    return False


def _stamp(path: str | Path | None) -> tuple[int, ...]:
    """What changes when a file is written or replaced; empty where there is none."""
    try:
        status = Path(path).stat() if path is not None else None
    except OSError:
        return ()
    if status is None:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    data = Path(path).read_bytes()
    if b"-----BEGIN " not in data:
        raise ValueError(f"{path} holds no PEM")
    return data
