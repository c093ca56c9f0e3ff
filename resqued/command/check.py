"""`--check`: load and check everything that a start needs, and start nothing.

Runs in a process of its own: by the user, and before a re-exec, where it must also understand
the state that the running arbiter would hand over.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby

from resqued import __version__
from resqued.command import files
from resqued.command.trial_start import TrialStart, problem_of
from resqued.exits import ExitCode, Problem, refuse
from resqued.logs.redaction import redact
from resqued.plan import Plan, make_plan
from resqued.plugins.failures import HookFailed
from resqued.plugins.hooks import LIMIT
from resqued.queue_words import ISOLATION, ON_TERM
from resqued.settings.loader import LoadedConfig
from resqued.shares import QueueShare


def prepare() -> None:
    """Import RQ and Redis before the settings put other folders on the path."""
    importlib.import_module("resqued.worker.classes.lookup")


def run(loaded: LoadedConfig, environ: Mapping[str, str]) -> int:
    """Import the application and RQ's classes, then print the plan. Returns the exit status.

    Raises InvalidSettings with all that is wrong.
    """
    trial = TrialStart(loaded)
    problems = [*files.problems(loaded.config), *trial.problems()]
    raised: list[HookFailed] = []
    hooks = loaded.plugins.hooks(LIMIT, on_failure=raised.append)
    plan = make_plan(hooks, loaded.config, loaded.config.workers)
    problems += [problem_of(failed) for failed in raised]
    warnings = [*loaded.warnings, *trial.warnings]
    if "RESQUED_HANDOVER" in environ:
        from resqued.arbiter.reexec import verify_handover

        problems += [Problem(text) for text in verify_handover(environ)]
    refuse(problems)
    if "RESQUED_HANDOVER" not in environ:
        warnings += files.warnings(loaded.config)
    for warning in warnings:
        print(redact(f"resqued: warning: {warning}"), file=sys.stderr)
    print(redact("\n".join(_report(loaded, plan))))
    return ExitCode.OK


def _report(loaded: LoadedConfig, plan: Plan) -> Iterator[str]:
    config = loaded.config
    workers = "1 worker" if plan.count == 1 else f"{plan.count} workers"
    yield f"resqued {__version__}: {workers}, {config.redis}"
    yield f"config file: {config.config or 'none'}"
    yield loaded.plugins.banner()
    yield ON_TERM.describe(config.on_term)
    yield ISOLATION.describe(config.isolation)
    yield f"application: {', '.join(config.require) or 'none; -r MODULE imports one'}"
    yield ""
    yield from (_share(queue, plan) for queue in config.queues)
    yield ""
    yield from _workers(plan)


def _share(queue: QueueShare, plan: Plan) -> str:
    """`low=10%: 3 of 32 (3.2)`: the workers that serve a queue, and what was rounded."""
    served = sum(queue.name in plan.of(number) for number in range(1, plan.count + 1))
    text = f"{queue}: {served} of {plan.count}"
    if queue.percent is not None:
        exact = queue.percent * plan.count / 100
        if exact != served:
            text += f" ({float(exact):g})"
    if queue.limit is not None:
        text += f"; at most {queue.limit} of its jobs at once on all hosts"
    return text


def _workers(plan: Plan) -> Iterator[str]:
    """`workers 1-3: critical,high,low`, neighbours with the same queues together."""
    numbered = enumerate(plan.queues, start=1)
    for queues, group in groupby(numbered, key=lambda pair: pair[1]):
        numbers = [number for number, _ in group]
        which = f"worker {numbers[0]}"
        if len(numbers) > 1:
            which = f"workers {numbers[0]}-{numbers[-1]}"
        yield f"{which}: {','.join(queues)}"
