"""What a program of checks prints: a line for each, and at last `N passed, N failed`."""

import sys
import time
import traceback


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, body):
        """Runs one check. What it returns is shown; it may fail in any way, and others go on."""
        began = time.monotonic()
        try:
            said = body() or ""
        except Exception as error:
            self.failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc(limit=-4)
        else:
            self.passed += 1
            print(f"ok {name} ({time.monotonic() - began:.1f} s) {said}".rstrip(), flush=True)

    def end(self):
        """The exit code."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.stderr.flush()
        return 1 if self.failed or not self.passed else 0
