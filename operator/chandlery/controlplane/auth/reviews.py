"""Resources that are answered and never stored: the reviews, and ServiceAccount tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authn import Authenticator
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.auth.tokens import ServiceAccountTokens
    from chandlery.controlplane.types import LocalApi

VirtualHandler = Callable[[RequestContext, Obj], Awaitable[Obj]]
"""Takes the decoded and defaulted body (with its managedFields already set), answers the body of the 201."""


def virtual_resources(
    api: LocalApi, authenticator: Authenticator, authorizer: Authorizer, tokens: ServiceAccountTokens
) -> dict[tuple[str, str, str], VirtualHandler]:
    """(group, plural, subresource) -> the function that answers a create."""
    raise NotImplementedError
