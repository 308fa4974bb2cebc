"""What a ResourceClass may say to the `kubernetes` driver of LoadBalancer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from chandlery.driver.parameters import OneOf
from chandlery.model.base import Model
from chandlery.model.words import Name
from chandlery.providers.kubernetes.parameters import Image, Program, WorkloadParameters

_IMAGES: Final = OneOf("haproxy")
_PROGRAMS: Final = OneOf("haproxy")


class GatewayParameter(Model):
    """Which implementation."""

    class_name: Annotated[Name, Field(description="Name of the GatewayClass.")]


class LoadBalancerParameters(WorkloadParameters):
    """Images, programs and who may connect."""

    images: Annotated[
        Mapping[Annotated[str, _IMAGES], Image],
        Field(description="Images by name; they win over `image`."),
    ] = Field(default_factory=dict)
    commands: Annotated[
        Mapping[Annotated[str, _PROGRAMS], Program],
        Field(description="How a program is started where an image has it in another place: a list of words."),
    ] = Field(default_factory=dict)
    gateway: Annotated[
        GatewayParameter | None,
        Field(description="Load balancers are made by an implementation of the Gateway API in place of HAProxy."),
    ] = None
