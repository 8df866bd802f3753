#!/usr/bin/python3
"""A process plugin for bpftune: fewer SYN-ACKs sent again while listeners drop connections.

A half-open connection holds its place in the queue until its last SYN-ACK is given up: 63 s with the kernel's default
of 5 retries, 7 s with 2. Where listeners drop connections, places are worth more than patience. When nothing has been
dropped for ten minutes, patience comes back, one retry at a time.

Put it into /etc/bpftune/plugins.d, owned by root, mode 755. docs/plugin-protocol.md of bpftune has the protocol.
"""

import json
import os
import sys
import time

NAME = "synack-retries"
TUNABLE = "net.ipv4.tcp_synack_retries"
LEAST = 2
CALM = 600.0  # seconds without a drop


def say(**message):
    print(json.dumps(message), flush=True)


def hello():
    say(
        type="hello",
        protocol=1,
        name=NAME,
        version="1.0",
        about="fewer SYN-ACKs sent again while listeners drop connections",
        tunables=[
            {
                "name": TUNABLE,
                "unit": "retries",
                "about": "how often a SYN-ACK is sent again",
                "bounds": [[LEAST, 5]],
                "trial": {
                    "guards": ["goodput", "retransmits", {"counter": "Tcp.AttemptFails", "margin": 10.0}],
                    "settle": "1s",
                },
            }
        ],
        subscribe=[{"counter": "TcpExt.ListenDrops", "every": "2s"}],
    )


class Tuner:
    """What it remembers of each network namespace."""

    def __init__(self):
        self.original = {}
        self.last_drop = {}
        self.quiet_until = {}
        self.proposals = 0

    def propose(self, netns, retries, reason):
        self.proposals += 1
        say(type="propose", id=str(self.proposals), tunable=TUNABLE, netns=netns, target=[retries], reason=reason)

    def on_sample(self, message):
        netns, rate = message["netns"], message["rate"]
        # Empty where this kernel or namespace has no such tunable.
        retries = message["values"].get(TUNABLE, [None])[0]
        if rate is None or retries is None:
            return
        now = time.monotonic()
        self.original.setdefault(netns, retries)
        if rate > 0:
            self.last_drop[netns] = now
        if now < self.quiet_until.get(netns, 0):
            return
        if rate > 0 and retries > LEAST:
            self.propose(netns, retries - 1, f"listeners drop {rate:.1f} connections a second")
        elif retries < self.original[netns] and now - self.last_drop.get(netns, now) >= CALM:
            self.propose(netns, retries + 1, "no listener has dropped a connection for ten minutes")

    def on_quiet(self, message):
        self.quiet_until[message["netns"]] = time.monotonic() + message["for_ms"] / 1000


def main():
    hello()
    tuner = Tuner()
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "sample":
            tuner.on_sample(message)
        elif message["type"] == "quiet":
            tuner.on_quiet(message)
        # Kinds that are not known are for later versions: leave them.


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)  # The daemon is gone.
