"""The few lines that the Python programs of this folder share: named checks, a report, unique names."""

import asyncio
import inspect
import os
import sys
import time
import uuid

from report import Report

BOOTSTRAP = os.environ["BOOTSTRAP"]
RUN = uuid.uuid4().hex[:8]
_CHECKS = []


def check(function):
    """Registers a function (plain or async) as one check of this program."""
    _CHECKS.append(function)
    return function


def name(what):
    """A topic or group name that no other run uses."""
    return f"{what}-{RUN}"


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r:.600}, wanted {wanted!r:.600}")


def eventually(condition, what, seconds=30.0):
    """Polls until the condition returns something true; says what was awaited when it never does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def run(function):
    if inspect.iscoroutinefunction(function):
        asyncio.run(asyncio.wait_for(function(), 120))
    else:
        function()


def main():
    only = sys.argv[1:]
    report = Report()
    for function in _CHECKS:
        if not only or function.__name__ in only:
            report.run(function.__name__, lambda: run(function))
    # Clients' background threads of a failed check must not hold the process.
    os._exit(report.end())
