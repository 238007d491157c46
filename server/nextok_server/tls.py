"""TLS of the port: the certificate, who may connect, and both anew when their files change.

Knows: the files, gRPC's credentials. Does not know: the settings' other parts, what is served.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from nextok_server.reloading import Reloading


class _Material:
    """Certificate, key and, for mutual TLS, the authorities of clients; checked, in PEM."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca

    @property
    def paths(self) -> tuple[Path, ...]:
        own = (self._certificate, self._key)
        return own if self._client_ca is None else (*own, self._client_ca)

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Reads the files.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is no PEM, or the key is not the certificate's.
        """
        chain, key = self._certificate.read_bytes(), self._key.read_bytes()
        roots = None if self._client_ca is None else self._client_ca.read_bytes()
        # gRPC says only in its own log, and only once a client comes, that it cannot use them.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Without a password, OpenSSL would ask the terminal for an encrypted key's.
            context.load_cert_chain(self._certificate, self._key, password="")
        except ssl.SSLError as error:
            message = f"{self._certificate} and {self._key} are not a certificate and its key"
            raise ValueError(f"{message}, in PEM, not encrypted: {error}") from error
        if roots is not None:
            try:
                context.load_verify_locations(cadata=roots.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError) as error:
                raise ValueError(f"{self._client_ca} holds no certificates: {error}") from error
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)


def server_credentials(
    certificate: Path, key: Path, client_ca: Path | None
) -> grpc.ServerCredentials:
    """TLS whose files are looked at with every new connection; running ones go on.

    Args:
        certificate: The server's, in PEM, with those between it and its authority.
        key: Its private key, in PEM, not encrypted.
        client_ca: Authorities of clients. Given: only clients with a certificate of theirs.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file does not hold what it should.
    """
    material = _Material(certificate, key, client_ca)
    files = Reloading("TLS certificate", material.paths, material.read)
    used = files.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """What to use from now on; None for the same as before. Called on gRPC's threads."""
        nonlocal used
        now = files.current()
        if now is used:
            return None
        used = now
        return now

    # gRPC takes None for no change; its stubs do not know that.
    return grpc.dynamic_ssl_server_credentials(
        used,
        fetch,  # type: ignore[arg-type]
        require_client_authentication=client_ca is not None,
    )
