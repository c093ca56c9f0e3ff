"""Memory put into huge pages stays what it was."""

from __future__ import annotations

import ctypes
import errno
import subprocess
import sys
import textwrap

import pytest

from resqued.forkserver import huge_pages


def test_what_is_full_is_collapsed_and_unchanged():
    program = """
        import mmap, os
        from resqued.forkserver import huge_pages

        full, sparse = (mmap.mmap(-1, 16 * 2**20, flags=mmap.MAP_PRIVATE) for _ in range(2))
        text = os.urandom(2**20)
        for _ in range(16):
            full.write(text)
        for at in range(0, len(sparse), 65536):
            sparse[at] = 1
        print(huge_pages.collapse())
        assert full[:] == text * 16
        assert sum(sparse[:]) == len(sparse) // 65536
        child = os.fork()
        if child == 0:
            full[0:4] = b"else"
            os._exit(0)
        os.waitpid(child, 0)
        assert full[:4] == text[:4]
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
    )
    if run.stdout == "0\n":
        pytest.skip("this kernel does not collapse")
    assert int(run.stdout) >= 7


def test_an_older_kernel_is_asked_once(monkeypatch):
    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(huge_pages, "_madvise", refuse)
    monkeypatch.setattr(huge_pages, "_is_full", lambda pagemap, address: True)
    assert huge_pages.collapse() == 0
    assert len(asked) == 1
