#!/usr/bin/env python3
"""Asks a broker for its API versions over a bare socket.

probe.py HOST:PORT SECONDS    waits at most SECONDS for the first answer and prints when it came (nanoseconds of the monotonic clock)
probe.py ports N              prints N free TCP ports outside the range that outgoing connections use
"""

import random
import socket
import struct
import sys
import time


def api_versions(host, port, timeout):
    """One ApiVersions v0 request; True when its error code is 0."""
    with socket.create_connection((host, port), timeout=timeout) as s:
        client = b"probe"
        body = struct.pack(">hhih", 18, 0, 1, len(client)) + client
        s.sendall(struct.pack(">i", len(body)) + body)
        reply = b""
        while len(reply) < 10:
            more = s.recv(4096)
            if not more:
                return False
            reply += more
        return struct.unpack(">ih", reply[4:10]) == (1, 0)


def wait(address, seconds, process=None):
    """When the first answer came; None if the time is over, or the process is."""
    host, port = address.rsplit(":", 1)
    end = time.monotonic() + seconds
    while time.monotonic() < end and (process is None or process.poll() is None):
        try:
            if api_versions(host, int(port), 5):
                return time.monotonic_ns()
        except OSError:
            pass
        time.sleep(0.001)
    return None


def ports(count):
    found = []
    while len(found) < count:
        port = random.randint(12000, 31000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                found.append(port)
            except OSError:
                pass
    return found


if __name__ == "__main__":
    if sys.argv[1] == "ports":
        print(*ports(int(sys.argv[2])))
        sys.exit(0)
    answered = wait(sys.argv[1], float(sys.argv[2]))
    if answered is None:
        sys.exit(f"no answer from {sys.argv[1]} within {sys.argv[2]} s")
    print(answered)
