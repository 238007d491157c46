"""Whether the page may be served where it is told to, with what guards it has.

Knows addresses and files of keys. The rule is the nextok server's own; the two share no code, as
they may run on machines of their own.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Final

_KEY: Final = re.compile(r"[\x21-\x7e]{16,512}")


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        ValueError: It has another form.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{listen!r} is not HOST:PORT with a port of 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host. Names other than localhost are not trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(host: str, *, certificate: bool, key: bool, keys: bool, insecure: bool) -> None:
    """Refuses to be open to others by mistake.

    Args:
        host: Where to listen.
        certificate: Whether there is one for TLS.
        key: Whether there is one for it.
        keys: Whether callers have to show a key.
        insecure: Whether all of that was waived.

    Raises:
        ValueError: Says why, and what to do.
    """
    if certificate != key:
        given, missing = ("certificate", "key") if certificate else ("key", "certificate")
        raise ValueError(f"--tls-{given} is given without --tls-{missing}")
    if insecure or is_loopback(host):
        return
    lacks = []
    if not certificate:
        lacks.append(
            "no TLS, so prompts, texts and keys could be read and changed on the way: "
            "give --tls-certificate and --tls-key"
        )
    if not keys:
        lacks.append(
            "no authentication, so anyone who reaches the port could use it: give --keys-file"
        )
    if lacks:
        reasons = "".join(f"\n  - {lack}" for lack in lacks)
        raise ValueError(
            f"refusing to listen on {host}, which is not a loopback address:{reasons}\n"
            "or listen on 127.0.0.1, or say --insecure if something else guards this port"
        )


def read_keys(file: Path) -> tuple[str, ...]:
    """Reads a file of keys, one a line; lines that begin with # are left out.

    Raises:
        OSError: It cannot be read.
        ValueError: A line is no key, or there is none. No key is ever shown.
    """
    keys = []
    for number, line in enumerate(file.read_bytes().decode("ascii", "replace").splitlines(), 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"{file}, line {number}: a key is 16 to 512 printable ASCII characters"
            )
        keys.append(key)
    if not keys:
        raise ValueError(f"{file}: there is no key in it")
    return tuple(keys)
