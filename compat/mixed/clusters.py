"""Clusters of Apache Kafka and Ottla brokers in one stock ZooKeeper, and the JVM that puts checked load on them.

Every broker has a folder of its own: server.properties, data, broker.log. A broker can be stopped, killed, frozen, started again, and
replaced by the other kind on the same folder. Only processes that were started here are signalled.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))
import probe  # noqa: E402

PATIENCE = 120.0


def shell(command, *arguments):
    """Runs a line of bash with the functions of lib.sh and lib-broker.sh."""
    script = f'set -euo pipefail; source "{SCRIPTS}/lib.sh"; source "{SCRIPTS}/lib-broker.sh"; {command}'
    done = subprocess.run(["bash", "-c", script, "mixed", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def eventually(what, condition, seconds=PATIENCE):
    """Polls until the condition gives something true, and gives it; says what was awaited when it never comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def four_letters(address, word, seconds=10):
    """What a ZooKeeper server says to one of its four letter words; nothing if it does not answer."""
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=seconds) as connection:
            connection.sendall(word)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    except OSError:
        return ""


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Process:
    """A process with its log, that can be signalled. `inside` is a command that runs others in another place of the network."""

    def __init__(self, log, inside=()):
        self.log, self.inside = log, inside
        self.process = None

    def spawn(self, command, heap=None):
        environment = dict(os.environ)
        if heap:
            environment["HEAP"] = heap
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([*self.inside, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def children(self):
        """Ids of the processes that it has started: a session guardian, which outlives it for a moment."""
        try:
            threads = Path(f"/proc/{self.process.pid}/task").iterdir()
            return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except (AttributeError, OSError):
            return []

    def end(self, how):
        """Signals, waits for the end, and gives the exit code."""
        if not self.alive:
            return None
        self.process.send_signal(how)
        try:
            code = self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.log} shows a process that does not end after {how.name}") from None
        finally:
            if self.process.poll() is not None:
                self.process = None
        return code


class Broker(Process):
    def __init__(self, cluster, number, kind):
        self.cluster, self.id, self.kind = cluster, number, kind
        self.dir = cluster.dir / f"broker-{number}"
        self.dir.mkdir()
        self.address, inside = cluster.place(number)
        super().__init__(self.dir / "broker.log", inside)
        properties = {
            "broker.id": number,
            "listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": self.dir / "logs",
            "zookeeper.connect": cluster.zookeeper_address,
            "zookeeper.session.timeout.ms": 6000,
            "offsets.topic.replication.factor": 3,
            "offsets.topic.num.partitions": 6,
            "transaction.state.log.replication.factor": 3,
            "transaction.state.log.num.partitions": 6,
            "group.initial.rebalance.delay.ms": 0,
            "replica.lag.time.max.ms": 10000,
            "auto.leader.rebalance.enable": "false",
            # Apache Kafka: less memory for a cleaner that has nothing to do.
            "log.cleaner.dedupe.buffer.size": 8 << 20,
            **cluster.overrides,
        }
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.dir / "server.properties").write_text(text)

    @property
    def log_dir(self):
        return self.dir / "logs"

    def launch(self):
        properties = self.dir / "server.properties"
        if self.kind == "kafka":
            # A registration of a killed life keeps Apache Kafka from starting.
            eventually(f"broker {self.id} is not registered", lambda: self.id not in self.cluster.registered())
            self.spawn([SCRIPTS / "kafka", "kafka-server-start", properties], heap=self.cluster.heap)
        else:
            self.spawn([self.cluster.binary, properties])

    def ready(self):
        if probe.wait(self.address, PATIENCE, self.process) is None:
            raise AssertionError(f"broker {self.id} ({self.kind}) does not answer: {self.tail()}")
        eventually(f"broker {self.id} is registered", lambda: self.id in self.cluster.registered())

    def start(self):
        self.launch()
        self.ready()

    def stop(self):
        return self.end(signal.SIGTERM)

    def kill(self):
        return self.end(signal.SIGKILL)

    def tail(self, lines=30):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Cluster:
    """`with Cluster(["kafka", "ottla", "ottla"]) as c`: brokers 1, 2 and 3 of these kinds; the first one becomes the controller."""

    def __init__(self, kinds, overrides=None, heap="256m", keep=False, folder=None):
        """`folder`: where the caller wants the cluster, and removes it."""
        self.dir = Path(folder or tempfile.mkdtemp(prefix="ottla-mixed."))
        self.is_ours = folder is None
        self.overrides, self.heap, self.keep = overrides or {}, heap, keep
        self.binary = shell('echo "$OTTLA_BIN"')
        if "ottla" in kinds and not os.access(self.binary, os.X_OK):
            sys.exit(f"{self.binary} is missing: cargo build --release, or set OTTLA_BIN")
        self.zookeeper_address = self.place_zookeeper()
        self.brokers = {number: Broker(self, number, kind) for number, kind in enumerate(kinds, 1)}
        self.driver = None

    def place(self, number):
        """The address of a broker, and what runs a command where it is."""
        return f"localhost:{probe.ports(1)[0]}", ()

    def place_zookeeper(self):
        self.zookeeper = Process(self.dir / "zookeeper.log")
        return f"localhost:{probe.ports(1)[0]}"

    def leave(self):
        """Called at the end, when no process runs any more."""

    def start_zookeeper(self):
        port = self.zookeeper_address.rpartition(":")[2]
        (self.dir / "zookeeper.properties").write_text(
            f"dataDir={self.dir}/zookeeper\nclientPort={port}\nclientPortAddress=localhost\ntickTime=500\n"
            "maxClientCnxns=0\nmaxSessionTimeout=60000\nadmin.enableServer=false\n4lw.commands.whitelist=*\n"
        )
        command = [SCRIPTS / "kafka", "zookeeper-server-start", self.dir / "zookeeper.properties"]
        self.zookeeper.spawn(command, heap="192m")
        eventually("ZooKeeper answers", lambda: self.four_letters(b"ruok") == "imok")

    def processes(self):
        return [*self.brokers.values(), self.zookeeper]

    def __enter__(self):
        try:
            self.start_zookeeper()
            first, *others = self.brokers.values()
            first.start()
            eventually("a controller", self.controller)
            for broker in others:
                broker.launch()
            for broker in others:
                broker.ready()
            return self
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, *_):
        if self.driver:
            self.driver.close()
        guardians = [child for broker in self.brokers.values() for child in broker.children()]
        brokers = list(self.brokers.values())
        self.end(brokers)
        # They end the sessions, and themselves; without a ZooKeeper they would try for as long as a session can live.
        end_of_patience = time.monotonic() + 3
        while any(map(lives, guardians)) and time.monotonic() < end_of_patience:
            time.sleep(0.02)
        for pid in filter(lives, guardians):
            os.kill(pid, signal.SIGKILL)
        self.end(process for process in self.processes() if process not in brokers)
        self.leave()
        if self.keep or kind is not None:
            print(f"# the cluster's folder: {self.dir}", flush=True)
        elif self.is_ours:
            shutil.rmtree(self.dir, ignore_errors=True)

    @staticmethod
    def end(processes):
        for process in processes:
            if process.alive:
                process.process.send_signal(signal.SIGCONT)
                process.end(signal.SIGKILL)

    @property
    def bootstrap(self):
        return ",".join(broker.address for broker in self.brokers.values())

    def __getitem__(self, number):
        return self.brokers[number]

    def four_letters(self, word):
        return four_letters(self.zookeeper_address, word)

    def ephemerals(self):
        """The ephemeral znodes of each session."""
        sessions, current = [], None
        for line in self.four_letters(b"dump").partition("Sessions with Ephemerals")[2].splitlines():
            if line.startswith("0x"):
                current = []
                sessions.append(current)
            elif line.startswith("\t") and current is not None:
                current.append(line.strip())
        return sessions

    def registered(self):
        paths = [path for session in self.ephemerals() for path in session]
        return {int(path.rpartition("/")[2]) for path in paths if path.startswith("/brokers/ids/")}

    def controller(self):
        """The id of the controller's broker, or None."""
        for session in self.ephemerals():
            if "/controller" in session:
                ids = [int(path.rpartition("/")[2]) for path in session if path.startswith("/brokers/ids/")]
                return ids[0] if ids else None
        return None

    def connect(self):
        """Starts the driver, whose commands are then `cluster("state", "topic")`."""
        self.driver = Driver(self.bootstrap, self.dir / "driver.log")
        return self

    def __call__(self, *words):
        return self.driver(*words)

    def state(self, topic):
        """leader, replicas and ISR of each partition."""
        numbers = lambda text: [int(number) for number in text.split(",") if number]
        found = {}
        for one in self("state", topic).split():
            partition, leader, replicas, isr = one.split(":")
            found[int(partition)] = (int(leader), numbers(replicas), numbers(isr))
        return found

    def in_sync(self, topic):
        """Whether every partition has a leader and all its replicas in sync."""
        try:
            return all(leader > 0 and set(isr) == set(replicas) for leader, replicas, isr in self.state(topic).values())
        except DriverError:
            return False

    def tool(self, name, *arguments, input=None, fails=False):
        done = subprocess.run(
            [SCRIPTS / "kafka", name, *map(str, arguments)], input=input, stdin=subprocess.DEVNULL if input is None else None,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180,
        )
        if (done.returncode != 0) != fails:
            raise AssertionError(f"{name} {arguments}: exit {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
        return done.stdout if not fails else done.stdout + done.stderr

    def log_bytes(self, number, topic, partition):
        """What lies on the broker's disk, from the log's start."""
        folder = self[number].log_dir / f"{topic}-{partition}"
        return b"".join(path.read_bytes() for path in sorted(folder.glob("*.log")))

    def equal_replicas(self, topic):
        """Waits until the replicas of each partition have the same bytes; the load has to be over."""
        eventually(f"all replicas of {topic} are in sync", lambda: self.in_sync(topic))
        for partition, (_, replicas, _) in self.state(topic).items():
            def equal():
                copies = [self.log_bytes(number, topic, partition) for number in replicas]
                return all(copy == copies[0] for copy in copies)
            eventually(f"replicas {replicas} of {topic}-{partition} have the same bytes", equal, 30)


class DriverError(Exception):
    pass


class Driver:
    """The JVM of Driver.java, or of another program that takes commands as it does."""

    def __init__(self, bootstrap, log, program="Driver"):
        libs, target = shell("kafka_libs; echo $KAFKA_LIBS"), Path(shell("echo $TARGET")) / "compat" / "mixed"
        sources, compiled = sorted(HERE.glob("*.java")), target / "Driver.class"
        if not compiled.exists() or compiled.stat().st_mtime < max(source.stat().st_mtime for source in sources):
            shell("need javac default-jdk-headless")
            target.mkdir(parents=True, exist_ok=True)
            subprocess.run(["javac", "-nowarn", "-d", target, "-cp", f"{libs}/*", *sources], check=True)
        command = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
                   f"-Dlog4j.configuration=file:{SCRIPTS}/kafka-jars/tools-log4j.properties", "-cp", f"{target}:{libs}/*", program]
        self.process = subprocess.Popen([*command, bootstrap], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=open(log, "a"), text=True)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        kind, _, rest = self.process.stdout.readline().strip().partition(" ")
        if kind != "ok":
            raise DriverError(f"{' '.join(map(str, words))[:200]}: {rest or 'the driver has ended'}")
        return rest

    def close(self):
        self.process.kill()
        self.process.wait()
