"""The arbiter's thread that watches over hooks, without an arbiter."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from harness.waiting import scaled, wait_for
from resqued.plugins.limits import Call, Limits

SIGNALS_AT_ITS_DEADLINES = """
import signal, time
from resqued.arbiter import call_watch
from resqued.plugins import limits as module
from resqued.plugins.limits import HookTimeout, call_within, limits

call_watch.LOOK = module.LOOK = 0.005
call_watch.MASKED = 0.02
woken = []

def resist(call):
    woken.append(call)
    signal.pthread_kill(main, signal.SIGUSR1)

def wake(signum, frame):
    raise InterruptedError

def hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # the thread gets them now
    time.sleep(60)

main = __import__("threading").main_thread().ident
signal.signal(signal.SIGUSR1, wake)
limits.resist = resist
call_watch.CallWatch(limits).start()
for _ in range(100):
    try:
        call_within(0.005, hang)
    except (InterruptedError, HookTimeout):
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
print(len(woken) >= 90)
"""


def test_signals_at_the_deadlines_of_the_watch_do_not_make_it_wait_for_ever():
    """`queue.SimpleQueue.get(timeout=...)` does, if a signal ends its wait just after the time."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS_AT_ITS_DEADLINES],
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert done.stdout == "True\n", done.stderr[-3000:]


def test_no_timer_is_left_by_a_call_that_ends_while_the_watch_gives_up_on_it():
    """It would kill the process, as SIGALRM is no longer handled after the call."""
    limits, main = Limits(), threading.main_thread().ident
    call = Call("a hook", limit=60)
    held = threading.Event()

    def leaves_the_call() -> bool:
        return sys._current_frames()[main].f_code is Limits.call.__code__

    def give_up() -> None:
        with limits.gate:
            held.set()
            wait_for(leaves_the_call, 10, "the end of the call")
            limits.give_up_on(call)

    watch = threading.Thread(target=give_up)
    try:
        limits.call(call, lambda: (watch.start(), held.wait()), ())
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        watch.join()
