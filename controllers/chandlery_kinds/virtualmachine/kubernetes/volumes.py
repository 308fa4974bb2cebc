"""The DataVolumes of a virtual machine: CDI makes a claim of each and fills it.

Source: the API reference of the Containerized Data Importer, cdi.kubevirt.io/v1beta1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes.types import DATA_VOLUMES, Obj
from chandlery_kinds.virtualmachine.kubernetes.inputs import Inputs, Source

ROOT = "root"


def volume_suffix(disk: str) -> str:
    """Of the DataVolume, and of the claim, which has its name."""
    return f"-{disk}"


def sizes(inputs: Inputs) -> dict[str, str]:
    """Size of each disk by its name; the root disk is `root`."""
    root = inputs.spec.root_disk
    assert root is not None  # refused otherwise
    found = {ROOT: str(Quantity(str(root.size)))}
    return found | {str(disk.name): str(Quantity(str(disk.size))) for disk in inputs.spec.disks}


def data_volumes(inputs: Inputs, live: Mapping[str, Obj]) -> list[Obj]:
    """All of them. What one was made from can't change: size and source stay as they are, and the claim is grown.

    Args:
        inputs: of all of it.
        live: DataVolumes that are there, by name.
    """
    root = inputs.spec.root_disk
    found = [_data_volume(inputs, ROOT, root.class_name if root else None, inputs.image, live)]
    for disk in inputs.spec.disks:
        source = Source(str(disk.source.url), str(disk.source.checksum)) if disk.source is not None else None
        found.append(_data_volume(inputs, str(disk.name), disk.class_name, source, live))
    return found


def _data_volume(inputs: Inputs, disk: str, storage_class: Any, source: Source | None, live: Mapping[str, Obj]) -> Obj:
    known = live.get(inputs.owner.base + volume_suffix(disk))
    if known is not None:
        has = {key: known["spec"][key] for key in ("source", "storage") if key in known["spec"]}
        return inputs.owner.child(DATA_VOLUMES, volume_suffix(disk), spec=has)
    storage: dict[str, Any] = {"resources": {"requests": {"storage": sizes(inputs)[disk]}}}
    if storage_class:
        storage["storageClassName"] = str(storage_class)
    filled = {"http": {"url": source.url, "checksum": source.checksum}} if source is not None else {"blank": {}}
    return inputs.owner.child(DATA_VOLUMES, volume_suffix(disk), spec={"source": filled, "storage": storage})
