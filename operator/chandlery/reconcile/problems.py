"""What can be wrong around an object, rather than in it: classes, drivers, providers.

Terminal: each of them is watched, and the objects concerned are taken up again as soon as it changes.
"""

from __future__ import annotations

from typing import ClassVar

from chandlery.driver.parameters import InvalidParameters
from chandlery.foundation.errors import AlreadyExists, InvalidConfiguration, NotFound


class ClassNotFound(NotFound):
    """No ResourceClass of this name, or no default one."""

    code: ClassVar[str] = "ClassNotFound"
    default_retry_after: ClassVar[float | None] = None
    default_hint: ClassVar[str] = "`kubectl get resourceclasses` lists what there is."


class ClassMismatch(InvalidConfiguration):
    """The ResourceClass is for another kind, or is damaged."""

    code: ClassVar[str] = "ClassMismatch"
    default_hint: ClassVar[str] = "Name a ResourceClass of this kind in spec.className."


class DriverNotFound(InvalidConfiguration):
    """The class names a driver that this operator doesn't have."""

    code: ClassVar[str] = "DriverNotFound"
    default_hint: ClassVar[str] = "Correct spec.driver of the ResourceClass, or install the driver's package."


class ProviderNotFound(InvalidConfiguration):
    """The provider is not part of this operator, or its ProviderConfig or credentials are missing."""

    code: ClassVar[str] = "ProviderNotFound"
    default_hint: ClassVar[str] = "Create the ProviderConfig, or enable the provider in the operator's settings."


class SecretTaken(AlreadyExists):
    """The binding Secret's name belongs to something else."""

    code: ClassVar[str] = "SecretTaken"
    default_hint: ClassVar[str] = "Choose another name in spec.connectionSecret.name, or remove that Secret."


WEDGES: tuple[type[Exception], ...] = (
    ClassNotFound,
    ClassMismatch,
    DriverNotFound,
    ProviderNotFound,
    InvalidParameters,
)
"""What would block a deletion for ever if it were waited for without a bound."""
