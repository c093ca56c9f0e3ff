"""Installed plugins with one name: which of them it means, and how the others are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from resqued.plugins.candidates import Candidate


@dataclass
class Settled:
    """What becomes of the plugins that are wanted."""

    kept: list[Candidate] = field(default_factory=list)  # each has a name of its own
    refused: list[tuple[Candidate, str]] = field(default_factory=list)  # with the reason
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def settle_names(wanted: Sequence[Candidate]) -> Settled:
    """Give every plugin a name of its own, in the order given, or refuse it.

    Of installed plugins that share a name, a built-in has it; else the name alone means none of
    them. One that is named by its module is loaded, and is called by its module if it is not the
    only one. Files and modules of one name are an error, also with an installed plugin.
    """
    settled = Settled()
    groups: dict[str, list[Candidate]] = {}
    for candidate in wanted:
        groups.setdefault(candidate.name, []).append(candidate)
    kept: list[Candidate] = []
    for name, same in groups.items():
        if len(same) == 1:
            kept += same
        elif any(each.entry_point is None for each in same):
            _refuse_all(settled, name, same)
        else:
            kept += _of_installed(settled, name, same)
    settled.kept = [candidate for candidate in wanted if candidate in kept]
    return settled


def _refuse_all(settled: Settled, name: str, same: list[Candidate]) -> None:
    clash = f"two plugins are called '{name}'"
    lines = "".join(f"\n    {each.source}" for each in same)
    remedy = "Drop one: -p no:<distribution>, or uninstall it."
    settled.errors.append(f"{clash}:{lines}\n  {remedy}")
    settled.refused += [(each, clash) for each in same]


def _of_installed(settled: Settled, name: str, same: list[Candidate]) -> list[Candidate]:
    """Those that are loaded, each with a name of its own."""
    built_in = [each for each in same if each.built_in]
    by_module = [
        each for each in same if each.asked and each.asked.name != name and not each.built_in
    ]
    others = [each for each in same if each not in built_in and each not in by_module]
    named = [each.asked for each in others if each.asked] if not built_in else []
    lines = "".join(f"\n    {each.package}: -p {each.module_name(same)}" for each in same)
    if named:
        settled.errors.append(
            f"the plugin name '{name}' (asked for by {named[0]}) means {len(same)} installed"
            f" plugins:{lines}\n  Name one by its module, as above, or block the other:"
            " -p no:<distribution>."
        )
    elif others and not by_module:
        settled.warnings.append(
            f"{len(same)} installed plugins are called '{name}':{lines}\n  "
            + ("The built-in one is loaded" if built_in else "None of them is loaded")
            + "; name one by its module, as above. -p no:<distribution> silences this."
        )
    for each in others:
        own = each.module_name(same)
        settled.refused.append((each, f"another plugin is called '{name}'; -p {own} loads this"))
    if len(by_module) + len(built_in) > 1:
        for each in by_module:
            each.name = each.module_name(same)
    return [*built_in, *by_module]
