"""Three brokers of either kind and a real ensemble of three ZooKeeper 3.8 servers, each at a place of its own."""

import os
import re
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "mixed"), str(HERE.parent)]
sys.dont_write_bytecode = True

from clusters import SCRIPTS, Cluster, Process, eventually, four_letters  # noqa: E402
from place import Disk, Network  # noqa: E402

SESSION_SECONDS = 6
LAG_SECONDS = 10


class Server(Process):
    """One ZooKeeper server of the ensemble."""

    def __init__(self, cluster, number, node):
        super().__init__(cluster.dir / f"zookeeper-{number}.log", node.inside)
        self.id, self.node, self.address, self.frozen = number, node, f"{node.address}:2181", False
        self.properties = cluster.dir / f"zookeeper-{number}.properties"
        data = cluster.dir / f"zookeeper-{number}"
        data.mkdir()
        (data / "myid").write_text(f"{number}\n")
        self.properties.write_text(
            f"dataDir={data}\nclientPort=2181\nclientPortAddress={node.address}\ntickTime=500\ninitLimit=40\nsyncLimit=8\n"
            "maxClientCnxns=0\nmaxSessionTimeout=60000\nadmin.enableServer=false\n4lw.commands.whitelist=*\n"
        )

    def start(self):
        self.spawn([SCRIPTS / "kafka", "zookeeper-server-start", self.properties], heap="128m")

    def says(self, word):
        """Its answer to a four letter word, if it serves."""
        if not self.alive or self.frozen:
            return ""
        said = four_letters(self.address, word, 5)
        return "" if "not currently serving" in said else said

    def role(self):
        found = re.search(r"^Mode: (\w+)", self.says(b"srvr"), re.MULTILINE)
        return found and found.group(1)

    def freeze(self):
        super().freeze()
        self.frozen = True

    def thaw(self):
        super().thaw()
        self.frozen = False

    def kill(self):
        return self.end(signal.SIGKILL)


class FaultCluster(Cluster):
    """`disks`: every broker's data is on a file system of its own, that can lose what was not synchronized."""

    def __init__(self, kinds, overrides=None, keep=False, disks=False):
        self.network, self.disks = Network(), {}
        super().__init__(kinds, overrides, keep=keep)
        if disks:
            for number, broker in self.brokers.items():
                self.disks[number] = Disk(self.dir / f"disk-{number}.img", broker.log_dir)

    def place(self, number):
        node = self.network.add(f"b{number}")
        return f"{node.address}:9092", node.inside

    def place_zookeeper(self):
        self.servers = {number: Server(self, number, self.network.add(f"z{number}")) for number in (1, 2, 3)}
        lines = "".join(f"server.{number}={server.node.address}:2888:3888\n" for number, server in self.servers.items())
        for server in self.servers.values():
            with open(server.properties, "a") as file:
                file.write(lines)
        return ",".join(server.address for server in self.servers.values())

    def start_zookeeper(self):
        for server in self.servers.values():
            server.start()
        self.ensemble_serves()

    def ensemble_serves(self):
        eventually("all ZooKeeper servers serve", lambda: all(server.role() for server in self.servers.values()))

    def zookeeper_leader(self):
        return eventually("a ZooKeeper leader", lambda: next((one for one in self.servers.values() if one.role() == "leader"), None))

    def processes(self):
        return [*self.brokers.values(), *self.servers.values()]

    def four_letters(self, word):
        return next(filter(None, (server.says(word) for server in self.servers.values())), "")

    def node(self, number):
        return self.network[f"b{number}"]

    def all_nodes(self, *without):
        return [f"b{number}" for number in self.brokers if number not in without]

    def leave(self):
        for disk in self.disks.values():
            disk.unmount()
        self.network.close()

    def descriptors(self, number):
        return len(os.listdir(f"/proc/{self[number].process.pid}/fd"))

    def power_cut(self, number):
        """The machine of a broker goes: its processes at once, and what was not synchronized with the disk."""
        broker, disk = self[number], self.disks[number]
        broker.freeze()
        tasks = Path(f"/proc/{broker.process.pid}/task")
        helpers = [int(pid) for children in tasks.glob("*/children") for pid in children.read_text().split()]
        disk.lose_power()
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)
        broker.kill()
        disk.unmount()

    def power_returns(self, number):
        self.disks[number].mount()
        self[number].start()

