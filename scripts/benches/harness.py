"""What the benches share: a broker of either kind in a folder of its own, its CPU and memory, the table of results."""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SCRIPTS))
import probe  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def shell(command, *arguments):
    """Runs a line of bash with the functions of lib.sh and lib-broker.sh."""
    script = f'set -euo pipefail; source "{SCRIPTS}/lib.sh"; source "{SCRIPTS}/lib-broker.sh"; {command}'
    done = subprocess.run(["bash", "-c", script, "bench", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def tree(pids):
    """The processes and all their descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                pass
    found = set(pids)
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def cpu_seconds(pids):
    """utime + stime of the processes, of their living descendants, and of the children that have ended."""
    ticks = 0
    for pid in tree(pids):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
        except OSError:
            pass
    return ticks / TICKS


def resident_mib(pids):
    total = 0
    for pid in tree(pids):
        try:
            total += int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))
        except (OSError, AttributeError):
            pass
    return total / 1024


class Broker:
    """One broker in a folder of its own; `with Broker(kind) as b` starts it and stops it, and its ZooKeeper with it."""

    def __init__(self, kind, overrides=(), file=True):
        self.kind = kind
        # Without a file Ottla has its defaults for one machine, with the properties as flags over them.
        self.file = file or kind == "kafka"
        self.overrides = overrides
        self.dir = Path(tempfile.mkdtemp(prefix="ottla-bench."))
        self.zookeeper = None
        self.process = None

    def __enter__(self):
        shell('broker_prepare "$@"', self.kind, str(self.dir), *self.overrides)
        self.bootstrap = (self.dir / "bootstrap").read_text().strip()
        began = time.monotonic_ns()
        if self.kind == "kafka":
            self.zookeeper = self.spawn([SCRIPTS / "kafka", "zookeeper-server-start", self.dir / "zookeeper.properties"])
            self.await_port((self.dir / "zookeeper-address").read_text().strip())
        self.binary = shell('echo "$OTTLA_BIN"')
        if self.kind == "ottla":
            began = time.monotonic_ns()
        self.start_ms = (self.start() - began) / 1e6
        return self

    def start(self):
        """Starts the broker (again) and gives the time of its first answer."""
        command = [SCRIPTS / "kafka", "kafka-server-start"] if self.kind == "kafka" else [self.binary]
        properties = self.dir / "server.properties"
        flags = [flag for line in properties.read_text().splitlines() for flag in ("--override", line)]
        self.process = self.spawn([*command, properties] if self.file else [*command, *flags])
        answered = probe.wait(self.bootstrap, 600, self.process)
        if answered is None:
            log = (self.dir / "broker.log").read_text()[-3000:]
            self.__exit__()
            sys.exit(f"{self.kind} did not answer; its log: {log}")
        return answered

    def stop(self, with_signal=signal.SIGTERM):
        """Stops the broker alone and gives the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(with_signal)
        self.process.wait(300)
        seconds = time.monotonic() - began
        if with_signal == signal.SIGKILL and self.zookeeper:
            # Apache Kafka does not start while the registration of the killed process stands.
            while b"/brokers/ids/0" in self.ask_zookeeper(b"dump"):
                time.sleep(0.1)
        return seconds

    def ask_zookeeper(self, word):
        host, port = (self.dir / "zookeeper-address").read_text().strip().split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(word)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def spawn(self, command):
        log = open(self.dir / "broker.log", "a")
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def await_port(self, address):
        host, port = address.split(":")
        for _ in range(6000):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                time.sleep(0.01)
        sys.exit("ZooKeeper did not start")

    @property
    def pids(self):
        return [process.pid for process in (self.zookeeper, self.process) if process]

    def tool(self, name, *arguments):
        done = subprocess.run(
            [SCRIPTS / "kafka", name, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, timeout=600,
        )
        if done.returncode:
            sys.exit(f"{name} failed against {self.kind}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def __exit__(self, *_):
        for process in filter(None, (self.process, self.zookeeper)):
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def table(title, found):
    print(f"\n{title}")
    kinds = list(found)
    heads = [f"{kind} {what}" for kind in kinds for what in ("median", "min", "max")]
    print(f"{'':28}" + "".join(f"{head:>14}" for head in heads) + ("       ottla/kafka" if len(kinds) == 2 else ""))
    for name in found[kinds[0]]:
        line = f"{name:28}"
        for kind in kinds:
            values = found[kind][name]
            line += "".join(f"{value:14.2f}" for value in (statistics.median(values), min(values), max(values)))
        if len(kinds) == 2:
            other = statistics.median(found["kafka"][name])
            line += f"{statistics.median(found['ottla'][name]) / other:18.3f}" if other else ""
        print(line)
    sys.stdout.flush()


