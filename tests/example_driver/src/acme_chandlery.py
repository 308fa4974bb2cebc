"""Queues as spool directories: one directory a queue, named by the object's uid, with its settings in a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Difference, DriverContext, Observation, Unsupported, external_name
from chandlery.foundation.errors import InvalidSpec
from chandlery.model.base import DeletionPolicy

FIELDS = ("retention", "maxMessageSize")


class SpoolDriver:
    """Knows nothing of brokers, users or TLS, and says so before anything is made."""

    name: ClassVar[str] = "spool"
    provider: ClassVar[str] = "none"
    """It connects to nothing."""

    def unsupported(self, obj: Any, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        found = []
        if obj.spec.users:
            found.append(Unsupported("spec.users", "", "a directory has no users: whoever may read it may consume"))
        if obj.spec.tls is not None:
            found.append(Unsupported("spec.tls", "", "nothing goes over a network"))
        if obj.spec.replicas and obj.spec.replicas > 1:
            found.append(Unsupported("spec.replicas", str(obj.spec.replicas), "there is one copy of a directory"))
        return found

    async def observe(self, ctx: DriverContext, obj: Any) -> Observation:
        place = spool(ctx, obj)
        if not (place / "settings.json").exists():
            return Observation(exists=False, external_name=external_name(obj))
        there, wanted = json.loads((place / "settings.json").read_text()), settings(obj)
        return Observation(
            exists=True,
            ready=(place / "new").is_dir(),
            reason="SpoolMissing",
            differences=tuple(
                Difference(f"spec.{field}", str(wanted.get(field)), str(there.get(field)))
                for field in FIELDS
                if wanted.get(field) != there.get(field)
            )
            + (() if (place / "new").is_dir() else (Difference("spool", "a directory", "missing"),)),
            external_name=external_name(obj),
            binding=Binding("spool", "acme", {"path": str(place / "new")}),
            facts={"messages": len(list((place / "new").iterdir())) if (place / "new").is_dir() else 0},
        )

    async def create(self, ctx: DriverContext, obj: Any) -> None:
        place = spool(ctx, obj)
        (place / "new").mkdir(parents=True, exist_ok=True)
        write(place / "settings.json", settings(obj))  # last: its presence means that all the rest is there

    async def update(self, ctx: DriverContext, obj: Any, observed: Observation) -> None:
        if not observed.plan.changes:
            return
        place = spool(ctx, obj)
        there, wanted = json.loads((place / "settings.json").read_text()), settings(obj)
        for change in observed.plan.changes:
            if change.field == "spool":
                (place / "new").mkdir(exist_ok=True)
            else:
                field = change.field.removeprefix("spec.")
                there[field] = wanted.get(field)
        write(place / "settings.json", there)

    async def delete(self, ctx: DriverContext, obj: Any) -> bool:
        place = spool(ctx, obj)
        if obj.spec.deletion_policy is DeletionPolicy.RETAIN:
            return True
        (place / "settings.json").unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        return not place.exists()


def spool(ctx: DriverContext, obj: Any) -> Path:
    directory = ctx.parameters.get("directory")
    if not directory:
        raise InvalidSpec(
            "the driver spool needs to know where spools go",
            field="spec.parameters.directory",
            hint="Set it in the ResourceClass.",
        )
    return Path(directory) / external_name(obj)


def settings(obj: Any) -> dict[str, Any]:
    whole = obj.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {field: whole[field] for field in FIELDS if field in whole}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(path)
