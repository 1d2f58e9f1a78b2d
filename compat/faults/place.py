"""A network and disks for one cluster, in which faults can be made: each node has a network namespace of its own on one bridge, and a
broker's data may lie on a file system of its own.

This runs inside namespaces that `scripts/faults` makes (network, mounts, processes), so that every process, interface, rule and mount
ends with it, however it ends.
"""

import fcntl
import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path

NETWORK = "10.99.0"
BRIDGE = "faults"
# Ext4's and XFS's way to go away at once; without a last word to the journal, as when the power goes.
SHUTDOWN, WITHOUT_LOG = 0x8004587D, 2

RULES = """
flush ruleset
table ip faults {
    set silent { type ipv4_addr; elements = { %(silent)s } }
    set refused { type ipv4_addr; elements = { %(refused)s } }
    chain arriving {
        type filter hook input priority 0;
        ip saddr @silent drop
        ip saddr @refused meta l4proto tcp reject with tcp reset
    }
}
"""


def run(*command, input=None):
    done = subprocess.run(list(map(str, command)), input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stdout}")
    return done.stdout


def resolve_no_names():
    """There is no name server where the nodes are; who asks for a name is told so at once."""
    name = subprocess.run(["hostname"], capture_output=True, text=True).stdout.strip() or "localhost"
    for path, text in (("/etc/hosts", f"127.0.0.1 localhost {name}\n"), ("/etc/resolv.conf", "nameserver 127.0.0.1\n")):
        with tempfile.NamedTemporaryFile("w", suffix=".faults") as file:
            file.write(text)
            file.flush()
            run("mount", "--bind", file.name, os.path.realpath(path))


class Node:
    """A place in the network."""

    def __init__(self, network, name, number):
        self.name, self.address, self.link = name, f"{NETWORK}.{number}", f"to-{name}"
        self.silent, self.refused = set(), set()
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == own:
            time.sleep(0.01)
        self.inside = ("nsenter", f"--net=/proc/{self.holder.pid}/ns/net")
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        run("ip", "link", "set", self.link, "master", BRIDGE, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def run(self, *command, input=None):
        return run(*self.inside, *command, input=input)

    def apply(self):
        """Makes the rules of what arrives here those of the sets."""
        # A set may not be listed empty; nobody has this address.
        listed = {name: ", ".join({f"{NETWORK}.253", *addresses}) for name, addresses in
                  (("silent", self.silent), ("refused", self.refused))}
        self.run("nft", "-f", "-", input=RULES % listed)

    def reset_connections(self, *filters):
        """Kills the TCP connections that this node has: both ends are told."""
        self.run("ss", "-K", "-t", "state", "established", *filters)

    def set_mtu(self, size):
        run("ip", "link", "set", self.link, "mtu", size)
        run("ip", "link", "set", BRIDGE, "mtu", 1500)
        self.run("ip", "link", "set", "eth0", "mtu", size)


class Network:
    """The nodes; `cut` and `refuse` work in one direction, that of the packets."""

    is_quiet = False

    def __init__(self):
        run("ip", "link", "set", "lo", "up")
        if not Network.is_quiet:
            resolve_no_names()
            Network.is_quiet = True
        if subprocess.run(["ip", "link", "show", BRIDGE], capture_output=True).returncode == 0:
            run("ip", "link", "delete", BRIDGE)
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        self.nodes = {}

    def add(self, name):
        self.nodes[name] = Node(self, name, len(self.nodes) + 1)
        return self.nodes[name]

    def __getitem__(self, name):
        return self.nodes[name]

    def cut(self, source, target):
        """What one node sends to another does not arrive."""
        self[target].silent.add(self[source].address)
        self[target].apply()

    def part(self, ones, others):
        """No packet passes between the two groups."""
        for one in ones:
            for other in others:
                self.cut(one, other)
                self.cut(other, one)

    def refuse(self, source, target):
        """What one node sends to another is answered by a reset."""
        self[target].refused.add(self[source].address)
        self[target].apply()

    def heal(self):
        for node in self.nodes.values():
            if node.silent or node.refused:
                node.silent.clear()
                node.refused.clear()
                node.apply()

    def close(self):
        for node in self.nodes.values():
            # The namespace itself goes some time after the last that was in it.
            run("ip", "link", "delete", node.link)
            node.holder.kill()
            node.holder.wait()


class Disk:
    """An ext4 file system in a file, mounted on a folder."""

    def __init__(self, image, folder):
        self.image, self.folder = Path(image), Path(folder)
        self.folder.mkdir(parents=True)
        with open(self.image, "wb") as file:
            file.truncate(1 << 30)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", self.image)
        self.mount()
        # A Kafka broker wants nothing but logs in its log directory.
        (self.folder / "lost+found").rmdir()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.folder)

    def lose_power(self):
        """What was not synchronized is gone; until it is mounted again every access fails."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        finally:
            os.close(folder)

    def unmount(self):
        for _ in range(50):
            done = subprocess.run(["umount", self.folder], capture_output=True)
            if done.returncode == 0 or not os.path.ismount(self.folder):
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.folder} cannot be unmounted: {done.stderr}")
