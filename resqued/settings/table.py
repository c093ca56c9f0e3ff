"""The table of settings: for each field of `Config` its flag, variable, kind of value and help.

The command line, the environment, the config file, `--help` and the README all follow from it.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any, Final

from resqued.config import Config
from resqued.scoreboard import MAX_SLOTS
from resqued.settings import values
from resqued.settings.cores import usable_cores
from resqued.settings.setting import APPLICATION, LIMITS, PROCESS, RQ, WORKERS, Setting
from resqued.settings.values import (
    Kind,
    choice,
    many,
    number,
    optional,
    seconds,
    stream,
    worker_count,
)

_SECONDS: Final = seconds(zero=False)
_WHOLE_SECONDS: Final = replace(number(1, values.LONGEST), metavar="SECONDS")

_DEFAULTS: Final = {
    field.name: field.default for field in fields(Config) if field.default is not MISSING
}


def _make(name: str, kind: Kind, flags: str, group: str, text: str, **rest: Any) -> Setting:
    return Setting(name, kind, tuple(flags.split()), text, group, _DEFAULTS[name], **rest)


def _switch(name: str, flags: str, group: str, text: str, **rest: Any) -> Setting:
    shorts = [flag for flag in flags.split() if not flag.startswith("--")]
    word = flags.split()[-1].removeprefix("--").removeprefix("no-")
    return replace(
        _make(name, values.SWITCH, "", group, text, **rest),
        flags=(*shorts, f"--{word}"),
        off=(f"--no-{word}",),
    )


SETTINGS: Final[tuple[Setting, ...]] = (
    _make(
        "workers",
        worker_count(MAX_SLOTS, usable_cores),
        "-n --workers",
        WORKERS,
        "Number of workers; auto is one for each usable core.",
        aliases=("--num-workers",),
    ),
    _make(
        "queues",
        values.QUEUES,
        "--queue",
        WORKERS,
        "A queue to serve, by all workers, at most NUM or a percentage of them. Repeatable, in"
        " order of priority; '*' is every queue not named.",
    ),
    _make(
        "redis",
        values.REDIS,
        "--redis",
        WORKERS,
        "The server. A password given here can be seen by others until the start is over;"
        " RQ_REDIS_URL and the config file keep it to you.",
        aliases=("-u", "--url"),
        fallback="RQ_REDIS_URL",
        secret=True,
    ),
    _switch("burst", "-b --burst", WORKERS, "Run until the queues are empty, then exit."),
    _make(
        "max_idle_time",
        optional(_SECONDS),
        "--max-idle-time",
        WORKERS,
        "Exit when no worker has had a job for so long; with --burst, wait so long for more.",
    ),
    _make(
        "name",
        optional(values.NAME),
        "--name",
        WORKERS,
        "Name of the workers, followed by a number if there are several.",
    ),
    _make(
        "require",
        many(values.MODULE),
        "-r --require",
        APPLICATION,
        "Import this module before workers are forked. Repeatable.",
    ),
    _switch(
        "preload_app",
        "--no-preload",
        APPLICATION,
        "Import these modules in each worker, after its fork.",
    ),
    _make(
        "path",
        many(values.FOLDER),
        "-P --path",
        APPLICATION,
        "Look for modules here first. Repeatable; the working directory is looked at last, with"
        " --path . first.",
    ),
    _make(
        "plugins",
        many(values.WORD),
        "-p --plugin",
        APPLICATION,
        "Load a plugin: an installed one, a module, or a path that ends in .py; no:NAME blocks"
        " one. Repeatable.",
        added=True,
    ),
    _switch("autoload", "--no-autoload", APPLICATION, "Load only plugins that are named."),
    _make(
        "config",
        optional(values.FILE),
        "-c --config",
        PROCESS,
        "The config file; resqued.conf.py in the working directory is taken without asking.",
        in_file=False,
    ),
    _make("pid", optional(values.FILE), "--pid", PROCESS, "Write the process id here.", fixed=True),
    _switch("daemonize", "-D --daemonize", PROCESS, "Run in the background.", fixed=True),
    _make(
        "state",
        optional(values.FOLDER),
        "--state",
        PROCESS,
        "Where plugins keep data. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/resqued.",
        fixed=True,
    ),
    _make(
        "log_file",
        stream(values.FILE),
        "--log-file",
        PROCESS,
        "Log here instead of standard error, which is also called -.",
    ),
    _make(
        "log_format",
        choice("text", "json", note="format strings of logging are not known here"),
        "--log-format",
        PROCESS,
        "How a line looks.",
    ),
    _make(
        "stdout_path",
        stream(values.FILE),
        "--stdout-path",
        PROCESS,
        "Where standard output goes.",
    ),
    _make(
        "stderr_path", stream(values.FILE), "--stderr-path", PROCESS, "Where standard error goes."
    ),
    _switch("verbose", "-v --verbose", PROCESS, "Log everything; show tracebacks."),
    _switch("quiet", "-q --quiet", PROCESS, "Log warnings and errors only."),
    _make(
        "logging_level",
        optional(choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
        "--logging-level",
        PROCESS,
        "Log what is at least so grave; stronger than -v and -q.",
        aliases=("-l", "--logging_level"),
    ),
    _make(
        "date_format",
        optional(values.FORMAT),
        "--date-format",
        PROCESS,
        "How the time of a log line looks, as strftime has it.",
    ),
    _make(
        "on_term",
        values.ON_TERM,
        "--on-term",
        LIMITS,
        "What TERM means: put jobs back and stop now, or finish them first, as QUIT. With NAME="
        " for the jobs of one queue. Repeatable.",
    ),
    _make(
        "grace",
        optional(seconds(zero=True)),
        "--grace",
        LIMITS,
        "Longest time for jobs to finish after QUIT; after it, as TERM. No limit by default.",
    ),
    _make(
        "boot_timeout",
        _SECONDS,
        "--boot-timeout",
        LIMITS,
        "A generation or worker that is not up by then has failed.",
    ),
    _make(
        "exit_timeout",
        seconds(zero=True),
        "--exit-timeout",
        LIMITS,
        "Longest time for what a worker or fork server that leaves in good order has to end"
        " itself: threads, atexit functions. 0 runs none.",
    ),
    _make(
        "kill_after",
        seconds(zero=True),
        "--kill-after",
        LIMITS,
        "Kill a job that still runs this long after its own timeout.",
    ),
    _make(
        "loop_timeout",
        _SECONDS,
        "--loop-timeout",
        LIMITS,
        "A worker whose loop stands still for so long between jobs, or whose process is stopped,"
        " is stuck.",
    ),
    _make(
        "dead_after",
        _SECONDS,
        "--dead-after",
        LIMITS,
        "The jobs of another machine are recovered when nothing was heard of it for so long.",
    ),
    _make(
        "on_worker_death",
        choice("fail", "requeue"),
        "--on-worker-death",
        LIMITS,
        "A job whose worker died fails or is retried by RQ's rules, or is put back.",
    ),
    _make(
        "unknown_function",
        choice("fail", "retry"),
        "--unknown-function",
        LIMITS,
        "A job whose function is not known here fails, or waits for 5, 20 and 60 s for a host that"
        " knows it.",
    ),
    _make(
        "isolation",
        values.ISOLATION,
        "--isolation",
        LIMITS,
        "Where a job runs: in the worker, or in a child forked for it. With NAME= for the jobs of"
        " one queue. Repeatable.",
    ),
    _make(
        "max_result",
        values.SIZE,
        "--max-result",
        LIMITS,
        "A job in a child fails if its result, as it is stored, is larger than this.",
    ),
    _make(
        "fast_path",
        choice("auto", "off"),
        "--fast-path",
        LIMITS,
        "Take and end jobs with one script where that can be, or never.",
    ),
    _make(
        "max_interruptions",
        number(0),
        "--max-interruptions",
        LIMITS,
        "A job may be interrupted so often by a stop; once more, and it fails.",
    ),
    _make(
        "max_deaths",
        number(1),
        "--max-deaths",
        LIMITS,
        "A job that killed so many workers fails, whatever its retries.",
    ),
    _make(
        "worker_class",
        values.CLASS,
        "-w --worker-class",
        RQ,
        "The workers' class.",
        fallback="RQ_WORKER_CLASS",
    ),
    _make(
        "job_class", values.CLASS, "-j --job-class", RQ, "The jobs' class.", fallback="RQ_JOB_CLASS"
    ),
    _make(
        "queue_class",
        values.CLASS,
        "--queue-class",
        RQ,
        "The queues' class.",
        fallback="RQ_QUEUE_CLASS",
    ),
    _make(
        "connection_class",
        values.CLASS,
        "--connection-class",
        RQ,
        "The class of connections to Redis.",
        fallback="RQ_CONNECTION_CLASS",
    ),
    _make(
        "serializer",
        optional(values.SERIALIZER),
        "-S --serializer",
        RQ,
        "How jobs are written: pickle, json, or a dotted name.",
    ),
    _make(
        "exception_handlers",
        many(values.FUNCTION),
        "--exception-handler",
        RQ,
        "Called when a job fails. Repeatable.",
    ),
    _switch(
        "disable_default_exception_handler",
        "-d --disable-default-exception-handler",
        RQ,
        "Do not put failed jobs into RQ's registry of them.",
    ),
    replace(
        _make(
            "with_scheduler",
            values.SWITCH,
            "-s --with-scheduler",
            RQ,
            "Do not enqueue scheduled jobs, delayed retries among them.",
        ),
        off=("--no-scheduler",),
    ),
    _make(
        "results_ttl",
        replace(number(-1, values.LONGEST), metavar="SECONDS"),
        "--results-ttl",
        RQ,
        "How long results are kept; -1 is for ever.",
    ),
    _make(
        "worker_ttl",
        _WHOLE_SECONDS,
        "--worker-ttl",
        RQ,
        "How long a silent worker stays registered.",
    ),
    _make(
        "maintenance_interval",
        _WHOLE_SECONDS,
        "--maintenance-interval",
        RQ,
        "Between two cleanings of RQ's registries.",
    ),
    _make(
        "dequeue_strategy",
        choice("default", "random", "round_robin"),
        "--dequeue-strategy",
        RQ,
        "The order in which queues are looked at.",
        aliases=("-ds",),
    ),
)
