"""Who is asking, and may they: authentication, RBAC, and the review APIs that tell about both."""

from typing import TYPE_CHECKING, Any

from chandlery.controlplane.auth.authn import Authenticator, read_token_file
from chandlery.controlplane.auth.authz import Authorizer, forbidden
from chandlery.controlplane.auth.bootstrap import bootstrap_objects
from chandlery.controlplane.auth.escalation import check_escalation
from chandlery.controlplane.auth.impersonation import impersonate
from chandlery.controlplane.auth.reviews import VirtualHandler, user_obj, virtual_resources

if TYPE_CHECKING:
    from chandlery.controlplane.auth.tokens import ServiceAccountTokens

__all__ = [
    "Authenticator",
    "Authorizer",
    "ServiceAccountTokens",
    "VirtualHandler",
    "bootstrap_objects",
    "check_escalation",
    "forbidden",
    "impersonate",
    "read_token_file",
    "user_obj",
    "virtual_resources",
]


def __getattr__(name: str) -> Any:
    # Signing needs the cryptography package, which takes a tenth of a second to import: not before the first token.
    if name == "ServiceAccountTokens":
        from chandlery.controlplane.auth.tokens import ServiceAccountTokens

        return ServiceAccountTokens
    raise AttributeError(name)
