"""What is not there skips a test, with the remedy, or fails it where nothing may be missing."""

from __future__ import annotations

import pytest

from harness import needs


def test_a_missing_program_is_a_skip_that_says_what_to_install(monkeypatch):
    monkeypatch.delenv("TESTS_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nosuch is not here; apt-get install some"):
        needs.program("nosuch", "some-package")


def test_where_nothing_may_be_missing_it_is_a_failure(monkeypatch):
    monkeypatch.setenv("TESTS_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="nosuch is not here"):
        needs.program("nosuch", "some-package")


def test_a_program_that_is_there_is_found():
    assert needs.program("sh", "dash").endswith("/sh")
