"""What leaves in good order does what libraries and applications have put off until the exit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness import processes
from harness.waiting import read_lines, scaled, wait_for
from resqued.forkserver.notes import Notes

APP = """
    import atexit, concurrent.futures, ctypes, faulthandler, functools, multiprocessing, os, signal
    import subprocess, sys, tempfile, threading, time, weakref

    def note(text):
        fd = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, f"{os.getpid()} {text}\\n".encode())
        os.close(fd)

    fork = multiprocessing.get_context("fork")
    POOLS = []

    def slowly(text, seconds=0.2):
        time.sleep(seconds)
        note(text)

    def put_off(seconds=0):
        '''Everything that a job can put off until its process exits.'''
        POOLS.append(tempfile.TemporaryDirectory(dir="."))
        note("directory " + POOLS[-1].name)
        weakref.finalize(POOLS[-1], note, "finalize")
        atexit.register(note, "atexit of the job")
        threading.Thread(target=slowly, args=("thread",)).start()
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(slowly, "executor")
        POOLS.append(pool)
        processes = concurrent.futures.ProcessPoolExecutor(1, mp_context=fork)
        note(f"child {processes.submit(os.getpid).result()}")
        POOLS.append(processes)
        helper = fork.Process(target=time.sleep, args=(300,), daemon=True)
        helper.start()
        note(f"child {helper.pid}")
        sys.stdout.write("not yet flushed, ")
        time.sleep(seconds)

    def leave_helpers():
        '''A program, one that ignores SIGTERM, and one whose parent has ended.'''
        for script in ("sleep 300", "trap '' TERM; sleep 300 & wait; sleep 300"):
            note(f"child {subprocess.Popen(['sh', '-c', script]).pid}")
        out = subprocess.run(["sh", "-c", "sleep 300 >/dev/null & echo $!"], stdout=-1)
        note(f"child {int(out.stdout)}")

    def at_exit(name):
        atexit.register(globals()[name])

    def hang():
        time.sleep(60)

    sleep = functools.partial(time.sleep, 60)

    def brief():
        note("at the exit")

    def hang_in_thread():
        threading.Thread(target=hang, name="reporter").start()

    def hang_in_c():
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter

    def crash():
        faulthandler._sigsegv()

    def vanish():
        os._exit(3)

    def fail():
        raise OSError("no such collector")

    def nothing():
        return os.getpid()
