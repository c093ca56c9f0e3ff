"""What jobs leave in their worker: memory, threads, ended children, their use of Redis."""

from __future__ import annotations

from rq import Callback, Queue

from harness import processes
from harness.waiting import wait_for

# --- The connection --------------------------------------------------------------------------

CONNECTION = """
import time
from rq import get_current_job

def connection():
    return get_current_job().connection

def select():
    connection().execute_command("SELECT", 5)
    connection().set("mine", 1)
    return int(connection().execute_command("CLIENT", "ID"))

def close():
    connection().close()
    connection().connection_pool.disconnect()

def spoil():
    connection().connection_pool.connection_kwargs.update(db=7, host="nowhere", path="/nowhere")
    connection().connection_pool.reset()

def transaction():
    connection().execute_command("MULTI")

def half_read():
    link = connection().connection_pool.get_connection()
    link.send_command("PING")

def subscribe():
    pubsub = connection().pubsub()
    pubsub.subscribe("news")
    return pubsub.get_message(timeout=5)["type"]

def wait_long():
    return connection().blpop(["nothing"], timeout=13)

def meta():
    job = get_current_job()
    job.meta["seen"] = True
    job.save_meta()
    return job.get_status().value

def fails():
    select()
    raise ValueError

def selects(job, connection, *result):
    connection.execute_command("SELECT", 5)

def nothing():
    return connection() is not None
"""


def test_whatever_a_job_does_to_its_connection_is_over_with_it(
    resqued, queue, connection, valkey, status
):
    arbiter = resqued(
        "-n", 1, "-r", "app", app=CONNECTION, expect_errors="Traceback|failed job|rq.worker"
    )
    jobs = {}
    for name in ("select", "close", "spoil", "transaction", "half_read", "subscribe", "fails"):
        callback = {} if name == "spoil" else {"on_success": Callback("app.selects")}
        jobs[name] = queue().enqueue(f"app.{name}", **callback)
        jobs[name, "next"] = queue().enqueue("app.meta")
    jobs["callback"] = queue().enqueue("app.fails", on_failure=Callback("app.selects"))
    jobs["last"] = queue().enqueue("app.nothing")
    wait_for(lambda: status(jobs["last"].id) == "finished", 30, "the last job")
    outcomes = {name: status(job.id) for name, job in jobs.items()}
    assert {name for name, found in outcomes.items() if found != "finished"} == {
        "fails",
        "callback",
    }
    assert jobs["subscribe"].return_value() == "subscribe"
    assert [jobs[n, "next"].get_meta() for n in ("select", "half_read")] == [{"seen": True}] * 2
    assert {jobs[n, "next"].return_value() for n in ("close", "spoil", "fails")} == {"started"}
    other = connection.connection_pool.connection_kwargs | {"db": 5}
    with type(connection)(unix_socket_path=other["path"], db=5) as there:
        assert there.keys("*") == [b"mine"]
        there.flushdb()
    assert len({process.pid for process in arbiter.workers().values()}) == 1


def test_a_job_may_wait_in_redis_for_longer_than_the_worker_ever_would(resqued, queue, status):
    resqued("-n", 1, "-r", "app", "--loop-timeout", 4, app=CONNECTION)
    job = queue().enqueue("app.wait_long")
    after = queue().enqueue("app.nothing")
    wait_for(lambda: status(after.id) == "finished", 30, "both")
    assert (status(job.id), job.return_value()) == ("finished", None)


def test_a_job_that_does_not_use_its_connection_makes_none(resqued, queue, connection, status):
    resqued("-n", 1, "-r", "app", app=CONNECTION)
    one = queue().enqueue("app.nothing")
    wait_for(lambda: status(one.id) == "finished")
    before = connection.info("stats")["total_connections_received"]
    # at once: a worker that becomes idle between two makes one to wait
    jobs = queue().enqueue_many([Queue.prepare_data("app.nothing") for _ in range(20)])
    wait_for(lambda: all(status(job.id) == "finished" for job in jobs), 20)
    made = connection.info("stats")["total_connections_received"] - before
    assert made < 10, "twenty jobs would have made at least twenty"


# --- Memory ----------------------------------------------------------------------------------


