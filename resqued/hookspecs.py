"""Every hook of the plugin interface, in the order of a life cycle.

A plugin implements what it needs with `@resqued.hookimpl` and names only the arguments it wants.
Each docstring says five things, always in this order: what the hook is for; which process it
runs in, and when; the arguments; what a returned value means; what happens if it raises.
`resqued --list-hooks=NAME` prints exactly that.

Arguments are only ever added, never renamed or removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Generator

    from rq.job import Job
    from rq.worker import BaseWorker

    from resqued.config import Config
    from resqued.protocols import Arbiter, Draft, Duties, Options
    from resqued.snapshots import Exit, Generation, Outcome, Worker
    from resqued.verdicts import Verdict

hookspec = pluggy.HookspecMarker("resqued")

LIFE_CYCLE: Final[dict[str, tuple[str, ...]]] = {
    "Setup": ("add_options", "configure"),
    "Arbiter": (
        "arbiter_started",
        "fork_server_env",
        "arbiter_ready",
        "generation_failed",
        "tick",
        "signal_received",
        "control",
        "before_exec",
        "choose_queues",
        "worker_count",
        "worker_started",
        "worker_stuck",
        "worker_exited",
        "job_lost",
        "arbiter_stopping",
        "arbiter_exited",
    ),
    "Fork server": ("before_load", "app_loaded", "duties", "before_fork"),
    "Worker": ("after_fork", "worker_ready", "order_queues", "should_recycle", "worker_exiting"),
    "Jobs": ("before_job", "perform_job", "after_job"),
    "Every process": ("reopen_logs",),
}
"""The hooks below under their banners: the order in which they are listed."""

CORE: Final = frozenset(
    {"before_exec", "choose_queues", "worker_stuck", "before_fork", "after_fork"}
)
"""The five most important ones, marked in the listing."""


# --- Setup -----------------------------------------------------------------------------------


@hookspec
def add_options(options: Options) -> None:
    """Declare options of the plugin's own: flag, setting and variable at once.

    Runs in the command line, before the flags are read, and again on each reload; then in the new
    fork server too, which compares the names.
    options: `options.add("--statsd-host", default=None, help=...)`; a name begins with the
    plugin's, and its value is then `config.statsd_host`.
    Return nothing.
    If it raises: the start is aborted; on a reload the old configuration stays.
    """


@hookspec
def configure(config: Draft) -> None:
    """Check the settings, and adjust them before they are in force.

    Runs in the arbiter, at start, on reload and under --check. No side effects.
    config: a draft of the settings; assign to change one, `config.workers = 4`.
    Return nothing; raise ConfigError to refuse the settings.
    If it raises: the start is aborted; on a reload the old configuration stays.
    """


# --- Arbiter ---------------------------------------------------------------------------------


@hookspec
def arbiter_started(arbiter: Arbiter, reason: str) -> None:
    """The arbiter's loop begins; whatever workers need outside of them can be started here.

    Runs in the arbiter, before the first worker is asked for. It may start threads.
    arbiter: the arbiter. reason: start, reload (for plugins that were not there before) or
    re-exec (the process was replaced and its threads are gone; the workers were not).
    Return nothing; raise ConfigError to stop a start.
    If it raises: logged, and the next plugin is called.
    """


@hookspec
def fork_server_env(env: dict[str, str]) -> None:
    """Change the environment in which the application is loaded and its jobs run.

    Runs in the arbiter, before each fork server is started; the first is started anew if it
    has to be.
    env: a copy of the arbiter's environment; change it in place.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


@hookspec
def arbiter_ready(arbiter: Arbiter, reason: str, error: str | None) -> None:
    """The service is up: the workers of the newest generation have become ready.

    Runs in the arbiter, after a start, a reload (a failed one too: still up) or a re-exec.
    arbiter: the arbiter. reason: start, reload or re-exec. error: why a reload failed; else None.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


@hookspec
def generation_failed(arbiter: Arbiter, generation: Generation, reason: str) -> None:
    """A generation could not be put in service: its app, its plugins or its trial worker failed.

    Runs in the arbiter, at a reload, which leaves the old one in service, or at a failed start.
    arbiter: the arbiter. generation: the failed one. reason: in a few words; the traceback is in
    the log.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


@hookspec
def tick(arbiter: Arbiter, now: float) -> None:
    """A regular turn of the loop, for gauges and watchdogs. Must be quick.

    Runs in the arbiter, about once a second.
    arbiter: the arbiter. now: seconds on the monotonic clock.
    Return nothing.
    If it raises: logged, repeats only the 10th, 100th .. time; the next plugin is called.
    """