"""


def notes(arbiter) -> list[tuple[int, str]]:
    """Who has noted what, in this order."""
    lines = [line.partition(" ") for line in read_lines(arbiter.directory / "notes")]
    return [(int(pid), text) for pid, _, text in lines]


def of(arbiter, pid) -> list[str]:
    return [text for who, text in notes(arbiter) if who == pid]


def told(arbiter, start) -> list[str]:
    return [text.removeprefix(start) for _, text in notes(arbiter) if text.startswith(start)]


def alive(pid) -> bool:
    try:
        return not processes.is_zombie(psutil.Process(int(pid)))
    except psutil.NoSuchProcess:
        return False


def zombies(arbiter) -> list[psutil.Process]:
    return [each for each in processes.descendants(arbiter.pid) if processes.is_zombie(each)]


def ends(job, timeout=10) -> str:
    """Wait until a job has an outcome; which."""
    return wait_for(
        lambda: (found := job.get_status().value) in ("finished", "failed") and found,
        timeout,
        f"job {job.id} to end",
    )


WAYS = {
    "drain": ([], "QUIT", {}),
    "stop": ([], "TERM", {}),
    "recycled": (["--max-jobs", 1], None, {}),
    "burst": (["--burst"], None, {}),
    "cut by its timeout": ([], None, {"args": (30,), "job_timeout": 1}),
    "imported in the worker": (["--no-preload"], "QUIT", {}),
    "RQ's SimpleWorker": (["-w", "rq.SimpleWorker"], "QUIT", {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_waits_for_the_exit_is_done(resqued, queue, way):
    arguments, signum, how = WAYS[way]
    job = queue().enqueue("app.put_off", **how)
    arbiter = resqued(
        "-n", 1, "-r", "app", *arguments, app=APP, expect_errors="failed job|rq.worker|Traceback"
    )
    ends(job)
    (pid,) = {pid for pid, text in notes(arbiter) if text == "thread"} or {notes(arbiter)[0][0]}
    if signum:
        arbiter.signal(signum)
    wait_for(lambda: not alive(pid), 20, "the worker to leave")
    done = of(arbiter, pid)
    assert {"thread", "executor"} < set(done), "threads are waited for"
    assert done[-2:] in (["atexit of the job", "finalize"], ["finalize", "atexit of the job"])
    assert not any(map(alive, told(arbiter, "child ")))
    (directory,) = told(arbiter, "directory ")
    assert not Path(directory).exists()
    assert "not yet flushed" in arbiter.log()
    if signum or "--burst" in arguments:
        assert arbiter.exit(20) == 0
    assert not re.search("the exit of this process|next try in", arbiter.log())


BEFORE = (
    APP
    + """
    import weakref
    from multiprocessing import shared_memory
    from multiprocessing.managers import SyncManager

    ME = os.getpid()
    DIRECTORY = tempfile.TemporaryDirectory(dir=".")
    note("directory " + DIRECTORY.name)
    MANAGER = fork.Manager()
    SHARED = MANAGER.dict(seen=0)
    MEMORY = shared_memory.SharedMemory(create=True, size=100)
    note("memory " + MEMORY.name)
    PROCESSES = concurrent.futures.ProcessPoolExecutor(1, mp_context=fork)
    HELPERS = [MANAGER._process.pid, PROCESSES.submit(os.getpid).result()]
    THREADS = concurrent.futures.ThreadPoolExecutor(1)
    THREADS.submit(nothing).result()
    for daemon in (True, False):
        helper = fork.Process(target=time.sleep, args=(300 if daemon else 1,), daemon=daemon)
        helper.start()
        HELPERS.append(helper.pid) if daemon else None
    PROGRAM = subprocess.Popen(["sleep", "300"])
    HELPERS.append(PROGRAM.pid)
    for pid in HELPERS:
        note(f"helper {pid}")
    class Thing: pass
    THING = Thing()
    weakref.finalize(THING, note, "finalize at import")
    atexit.register(note, "atexit at import")

    def look():
        MEMORY.buf[0] += 1
        SHARED["seen"] += 1
        assert os.path.exists(DIRECTORY.name)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
            return pool.submit(os.getpid).result()

    def drop():
        global THING, DIRECTORY
        THING = DIRECTORY = None  # of this worker's copy
"""
)


def test_what_was_made_before_the_fork_belongs_to_the_fork_server(resqued, queue):
    arbiter = resqued("-n", 1, "-r", "app", "--max-jobs", 1, app=BEFORE)
    (first,) = arbiter.wait_for_workers(1).values()
    for function in ("look", "drop", "look", "look"):
        assert ends(queue().enqueue(f"app.{function}")) == "finished"
    wait_for(lambda: len(told(arbiter, "atexit at import")) == 4, 10, "four workers to have left")
    (server,) = arbiter.fork_servers()
    assert first.pid != server.pid
    assert server.pid not in {pid for pid, text in notes(arbiter) if text == "atexit at import"}
    helpers, (directory,) = told(arbiter, "helper "), told(arbiter, "directory ")
    (memory,) = told(arbiter, "memory ")
    assert all(map(alive, helpers)) and len(helpers) == 4
    assert Path(arbiter.directory, directory).is_dir()
    assert Path("/dev/shm", memory).exists()
    assert not told(arbiter, "finalize at import")

    arbiter.wait_for("worker=1 .* ready", times=5)
    assert arbiter.stop("QUIT", timeout=20) == 0
    assert [pid for pid, text in notes(arbiter) if text == "finalize at import"] == [server.pid]
    who = [pid for pid, text in notes(arbiter) if text == "atexit at import"]
    assert len(who) == len(set(who)) == 6, "each of five workers, and the fork server"
    assert not any(map(alive, helpers))
    assert not Path(arbiter.directory, directory).exists()
    assert not Path("/dev/shm", memory).exists()
    assert "leaked" in arbiter.log(), "by the resource tracker, since nobody unlinked the memory"


@pytest.mark.parametrize("breaks", [False, True])
def test_a_reload_leaves_no_helper_behind(resqued, breaks):
    app = (
        BEFORE
        + """
    if os.path.exists("broken"):
        raise RuntimeError("after the helpers were started")
