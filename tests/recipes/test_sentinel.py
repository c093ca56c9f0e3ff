"""examples/sentinel: the master is killed under load, and resqued follows the sentinels."""

from __future__ import annotations

import pytest

from harness.redis_cluster import Replicated
from recipes.conftest import EXAMPLES
from recipes.failover import survive
from server.conftest import directory  # noqa: F401 (fixture)

HERE = EXAMPLES / "sentinel"
FILES = ((HERE / "redis.conf").read_text(), (HERE / "sentinel.conf").read_text())


@pytest.fixture
def replicated(server, directory):  # noqa: F811
    replicated = Replicated(directory, FILES)
    yield replicated
    replicated.close()


def test_a_failover_under_load(replicated, resqued):
    survive(replicated, resqued)
