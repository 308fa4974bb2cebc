"""A setting that a copy needs no less of than its primary is lowered: the copy comes up, whenever it was killed."""

import asyncpg
import pytest
from local_harness import Harness, kill

from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database)
    yield made
    await made.close()


async def test_a_copy_that_has_not_replayed_the_change_yet_starts_with_the_old_value(local):
    high = local.object(instances=2, configuration={"max_connections": "120"})
    seen = await local.converge(high)
    copy = next(m["name"] for m in seen.facts["members"] if m["role"] == "replica")
    primary = seen.facts["primary"]
    # The copy is away while the primary still writes with the old value; then it finds the new configuration.
    await kill(local.instance(high).process(copy).state().pid)
    config = local.instance(high).config_dir / f"{copy}.conf"
    config.write_text(config.read_text().replace("max_connections = '120'", "max_connections = '90'"))
    low = local.changed(high, configuration={"max_connections": "90"})
    seen = await local.converge(low)
    assert {m["ready"] for m in seen.facts["members"]} == {True}
    assert seen.facts["primary"] in {primary, copy}
    connection = await asyncpg.connect(seen.binding.entries["uri"], timeout=10)
    await connection.execute("CREATE TABLE t (n int)")
    await connection.close()
    # and when it has replayed the change, it takes the new value like everybody
    await local.instance(low).stop_all()
    seen = await local.converge(low)
    assert {m["ready"] for m in seen.facts["members"]} == {True}
