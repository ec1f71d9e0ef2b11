"""What all tests share: in CI a skipped test is a failed one; `scale` shortens the slow ones."""

import os
from collections.abc import Generator

import pytest

SCALE_VARIABLE = "TEST_SCALE"
"""A factor for the size and length of slow tests; 1 is in full."""


def skips_are_failures() -> bool:
    """Return whether nothing may be left out, as in CI."""
    return os.environ.get("CI", "").lower() == "true"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure is reported as a skip, too; nothing was left out there.
    if report.skipped and not hasattr(report, "wasxfail") and skips_are_failures():
        report.outcome = "failed"
        report.longrepr = _reason(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and skips_are_failures():
        report.outcome = "failed"
        report.longrepr = _reason(report)
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return f"skipped, which CI=true does not allow: {reason}"


@pytest.fixture(scope="session")
def scale() -> float:
    """A factor for a slow test's counts and lengths: 1 in full, less in `.ci/run`."""
    return float(os.environ.get(SCALE_VARIABLE, "1"))
