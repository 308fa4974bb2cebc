"""What a ResourceClass may say to the `kubernetes` driver of LoadBalancer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chandlery.driver.parameters import OneOf
from chandlery.model.base import Model
from chandlery.model.words import Name
from chandlery.providers.kubernetes.parameters import WorkloadParameters

ImageName = Annotated[str, OneOf("haproxy")]
ProgramName = Annotated[str, OneOf("haproxy")]


class GatewayParameter(Model):
    """Which implementation."""

    class_name: Annotated[Name, Field(description="Name of the GatewayClass.")]


class LoadBalancerParameters(WorkloadParameters[ImageName, ProgramName]):
    """Images, programs and who may connect."""

    gateway: Annotated[
        GatewayParameter | None,
        Field(description="Load balancers are made by an implementation of the Gateway API in place of HAProxy."),
    ] = None
