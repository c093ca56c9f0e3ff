"""The Redis settings that an arbiter tells commands of its own user, and nobody else."""

from __future__ import annotations

from resqued.ctl.redis_of import RedisSettings, redis_of
from resqued.status.chosen import choose

SECRET = "hunter2secret"


def test_the_settings_reach_a_command_and_no_output(resqued):
    url = f"redis://:{SECRET}@localhost:1/3"
    arbiter = resqued("-n", 1, "--redis", url, "-P", "lib")
    arbiter.wait_for("does not answer")
    told = redis_of(choose(pid_file=None, control=str(arbiter.socket), name=None))
    assert told == RedisSettings(url, path=(str(arbiter.directory / "lib"),))
    assert SECRET not in told.shown
    for words in (["status"], ["status", "--json"]):
        done = arbiter.control(*words)
        assert done.returncode == 0
        assert SECRET not in done.stdout + done.stderr
    assert SECRET not in arbiter.log()