def test_a_job_its_arguments_and_its_result_are_let_go_of_without_the_collector(
    resqued, queue, status, tmp_path
):
    app = """
    import gc, os
    class Large:
        def __init__(self, name): self.name = name
        def __del__(self):
            if os.environ.get("RQ_WORKER_ID"):
                with open(os.environ["GONE"], "a") as file:
                    file.write(self.name + "\\n")
    def returns(name, given):
        return Large(name)
    def fails(name, given):
        kept = Large(name)
        raise ValueError(name)
    def failed(job, connection, *error):
        raise KeyError("in the callback")
    """
    config = """
    import gc
    def worker_ready(worker, rq_worker):
        gc.disable()
    """
    gone = tmp_path / "gone"
    gone.touch()
    arbiter = resqued(
        "-n",
        1,
        app=app,
        config=config,
        GONE=str(gone),
        expect_errors="Traceback|failed job|rq.worker|Error|error while",
    )
    import sys

    sys.path.insert(0, str(arbiter.directory))
    try:
        import app as produced
    finally:
        sys.path.remove(str(arbiter.directory))
        del sys.modules["app"]
    sys.modules["app"] = produced
    try:
        for function, settings in (
            ("returns", {}),
            ("fails", {}),
            ("fails", {"on_failure": Callback("app.failed")}),
        ):
            gone.write_text("")
            name = f"{function} {len(settings)}"
            job = queue().enqueue(f"app.{function}", name, produced.Large("given"), **settings)
            wait_for(lambda job=job: status(job.id) in ("finished", "failed"), 20, name)
            both = {"given", name}
            wait_for(lambda both=both: both <= set(gone.read_text().split("\n")), 10, both)
    finally:
        del sys.modules["app"]


# --- Threads ---------------------------------------------------------------------------------

THREADS = """
import concurrent.futures, os, threading, time

def reporter():
    threading.Event().wait(1000)

def leave():
    threading.Thread(target=reporter, daemon=True).start()
    return os.getpid()

def tidy():
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return list(pool.map(abs, [1, 2, 3]))

def dropped():
    return concurrent.futures.ThreadPoolExecutor(3).submit(abs, -1).result()
"""


def test_threads_that_jobs_leave_are_named_once_and_counted(resqued, queue, status):
    arbiter = resqued("-n", 1, "-r", "app", app=THREADS)
    before = arbiter.wait_for_workers(1)[1].num_threads()
    tidy = [queue().enqueue(f"app.{name}") for name in ("tidy", "dropped")]
    wait_for(lambda: all(status(job.id) == "finished" for job in tidy), 20)
    assert "left threads" not in arbiter.log()
    jobs = [queue().enqueue("app.leave") for _ in range(5)]
    wait_for(lambda: status(jobs[-1].id) == "finished", 20)
    arbiter.wait_for(f"job={jobs[0].id} has left threads running in its worker: app.reporter;")
    assert arbiter.log().count("left threads") == 1
    wait_for(
        lambda: arbiter.status()["workers"][0]["threads"] == before + 5, 10, "all to be counted"
    )
    assert "THREADS" in arbiter.control("status", "--all").stdout


def test_max_threads_replaces_the_worker(resqued, queue, status):
    arbiter = resqued("-n", 1, "-r", "app", "--max-threads", 2, app=THREADS)
    jobs = [queue().enqueue("app.leave") for _ in range(7)]
    wait_for(lambda: status(jobs[-1].id) == "finished", 20)
    arbiter.wait_for("recycling reason='3 threads left by jobs'", times=2)
    assert len({job.return_value() for job in jobs}) == 3


# --- Children --------------------------------------------------------------------------------

CHILDREN = """
import multiprocessing, os, subprocess
kept = []

def leave():
    if os.fork() == 0:
        os._exit(0)
    return os.getpid()

def keep():
    kept.append(subprocess.Popen(["sh", "-c", "exit 3"]))
    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(4,))
    process.start()
    kept.append(process)

def ask():
    popen, process = kept
    process.join()
    return [popen.wait(), process.exitcode]

def nothing():
    return os.getpid()
"""


def test_ended_children_are_reaped_unless_somebody_will_ask_for_them(resqued, queue, status):
    arbiter = resqued("-n", 1, "-r", "app", app=CHILDREN)
    names = ["keep", *["leave"] * 20, *["nothing"] * 3]
    jobs = [queue().enqueue(f"app.{name}") for name in names]
    wait_for(lambda: status(jobs[-1].id) == "finished", 30)

    def few() -> bool:
        """A job is a look; the last children may not have ended at the last one."""
        more = queue().enqueue("app.nothing")
        wait_for(lambda: status(more.id) == "finished", 10)
        (worker,) = arbiter.workers().values()
        return len([c for c in worker.children() if processes.is_zombie(c)]) == 2

    wait_for(few, 20, "only those two zombies that are waited for")
    asked = queue().enqueue("app.ask")
    wait_for(lambda: status(asked.id) == "finished", 10)
    assert asked.return_value() == [3, 4]
