"""What tests of real engines share, on a laptop and on a cluster."""

import contextlib

import pytest


@pytest.fixture
async def cluster_nodes(monkeypatch):
    """Closes every node that redis-py's cluster client ever knew.

    The client forgets nodes without closing them when it is interrupted while it learns of new ones. The garbage
    collector would find them later, in a test that has nothing to do with them.
    """
    from redis.asyncio.cluster import ClusterNode
    from redis.exceptions import RedisError

    made = []
    begin = ClusterNode.__init__

    def remembered(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(ClusterNode, "__init__", remembered)
    yield
    for node in made:
        with contextlib.suppress(RedisError, OSError):
            await node.disconnect()
