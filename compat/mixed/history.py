#!/usr/bin/env python3
"""Histories of transactions on clusters of several brokers under kill -9 of brokers and clients: scripts/transactions-history runs this.

tests/transactions_history has the clients and the judge; here are the brokers. First the weaknesses of the protocol itself are shown,
on one broker of each kind.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clusters import SCRIPTS, Cluster
from test import MIXES

ALONE = {"offsets.topic.replication.factor": 1, "transaction.state.log.replication.factor": 1, "transaction.state.log.min.isr": 1}
HISTORY = "run::transactions_are_whole_while_brokers_and_clients_die"


def program():
    """The test program with clients and judge."""
    command = ["cargo", "test", "--locked", "--no-run", "--test", "transactions_history", "--message-format=json"]
    done = subprocess.run(command, cwd=SCRIPTS.parent, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return next(message["executable"] for message in messages
                if message.get("executable") and message["target"]["name"] == "transactions_history")


def weaknesses(judge, kind):
    with Cluster([kind], ALONE) as cluster:
        environment = {**os.environ, "OTTLA_HISTORY_BOOTSTRAP": cluster.bootstrap}
        done = subprocess.run([judge, "weaknesses::", "--test-threads=1"], env=environment, stdout=subprocess.PIPE, text=True)
        shown = [line for line in done.stdout.splitlines() if line.startswith("test ")]
        return done.returncode == 0, "\n".join(shown) if done.returncode == 0 else done.stdout


def history(judge, kinds, operations, pause, keep):
    with Cluster(kinds, {"transaction.state.log.min.isr": 2}) as cluster, tempfile.TemporaryFile("w+") as said:
        environment = {**os.environ, "OTTLA_HISTORY_BOOTSTRAP": cluster.bootstrap, "OTTLA_HISTORY_OPERATIONS": str(operations)}
        if keep:
            Path(keep).mkdir(parents=True)
            environment["OTTLA_HISTORY_FOLDER"] = str(Path(keep).resolve())
        running = subprocess.Popen([judge, "--exact", HISTORY, "--nocapture"], env=environment, stdout=said, stderr=said)
        kills = 0
        try:
            while True:
                try:
                    running.wait(pause)
                    break
                except subprocess.TimeoutExpired:
                    broker = cluster[kills % len(kinds) + 1]
                    broker.kill()
                    time.sleep(0.5)
                    broker.start()
                    kills += 1
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()
        said.seek(0)
        lines = [line for line in said.read().splitlines() if not line.startswith(("running", "test "))]
        good = running.returncode == 0
        if good:
            cluster.connect().equal_replicas("history")
        text = "\n".join(line for line in lines if line.strip()) if good else "\n".join(lines[-60:])
        return good, f"{text}\n{kills} times a broker of {'+'.join(kinds)} was killed"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", default="ottla", help=f"of {', '.join(MIXES)}; separated by commas")
    parser.add_argument("--operations", type=int, default=200_000)
    parser.add_argument("--seconds-between-kills", type=float, default=5)
    parser.add_argument("--keep", help="a new folder for the histories")
    options = parser.parse_args()
    clusters = options.clusters.split(",")
    unknown = set(clusters) - set(MIXES)
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}")
    judge = program()
    passed = failed = 0

    def note(what, outcome):
        nonlocal passed, failed
        good, said = outcome
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok' if good else 'FAIL'} {what}\n{said}\n", flush=True)

    for kind in sorted({kind for name in clusters for kind in MIXES[name]}):
        note(f"what the protocol allows, on {kind}", weaknesses(judge, kind))
    for name in clusters:
        keep = options.keep and f"{options.keep}/{name}"
        note(f"{name}: a history", history(judge, MIXES[name], options.operations, options.seconds_between_kills, keep))
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
