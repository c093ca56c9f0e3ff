"""The settings: each a field of `Config`, with its flag, kind of value, heading and help.

The command line, the variables, the names in the config file and `--help` follow from it. Where
values come from, and what is wrong with them, is found in `settings`. A `Config` is frozen, and
the same in every process.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from resqued import kinds
from resqued.kinds import choice, many, number, optional, seconds
from resqued.ownership import Untrusted, make_private
from resqued.plain import as_tuples
from resqued.setting import Setting, under
from resqued.shares import QueueShare
from resqued.verdicts import ConfigError

_workers = under("Workers")
_app = under("Application and plugins")
_process = under("Process and logs")
_limit = under("Stopping, limits and recycling")
_rq = under("As rq worker has them")


@dataclass(frozen=True)
class Config:
    """Every setting, resolved. A plugin's own settings are attributes too (`config.statsd_host`).

    Seconds and bytes throughout; None means not set or no limit.
    """

    workers: int = _workers(1, kinds.WORKERS, "-n --workers", aliases=("--num-workers",))(
        "Number of workers; auto is one for each usable core."
    )
    max_workers: int | None = _workers(None, optional(kinds.MAX_WORKERS), "--max-workers")(
        "Never more workers than this, whoever asks: TTIN, a plugin, scale."
    )
    queues: tuple[QueueShare, ...] = _workers((QueueShare("default"),), kinds.QUEUES, "--queue")(
        "A queue to serve, by all workers, at most NUM or a percentage of them. NUM/fleet: at most "
        "so many of its jobs run at once on all hosts. Repeatable, in order of priority; '*' is "
        "every queue not named."
    )
    redis: str = _workers(
        "redis://localhost:6379",
        kinds.REDIS,
        "--redis",
        aliases=("-u", "--url"),
        fallback="RQ_REDIS_URL",
        secret=True,
    )(
        "The server. A password given here can be seen by others until the start is over; "
        "RQ_REDIS_URL and the config file keep it to you."
    )
    burst: bool = _workers(False, kinds.SWITCH, "-b --burst")(
        "Run until the queues are empty, then exit."
    )
    max_idle_time: float | None = _workers(None, optional(kinds.DURATION), "--max-idle-time")(
        "Exit when no worker has had a job for so long; with --burst, wait so long for more."
    )
    name: str | None = _workers(None, optional(kinds.NAME), "--name")(
        "Name of the workers, followed by a number if there are several."
    )
    require: tuple[str, ...] = _app((), many(kinds.MODULE), "-r --require")(
        "Import this module before workers are forked. Repeatable."
    )
    preload_app: bool = _app(True, kinds.SWITCH, "--preload")(
        "Import these modules in each worker, after its fork."
    )
    path: tuple[str, ...] = _app((), many(kinds.FOLDER), "-P --path")(
        "Look for modules here first. Repeatable; the working directory is looked at last, with "
        "--path . first."
    )
    # NAME or no:NAME, in order: file, environment, flags
    plugins: tuple[str, ...] = _app((), many(kinds.WORD), "-p --plugin", added=True)(
        "Load a plugin: an installed one, a module, MODULE:OBJECT, or a path that ends in .py; "
        "no:NAME blocks one. Repeatable."
    )
    autoload: bool = _app(True, kinds.SWITCH, "--autoload")("Load only plugins that are named.")
    config: str | None = _process(None, optional(kinds.FILE), "-c --config", in_file=False)(
        "The config file; resqued.conf.py in the working directory is taken without asking."
    )
    pid: str | None = _process(None, optional(kinds.FILE), "--pid", fixed=True)(
        "Write the process id here."
    )
    # None: where the user's sockets lie; empty: there is none
    control: str | None = _process(None, kinds.CONTROL, "--control", fixed=True)(
        "The socket for resquedctl; none makes none. Default: one in $RUNTIME_DIRECTORY, "
        "$XDG_RUNTIME_DIR or the temporary directory."
    )
    daemonize: bool = _process(False, kinds.SWITCH, "-D --daemonize", fixed=True)(
        "Run in the background."
    )
    state: str | None = _process(None, optional(kinds.FOLDER), "--state", fixed=True)(
        "Where plugins keep data. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/resqued."
    )
    log_file: str | None = _process(None, kinds.LOG, "--log-file")(
        "Log here instead of standard error, which is also called -."
    )
    log_format: str = _process(
        "text",
        choice("text", "json", note="format strings of logging are not known here"),
        "--log-format",
    )("How a line looks; json has the events of OPERATIONS.md, with their fields.")
    log_jobs: str = _process("all", choice("all", "failed", "none"), "--log-jobs")(
        "Log each job, only those that fail or are put back, or none."
    )
    stdout_path: str | None = _process(None, kinds.LOG, "--stdout-path")(
        "Where standard output goes."
    )
    stderr_path: str | None = _process(None, kinds.LOG, "--stderr-path")(
        "Where standard error goes."
    )
    verbose: bool = _process(False, kinds.SWITCH, "-v --verbose")(
        "Log everything; show tracebacks."
    )
    quiet: bool = _process(False, kinds.SWITCH, "-q --quiet")("Log warnings and errors only.")
    # DEBUG to CRITICAL; None: as verbose and quiet say
    logging_level: str | None = _process(
        None,
        optional(choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
        "--logging-level",
        aliases=("-l", "--logging_level"),
    )("Log what is at least so grave; stronger than -v and -q.")
    # of strftime(3); None: with milliseconds
    date_format: str | None = _process(None, optional(kinds.FORMAT), "--date-format")(
        "How the time of a log line looks, as strftime has it."
    )
    on_term: tuple[str, ...] = _limit(("now",), kinds.ON_TERM, "--on-term")(
        "What TERM means: put jobs back and stop now, or finish them first, as QUIT. With NAME= "
        "for the jobs of one queue. Repeatable."
    )
    grace: float | None = _limit(None, optional(seconds(zero=True)), "--grace")(
        "Longest time for jobs to finish after QUIT; after it, as TERM. No limit by default."
    )
    boot_timeout: float = _limit(60.0, kinds.DURATION, "--boot-timeout")(
        "A generation or worker that is not up by then has failed."
    )
    exit_timeout: float = _limit(5.0, seconds(zero=True), "--exit-timeout")(
        "Longest time for what a worker or fork server that leaves in good order has to end "
        "itself: threads, atexit functions. 0 runs none."
    )
    kill_after: float = _limit(60.0, seconds(zero=True), "--kill-after")(
        "Kill a job that still runs this long after its own timeout."
    )
    loop_timeout: float = _limit(90.0, kinds.DURATION, "--loop-timeout")(
        "A worker whose loop stands still for so long between jobs, or whose process is stopped, "
        "is stuck."
    )
    dead_after: float = _limit(120.0, kinds.DURATION, "--dead-after")(
        "The jobs of another machine are recovered when nothing was heard of it for so long."
    )
    on_worker_death: str = _limit("fail", choice("fail", "requeue"), "--on-worker-death")(
        "A job whose worker died fails or is retried by RQ's rules, or is put back."
    )
    unknown_function: str = _limit("fail", choice("fail", "retry"), "--unknown-function")(
        "A job whose function is not known here fails, or waits for 5, 20 and 60 s for a host "
        "that knows it."
    )
    isolation: tuple[str, ...] = _limit(("worker",), kinds.ISOLATION, "--isolation")(
        "Where a job runs: in the worker, or in a child forked for it. With NAME= for the jobs of"
        " one queue. Repeatable."
    )
    max_result: int = _limit(256 * 2**20, kinds.SIZE, "--max-result")(
        "A job in a child fails if its result, as it is stored, is larger than this."
    )
    # auto: one script a job where that can be; off: RQ's transactions
    fast_path: str = _limit("auto", choice("auto", "off"), "--fast-path")(
        "Take and end jobs with one script where that can be, or never."
    )
    max_interruptions: int = _limit(3, number(0), "--max-interruptions")(
        "A job may be interrupted so often by a stop; once more, and it fails."
    )
    max_deaths: int = _limit(3, kinds.COUNT, "--max-deaths")(
        "A job that killed so many workers fails, whatever its retries."
    )
    worker_class: str = _rq(
        "resqued.worker.rq_worker.ResquedWorker",
        kinds.CLASS,
        "-w --worker-class",
        fallback="RQ_WORKER_CLASS",
    )("The workers' class.")
    job_class: str = _rq("rq.job.Job", kinds.CLASS, "-j --job-class", fallback="RQ_JOB_CLASS")(
        "The jobs' class."
    )
    queue_class: str = _rq("rq.Queue", kinds.CLASS, "--queue-class", fallback="RQ_QUEUE_CLASS")(
        "The queues' class."
    )
    connection_class: str = _rq(
        "redis.Redis", kinds.CLASS, "--connection-class", fallback="RQ_CONNECTION_CLASS"
    )("The class of connections to Redis.")
    serializer: str | None = _rq(None, optional(kinds.SERIALIZER), "-S --serializer")(
        "How jobs are written: pickle, json, or a dotted name."
    )
    exception_handlers: tuple[str, ...] = _rq((), many(kinds.FUNCTION), "--exception-handler")(
        "Called when a job fails. Repeatable."
    )
    disable_default_exception_handler: bool = _rq(
        False, kinds.SWITCH, "-d --disable-default-exception-handler"
    )("Do not put failed jobs into RQ's registry of them.")
    with_scheduler: bool = _rq(True, kinds.SWITCH, "-s --with-scheduler", off="--no-scheduler")(
        "Do not enqueue scheduled jobs, delayed retries among them."
    )
    results_ttl: int = _rq(500, number(-1, kinds.LONGEST, "SECONDS"), "--results-ttl")(
        "How long results are kept; -1 is for ever."
    )
    worker_ttl: int = _rq(420, kinds.WHOLE_SECONDS, "--worker-ttl")(
        "How long a silent worker stays registered."
    )
    maintenance_interval: int = _rq(600, kinds.WHOLE_SECONDS, "--maintenance-interval")(
        "Between two cleanings of RQ's registries."
    )
    dequeue_strategy: str = _rq(
        "default",
        choice("default", "random", "round_robin"),
        "--dequeue-strategy",
        aliases=("-ds",),
    )("The order in which queues are looked at.")

    options: dict[str, Any] = field(default_factory=dict, repr=False)
    """Settings that plugins have declared. Lists are tuples."""

    option_plugins: dict[str, str] = field(default_factory=dict, repr=False)
    """The plugin that has declared each of them."""

    secret_options: tuple[str, ...] = ()
    """Those of them whose values no message repeats."""

    loaded_plugins: tuple[str, ...] = ()
    """The plugins in force, by the names that `--list-plugins` shows."""

    def has_plugin(self, name: str) -> bool:
        """Whether this plugin is loaded: by its name as `--list-plugins` shows it, `statsd`."""
        return name in self.loaded_plugins

    def state_dir(self, name: str) -> Path:
        """The folder `name` in the state directory (`--state`), for what a plugin keeps on disk.

        It is made, with mode 0700 and with its parents, if it does not exist. name: the plugin's,
        without a slash. May be called in every process. Raises ConfigError without a state
        directory, for another name, and for a folder that cannot be made or that other users
        could have written to.
        """
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            remedy = "give the plugin's name, without a slash"
            raise ConfigError("state", f"{name!r} cannot be the name of a folder", remedy=remedy)
        if self.state is None:
            raise ConfigError(
                "state",
                f"there is no state directory, in which '{name}' would keep its data",
                remedy="give --state DIR",
            )
        path = Path(self.state) / name
        try:
            make_private(path)
        except Untrusted as error:
            problem, _, remedy = str(error).partition("\n")
            raise ConfigError("state", problem, remedy=remedy.strip()) from error
        except OSError as error:
            raise ConfigError(
                "state",
                f"{path} cannot be made: {error.strerror}",
                remedy="create its directory and let this user write there, or give another"
                " --state DIR",
            ) from error
        return path

    def __getattr__(self, name: str) -> Any:
        """A plugin's setting. Raises AttributeError that names it."""
        try:
            return self.__dict__["options"][name]
        except KeyError:
            raise AttributeError(f"there is no setting {name!r}") from None

    def as_plain(self) -> dict[str, Any]:
        """JSON for the channel; `from_plain` is its inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "queues": [queue.as_plain() for queue in self.queues]}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Names that are not known are passed over."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
            if name in known
        }
        values["options"] = as_tuples(plain.get("options", {}))
        values["queues"] = tuple(QueueShare.from_plain(queue) for queue in plain["queues"])
        return cls(**values)


SETTINGS: Final = {
    each.name: Setting(each.name, default=each.default, **each.metadata)
    for each in fields(Config)
    if each.metadata
}
"""Those of resqued itself, by name, in the order of `--help`."""
