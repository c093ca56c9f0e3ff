"""Few rights, odd names, no CLIENT: what is a nicety is done without, the rest is documented."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from redis.exceptions import ResponseError
from rq import Queue, Retry
from rq.command import send_stop_job_command

from harness import jobs
from harness.command import TESTS
from harness.waiting import wait_for
from resqued.broker.prerequisites import COMMANDS, MissingRights, find_missing_rights
from resqued.broker.refusals import diagnose
from resqued.exits import ExitCode
from resqued.printable import listed

CONFIGURATION = (TESTS.parent / "resqued/CONFIGURATION.md").read_text()


@pytest.fixture
def as_user(valkey, connection):
    """`as_user("~rq:*", "+@all")`: the URL of a user with these rights."""

    def as_user(*rights):
        connection.acl_log_reset()
        connection.execute_command("ACL", "SETUSER", "app", "reset", "on", ">canary-pw", *rights)
        return valkey.url.replace("unix://", "unix://app:canary-pw@")

    return as_user


def works(arbiter, queue, connection, gate):
    """A job, a stop, a schedule, a retry, a dead worker: what needs rights of its own."""
    arbiter.wait_for_workers(2)
    arbiter.wait_for_steward()
    job, fails = queue.enqueue(jobs.noop), queue.enqueue(jobs.fail, retry=Retry(1, interval=1))
    after = queue.enqueue(jobs.noop, depends_on=job)
    due = queue.enqueue_in(timedelta(seconds=1), jobs.noop)
    for each in (job, after, due):
        wait_for(lambda each=each: each.get_status() == "finished", 30, "a job to be finished")
    wait_for(lambda: fails.get_status() == "failed", 30, "a job to be retried and fail")
    door = gate()
    stopped = queue.enqueue(jobs.sleep, 60, str(door))
    door.wait_until_reached()

    def is_stopped():
        send_stop_job_command(connection, stopped.id)
        return stopped.get_status() == "stopped"

    wait_for(is_stopped, 20, "stop-job to be heard")
    door = gate()
    killed = queue.enqueue(jobs.sleep, 60, str(door))
    arbiter.signal("KILL", pid=door.wait_until_reached())
    wait_for(lambda: killed.get_status() == "failed", 20, "a dead worker's job to be recovered")


def test_the_least_rights_are_enough(resqued, as_user, queue, connection, gate):
    """Those that the documentation names, to the letter."""
    (rule,) = re.findall(r"^ACL SETUSER resqued (.*)$", CONFIGURATION, re.MULTILINE)
    words = [word for word in rule.split() if word not in ("on", ">PASSWORD")]
    assert "~rq:*" in words
    arbiter = resqued(
        *("-n", 2, "-s", "--queue", "default", "--queue", "*", "--redis", as_user(*words)),
        *("--maintenance-interval", 2),
        expect_errors="Job stopped|stack|failed job|Traceback",
    )
    works(arbiter, queue(), connection, gate)
    assert "NOPERM" not in arbiter.log()
    assert "no permission" not in arbiter.log().lower()
    denied = {(entry["reason"], entry["object"]) for entry in connection.acl_log()}
    assert {reason for reason, _ in denied} <= {"channel"}, (
        "but for a narrower pattern, tried first"
    )


@pytest.mark.parametrize("channels", ["&rq:pubsub:*", "&rq:pubsub:web*"])
def test_channels_as_a_rule_allows_them(resqued, as_user, queue, connection, gate, channels):
    url = as_user("~*", "+@all", channels)
    arbiter = resqued(
        *("-n", 2, "-s", "--name", "web", "--redis", url),
        expect_errors="Job stopped|stack|failed job|Traceback",
    )
    works(arbiter, queue(), connection, gate)
    assert "subscribe" not in arbiter.log()


@pytest.mark.parametrize("forbidden", ["-client", "-hello"])
def test_without_client_it_works_all_the_same(resqued, as_user, queue, connection, gate, forbidden):
    arbiter = resqued(
        *("-n", 2, "-s", "--redis", as_user("~*", "&*", "+@all", forbidden)),
        expect_errors="Job stopped|stack|failed job|Traceback",
    )
    works(arbiter, queue(), connection, gate)
    assert "SETNAME" not in arbiter.log()


def test_a_name_that_is_not_ascii(resqued, queue, connection, gate):
    arbiter = resqued(
        *("-n", 2, "-s", "--name", "zürich-東京"),
        expect_errors="Job stopped|stack|failed job|Traceback",
    )
    arbiter.wait_for_workers(2)
    names = {entry["name"] for entry in connection.client_list()}
    assert "z_rich-__.1.1" in names
    works(arbiter, queue(), connection, gate)


@pytest.mark.parametrize("name", ["züri ch", r"z\374rich"], ids=["text", "bytes"])
def test_a_host_name_that_is_not_ascii(resqued, queue, tmp_path, name):
    script = tmp_path / "host"
    script.write_text(f"printf '{name}' > /proc/sys/kernel/hostname\nexec \"$@\"\n")
    arbiter = resqued("-n", 1, under=["unshare", "--uts", "sh", str(script)])
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job")


@pytest.fixture
def evicting(make_server):
    return make_server("e", "--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")


def test_eviction_of_jobs_is_warned_of(evicting, resqued):
    arbiter = resqued("-n", 1, "--redis", evicting.url)
    arbiter.wait_for(r"WARNING .*allkeys-lru.*noeviction")
    job = Queue(connection=evicting.connect()).enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job")
    assert len(re.findall("allkeys-lru", arbiter.log())) == 1


def test_a_password_that_is_no_longer_good_is_tried_again(resqued, as_user, queue, connection):
    url = as_user("~*", "&*", "+@all")
    arbiter = resqued("-n", 2, "--loop-timeout", 8, "--redis", url, expect_errors="refuses access")
    before = {worker.pid for worker in arbiter.wait_for_workers(2).values()}
    steward = arbiter.wait_for_steward()
    connection.execute_command("ACL", "SETUSER", "app", "resetpass", ">another")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job, on connections that stand")
    connection.execute_command("CLIENT", "KILL", "USER", "app")
    arbiter.wait_for(
        r"ERROR (worker|steward)=\d .*refuses access: .*correct the URL or the ACL", timeout=20
    )
    connection.execute_command("ACL", "SETUSER", "app", "resetpass", ">canary-pw")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 30, "a job")
    assert {worker.pid for worker in arbiter.wait_for_workers(2).values()} == before
    assert [each.pid for each in arbiter.stewards()] == [steward.pid]
    assert "canary" not in arbiter.log()


def test_a_refusal_that_names_no_command_is_logged_with_the_way_to_find_it():
    """Redis before 7.2 says no more about a command in a script."""
    text = (
        "The user executing the script can't run this command or subcommand script: e1d, on @x:1."
    )
    diagnosis = diagnose(ResponseError(text))
    assert "ACL LOG of the server names the command" in diagnosis.text
    assert diagnosis.needs_person


@pytest.mark.parametrize("forbidden", [("lpop",), ("lpop", "rpush")], ids=listed)
def test_what_only_one_script_a_job_needs(resqued, as_user, queue, connection, forbidden):
    url = as_user("~*", "&*", "+@all", *(f"-{name}" for name in forbidden))
    arbiter = resqued("-n", 3, "--redis", url)
    arbiter.wait_for_workers(3)
    told = re.findall(r"WARNING .*may not call.*", arbiter.log())
    names, remedy = listed(forbidden).upper(), " ".join(f"+{name}" for name in forbidden)
    assert len(told) == 1, "once for all workers, before there is a job"
    assert f"user 'app' of redis may not call {names}, as one script a job does" in told[0]
    assert told[0].endswith(
        f"so RQ's way it is, which is slower and may need it too: ACL SETUSER app {remedy}"
    )
    mark = arbiter.mark()
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job, in RQ's way")
    assert "WARNING" not in arbiter.log()[mark:]
    assert connection.exists("rq:resqued:rights") == 0


@pytest.mark.parametrize(
    ("rule", "names", "remedy"),
    [
        ("-@scripting", "SCRIPT LOAD,EVALSHA", "@scripting"),
        ("-evalsha", "EVALSHA", "@scripting"),
        ("-script|load", "SCRIPT LOAD", "@scripting"),
        ("-@transaction", "MULTI", "@transaction"),
        ("-exec", "EXEC", "@transaction"),
    ],
)
@pytest.mark.parametrize("fast_path", ["auto", "off"])
def test_without_scripts_and_transactions_the_start_is_refused(
    resqued, as_user, rule, names, remedy, fast_path
):
    url = as_user("~*", "&*", "+@all", rule)
    arbiter = resqued(
        *("-n", 2, "--name", "web", "--fast-path", fast_path, "--redis", url),
        expect_errors="did not boot|the steward cannot|giving up",
    )
    assert arbiter.exit(30) == ExitCode.GAVE_UP
    assert re.search(
        rf"did not boot: redis: user 'app' may not call {re.escape(names)}, and no job can be"
        rf" taken without: ACL SETUSER app \+{remedy}",
        arbiter.log(),
    )


def test_scripts_that_are_forbidden_meanwhile_are_no_exit(resqued, as_user, queue, connection):
    url = as_user("~*", "&*", "+@all")
    arbiter = resqued(
        *("-n", 1, "--max-jobs", 1, "--redis", url),
        expect_errors="did not boot|refuses access|the steward cannot|failed job|Traceback",
    )
    arbiter.wait_for_workers(1)
    connection.execute_command("ACL", "SETUSER", "app", "-evalsha")
    arbiter.signal("KILL", pid=next(iter(arbiter.workers().values())).pid)
    arbiter.wait_for("did not boot: redis: user 'app' may not call EVALSHA", times=4, timeout=30)
    connection.execute_command("ACL", "SETUSER", "app", "+evalsha")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 30, "a job")


def test_every_command_of_a_step_is_tried(connection, as_user, valkey):
    """Each forbidden alone is found, and nothing else is."""
    for name in COMMANDS:
        as_user("~*", "&*", "+@all", f"-{name.lower()}")
        client = valkey.connect(username="app", password="canary-pw")
        assert find_missing_rights(client) == MissingRights(step=(name,))
        client.close()
    assert {"HSET", "XADD", "LPOP", "ZSCORE", "LREM"} < set(COMMANDS)


APP_ON_ANOTHER_RQ = """
    import rq.version

    rq.version.VERSION = "3.1.0"
"""


def test_a_release_of_rq_that_is_not_known(resqued, queue):
    arbiter = resqued("-n", 3, "-r", "app", "--path", ".", app=APP_ON_ANOTHER_RQ)
    arbiter.wait_for_workers(3)
    (told,) = re.findall(r"WARNING .*rq 3.1.0.*", arbiter.log())
    assert "rq 3.1.0 is not known to resqued" in told
    assert told.endswith("install rq 3.0, or a newer resqued")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job, in RQ's way")


def test_rqs_way_by_choice_is_no_news(resqued, queue):
    arbiter = resqued("-n", 1, "--fast-path", "off")
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job, in RQ's way")
    assert "WARNING" not in arbiter.log()
