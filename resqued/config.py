"""The settings in force: one frozen object, the same in every process.

What may be set, and how it is written in a file, a variable or a flag, is in `settings`;
where values come from and what is wrong with them is found out in `sources`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from resqued.shares import Queue


@dataclass(frozen=True)
class Config:
    """Every setting, resolved. A plugin's own settings are attributes too (`config.statsd_host`).

    Seconds and bytes throughout; None means not set or no limit.
    """

    workers: int = 1
    queues: tuple[Queue, ...] = (Queue("default"),)
    redis: str = "redis://localhost:6379"
    require: tuple[str, ...] = ()
    preload_app: bool = True
    config: str | None = None  # absolute path of the config file
    plugins: tuple[str, ...] = ()  # NAME or no:NAME, in order: file, environment, flags
    autoload: bool = True
    pid: str | None = None
    daemonize: bool = False
    state: str | None = None  # absolute path of the folder where plugins keep data
    log_file: str | None = None
    log_format: str = "text"  # text, json
    stdout_path: str | None = None
    stderr_path: str | None = None
    verbose: bool = False
    quiet: bool = False
    logging_level: str | None = None  # DEBUG to CRITICAL; None: as verbose and quiet say
    date_format: str | None = None  # of strftime(3); None: with milliseconds
    on_term: tuple[str, ...] = ("now",)  # now, drain, NAME=now, NAME=drain
    grace: float | None = None
    boot_timeout: float = 60.0
    exit_timeout: float = 5.0
    kill_after: float = 60.0
    loop_timeout: float = 90.0
    dead_after: float = 120.0
    burst: bool = False
    max_idle_time: float | None = None
    worker_class: str = "resqued.worker.rq_worker.ResquedWorker"
    job_class: str = "rq.job.Job"
    queue_class: str = "rq.Queue"
    connection_class: str = "redis.Redis"
    serializer: str | None = None
    path: tuple[str, ...] = ()
    exception_handlers: tuple[str, ...] = ()
    disable_default_exception_handler: bool = False
    with_scheduler: bool = True
    results_ttl: int = 500
    worker_ttl: int = 420
    maintenance_interval: int = 600
    dequeue_strategy: str = "default"  # default, random, round_robin
    name: str | None = None
    on_worker_death: str = "fail"  # fail (RQ's rules), requeue
    fast_path: str = "auto"  # auto: one script a job where that can be; off: RQ's transactions
    isolation: tuple[str, ...] = ("worker",)  # worker, fork, NAME=worker, NAME=fork
    max_result: int = 256 * 2**20  # of a job in a child
    unknown_function: str = "fail"  # fail (as RQ), retry: put off for hosts that know it
    max_interruptions: int = 3  # the next one fails the job
    max_deaths: int = 3  # the job that killed this many workers is failed
    options: dict[str, Any] = field(default_factory=dict)  # settings of plugins

    def __getattr__(self, name: str) -> Any:
        """A plugin's setting. Raises AttributeError that names it."""
        try:
            return self.__dict__["options"][name]
        except KeyError:
            raise AttributeError(f"there is no setting {name!r}") from None

    def as_plain(self) -> dict[str, Any]:
        """JSON for the channel; `from_plain` is its inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "queues"}
        return {**plain, "queues": [queue.as_plain() for queue in self.queues]}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
            if name in known
        }
        values["queues"] = tuple(Queue.from_plain(queue) for queue in plain["queues"])
        return cls(**values)
