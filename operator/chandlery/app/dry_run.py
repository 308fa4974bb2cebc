"""`chandlery up --dry-run`: what would be run and applied, and whether it could be; nothing is started or written."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from chandlery.app import manifests
from chandlery.app.home import Home
from chandlery.app.up import UpOptions, processes
from chandlery.driver.parameters import parameters_of
from chandlery.foundation.errors import ChandleryError, InvalidSpec
from chandlery.reconcile.api import Obj
from chandlery.reconcile.decide import describe_invalid


def report(options: UpOptions) -> tuple[list[str], list[str]]:
    """Lines of what would be done, and of what stands in the way."""
    home = Home(options.data_dir)
    done = [f"run {name}: {' '.join(argv)}" for name, argv in processes(options, home)]
    problems = []
    for path in options.apply:
        for obj in manifests.read(path):
            title = f"{obj['kind']} {obj.get('metadata', {}).get('name', '?')}"
            try:
                manifests.type_of_object(obj)
                found = list(_objections(obj))
            except ChandleryError as error:
                found = [error.condition_message()]
            done.append(f"apply {title}")
            problems += [f"{title}: {objection}" for objection in found]
    return done, problems


def _objections(obj: Obj) -> Iterator[str]:
    from chandlery_kinds import KINDS

    kind = next((kind for kind in KINDS if kind.name == obj["kind"]), None)
    if kind is None:
        return
    try:
        parsed = kind.model.model_validate({"status": {}, **obj})
    except ValidationError as error:
        yield describe_invalid(kind.name, error.errors()).condition_message()
        return
    except InvalidSpec as error:
        yield error.condition_message()
        return
    driver = kind.load_driver("local")
    for item in driver().unsupported(parsed, parameters_of(driver)()):
        yield f"{item.field}: {item.why}" + (f' (got "{item.value}")' if item.value else "")
