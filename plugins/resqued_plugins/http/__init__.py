"""http: probes, metrics for Prometheus, and a page that shows what runs (`--http HOST:PORT`).

`/livez` and `/readyz` are for Kubernetes and load balancers. On loopback, or with `--http-status`,
there are also `/status.json` and `/`. Served by one thread of the arbiter, which reads snapshots
and controls nothing; clients never hold up the arbiter's loop. The listening socket is kept over
reloads and re-execs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from resqued import Arbiter, ConfigError, Draft, Exit, Generation, Options, Worker, hookimpl
from resqued_plugins.http import address, carried

if TYPE_CHECKING:
    from resqued_plugins.http.service import Service

GROUP: Final = "Process and logs"

_service: Service | None = None
"""Of this arbiter, once `--http` is in force."""


@hookimpl(tryfirst=True)  # so that a clash of names is an error of the other plugin
def add_options(options: Options) -> None:
    options.add(
        "--http",
        type=address.read,
        metavar="HOST:PORT",
        group=GROUP,
        help="Serve /livez, /readyz and /metrics here, on loopback a page too.",
    )
    options.add(
        "--http-status",
        default=False,
        group=GROUP,
        help="Serve the page and /status.json also where others than this machine can ask for it.",
    )
    options.add(
        "--ready-workers",
        type="count",
        default=1,
        group=GROUP,
        help="/readyz fails while fewer workers are ready.",
    )


@hookimpl(trylast=True)
def configure(config: Draft) -> None:
    if config.http is None:
        return
    if not isinstance(config.http, str):
        raise ConfigError(
            "http", f"{config.http!r} is not text", remedy="write '127.0.0.1:9181', or ':9181'"
        )
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigError(
            "http",
            "needs prometheus_client, which is not installed",
            remedy="pip install 'resqued[http]'",
        ) from None


@hookimpl
def arbiter_started(arbiter: Arbiter, reason: str) -> None:
    global _service
    if arbiter.config.http is not None and _service is None:
        from resqued_plugins.http.service import Service

        _service = Service(arbiter)
    if _service is not None:
        _service.start(reason)


@hookimpl(tryfirst=True)
def arbiter_ready(arbiter: Arbiter, reason: str, error: str | None) -> None:
    if _service is None:
        arbiter_started(arbiter, reason)
    else:
        _service.adjust()
        if error is None and reason != "start":
            _service.reloaded(arbiter.generation, None)


@hookimpl(tryfirst=True)
def generation_failed(arbiter: Arbiter, generation: Generation, reason: str) -> None:
    if _service is not None:
        _service.reloaded(generation.number, reason)


@hookimpl(tryfirst=True)
def worker_exited(arbiter: Arbiter, worker: Worker, exit: Exit) -> None:
    if _service is not None:
        _service.exited(worker, exit)


@hookimpl(tryfirst=True)
def job_lost(arbiter: Arbiter, worker: Worker, job_id: str, verdict: str) -> None:
    if _service is not None:
        _service.mark("job_lost", f"worker {worker.number}: job {job_id} was {verdict}")


@hookimpl
def before_exec(arbiter: Arbiter, argv: list[str], env: dict[str, str]) -> None:
    if _service is not None:
        _service.hand_over(env)


@hookimpl
def fork_server_env(env: dict[str, str]) -> None:
    env.pop(carried.VARIABLE, None)
    if _service is not None:
        _service.keep()


@hookimpl
def arbiter_stopping(arbiter: Arbiter, graceful: bool, dropped: bool) -> None:
    if dropped:
        _end()
    elif _service is not None:
        _service.mark("stopping", "draining" if graceful else "stopping now")


@hookimpl
def arbiter_exited(arbiter: Arbiter, exit_code: int) -> None:
    _end()


def _end() -> None:
    global _service
    if _service is not None:
        _service.close()
        _service = None