"""
    )
    arbiter = resqued("-n", 1, "-r", "app", app=app, expect_errors="reload|failed|Traceback")
    arbiter.wait_for_workers(1)
    old = told(arbiter, "helper ")
    if breaks:
        (arbiter.directory / "broken").touch()
    arbiter.signal("HUP")
    arbiter.wait_for("reload failed" if breaks else "gen=1 retired", timeout=20)
    new = [pid for pid in told(arbiter, "helper ") if pid not in old]
    leaving, staying = (new, old) if breaks else (old, new)
    wait_for(lambda: not any(map(alive, leaving)), 10, "the helpers to be gone")
    assert len(leaving) == 4 and all(map(alive, staying))
    made = list(zip(told(arbiter, "memory "), told(arbiter, "directory "), strict=True))
    memory, directory = made[1 if breaks else 0]
    wait_for(lambda: not Path("/dev/shm", memory).exists(), 10, "its shared memory to go")
    assert not Path(arbiter.directory, directory).exists()
    wait_for(lambda: not zombies(arbiter), 15, "the arbiter to reap what fell to it")


def test_a_start_that_fails_leaves_nothing_behind(resqued):
    app = BEFORE + '\n    raise RuntimeError("after the helpers were started")\n'
    arbiter = resqued("-n", 1, "-r", "app", app=app, expect_errors="failed|Traceback|giving up")
    assert arbiter.exit(20) == 78
    assert len(told(arbiter, "helper ")) == 4
    (memory,), (directory,) = told(arbiter, "memory "), told(arbiter, "directory ")
    wait_for(lambda: not Path("/dev/shm", memory).exists(), 10, "its shared memory to go")
    assert not Path(arbiter.directory, directory).exists()


def test_what_jobs_leave_in_their_group_is_ended_with_the_worker(resqued, queue):
    arbiter = resqued("-n", 1, "-r", "app", "--max-jobs", 1, app=APP)
    assert ends(queue().enqueue("app.leave_helpers")) == "finished"
    helpers = told(arbiter, "child ")
    assert len(helpers) == 3
    wait_for(lambda: not any(map(alive, helpers)), 10, "the helpers to be gone")
    assert ends(queue().enqueue("app.nothing")) == "finished"
    wait_for(lambda: not zombies(arbiter), 15, "the arbiter to reap what fell to it")


TROUBLE = {
    # what the exit does: what is said of it
    "hang": r"longer than 1\.\d s \(--exit-timeout\) and was cut off, in app\.hang, app\.py:\d+",
    "sleep": r"cut off, in an exit function that is C code",
    "hang_in_thread": r"waiting for thread 'reporter' \(app\.hang, app\.py:\d+\)",
    "hang_in_c": r"ended with exit status 1 in its exit, after its work",
    "crash": r"ended by SIGSEGV in its exit, after its work",
    "vanish": r"ended with exit status 3 in its exit, after its work",
    "fail": r"met an error: OSError: no such collector \(app\.py:\d+\)",
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_in_the_exit_is_named_once_and_is_no_failure_of_the_slot(resqued, queue, trouble):
    arbiter = resqued(
        "-n", 1, "-r", "app", "--max-jobs", 1, "--exit-timeout", 1, app=APP, expect_errors="Fatal"
    )
    call = ("app.hang_in_thread",) if "thread" in trouble else ("app.at_exit", trouble)
    for _ in range(3):
        worker = arbiter.wait_for_workers(1)[1]
        assert ends(queue().enqueue(*call), timeout=20) == "finished"
        worker.wait(scaled(20))
    arbiter.wait_for(r"exited \(recycled\): 1 jobs", times=3)
    assert len(re.findall(TROUBLE[trouble], arbiter.log())) == 1
    assert not re.search("next try in|ended before|killed", arbiter.log())
    arbiter.wait_for_workers(1)
    assert [each["failed"] for each in arbiter.status()["workers"]] == [0]
    assert arbiter.stop("QUIT") == 0


NO_THREADS = """
    import resource

    def worker_exiting(worker):
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), -1))  # a thread's stack has 8 MB
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_where_no_thread_can_be_started_the_exit_is_done_all_the_same(resqued, queue, hangs):
    arbiter = resqued(
        *("-n", 1, "-r", "app", "--max-jobs", 1, "--exit-timeout", 1), app=APP, config=NO_THREADS
    )
    worker = arbiter.wait_for_workers(1)[1]
    assert ends(queue().enqueue("app.at_exit", "hang" if hangs else "brief")) == "finished"
    worker.wait(scaled(10))
    if hangs:
        arbiter.wait_for("ended by SIGALRM in its exit, after its work")
    else:
        assert of(arbiter, worker.pid) == ["at the exit"]
    assert "its last steps raised" not in arbiter.log()
    assert arbiter.stop("QUIT") == 0


