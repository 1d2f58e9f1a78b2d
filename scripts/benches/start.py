"""start: exec to the first answered ApiVersions, resident memory and CPU when idle"""

import sys
import time

from harness import Broker, cpu_seconds, resident_mib, table


def measure_start(kinds, runs):
    found = {kind: {"start, ms": [], "resident when idle, MiB": [], "CPU when idle, % of a core": []} for kind in kinds}
    for run in range(runs):
        for kind in kinds:
            with Broker(kind) as broker:
                found[kind]["start, ms"].append(broker.start_ms)
                # The idle figures are taken in the first two runs: they vary little, and each costs 20 s.
                if run < 2:
                    time.sleep(5)
                    before = cpu_seconds(broker.pids)
                    time.sleep(15)
                    found[kind]["CPU when idle, % of a core"].append((cpu_seconds(broker.pids) - before) / 15 * 100)
                    found[kind]["resident when idle, MiB"].append(resident_mib(broker.pids))
            print(f"  run {run + 1} {kind}: {broker.start_ms:.1f} ms", file=sys.stderr)
    return found


def run(kinds, options):
    table("starting and idling", measure_start(kinds, max(options.runs, 3)))
