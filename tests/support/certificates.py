"""Certificates of authorities that live as long as a test."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Files:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> tuple[bytes, bytes]:
        return self.certificate.read_bytes(), self.key.read_bytes()


def write(
    folder: Path, authority: trustme.CA, name: str = "127.0.0.1", *, expired: bool = False
) -> Files:
    """Makes a certificate; files that are there are replaced, each at once."""
    folder.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    until = now - datetime.timedelta(days=1) if expired else now + datetime.timedelta(days=1)
    since = now - datetime.timedelta(days=2)
    made = authority.issue_cert(name, not_before=since, not_after=until)
    chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
    files = Files(folder / "certificate.pem", folder / "key.pem")
    replace(files.certificate, chain)
    replace(files.key, made.private_key_pem.bytes())
    return files


def replace(path: Path, data: bytes) -> None:
    """Puts other content in the place of a file's, whole or not at all."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)
