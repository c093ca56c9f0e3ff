"""On systems that lack or forbid what resqued needs: one clear line, and an exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.command import COMMAND, environment
from harness.waiting import scaled

# as a seccomp filter does: the call fails with an errno, in this process and what it starts
BLOCK = """
import ctypes, os, struct, sys
number, code = int(sys.argv[1]), int(sys.argv[2])
option = int(sys.argv.pop(3)) if sys.argv[3].isdigit() else None  # of prctl; else any
def step(what, yes, no, value):
    return struct.pack("HBBI", what, yes, no, value)
program = step(0x20, 0, 0, 0) + step(0x15, 0, 1 if option is None else 3, number)
if option is not None:
    program += step(0x20, 0, 0, 16) + step(0x15, 0, 1, option)
program += step(0x06, 0, 0, 0x00050000 | code) + step(0x06, 0, 0, 0x7FFF0000)
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
rules = Filter(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(rules), 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
"""

CALLS = {  # numbers of x86-64
    "memfd_create": 319,
    "eventfd": 290,
    "prctl": 157,
    "socketpair": 53,
    "waitid": 247,
    "setpgid": 109,
    "flock": 73,
}

OPTIONS = {"PR_SET_PDEATHSIG": 1, "PR_SET_CHILD_SUBREAPER": 36}  # of prctl

OTHER = """
import sys
sys.platform = "darwin"
from resqued.cli import main
sys.exit(main())
"""


def start(*words: str, cwd):
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=scaled(60),
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", CALLS)
def test_what_the_system_refuses_is_one_line(tmp_path, call, errno):
    words = (sys.executable, COMMAND, "--redis", "redis://127.0.0.1:1")
    done = start("-c", BLOCK, str(CALLS[call]), str(errno), *words, cwd=tmp_path)
    assert done.returncode == 71, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"resqued: error: the system refuses {call}")


@pytest.mark.parametrize("errno", [1, 22, 38], ids=["EPERM", "EINVAL", "ENOSYS"])
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_prctl_that_the_system_refuses_is_one_line(tmp_path, option, errno):
    """Sandboxes allow the call and look at its first argument."""
    words = (sys.executable, COMMAND, "--redis", "redis://127.0.0.1:1")
    numbers = map(str, (CALLS["prctl"], errno, OPTIONS[option]))
    done = start("-c", BLOCK, *numbers, *words, cwd=tmp_path)
    assert done.returncode == 71, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("resqued: error: the system refuses prctl")


def test_another_system_is_one_line(tmp_path):
    done = start("-c", OTHER, cwd=tmp_path)
    assert done.returncode == 71
    assert done.stderr == (
        "resqued: error: resqued needs Linux (memfd, eventfd, subreapers), and this is darwin\n"
    )
