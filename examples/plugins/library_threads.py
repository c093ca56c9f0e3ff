"""Numerical libraries take one thread a worker instead of one a core; malloc takes two arenas.

resqued -p examples/plugins/library_threads.py
"""

from resqued import hookimpl

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@hookimpl
def fork_server_env(env):  # before the interpreter that loads the application starts
    for name in VARIABLES:
        env.setdefault(name, "1")
    env.setdefault("MALLOC_ARENA_MAX", "2")
