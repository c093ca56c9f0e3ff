"""What tests need that pip does not install with them: programs of Debian's packages, environments.

On a developer's machine what is missing skips a test, and the reason says how to get it. Where
TESTS_REQUIRE_ALL is set, as .ci/run does after it has installed everything, it fails the test.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/sbin")
"""Where Debian has programs that are not on PATH, as patterns."""


def missing(what: str, remedy: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing."""
    reason = f"{what} is not here; {remedy}"
    if os.environ.get("TESTS_REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """The path of a program. package: Debian's, which has it."""
    folders = [str(found) for place in PLACES for found in Path("/").glob(place[1:])]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *sorted(folders, reverse=True)])
    found = shutil.which(name, path=path)
    return found or missing(name, f"apt-get install {package}, or .ci/packages")
