#!/usr/bin/env python3
"""judge.py SUITE_DIR BROKER < results: compares `PASS|FAIL|SKIP name` lines with the suite's lists; exit code 1 on a surprise."""

import sys
from pathlib import Path


def listed(path):
    found = {}
    if path.exists():
        for line in path.read_text().splitlines():
            name, bar, reason = line.partition("|")
            if bar and not line.startswith("#"):
                found[name.strip()] = reason.strip()
    return found


def main():
    suite, broker = Path(sys.argv[1]), sys.argv[2]
    excused = listed(suite / "fails-on-kafka.txt")
    if broker == "ottla":
        excused |= listed(suite / "waits.txt")
    results = {}
    for line in sys.stdin:
        outcome, _, name = line.strip().partition(" ")
        if outcome in ("PASS", "FAIL", "SKIP"):
            # A name may come twice (one test with several parameters): the worst counts.
            if results.get(name) != "FAIL":
                results[name] = outcome
    passed = [name for name, outcome in results.items() if outcome == "PASS"]
    surprises = [name for name, outcome in results.items() if outcome == "FAIL" and name not in excused]
    waiting = [name for name, outcome in results.items() if outcome == "FAIL" and name in excused]
    for name in surprises:
        print(f"FAIL {name}")
    for name in waiting:
        print(f"listed {name}: {excused[name]}")
    for name in passed:
        if name in excused:
            print(f"now passes, though listed: {name}: {excused[name]}")
    skipped = sum(outcome == "SKIP" for outcome in results.values())
    print(f"{suite.name} against {broker}: {len(passed)} passed, {len(surprises)} failed, {len(waiting)} listed, {skipped} skipped")
    print(f"{len(passed)} passed, {len(surprises)} failed")
    sys.exit(1 if surprises or not passed else 0)


if __name__ == "__main__":
    main()
