"""Whether a server may listen where it is told to, with what guards it has.

Knows: addresses. Does not know: how any guard works.
"""

from __future__ import annotations

import ipaddress


def check(
    listen: str, *, certificate: bool, key: bool, client_ca: bool, tokens: bool, insecure: bool
) -> None:
    """Refuses to be open to others by mistake.

    Args:
        listen: HOST:PORT.
        certificate: Whether there is one for TLS.
        key: Whether there is one for it.
        client_ca: Whether clients need certificates.
        tokens: Whether calls need tokens.
        insecure: Whether all of that was waived.

    Raises:
        ValueError: Says why, and what to do.
    """
    if certificate != key:
        given, missing = ("certificate", "key") if certificate else ("key", "certificate")
        raise ValueError(f"tls_{given} is given without tls_{missing}")
    if client_ca and not certificate:
        raise ValueError("tls_client_ca is given without tls_certificate and tls_key")
    if insecure or is_loopback(listen.rpartition(":")[0]):
        return
    lacks = []
    if not certificate:
        lacks.append(
            "no TLS, so prompts, texts and tokens could be read and changed on the way: "
            "give --tls-certificate and --tls-key"
        )
    if not tokens and not client_ca:
        lacks.append(
            "no authentication, so anyone who reaches the port could use it: give --tokens-file "
            "(`nextok-server token` makes its entries) or --tls-client-ca"
        )
    if lacks:
        reasons = "".join(f"\n  - {lack}" for lack in lacks)
        raise ValueError(
            f"refusing to listen on {listen}, which is not a loopback address:{reasons}\n"
            "or listen on 127.0.0.1, or say --insecure if something else guards this port"
        )


def check_metrics(listen: str) -> None:
    """Refuses to tell metrics to others by mistake.

    Raises:
        ValueError: Says why, and what to do.
    """
    if not is_loopback(listen.rpartition(":")[0]):
        raise ValueError(
            f"refusing to tell metrics on {listen}, which is not a loopback address: there is no "
            "TLS and no authentication, so anyone who reaches the port could read them\n"
            "listen on 127.0.0.1, or say --metrics-in-clear"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host. Names other than localhost are not trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
