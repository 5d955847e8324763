"""``pytest --mdive-plugin NAME``: the conformance checks of an installed plugin as tests, without a line of code.

pytest imports this module in every environment that mdive is installed in, so it imports nothing before it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mdive.testing._conformance_report import Check

OPTION = "--mdive-plugin"
FAILURES = "mdive_expected_failures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option, and the setting for known failures."""
    parser.getgroup("mdive", "conformance of mdive plugins").addoption(
        OPTION,
        action="append",
        default=[],
        metavar="NAME",
        help="check an installed plugin of mdive: the name of its entry point or of its package ('mdive' checks mdive itself)",
    )
    parser.addini(FAILURES, "known failures of --mdive-plugin, one a line: subject::check = reason", type="linelist", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a plugin that is not installed; collect nothing else where no path was given."""
    names: list[str] = config.getoption(OPTION)
    if not names:
        return
    from mdive.errors import MdiveError
    from mdive.plugins.registry import registry
    from mdive.testing._conformance_plugin import find_plugins

    try:
        for name in names:
            find_plugins(name, registry())
    except MdiveError as error:
        raise pytest.UsageError(str(error)) from None
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args[:] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test for each check, before ``-k`` and ``-m`` choose."""
    names: list[str] = config.getoption(OPTION)
    known = _known(config) if names else {}
    for name in names:
        plugin = _Plugin.from_parent(session, name=name, nodeid=f"{OPTION} {name}")
        items.extend(plugin.tests(known))
    if names and known:
        raise pytest.UsageError(f"{FAILURES} names checks that there are not: {', '.join(sorted(known))}.\nTake them out, or correct them.")


class _Plugin(pytest.Collector):
    """All checks of one plugin."""

    def collect(self) -> list[pytest.Item]:
        return []

    def tests(self, known: dict[str, str]) -> Iterator[pytest.Item]:
        """Yield its tests; known failures that are used are taken out of ``known``."""
        from mdive.testing._conformance_plugin import check_plugin
        from mdive.testing._conformance_report import CheckFailed

        for check in check_plugin(self.name):
            item = _Test.from_parent(self, name=check.id, check=check)
            reason = known.pop(check.id, None)
            if reason is not None:
                item.add_marker(pytest.mark.xfail(reason=reason, raises=CheckFailed, strict=True))
            yield item


class _Test(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, **options: Any) -> None:
        super().__init__(**options)
        self.check = check

    def runtest(self) -> None:
        self.check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what a check says; a traceback only of what broke."""
        from mdive.testing._conformance_report import CheckFailed

        if isinstance(excinfo.value, CheckFailed):
            return f"{self.check.meaning}\n\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.path, None, self.name


def _known(config: pytest.Config) -> dict[str, str]:
    found = {}
    for line in config.getini(FAILURES):
        name, _, reason = line.partition("=")
        if not reason.strip():
            raise pytest.UsageError(f"{FAILURES}: {line!r} has no reason.\nWrite one line for each: subject::check = reason.")
        found[name.strip()] = reason.strip()
    return found