@hookspec(firstresult=True)
def signal_received(arbiter: Arbiter, signame: str) -> bool | None:
    """A signal arrived: act on it instead of resqued, or only take note.

    Runs in the arbiter, in its loop and not in a signal handler.
    arbiter: the arbiter. signame: HUP, USR1, TTIN .. (without SIG).
    Return True if it is handled and nothing else is to happen; None for the usual effect.
    If it raises: logged, and the next plugin is asked.
    """


@hookspec(firstresult=True)
def control(arbiter: Arbiter, verb: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Answer a verb of the plugin's own that has been sent to the arbiter.

    Runs in the arbiter, in its loop. Must not block.
    arbiter: the arbiter. verb: a word that resqued itself does not know. arguments: plain JSON.
    Return the answer, plain JSON, or None if the verb is another plugin's.
    If it raises: logged, and the next plugin is asked.
    """


@hookspec
def before_exec(arbiter: Arbiter, argv: list[str], env: dict[str, str]) -> None:
    """Change the command line or the environment of the re-exec.

    Runs in the arbiter, on USR2, before what results is checked and executed. May be repeated.
    arbiter: the arbiter. argv, env: copies; change them in place.
    Return nothing.
    If it raises: logged; the re-exec is abandoned and everything runs on.
    """


@hookspec(firstresult=True)
def choose_queues(config: Config, number: int, count: int) -> list[str] | None:
    """Decide which queues worker `number` of `count` serves, most urgent first.

    Runs in the arbiter, for the plan, before a worker is asked for. Must not block.
    config: the settings in force. number: 1..count. count: the target number of workers.
    Return a list of queue names, or None to let another plugin decide; the first list wins.
    If it raises: logged, and the next plugin is asked.
    """


@hookspec(firstresult=True)
def worker_count(arbiter: Arbiter, current: int) -> int | None:
    """Decide how many workers there should be.

    Runs in the arbiter, every few seconds. Must not block: measure in a thread of your own.
    arbiter: the arbiter. current: the target number now.
    Return a number, or None to leave it; the first number wins.
    If it raises: logged, and the next plugin is asked.
    """


@hookspec
def worker_started(arbiter: Arbiter, worker: Worker) -> None:
    """A worker has been forked; it boots. Each is followed by one `worker_exited`.

    Runs in the arbiter, when it has learnt of the fork. Not called for trial workers.
    arbiter: the arbiter. worker: the new one, with its pid.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


@hookspec(firstresult=True)
def worker_stuck(arbiter: Arbiter, worker: Worker, overdue: float, attempt: int) -> Verdict | None:
    """Decide what happens to a worker that is past its deadline.

    Runs in the arbiter, when a deadline has passed, and again after each step taken.
    arbiter: the arbiter. worker: the one concerned. overdue: seconds past the deadline.
    attempt: 0 at first, then one more each time.
    Return Wait(seconds), Dump, Terminate, Fail(reason) or Kill, or None to let another plugin
    decide.
    If it raises: logged, and the next plugin is asked.
    """


@hookspec
def worker_exited(arbiter: Arbiter, worker: Worker, exit: Exit) -> None:
    """A worker is gone, however it ended: also after a SIGKILL, when it could run nothing.

    Runs in the arbiter, when it has learnt of the end.
    arbiter: the arbiter. worker: its last snapshot. exit: code, signal, the job it held, ...
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


@hookspec
def job_lost(arbiter: Arbiter, worker: Worker, job_id: str, verdict: str) -> None:
    """A process died with a job in hand, and the job has been recovered.

    Runs in the arbiter, after the recovery: of a dead worker's job, or of the job of a child that
    died while its worker lives on.
    arbiter: the arbiter. worker: the last snapshot of the job's worker. job_id: the job.
    verdict: what became of the job: requeued, failed, retried, stopped, clean (its outcome had
    been written) or nothing (Redis knew no more of it).
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


@hookspec
def arbiter_stopping(arbiter: Arbiter, graceful: bool, dropped: bool) -> None:
    """The service goes down, or a reload drops the plugin.

    Runs in the arbiter, before the workers are stopped. On a reload it is called for the plugins
    that the reload drops or replaces, the old config file among them, before the new ones start.
    arbiter: the arbiter. graceful: jobs in hand may finish (QUIT), rather than TERM. dropped:
    only this plugin goes; the service stays.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


@hookspec
def arbiter_exited(arbiter: Arbiter, exit_code: int) -> None:
    """The last thing the arbiter does: all workers, recoveries and fork servers are gone.

    Runs in the arbiter, before it exits; also when a start was given up.
    arbiter: the arbiter. exit_code: what it is going to exit with.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


# --- Fork server -----------------------------------------------------------------------------


@hookspec
def before_load(generation: Generation) -> None:
    """Set up what the application's import needs: django.setup(), tracers, the environment.

    Runs in the fork server, once, after the plugins are loaded and before the -r imports; under
    --check in that process.
    generation: its number, pid, modules to import and config.
    Return nothing.
    If it raises: the generation fails; on a reload the old one stays in service.
    """


@hookspec
def app_loaded(generation: Generation) -> None:
    """The application is in memory; what is built here is shared by all workers.

    Runs in the fork server, once, after the -r imports; under --check in that process. Start no
    thread, keep no connection.
    generation: its number, pid, imported modules and config.
    Return nothing.
    If it raises: the generation fails; on a reload the old one stays in service.
    """


@hookspec
def duties(duties: Duties, generation: Generation) -> None:
    """Register functions that are called periodically, in a process of their own.

    Runs in the fork server, once, after app_loaded; under --check in that process. The functions
    are called in the duties process, which the fork server in service has forked.
    duties: `duties.add("archive", archive, every=60)`. generation: its number, pid, imported
    modules and config.
    Return nothing.
    If it raises: the generation fails; on a reload the old one stays in service.
    """


@hookspec
def before_fork(worker: Worker) -> None:
    """Prepare the fork of a worker, or put it off.

    Runs in the fork server, before each fork. Must be quick: it does nothing else meanwhile.
    worker: the one to come; it has no pid yet.
    Return nothing; raise VetoFork(reason, retry_after) to try again later.
    If it raises: logged, and the worker is forked anyway.
    """


# --- Worker ----------------------------------------------------------------------------------


@hookspec
def after_fork(worker: Worker) -> None:
    """Make what was inherited by the fork the worker's own: connections, random seeds.

    Runs in the worker, first of all, before it connects to Redis.
    worker: this worker.
    Return nothing.
    If it raises: logged; this worker leaves, and its slot is tried again after a back-off.
    """


@hookspec
def worker_ready(worker: Worker, rq_worker: BaseWorker) -> None:
    """Adjust the RQ worker, such as its exception handlers.

    Runs in the worker, connected and registered, before it takes its first job.
    worker: this worker. rq_worker: the RQ worker that it is.
    Return nothing.
    If it raises: logged; this worker leaves, and its slot is tried again after a back-off.
    """


@hookspec
def order_queues(worker: Worker, queues: list[str]) -> list[str] | None:
    """Choose where the next job may be taken from, most urgent first: pause, limit, weigh.

    Runs in the worker, before each look into its queues. Must be quick.
    worker: this worker. queues: its queues, as the plugin asked before has left them.
    Return some of them in the order to look in, [] to take nothing, or None to leave them as
    they are. A queue left out counts as empty for --burst; other names are ignored and logged.
    If it raises: logged; the queues stay as they are, and the next plugin is asked.
    """


@hookspec(firstresult=True)
def should_recycle(worker: Worker) -> str | None:
    """Decide whether the worker leaves now and is replaced by a fresh one.

    Runs in the worker, between jobs.
    worker: this worker.
    Return the reason in a few words, or None to go on; the first reason wins.
    If it raises: logged, and the next plugin is asked.
    """


@hookspec
def worker_exiting(worker: Worker, reason: str) -> None:
    """Flush and close what the worker holds. A killed worker cannot: see worker_exited.

    Runs in the worker, when its loop has ended, or it could not boot.
    worker: this worker. reason: asked, recycled, burst, cut, orphaned, boot, loop or
        unreadable.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


# --- Jobs ------------------------------------------------------------------------------------


@hookspec
def before_job(worker: Worker, job: Job) -> None:
    """A job is about to run.

    Runs in the job's process (the worker; with a forking worker class, the job's own).
    worker: this worker. job: the RQ job.
    Return nothing.
    If it raises: logged, and the job runs.
    """


@hookspec(firstresult=True)
def perform_job(worker: Worker, job: Job) -> Generator[None, Any, Any]:
    """Wrap the job: yield once, and the job runs there.

    Runs in the job's process, around the job and inside its timeout.
    worker: this worker. job: the RQ job.
    Return the job's result, which the yield gives; its exception comes out of the yield too.
    If it raises: the job fails with that; before the yield, without having run.
    """
    yield


@hookspec
def after_job(worker: Worker, job: Job, outcome: Outcome) -> None:
    """A job has ended and its outcome is written.

    Runs in the job's process; not when that was killed with the job in hand.
    worker: this worker. job: the RQ job. outcome: status, seconds, error.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """


# --- Every process ---------------------------------------------------------------------------


@hookspec
def reopen_logs(role: str) -> None:
    """Reopen the files that the plugin itself writes; resqued's own log is reopened already.

    Runs in every process, after USR1, at its next turn (in a worker: between jobs).
    role: arbiter, fork server, duties or worker.
    Return nothing.
    If it raises: logged, and the next plugin is called.
    """
