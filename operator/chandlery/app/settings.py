"""The composition root's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chandlery.foundation.config import Seconds, section


@section("operator", title="The operator as a process")
@dataclass(frozen=True, slots=True)
class RunSettings:
    kinds: str = "*"
    """Kinds that are switched on, by name with commas between; * means all."""
    other_kinds: Literal["delete", "leave"] = "delete"
    """What is done for the kinds that are switched off, where something was made for objects of theirs: delete carries
    out their deletion and nothing else; leave does nothing, as another operator serves them."""
    metrics_host: str = "127.0.0.1"
    """Where metrics and probes are served."""
    metrics_port: int = 0
    """Their port; 0 takes a free one, which is in the log."""
    webhooks: bool = True
    """Refuse at the door what the loop would refuse later; false serves no admission webhooks, wherever it is said."""
    webhook_host: str = "127.0.0.1"
    """Where admission webhooks are served."""
    webhook_port: int | None = None
    """Their port; 0 takes a free one. Without it none are served, but under `chandlery up`, which takes a free one."""
    webhook_certificate: Path | None = None
    """File with the certificate chain for webhooks, PEM."""
    webhook_key: Path | None = None
    """File with its key, PEM."""
    webhook_service: str = ""
    """The Service before the webhooks, as name.namespace; without it the API server is given a URL."""
    webhook_registration: str = ""
    """A ValidatingWebhookConfiguration that somebody else keeps, as a Helm chart: only the CA of our own certificate
    is written into it. Without it the operator makes its own."""
    namespace: str = ""
    """The only namespace to work in; by default all."""
    leader_election: bool = True
    """Elect a leader by a Lease. Off where only one operator can run, as on a laptop."""
    lease_namespace: str = ""
    """Namespace of the Lease; by default the operator's own."""
    lease_seconds: Seconds = 15.0
    """How long a Lease lasts without renewal: a replica that is gone is replaced after that."""
    sharding: bool = False
    """All replicas work, each on its share of the objects, instead of one that leads."""
    shards: int = 32
    """Into how many shards the objects fall with sharding; the same for all replicas, a few times their number."""


@section("local", title="Local drivers")
@dataclass(frozen=True, slots=True)
class LocalSettings:
    port_range: str = "20000-31999"
    """Ports for engines, as first-last; ports that the kernel gives to outgoing connections are left out."""
    cache_dir: Path | None = None
    """Where engines and machine images are kept; several data directories may share it. By default the data
    directory itself."""

    image_dirs: str = ""
    """Folders, with : between, that file URLs of machine images may name, beside `images` in the data directory."""

    log_megabytes: int = 16
    """An engine's log is cut when it is longer; what was cut is kept beside it, as .log.1, .log.2 ..."""
    log_files: int = 2
    """How many files with what was cut are kept of each log."""
    disk_reserve_megabytes: int = 256
    """With less room on the disk of the data directory, objects that keep data say so in a condition."""

    @property
    def image_folders(self) -> tuple[Path, ...]:
        return tuple(Path(name).expanduser().absolute() for name in self.image_dirs.split(":") if name)

    @property
    def ports(self) -> tuple[int, int]:
        first, _, last = self.port_range.partition("-")
        return int(first), int(last)
