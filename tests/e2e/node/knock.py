#!/usr/bin/env python3
"""A mail client that is told when to come, a program for a pod.

    knock.py PORT

For each host name on standard input it looks the name up, connects, and reads the greeting, again
and again until it has one, and prints a line of JSON: "failures" are the attempts before, each with
its step and what went wrong; "lookup" is the longest time that a lookup took; "seconds" is the time
that all of it took.
"""

import json
import socket
import sys
import time

PATIENCE = 30.0
PAUSE = 0.01

# A packet to a Service that its node does not know yet is lost, and so are all that follow it from
# the same port: the node remembers that it did not translate the first one.
CONNECT_TIME = 0.25


def greet(host: str, port: int, lookups: list[float]) -> str:
    """Returns "" when the greeting has come, or else the step that failed and why."""
    step = "lookup"
    began = time.monotonic()
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
        lookups.append(time.monotonic() - began)
        step = "connect"
        with socket.create_connection(address, CONNECT_TIME) as sock:
            step = "greeting"
            sock.settimeout(PATIENCE)
            with sock.makefile("rb") as lines:
                line = lines.readline()
            return "" if line.startswith(b"+OK") else f"greeting: {line!r}"
    except OSError as failure:
        return f"{step}: {failure}"


def main() -> None:
    port = int(sys.argv[1])
    for line in sys.stdin:
        began = time.monotonic()
        failures, lookups = [], [0.0]
        while failure := greet(line.strip(), port, lookups):
            failures.append(failure)
            if time.monotonic() - began > PATIENCE:
                break
            time.sleep(PAUSE)
        times = {"lookup": max(lookups), "seconds": time.monotonic() - began}
        rounded = {name: round(value, 3) for name, value in times.items()}
        print(json.dumps({"failures": failures, **rounded}), flush=True)


if __name__ == "__main__":
    main()
