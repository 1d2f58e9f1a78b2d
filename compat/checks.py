"""The few lines that the Python programs of this folder share: named checks, a report, unique names."""

import asyncio
import inspect
import os
import sys
import time
import traceback
import uuid

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


def main():
    only = sys.argv[1:]
    passed = failed = 0
    for function in _CHECKS:
        if only and function.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(), 120))
            else:
                function()
        except Exception as error:  # a check may fail in any way; the report names it and goes on
            failed += 1
            print(f"FAIL {function.__name__}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc(limit=-4)
        else:
            passed += 1
            print(f"ok {function.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    # Clients' background threads of a failed check must not hold the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failed or not passed else 0)
