"""Every row of the fault catalogue has its tests or a reason, and every test in it exists."""

from __future__ import annotations

import ast
import functools

import pytest

from faults.catalogue import FAULTS
from faults.field import FIELD
from harness.command import TESTS

ROWS = {**FAULTS, **FIELD}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_tests_or_a_reason(row):
    _, proof = ROWS[row]
    if proof.startswith("- "):
        return
    assert proof.split(), "neither a test nor a reason"
    for test in proof.split():
        path, _, name = test.partition("::")
        assert name in names_in(path), f"there is no {test}"


def test_every_row_is_there():
    rows = [row for row in FAULTS if row.isdigit()]
    assert rows == [str(number) for number in range(1, 93)]


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Names of the test functions and test cases at the top of a file, without importing it."""
    tree = ast.parse((TESTS / path).read_text())
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset(name for name in found if name.lower().startswith("test"))
