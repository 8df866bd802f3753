#!/usr/bin/python3
"""my-tuner: room for connections in TIME_WAIT where the kernel runs out of it. A process plugin for bpftune.

What is here works and is tested by test.py. To make it yours, change the constants, what it subscribes to, and `Rules`.
The daemon starts it and talks with it in lines of JSON: docs/plugin-protocol.md of bpftune. It cannot write a
parameter itself: it proposes, the governor decides, and each change is tried.
"""

import json
import os
import sys
import time

NAME = "my-tuner"
TUNABLE = "net.ipv4.tcp_max_tw_buckets"
LEAST, MOST = 16, 262144
COUNTER = "TcpExt.TCPTimeWaitOverflow"


def say(**message):
    print(json.dumps(message), flush=True)  # Without flush it would wait in a buffer.


def hello():
    say(
        type="hello",
        protocol=1,
        name=NAME,
        version="0.1",
        about="room for connections in TIME_WAIT where the kernel runs out of it",
        tunables=[
            {
                "name": TUNABLE,
                "unit": "connections",
                "about": "connections in TIME_WAIT at a time",
                "bounds": [[LEAST, MOST]],
                "trial": {"guards": ["goodput", "retransmits"]},
            }
        ],
        subscribe=[{"counter": COUNTER, "every": "2s"}],
    )


class Rules:
    def __init__(self):
        self.quiet_until = {}
        self.proposals = 0

    def on_sample(self, message):
        """A counter was read: its growth a second is null in the first sample."""
        netns, rate = message["netns"], message["rate"]
        now = message["values"].get(TUNABLE)  # Not every kernel or namespace has it.
        if not rate or not now or time.monotonic() < self.quiet_until.get(netns, 0):
            return
        target = min(now[0] * 2, MOST)
        if target > now[0]:
            self.proposals += 1
            say(
                type="propose",
                id=str(self.proposals),
                tunable=TUNABLE,
                netns=netns,
                target=[target],
                reason=f"{rate:.1f} connections a second found no room in TIME_WAIT",
            )

    def on_quiet(self, message):
        """Proposals for this namespace are of no use for a while."""
        self.quiet_until[message["netns"]] = time.monotonic() + message["for_ms"] / 1000


def main():
    hello()
    rules = Rules()
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "sample":
            rules.on_sample(message)
        elif message["type"] == "quiet":
            rules.on_quiet(message)
        # Other kinds (welcome, decision, trial) need no answer, and there may be more in later versions.


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)  # The daemon is gone.
