"""The TLS files of one object: made by a CA of its own, or taken from the Secrets that spec.tls names.

config/tls/
    ca.crt          what clients trust; absent when the given certificate comes from a public CA
    server.crt      certificate with its chain
    server.key
    server.pem      both in one, as HAProxy wants them
    client-ca.crt   where clients show certificates

The CA and the certificate are in the record, so the files can be written again whole after a crash at any line. A
driver asks `due` in observe, makes a Difference of it (Disruption.RELOAD), calls `write` in create and update and then
has its engine read the files again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from chandlery.driver.protocol import DriverContext
from chandlery.foundation.errors import DependencyNotReady
from chandlery.model.parts import ClientAuthentication, Tls
from chandlery.providers.local.files import make_dir
from chandlery.providers.local.instance import Instance

FOLDER = "tls"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Certificates:
    """The certificates of one object in one pass. Cheap to make; reads Secrets and files when it is asked."""

    def __init__(self, ctx: DriverContext, obj: Any, instance: Instance, names: Sequence[str] = ()) -> None:
        """`names`: host names and addresses besides loopback and spec.exposure.hostname."""
        self.ctx = ctx
        self.obj = obj
        self.instance = instance
        self.tls: Tls = obj.spec.tls
        hostname = obj.spec.exposure.hostname
        self.names = list(dict.fromkeys([*LOOPBACK, *([hostname] if hostname else []), *names]))
        self.folder = instance.config_dir / FOLDER

    # -- where they are

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def certificate_file(self) -> Path:
        return self.folder / "server.crt"

    @property
    def key_file(self) -> Path:
        return self.folder / "server.key"

    @property
    def pem_file(self) -> Path:
        return self.folder / "server.pem"

    @property
    def client_ca_file(self) -> Path | None:
        """The CA of clients' certificates; None when clients aren't asked for one."""
        return self.folder / "client-ca.crt" if self.asks_clients else None

    @property
    def asks_clients(self) -> bool:
        return self.tls.client_authentication is not ClientAuthentication.NONE

    @property
    def requires_clients(self) -> bool:
        """Whether a client without a certificate is refused."""
        return self.tls.client_authentication is ClientAuthentication.REQUIRED

    @property
    def minimum_version(self) -> str:
        """`1.2` or `1.3`."""
        return self.tls.minimum_version.value

    # -- what clients are told

    @property
    def authority(self) -> str:
        """What clients trust, PEM; empty for a public CA. As written last."""
        try:
            return self.ca_file.read_text()
        except OSError:
            return ""

    @property
    def entries(self) -> dict[str, str]:
        """What a binding says about TLS."""
        authority = self.authority
        return {"tls": "true", **({"ca.crt": authority} if authority else {})}

    # -- what is wanted, and what is there

    async def due(self) -> str:
        """Why the files must be written, in words for a person; empty when they are as they should be.

        Raises:
            DependencyNotReady: a Secret that spec.tls names isn't there, or lacks a key.
        """
        now = self.ctx.base.now()
        if self.tls.certificate_secret is None:
            own = self._own
            if not own:
                return "no certificate yet"
            if own["names"] != self.names:
                return f"the certificate is for {', '.join(own['names'])}"
            if now.timestamp() >= own["renew_at"]:
                return f"the certificate ends on {_day(own['ends_at'])}"
        wanted = await self._wanted()
        return "" if self._present() == wanted else "the certificates are not those of spec.tls"

    async def write(self) -> bool:
        """Make what has to be made and write the files; True when one changed. The engine must read them then.

        Raises:
            DependencyNotReady: a Secret that spec.tls names isn't there, or lacks a key.
            InvalidSpec: what it holds is no certificate, or not with its own key.
        """
        if self.tls.certificate_secret is None:
            self._renew()
        wanted = await self._wanted(check=True)
        make_dir(self.folder)
        changed = False
        for name in self._present().keys() - wanted.keys():
            (self.folder / name).unlink(missing_ok=True)
            changed = True
        for name, content in wanted.items():
            changed = self.instance.write_config(f"{FOLDER}/{name}", content) or changed
        self.instance.provider.privileges.hand_over(self.folder, self.instance.root)
        return changed

    def remove(self) -> None:
        """TLS was taken out of the spec: drop the files. The CA stays in the record, for clients that trust it."""
        for name in self._present():
            (self.folder / name).unlink(missing_ok=True)

    @property
    def next_moment(self) -> datetime | None:
        """When `due` may have something to say without anything having changed; None for a given certificate."""
        if self.tls.certificate_secret is not None or not self._own:
            return None
        return datetime.fromtimestamp(self._own["renew_at"], self.ctx.base.now().tzinfo)

    @property
    def _own(self) -> dict[str, Any]:
        own: dict[str, Any] = self.instance.record.get(FOLDER, {})
        return own

    def _renew(self) -> None:
        """A certificate by the object's own CA; what is on record is used as long as it is good."""
        now = self.ctx.base.now()
        own = self._own
        if own and own["names"] == self.names and now.timestamp() < own["renew_at"]:
            return
        from chandlery.foundation import x509

        record = self.instance.record
        if "ca" not in record or x509.expires(record["ca"][0]) - now < x509.RENEW_BEFORE:
            record["ca"] = list(x509.make_ca(f"{self.obj.metadata.namespace}/{self.obj.metadata.name}", now))
        made = x509.issue((record["ca"][0], record["ca"][1]), self.names, now, common_name=self.names[0])
        ends = x509.expires(made.certificate)
        record[FOLDER] = {
            "names": self.names,
            "certificate": made.certificate,
            "key": made.key,
            "ends_at": ends.timestamp(),
            "renew_at": (ends - x509.RENEW_BEFORE).timestamp(),
        }
        self.instance.save()

    async def _wanted(self, *, check: bool = False) -> dict[str, str]:
        """Every file's content."""
        if self.tls.certificate_secret is not None:
            files = await self._given(self.tls.certificate_secret.name, check)
        else:
            own, ca = self._own, self.instance.record["ca"]
            files = {"ca.crt": ca[0], "server.crt": own["certificate"] + ca[0], "server.key": own["key"]}
        files["server.pem"] = files["server.crt"] + files["server.key"]
        if self.asks_clients and self.tls.client_ca_secret is not None:
            field, name = "spec.tls.clientCaSecret", self.tls.client_ca_secret.name
            data = await self._secret(name, ("ca.crt",), field)
            if check:
                from chandlery.foundation import x509

                x509.check_authority(data["ca.crt"], field, name)
            files["client-ca.crt"] = _text(data["ca.crt"])
        return files

    async def _given(self, name: str, check: bool) -> dict[str, str]:
        field = "spec.tls.certificateSecret"
        data = await self._secret(name, ("tls.crt", "tls.key"), field)
        if check:
            from chandlery.foundation import x509

            x509.check_pair(data["tls.crt"], data["tls.key"], field, name)
        files = {"server.crt": _text(data["tls.crt"]), "server.key": _text(data["tls.key"])}
        if data.get("ca.crt"):
            files["ca.crt"] = _text(data["ca.crt"])
        return files

    async def _secret(self, name: str, keys: Sequence[str], field: str) -> Mapping[str, bytes]:
        data = await self.ctx.reader.secret(self.obj.metadata.namespace, name)
        missing = [key for key in keys if not (data or {}).get(key)]
        if data is None or missing:
            what = f"the Secret {name} isn't there" if data is None else f"the Secret {name} has no {missing[0]}"
            hint = f"Create it with {' and '.join(keys)}."
            if "tls.crt" in keys:
                hint += " Or leave certificateSecret out to have a certificate made."
            raise DependencyNotReady(what, field=field, hint=hint)
        return data

    def _present(self) -> dict[str, str]:
        try:
            return {path.name: path.read_text() for path in self.folder.iterdir() if not path.name.startswith(".")}
        except FileNotFoundError:
            return {}


def _text(data: bytes) -> str:
    return data.decode(errors="replace").rstrip() + "\n"


def _day(timestamp: float) -> str:
    from datetime import UTC

    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")