STUBBORN = APP + "    atexit.register(hang)\n"


@pytest.mark.parametrize("first", [(), ("QUIT",)])
def test_a_stop_now_ends_in_time_whatever_waits_for_the_exit(resqued, queue, first):
    arbiter = resqued("-n", 3, "-r", "app", "--exit-timeout", 60, app=STUBBORN)
    arbiter.wait_for_workers(3)
    job = queue().enqueue("app.hang")
    wait_for(lambda: job.get_status() == "started", 10, "the job to start")
    for name in first:
        arbiter.signal(name)
        arbiter.wait_for("draining")
    arbiter.signal("TERM")
    assert arbiter.exit(15) == 0
    assert job.get_status() == "queued"
    assert len(re.findall("cut off, in app.hang", arbiter.log())) == 1, "for all three"
    assert not re.search("did not leave", arbiter.log())


def test_of_several_who_tell_the_same_at_once_one_is_the_first():
    texts, lock = [str(number) for number in range(300)], os.memfd_create("lock")
    notes, reads, pids = Notes(lock), [], []
    begin, go = os.pipe()
    for _ in range(4):
        read, write = os.pipe()
        reads.append(read)
        pids.append(os.fork())
        if pids[-1] == 0:
            try:
                os.close(go)
                os.read(begin, 1)
                os.write(write, b"".join(b"%d " % notes.first(text) for text in texts))
            finally:
                os._exit(0)
        os.close(write)
    for fd in (begin, go):
        os.close(fd)
    firsts = [os.read(read, 1 << 16).split() for read in reads]
    for fd in (*reads, lock):
        os.close(fd)
    for pid in pids:
        os.waitpid(pid, 0)
    places = len({notes._place(text) for text in texts})
    assert sum(words.count(b"1") for words in firsts) == places
    assert {len(words) for words in firsts} == {len(texts)}


LIBRARY = """
import atexit, os, sys, threading, types, weakref
from resqued.forkserver.inheritance import Inheritance

def module(name, **names):
    made = sys.modules[name] = types.ModuleType(name)
    vars(made).update(names)
    return made

class Thing:
    def __init__(self, **names): vars(self).update(names)

def gone(): print("the folder is removed")
atexit.register(gone)
read, write = os.pipe()
thread = threading.Thread()
folders = Thing(_finalizers={"a": gone})
made = [
    module("copy.util", _finalizer_registry={(0, 1): "finalizer"}),
    module("copy.process", _children={"child"}),
    module("copy.process_executor", _threads_wakeups=weakref.WeakKeyDictionary({thread: "pipe"})),
    module("copy.resource_tracker", _resource_tracker=Thing(_fd=write, _pid=1)),
    module("copy.reusable_executor", _executor=Thing(_temp_folder_manager=folders)),
    module("app.process_list", _children={"not ours"}),
]
inheritance = Inheritance()
inheritance.survey()
inheritance.forget()
print([list(vars(each).items())[-1][1] for each in made[:3]], made[5]._children)
print(vars(made[3]._resource_tracker), made[4]._executor, os.read(read, 1))
"""


def test_libraries_that_copy_or_wrap_multiprocessing_forget_too():
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY], capture_output=True, text=True, timeout=scaled(60)
    )
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith("[{}, set(), <WeakKeyDictionary") and first.endswith("{'not ours'}")
    assert second == "{'_fd': None, '_pid': None} None b''"


def test_without_an_exit_timeout_nothing_of_it_is_run(resqued, queue):
    arbiter = resqued("-n", 1, "-r", "app", "--exit-timeout", 0, app=BEFORE)
    arbiter.wait_for_workers(1)
    assert ends(queue().enqueue("app.look")) == "finished"
    helpers = told(arbiter, "helper ")
    assert arbiter.stop("QUIT") == 0
    assert not told(arbiter, "atexit at import")
    wait_for(lambda: not any(map(alive, helpers)), 10, "the helpers to be killed")
