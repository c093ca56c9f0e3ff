"""The events of the log: the name of each, its fields, and what it means.

`--log-format json` writes them as the field `event` of a line; the arbiter's recent events have the
same names. The list only grows: a name or a field that programs rely on is never changed.
`python tests/reference.py` writes the tables of OPERATIONS.md from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FIELDS: Final = {
    "time": "when it was logged: RFC 3339, UTC, milliseconds",
    "level": "DEBUG, INFO, WARNING, ERROR or CRITICAL",
    "logger": "the module that logs it, or the application's logger",
    "message": "what `--log-format text` shows; the first line of it",
    "details": "the other lines of the message, if it has several",
    "traceback": "text; of an event of resqued without frames of resqued, RQ and importlib",
    "process": "what logs it, if it is no worker: arbiter, forkserver, steward, duties, recovery",
    "worker": "number of the worker",
    "gen": "number of its generation",
    "pid": "process id: of the worker that the line is about, else of the process that logs it",
    "event": "a name from the list of events; on lines of resqued only",
    "cron": "name of the periodic job",
    "job": "id of the job that the line is about, or that runs while the application logs",
    "queue": "its queue",
    "function": "dotted name of its function",
    "queues": "names, in order of priority",
    "seconds": "how long it took, lasted or lived",
    "waited": "seconds that the job waited in its queue",
    "waiting": "number of jobs that wait",
    "outcome": "finished, failed, retried, stopped, interrupted, superseded",
    "exception": "type and text of the exception, on one line",
    "retry_at": "when the job is tried again: RFC 3339, UTC",
    "retries_left": "how often it will be tried after that",
    "phase": "how far the worker had come with its job: taken, prepared, running, returned ..",
    "reason": "why, in words",
    "exit_code": "of the process; absent if a signal has ended it",
    "signal": "name of the signal, such as KILL",
    "out_of_memory": "whether the kernel killed it for want of memory",
    "jobs": "a number of jobs: those that the worker has run, or as the event says",
    "verdict": "what became of the job: requeued, retried, failed, finished, clean ..",
    "next_try": "seconds until a successor is started",
    "redis": "URL without password",
    "hook": "name of the hook",
    "plugin": "name of the plugin",
    "duty": "name of the duty",
    "verb": "what is asked for: reload, scale, drain ..",
    "cause": "why the arbiter had told it to leave: stop, rest, reload, scale, recycle ..",
    "source": "who asks for it: a plugin, resquedctl",
    "workers": "number of workers that there shall be",
    "before": "number of workers until then",
    "version": "version of resqued",
    "python": "version of Python",
    "rq": "version of RQ",
    "config": "path of the config file",
    "modules": "the modules of `--require`",
    "isolation": "where jobs run",
    "on_term": "what TERM means",
    "round_trip": "seconds for a command to Redis and its answer",
    "redis_version": "version of the server",
}
"""What each field means. Times are numbers, in seconds."""


class LogEvent(StrEnum):
    """The name of an event."""

    # Jobs.
    JOB_STARTED = "job_started"
    JOB_FINISHED = "job_finished"
    JOB_FAILED = "job_failed"
    JOB_RETRIED = "job_retried"
    JOB_STOPPED = "job_stopped"
    JOB_INTERRUPTED = "job_interrupted"
    JOB_SUPERSEDED = "job_superseded"
    JOB_PUT_BACK = "job_put_back"
    JOB_GONE = "job_gone"
    JOB_RECOVERED = "job_recovered"
    JOB_NOTICE = "job_notice"
    # Workers.
    WORKER_FORKED = "worker_forked"
    WORKER_NOT_FORKED = "worker_not_forked"
    WORKER_NOT_READY = "worker_not_ready"
    WORKER_READY = "worker_ready"
    WORKER_RECYCLED = "worker_recycled"
    WORKER_EXITED = "worker_exited"
    WORKER_DIED = "worker_died"
    WORKER_STUCK = "worker_stuck"
    WORKER_KILLED = "worker_killed"
    WORKER_NOTICE = "worker_notice"
    WORKERS_CHANGED = "workers_changed"
    # Generations and fork servers.
    RELOAD_STARTED = "reload_started"
    RELOAD_DONE = "reload_done"
    RELOAD_FAILED = "reload_failed"
    RELOAD_REPLACED = "reload_replaced"
    GENERATION_LOADED = "generation_loaded"
    GENERATION_READY = "generation_ready"
    GENERATION_FAILED = "generation_failed"
    GENERATION_RETIRED = "generation_retired"
    FORK_SERVER_ENDED = "fork_server_ended"
    FORK_SERVER_KILLED = "fork_server_killed"
    FORK_SERVER_NOTICE = "fork_server_notice"
    # The arbiter.
    ARBITER_STARTED = "arbiter_started"
    ARBITER_STOPPED = "arbiter_stopped"
    PLUGINS_LOADED = "plugins_loaded"
    SIGNAL_RECEIVED = "signal_received"
    REQUESTED = "requested"
    REFUSED = "refused"
    BURST_DONE = "burst_done"
    DRAIN_STARTED = "drain_started"
    STOP_STARTED = "stop_started"
    GAVE_UP = "gave_up"
    REST_STARTED = "rest_started"
    REST_ENDED = "rest_ended"
    REEXEC_STARTED = "reexec_started"
    REEXEC_DONE = "reexec_done"
    REEXEC_FAILED = "reexec_failed"
    LOGS_REOPENED = "logs_reopened"
    START_FAILED = "start_failed"
    SETTING_WARNING = "setting_warning"
    ARBITER_NOTICE = "arbiter_notice"
    # Duties.
    DUTIES_STARTED = "duties_started"
    DUTIES_ENDED = "duties_ended"
    DUTIES_KILLED = "duties_killed"
    DUTY_FAILED = "duty_failed"
    DUTY_NOTICE = "duty_notice"
    # Redis, steward, plugins, the log.
    REDIS_LOST = "redis_lost"
    REDIS_ANSWERS = "redis_answers"
    REDIS_BACK = "redis_back"
    REDIS_NOTICE = "redis_notice"
    SUSPENDED = "suspended"
    QUEUES_PAUSED = "queues_paused"
    QUEUES_RESUMED = "queues_resumed"
    QUEUE_UNSERVED = "queue_unserved"
    QUEUE_NOTICE = "queue_notice"
    JOBS_DUE = "jobs_due"
    CRON_ENQUEUED = "cron_enqueued"
    CRON_SKIPPED = "cron_skipped"
    CRON_MISSED = "cron_missed"
    CRON_NOTICE = "cron_notice"
    STEWARD_ENDED = "steward_ended"
    STEWARD_KILLED = "steward_killed"
    STEWARD_NOTICE = "steward_notice"
    HOOK_FAILED = "hook_failed"
    HOOK_SLOW = "hook_slow"
    PLUGIN_NOTICE = "plugin_notice"
    UNCAUGHT = "uncaught"
    LOG_NOTICE = "log_notice"
    DEFECT = "defect"


@dataclass(frozen=True)
class Meaning:
    """What an event means, and the fields that it may have besides those of every line."""

    text: str
    fields: tuple[str, ...] = ()


_JOB: Final = ("job", "queue", "function")
_ENDED: Final = (*_JOB, "seconds", "outcome")
_HOW_IT_ENDED: Final = ("reason", "exit_code", "signal", "out_of_memory")
_VERSIONS: Final = ("version", "python", "rq")
_WORKER: Final = ("worker", "gen", "pid")
_DUTY: Final = ("duty", "plugin")

EVENTS: Final = {
    LogEvent.JOB_STARTED: Meaning("a worker has taken a job and begins it", (*_JOB, "waited")),
    LogEvent.JOB_FINISHED: Meaning("a job has returned", _ENDED),
    LogEvent.JOB_FAILED: Meaning(
        "a job has failed and is not tried again", (*_ENDED, "exception", "traceback", "reason")
    ),
    LogEvent.JOB_RETRIED: Meaning(
        "a job has failed, or has returned a Retry, and is tried again",
        (*_ENDED, "exception", "traceback", "reason", "retry_at", "retries_left"),
    ),
    LogEvent.JOB_STOPPED: Meaning("a job was stopped by a command", _ENDED),
    LogEvent.JOB_INTERRUPTED: Meaning(
        "a stop has cut a job, or its process died; it is back in its queue",
        (*_ENDED, "reason"),
    ),
    LogEvent.JOB_SUPERSEDED: Meaning("a job's execution had been ended by somebody else", _ENDED),
    LogEvent.JOB_PUT_BACK: Meaning(
        "a job that had not begun is back in its queue", (*_JOB, "reason")
    ),
    LogEvent.JOB_GONE: Meaning("a job that was taken does not exist any more", _JOB),
    LogEvent.JOB_RECOVERED: Meaning(
        "what became of the job of a dead worker", ("worker", *_JOB, "verdict")
    ),
    LogEvent.JOB_NOTICE: Meaning(
        "something about a job that does not decide its outcome", (*_JOB, "exception", "traceback")
    ),
    LogEvent.WORKER_FORKED: Meaning("a worker was forked", (*_WORKER, "queues")),
    LogEvent.WORKER_NOT_FORKED: Meaning(
        "a worker was not forked: a veto, or no memory", ("worker", "reason", "next_try")
    ),
    LogEvent.WORKER_NOT_READY: Meaning(
        "a worker leaves before it is ready: a hook, an import, or Redis refuses it",
        (*_WORKER, "reason", "traceback"),
    ),
    LogEvent.WORKER_READY: Meaning("a worker waits for jobs", (*_WORKER, "queues", "seconds")),
    LogEvent.WORKER_RECYCLED: Meaning(
        "a worker is to be replaced between two jobs", (*_WORKER, "reason")
    ),
    LogEvent.WORKER_EXITED: Meaning(
        "a worker has left in order", (*_WORKER, "reason", "cause", "jobs", "seconds")
    ),
    LogEvent.WORKER_DIED: Meaning(
        "a worker has ended as it should not have",
        (*_WORKER, *_JOB, "phase", "verdict", *_HOW_IT_ENDED, "jobs", "seconds", "next_try"),
    ),
    LogEvent.WORKER_STUCK: Meaning(
        "a worker is stuck, and what is done about it", (*_WORKER, *_JOB, "reason")
    ),
    LogEvent.WORKER_KILLED: Meaning("the arbiter kills a worker", (*_WORKER, "reason")),
    LogEvent.WORKER_NOTICE: Meaning(
        "something about a worker that a person should know", (*_WORKER, "exception", "traceback")
    ),
    LogEvent.WORKERS_CHANGED: Meaning("there shall be another number", ("workers", "before")),
    LogEvent.RELOAD_STARTED: Meaning("a new generation boots", ("gen",)),
    LogEvent.RELOAD_DONE: Meaning("a new generation is in service", ("gen",)),
    LogEvent.RELOAD_FAILED: Meaning(
        "a new generation was refused; the old one stays in service", ("gen", "reason")
    ),
    LogEvent.RELOAD_REPLACED: Meaning("a newer reload replaces this one", ("gen",)),
    LogEvent.GENERATION_LOADED: Meaning("its application is loaded", ("gen",)),
    LogEvent.GENERATION_READY: Meaning("the first generation can fork workers", ("gen",)),
    LogEvent.GENERATION_FAILED: Meaning(
        "a generation has not loaded", ("gen", "reason", "traceback")
    ),
    LogEvent.GENERATION_RETIRED: Meaning("the last worker of a generation has gone", ("gen",)),
    LogEvent.FORK_SERVER_ENDED: Meaning(
        "a fork server has ended as it should not have", ("gen", "reason")
    ),
    LogEvent.FORK_SERVER_KILLED: Meaning("the arbiter kills a fork server", ("gen", "reason")),
    LogEvent.FORK_SERVER_NOTICE: Meaning(
        "something about a fork server that a person should know", ("gen", "exception", "traceback")
    ),
    LogEvent.ARBITER_STARTED: Meaning(
        "the banner: what runs, with which settings",
        (*_VERSIONS, "pid", "config", "redis", "workers", "modules", "isolation", "on_term"),
    ),
    LogEvent.ARBITER_STOPPED: Meaning("the arbiter leaves", ("exit_code", "reason")),
    LogEvent.PLUGINS_LOADED: Meaning("the plugins in force"),
    LogEvent.SIGNAL_RECEIVED: Meaning("a signal is obeyed", ("signal",)),
    LogEvent.REQUESTED: Meaning(
        "a plugin, a command or resquedctl asks for something", (*_WORKER, "verb", "source")
    ),
    LogEvent.REFUSED: Meaning("a signal or a request is not obeyed", ("verb", "reason")),
    LogEvent.BURST_DONE: Meaning("a burst has found all queues empty"),
    LogEvent.DRAIN_STARTED: Meaning("workers finish their jobs, then all leave"),
    LogEvent.STOP_STARTED: Meaning("jobs are put back, and all leave", ("reason",)),
    LogEvent.GAVE_UP: Meaning("the arbiter gives up", ("reason", "exit_code")),
    LogEvent.REST_STARTED: Meaning("workers finish their jobs; the arbiter stays"),
    LogEvent.REST_ENDED: Meaning("there are workers again", ("workers",)),
    LogEvent.REEXEC_STARTED: Meaning("the new image of the arbiter is checked"),
    LogEvent.REEXEC_DONE: Meaning("the arbiter's image was replaced"),
    LogEvent.REEXEC_FAILED: Meaning("the arbiter's image was not replaced", ("reason",)),
    LogEvent.LOGS_REOPENED: Meaning("the log files were opened again"),
    LogEvent.START_FAILED: Meaning("the start has failed", ("reason", "traceback")),
    LogEvent.SETTING_WARNING: Meaning("a setting that is not what it seems"),
    LogEvent.ARBITER_NOTICE: Meaning(
        "something about the arbiter that a person should know", ("exception", "traceback")
    ),
    LogEvent.DUTIES_STARTED: Meaning("the process that does the duties of plugins was forked"),
    LogEvent.DUTIES_ENDED: Meaning(
        "the duties process has ended as it should not have; another is started", ("reason",)
    ),
    LogEvent.DUTIES_KILLED: Meaning(
        "a call of a duty exceeded its limit: the duties process is killed, another is started",
        (*_DUTY, "seconds", "reason"),
    ),
    LogEvent.DUTY_FAILED: Meaning(
        "a duty has raised, or returned what it may not", (*_DUTY, "exception", "traceback")
    ),
    LogEvent.DUTY_NOTICE: Meaning(
        "something about a duty that a person should know", (*_DUTY, "exception", "traceback")
    ),
    LogEvent.REDIS_LOST: Meaning(
        "Redis does not answer; again once a minute", ("redis", "reason", "seconds")
    ),
    LogEvent.REDIS_ANSWERS: Meaning(
        "Redis answers at the start", ("redis", "redis_version", "round_trip")
    ),
    LogEvent.REDIS_BACK: Meaning("Redis answers again", ("redis", "seconds")),
    LogEvent.REDIS_NOTICE: Meaning("something about Redis, or in it, that a person should know"),
    LogEvent.SUSPENDED: Meaning("`rq suspend` is in force, or has ended"),
    LogEvent.QUEUE_UNSERVED: Meaning(
        "jobs wait where no living worker serves, on any host", ("queues", "waiting")
    ),
    LogEvent.QUEUES_PAUSED: Meaning("queues are paused on all hosts", ("queues",)),
    LogEvent.QUEUES_RESUMED: Meaning("queues are not paused any more", ("queues",)),
    LogEvent.QUEUE_NOTICE: Meaning("something about a queue that a person should know", ("queue",)),
    LogEvent.JOBS_DUE: Meaning(
        "scheduled jobs were due, and wait in their queue", ("queue", "jobs")
    ),
    LogEvent.CRON_ENQUEUED: Meaning("a tick of a periodic job was enqueued", ("cron", *_JOB)),
    LogEvent.CRON_SKIPPED: Meaning("a tick of a periodic job was left out", ("cron", "reason")),
    LogEvent.CRON_MISSED: Meaning("ticks for which no arbiter was there in time", ("cron", "jobs")),
    LogEvent.CRON_NOTICE: Meaning(
        "something about a periodic job that a person should know", ("cron",)
    ),
    LogEvent.STEWARD_ENDED: Meaning("the steward has ended; another is started", ("reason",)),
    LogEvent.STEWARD_KILLED: Meaning("the arbiter kills the steward", ("reason",)),
    LogEvent.STEWARD_NOTICE: Meaning(
        "something that the steward has met", ("exception", "traceback")
    ),
    LogEvent.HOOK_FAILED: Meaning("a hook has raised", ("hook", "plugin", "exception")),
    LogEvent.HOOK_SLOW: Meaning("a hook takes too long", ("hook", "plugin", "seconds")),
    LogEvent.PLUGIN_NOTICE: Meaning("a line of a built-in plugin"),
    LogEvent.UNCAUGHT: Meaning(
        "nothing has caught an exception, in a process or a thread", (*_JOB, "traceback")
    ),
    LogEvent.LOG_NOTICE: Meaning("lines were lost, or a file cannot be reopened"),
    LogEvent.DEFECT: Meaning("an error in resqued itself; please report it", ("traceback",)),
}
"""Each event. The fields `worker`, `gen` and `pid` are on every line of a worker."""
