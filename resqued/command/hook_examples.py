"""An example of each hook, for `--list-hooks=HOOK`: as it could stand in a config file.

They use `os`, `time`, `Path`, loguru's `logger` and the names of `resqued`.
"""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "add_options": """\
def add_options(options):
    options.add("--alert-url", default=None, help="Where alerts are sent.")
""",
    "configure": """\
def configure(config):
    config.workers = max(config.workers, len(config.queues))
""",
    "arbiter_started": """\
def arbiter_started(arbiter):
    arbiter.every(60, lambda: logger.info(f"{arbiter.wished} wished"))
""",
    "fork_server_env": """\
def fork_server_env(env):
    env["MALLOC_ARENA_MAX"] = "2"
""",
    "arbiter_ready": """\
def arbiter_ready(reason, error):
    logger.info(f"in service after {reason}, failed of: {error}")
""",
    "generation_failed": """\
def generation_failed(generation, reason):
    logger.error(f"the release of generation {generation.number}: {reason}")
""",
    "tick": """\
def tick(arbiter):
    Path(arbiter.config.state, "alive").touch()
""",
    "signal_received": """\
def signal_received(signame):
    return True if signame == "TTOU" else None  # nobody takes a worker away
""",
    "control": """\
def control(arbiter, verb, arguments):
    return {"workers": len(arbiter.workers)} if verb == "count" else None
""",
    "before_exec": """\
def before_exec(argv, env):
    env["RELEASE"] = os.path.realpath("/srv/app/current")
""",
    "choose_queues": """\
def choose_queues(number, count):
    return ["reports"] if number == count > 1 else None  # the last worker
""",
    "worker_count": """\
def worker_count(arbiter):
    return 2 if time.localtime().tm_hour < 6 else arbiter.config.workers
""",
    "worker_started": """\
def worker_started(worker):
    logger.info(f"worker {worker.number} is process {worker.pid}")
""",
    "worker_stuck": """\
def worker_stuck(worker, overdue):
    return Wait(60) if worker.queue == "reports" and overdue < 600 else None
""",
    "worker_exited": """\
def worker_exited(worker, exit):
    if exit.out_of_memory:
        logger.error(f"{exit.function} took all memory of {worker}")
""",
    "job_lost": """\
def job_lost(worker, job_id, verdict):
    logger.error(f"the process of job {job_id} died: {verdict}")
""",
    "arbiter_stopping": """\
def arbiter_stopping(graceful, dropped):
    logger.info("no longer loaded" if dropped else "the service ends")
""",
    "arbiter_exited": """\
def arbiter_exited(arbiter):
    Path(arbiter.config.state, "alive").unlink(missing_ok=True)
""",
    "before_load": """\
def before_load(generation):
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
""",
    "app_loaded": """\
def app_loaded(generation):
    logger.info(f"process {generation.pid} has loaded {generation.modules}")
""",
    "duties": """\
def duties(duties):
    duties.add("ping", lambda duty: duty.connection.set("up", 1), every=60)
""",
    "before_fork": """\
def before_fork(worker):
    if os.getloadavg()[0] > 500:
        raise VetoFork("the machine is overloaded", retry_after=15)
""",
    "after_fork": """\
def after_fork(worker):
    os.sched_setaffinity(0, {worker.number % os.cpu_count()})
""",
    "worker_ready": """\
def worker_ready(rq_worker):
    rq_worker.push_exc_handler(lambda job, *error: print(job.id, error[1]))
""",
    "order_queues": """\
def order_queues(queues):
    return [each for each in queues if not Path("/run/off", each).exists()]
""",
    "should_recycle": """\
def should_recycle(worker):
    return f"{worker.failed} failed" if worker.failed > 100 else None
""",
    "worker_exiting": """\
def worker_exiting(worker, reason):
    logger.info(f"{worker} leaves after {worker.jobs} jobs: {reason}")
""",
    "before_job": """\
def before_job(worker, job):
    os.environ["JOB_ID"] = job.id
""",
    "perform_job": """\
def perform_job(job):
    with logger.contextualize(job=job.id):
        return (yield)
""",
    "after_job": """\
def after_job(worker, job, outcome):
    logger.info(f"{job.origin}: {outcome.status} in {outcome.seconds:.3f} s")
""",
    "reopen_logs": """\
def reopen_logs(role):
    logger.info(f"the logs of the {role} have been rotated")
""",
}
"""By the hook's name, in the order of the life cycle. Two lines, or three."""
