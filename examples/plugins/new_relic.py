"""New Relic: each job is a background task. `NEW_RELIC_CONFIG_FILE` says where to report.

resqued -p examples/plugins/new_relic.py
"""

from resqued import hookimpl


@hookimpl
def after_fork(worker):  # its threads do not survive a fork
    import newrelic.agent

    newrelic.agent.initialize()


@hookimpl(wrapper=True)
def perform_job(worker, job):
    import newrelic.agent

    application = newrelic.agent.application()
    with newrelic.agent.BackgroundTask(application, name=job.func_name, group="RQ"):
        return (yield)  # the job's exception passes here


@hookimpl
def worker_exiting(worker):
    import newrelic.agent

    newrelic.agent.shutdown_agent(timeout=2)
