"""What hooks may use of the running program, as types: the arbiter, a draft, the options.

Structural types only. The arbiter and the command line implement them, a plugin annotates with
them, and a plugin's own tests may put a stand-in in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import redis

    from resqued.config import Config
    from resqued.snapshots import (
        LoopFacts,
        QueueCounts,
        QueueFacts,
        RedisFacts,
        ScheduleFacts,
        Worker,
    )


class Request(Protocol):
    """What a verb of the arbiter returns. Safe to use from any thread.

    It ends once: what was asked for has come about, or it is refused. Nothing is told of it in
    the image that a re-exec starts.
    """

    @property
    def done(self) -> bool:
        """What was asked for has come about."""

    @property
    def refused(self) -> str | None:
        """Why it will not: also in the log. A newer request that replaces it refuses it."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, at most so long; return `done`.

        Not for hooks: RuntimeError in the arbiter's loop, which would wait for itself.
        """


class Arbiter(Protocol):
    """The arbiter, as the hooks that run in it see it.

    Everything here may be used from any thread. A verb only posts to the loop and wakes it, and
    returns a `Request`; signals and verbs end in the same decisions.
    """

    @property
    def config(self) -> Config:
        """The settings in force; another object after a reload."""

    @property
    def pid(self) -> int:
        """Never changes, not on reload and not on re-exec."""

    @property
    def generation(self) -> int:
        """The number of the generation in service."""

    @property
    def state(self) -> str:
        """running, resting, draining, stopping or over."""

    @property
    def reloading(self) -> bool:
        """A new generation boots, by a signal or a verb; the one in service works meanwhile."""

    @property
    def wished(self) -> int:
        """The target number of workers."""

    @property
    def workers(self) -> Sequence[Worker]:
        """Snapshots of the workers that are alive, by number; trial workers are not among them."""

    @property
    def queues(self) -> Mapping[str, QueueFacts]:
        """What is known of each queue, by name; empty until something is. Beyond a thousand queues
        the others are summed up under `other (N)`."""

    @property
    def counts(self) -> Mapping[str, QueueCounts]:
        """How many jobs the workers have started and ended, by queue; the empty name stands for
        queues beyond the first thousand. Takes some milliseconds if there are many workers."""

    @property
    def redis(self) -> RedisFacts | None:
        """What is known of the server; None until something is."""

    @property
    def schedule(self) -> ScheduleFacts | None:
        """What is known of scheduled and periodic jobs; None with --no-scheduler and --burst, and
        until something is."""

    @property
    def loop(self) -> LoopFacts:
        """How the arbiter's loop keeps up. In a hook it is the turn before."""

    def reload(self) -> Request:
        """As HUP: a new generation. Done when it is in service."""

    def reexec(self) -> Request:
        """As USR2: replace the image. Only a refusal is told, since success replaces all this."""

    def scale(self, count: int) -> Request:
        """So many workers from now on, until a reload changes the configured count. Done when so
        many are ready; surplus ones may still finish their jobs. Refused beyond --max-workers."""

    def drain(self) -> Request:
        """As QUIT: workers finish their jobs, then the arbiter exits. Done when none is left."""

    def stop(self) -> Request:
        """As INT: jobs are put back, then the arbiter exits. Done when no worker is left."""

    def rest(self) -> Request:
        """As WINCH, also on a terminal: workers finish their jobs and leave, the arbiter stays.
        Done when none is left."""

    def resume(self) -> Request:
        """End a rest with the count that was in force before. Done when these workers are
        ready."""

    def recycle(self, number: int) -> Request:
        """Replace a worker once it has finished its job. Done when its successor is ready."""

    def replan(self) -> Request:
        """Ask `choose_queues` again. Only workers whose queues change are replaced; done when
        they are."""

    def look_again(self) -> Request:
        """Have idle workers ask `order_queues` again: its answer may have changed."""

    def reopen_logs(self) -> Request:
        """Have every process reopen its log files, and call `reopen_logs` there."""

    def call_soon(self, function: Callable[[], object]) -> Request:
        """Call a function in the arbiter's loop, like a hook: it must be quick, and what it
        raises is logged and refuses the request. Done when it has returned."""

    def every(self, seconds: float, function: Callable[[], object]) -> Request:
        """Call a function again and again, in a daemon thread of its own, `seconds` after its
        last return. What it raises is logged. Done when the thread has ended: when the plugin
        that asked for it is dropped, or at exit."""


class Draft(Protocol):
    """The settings while `configure` runs: as `Config`, but they may be assigned.

    A value is read as in the config file; ConfigError for one that is not valid.
    """

    def has_plugin(self, name: str) -> bool:
        """As `Config.has_plugin`."""

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...


class Options(Protocol):
    """What `add_options` gets: declares a plugin's own options."""

    def add(
        self,
        flag: str,
        *,
        default: Any = None,
        help: str = "",
        type: Callable[[str], Any] | str | None = None,
        group: str = "Of plugins",
        choices: Sequence[Any] | None = None,
        metavar: str = "",
        secret: bool = False,
        many: bool = False,
    ) -> None:
        """Declare `--NAME-WORD`: the flag, the setting NAME_WORD and RESQUED_NAME_WORD at once.

        NAME is the plugin's: its entry point's, or the last part of its module's, which may leave
        out `resqued_`. The config file may take any name.
        default: the value when none is given, plain JSON; also decides the type, unless `type`
        says how to read text. True or False makes it a switch. Lists become tuples.
        help: one or two sentences for `--help`.
        type: int, float, str, a function that reads text and raises ValueError, or `count` (1 or
        more), `seconds` (`90`, `15m`; a float), `size` (`512M`; bytes).
        group: the heading in `--help`.
        choices: the only values that are taken.
        metavar: what stands for the value in `--help`; the choices, or a word by its type.
        secret: its value is never repeated: in messages, in the log, in `--help`. Also without
        this for a name that ends in password, secret, token, key, dsn or url.
        many: it has several values, a tuple: the flag is repeatable, the variable comma separated,
        the config file gives a list. Also without this if the default is a list.
        Raises ValueError for another plugin's prefix, a name that is taken, or arguments that do
        not fit each other.
        """


class Duties(Protocol):
    """What the hook `duties` gets: registers a plugin's own duties."""

    def add(
        self,
        name: str,
        function: Callable[[Any], float | None],
        *,
        every: float,
        once: str = "arbiter",
        limit: float = 60.0,
    ) -> None:
        """Have `function(duty)` called again and again in the duties process.

        name: unique among the duties of all plugins; in the log, and with `fleet` in Redis.
        function: gets a `Duty`. It may return the Unix time of its next call. What it raises is
        logged, and it is called again.
        every: seconds from the end of a call to the next. The first call is made at once.
        once: `arbiter`: each arbiter calls it; `fleet`: only one of all arbiters on this Redis
        does, the duty's keeper.
        limit: seconds that a call may take; then the process is killed, and another is started.
        Raises nothing: all that is wrong is told once all plugins have been asked, and refuses the
        start or the reload.
        """


class Duty(Protocol):
    """What the function of a duty is given."""

    @property
    def name(self) -> str:
        """Of the duty."""

    @property
    def config(self) -> Config:
        """The settings of the generation."""

    @property
    def arbiter(self) -> str:
        """The identity of the arbiter, which no other has ever had."""

    @property
    def token(self) -> int:
        """With `once="fleet"` a number that is greater for each keeper of the duty, for
        `resqued.duties.fenced`; else 0."""

    @property
    def connection(self) -> redis.Redis:
        """A client of this process. It repeats no command by itself."""
