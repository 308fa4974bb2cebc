"""References from one object to another."""

import re
from typing import Final, NamedTuple

from chandlery.foundation.errors import InvalidSpec
from chandlery.foundation.validation.names import check_dns1123_label, check_dns1123_subdomain

_KIND: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")


class Reference(NamedTuple):
    """An object somewhere: an empty kind or namespace means the referring object's own."""

    kind: str
    group: str
    namespace: str
    name: str

    def __str__(self) -> str:
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return "/".join(part for part in (kind, self.namespace, self.name) if part)


def check_reference(
    name: str,
    *,
    namespace: str | None = None,
    kind: str | None = None,
    group: str | None = None,
    own_namespace: str | None = None,
    field: str = "ref",
) -> Reference:
    """The parts of a reference, each checked under its own path.

    Args:
        name: the object's name.
        namespace: where it is; None for the referring object's own.
        kind: CamelCase, such as `Cache`.
        group: API group, such as `data.chandlery.dev`.
        own_namespace: where given, a reference to any other namespace is refused: who may write here may not
            thereby read there.
        field: path of the reference as a whole.
    """
    if kind is not None and not _KIND.fullmatch(kind):
        raise InvalidSpec(
            "must be the name of a kind", field=f"{field}.kind", value=kind, hint="Write it as in manifests: Cache."
        )
    if group:
        check_dns1123_subdomain(group, field=f"{field}.group")
    check_dns1123_subdomain(name, field=f"{field}.name")
    if namespace is not None:
        check_dns1123_label(namespace, field=f"{field}.namespace")
        if own_namespace is not None and namespace != own_namespace:
            raise InvalidSpec(
                f"must be in the same namespace, {own_namespace}",
                field=f"{field}.namespace",
                value=namespace,
                hint="Leave the namespace out, or move one of the two objects.",
            )
    return Reference(kind or "", group or "", namespace or "", name)


def parse_reference(text: str, *, field: str = "ref") -> Reference:
    """`name`, `Kind/name`, `Kind.group/name`, `Kind/namespace/name`, `namespace/name`.

    A first part that begins with a capital letter is a kind; namespaces never do.
    """
    parts = text.split("/")
    kind = group = namespace = None
    if len(parts) > 1 and parts[0][:1].isupper():
        kind, _, group = parts.pop(0).partition(".")
    if len(parts) == 2:
        namespace = parts.pop(0)
    if len(parts) != 1:
        raise InvalidSpec(
            "must be a reference", field=field, value=text, hint="Write name, namespace/name, or Kind/namespace/name."
        )
    return check_reference(parts[0], namespace=namespace, kind=kind, group=group, field=field)
