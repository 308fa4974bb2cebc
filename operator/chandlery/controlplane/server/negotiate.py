"""Which representation a client wants: JSON, YAML, a Table, or metadata alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@dataclass(frozen=True, slots=True)
class Form:
    """A representation. `as_` is "", Table, PartialObjectMetadata or PartialObjectMetadataList."""

    media: str
    as_: str = ""
    as_version: str = ""

    @property
    def transforms(self) -> bool:
        return bool(self.as_)


PLAIN = Form(JSON)
_TRANSFORMS = {"Table", "PartialObjectMetadata", "PartialObjectMetadataList"}
_WATCHABLE = {JSON}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One media range of an Accept header."""

    media: str
    parameters: tuple[tuple[str, str], ...]
    quality: float


@lru_cache(maxsize=512)
def parse_accept(header: str) -> tuple[Wanted, ...]:
    """The ranges, best first (equal quality: the more specific, then as written)."""
    found: list[tuple[float, int, int, Wanted]] = []
    for position, part in enumerate(header.split(",")):
        pieces = [piece.strip() for piece in part.split(";")]
        media = pieces[0].lower()
        if not media or "/" not in media:
            continue
        quality = 1.0
        parameters: list[tuple[str, str]] = []
        for piece in pieces[1:]:
            key, _, value = piece.partition("=")
            if key == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 1.0
            else:
                parameters.append((key, value.strip('"')))
        specificity = 2 if media == "*/*" else 1 if media.endswith("/*") else 0
        found.append((-quality, specificity, position, Wanted(media, tuple(parameters), quality)))
    found.sort(key=lambda item: item[:3])
    return tuple(item[3] for item in found)


@lru_cache(maxsize=512)
def negotiate(header: str, *, transforms: bool, stream: bool = False) -> Form | None:
    """The form to answer in; None when nothing acceptable is offered (406).

    `transforms`: Table and PartialObjectMetadata are possible here. Protobuf is never answered: clients
    that ask for it ask for JSON beside it.
    """
    if not header.strip():
        return PLAIN
    for wanted in parse_accept(header):
        if wanted.quality <= 0:
            continue
        form = _match(wanted, transforms=transforms)
        if form is not None and not (stream and form.media not in _WATCHABLE):
            return form
    return None


def _match(wanted: Wanted, *, transforms: bool) -> Form | None:
    media = {"*/*": JSON, "application/*": JSON}.get(wanted.media, wanted.media)
    if media not in (JSON, YAML):
        return None
    parameters = dict(wanted.parameters)
    as_ = parameters.get("as", "")
    if not as_:
        # A version without a transformation names a group-version of the body: only the default one is known.
        return PLAIN if media == JSON else Form(media)
    if not transforms or as_ not in _TRANSFORMS or parameters.get("g", "") != "meta.k8s.io":
        return None
    version = parameters.get("v", "")
    if version not in ("v1", "v1beta1"):
        return None
    return Form(media, as_, version)


def only_protobuf(header: str) -> bool:
    """Whether the client takes nothing but protobuf."""
    ranges = parse_accept(header)
    return bool(ranges) and all(r.media == PROTOBUF for r in ranges)
