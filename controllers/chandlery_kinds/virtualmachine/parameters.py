"""What a ResourceClass may say to drivers of VirtualMachine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from chandlery.driver.parameters import Parameters
from chandlery.model.base import Model
from chandlery.model.words import Checksum, Label, Url


class CatalogueImage(Model):
    """A disk image that specs may name."""

    url: Annotated[Url, Field(description="http, https or file URL of a qcow2 or raw image.")]
    checksum: Annotated[Checksum, Field(description="sha256:... or sha512:... in hexadecimal.")]


class MachineParameters(Parameters):
    """The catalogue."""

    images: Annotated[
        Mapping[Label, CatalogueImage],
        Field(max_length=256, description="The catalogue: images by the name that `spec.image.name` says."),
    ] = Field(default_factory=dict)
