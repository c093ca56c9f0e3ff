"""What a fork server and a worker do at a start, once and in this process, for `--check`."""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Final

from resqued import logs
from resqued.duties import registrations
from resqued.exits import ExitCode, Problem
from resqued.namesakes import warning_of
from resqued.plugins.errors import describe, place
from resqued.plugins.failures import HookFailed
from resqued.plugins.limits import HookTimeout, call_within
from resqued.settings.loader import LoadedConfig
from resqued.snapshots import Generation
from resqued.verdicts import ConfigError

_PATIENCE: Final = 10.0
"""Seconds after the boot timeout until this process ends if the code cannot be interrupted."""

_ANSWER: Final = 3.0
"""Seconds for the answer of Redis."""


def problem_of(failed: HookFailed) -> Problem:
    """A hook that has failed; with its traceback for -v."""
    return Problem(str(failed), detail="".join(traceback.format_exception(failed.cause)))


class TrialStart:
    """Imports the application and asks Redis, within the boot timeout. Opens no other socket."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        self._config = loaded.config
        self._doing = ""
        self.warnings: list[str] = []

    def problems(self) -> list[Problem]:
        """Find all that a start would be refused for. Needs the main thread and SIGALRM."""
        logs.collect(self.warnings)
        limit = self._config.boot_timeout
        found: list[Problem] = []
        faulthandler.dump_traceback_later(limit + _PATIENCE, exit=True)
        try:
            call_within(limit, self._load, found)
        except HookTimeout as error:
            found.append(Problem(f"{self._doing} {error}, which is the boot timeout"))
        finally:
            faulthandler.cancel_dump_traceback_later()
        if not found:
            self._ask_redis()
        return found

    def _load(self, found: list[Problem]) -> None:
        """Run the steps; problems are added to `found`."""
        pid = os.getpid()
        found += self._set_environment()
        found += self._call_plugins("before_load")
        if not found:
            found += self._import_all()
        if not found:  # else the classes may be in modules that could not be imported
            found += self._look_at_classes()
        if not found:
            found += self._call_plugins("app_loaded")
        if not found:
            found += self._collect_duties()
        if os.getpid() != pid:
            os._exit(ExitCode.OK)  # what was imported has forked, and this is the child: it ends

    def _import_all(self) -> Iterator[Problem]:
        sys.argv = ["resqued"]  # an application may look at it while it is imported
        for name in self._config.require:
            self._doing = f"the import of '{name}'"
            try:
                importlib.import_module(name)
                if hidden := warning_of(name):
                    self.warnings.append(hidden)
            except (Exception, SystemExit) as error:
                text = f"{self._doing} failed: {describe(error)} ({place(error)})"
                yield Problem(text, detail="".join(traceback.format_exception(error)))

    def _look_at_classes(self) -> list[Problem]:
        from resqued.worker.classes.lookup import check_classes

        self._doing = "the import of the classes"
        return [Problem(text) for text in check_classes(self._config)]

    def _set_environment(self) -> list[Problem]:
        """As a fork server would have it."""
        self._doing = "hook fork_server_env"
        env = dict(os.environ)
        raised: list[HookFailed] = []
        self._loaded.plugins.hooks(on_failure=raised.append).tell("fork_server_env", env=env)
        for name in set(os.environ) - set(env):
            del os.environ[name]
        os.environ.update(env)
        return [problem_of(failed) for failed in raised]

    def _call_plugins(self, hook: str) -> list[Problem]:
        """Call `before_load` or `app_loaded`, which may refuse."""
        self._doing = f"hook {hook}"
        try:
            self._loaded.plugins.hooks().demand(hook, generation=self._generation())
        except HookFailed as error:
            return [problem_of(error)]
        except ConfigError as error:
            return [Problem(f"hook {hook}: {error}")]
        return []

    def _collect_duties(self) -> list[Problem]:
        self._doing = "hook duties"
        hooks = self._loaded.plugins.hooks()
        return registrations.collect(hooks, self._generation()).problems

    def _generation(self) -> Generation:
        config = self._config
        return Generation(1, os.getpid(), config.require if config.preload_app else (), config)

    def _ask_redis(self) -> None:
        """Try once; no answer is only a warning, because a start would wait for Redis."""
        if self._loaded.redis_from:
            return  # the plugin that has set the URL may also start the server
        from resqued.broker.connection import make_connection
        from resqued.broker.outages import NO_ANSWER
        from resqued.broker.refusals import diagnose
        from resqued.broker.strict import make_strict
        from resqued.broker.tls import diagnose as diagnose_tls

        url = self._config.redis
        try:
            connection = make_connection(self._config, "resqued-check")
            make_strict(connection, "resqued-check", _ANSWER)
            try:
                connection.ping()
            finally:
                connection.close()
        except (*NO_ANSWER, OSError) as error:
            diagnosis = diagnose(error)
            if not diagnosis.kind:
                diagnosis = diagnose_tls(url, error, 1.0) or diagnosis
            text = diagnosis.text.removesuffix("; trying again")
            self.warnings.append(f"redis {url} {text}; a start would wait for it")
