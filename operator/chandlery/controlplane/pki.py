"""Making certificates: our own authority, and what it issues. Imported only when something has to be made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from chandlery.controlplane.files import write_private
from chandlery.foundation import x509

CA_YEARS = 10
LEAF_DAYS = 365


class Authority:
    """The CA in a directory: made at the first start, kept afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file, cert_file = folder / "ca.key", folder / "ca.crt"
        if key_file.exists() and cert_file.exists():
            self._pair = x509.Pair(cert_file.read_text(), key_file.read_text())
        else:
            lifetime = timedelta(days=365 * CA_YEARS)
            self._pair = x509.make_ca("chandlery control plane CA", datetime.now(UTC), lifetime)
            write_private(key_file, self._pair.key.encode())
            write_private(cert_file, self.pem)

    @property
    def pem(self) -> bytes:
        return self._pair.certificate.encode()

    def issue(
        self, stem: str, common_name: str, *, organizations: tuple[str, ...] = (), hosts: tuple[str, ...] = ()
    ) -> tuple[Path, Path]:
        """Make a certificate and key file for a server (with hosts) or a client."""
        cert_file, key_file = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        made = x509.issue(
            self._pair,
            hosts,
            datetime.now(UTC),
            client=not hosts,
            common_name=common_name,
            organizations=organizations,
            lifetime=timedelta(days=LEAF_DAYS),
        )
        write_private(key_file, made.key.encode())
        write_private(cert_file, made.certificate.encode())
        return cert_file, key_file
