"""Tests of my-tuner: they play the daemon. No root, and no daemon, needed: python3 test.py"""

import json
import pathlib
import subprocess
import sys
import unittest

PLUGIN = pathlib.Path(__file__).with_name("my-tuner.py")
TUNABLE = "net.ipv4.tcp_max_tw_buckets"


def talk(*messages):
    """What the plugin says to these messages, its hello first."""
    lines = "".join(json.dumps(message) + "\n" for message in messages)
    done = subprocess.run(
        [sys.executable, PLUGIN], input=lines, capture_output=True, text=True, timeout=10, check=True
    )
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def sample(rate, value, netns="1"):
    values = {} if value is None else {TUNABLE: [value]}
    return {"type": "sample", "counter": "any", "netns": netns, "value": 7.0, "rate": rate, "values": values}


WELCOME = {"type": "welcome", "protocol": 1, "daemon": "0.1.0", "netns": ["1"]}


class Test(unittest.TestCase):
    def test_says_hello_first(self):
        [hello] = talk()
        self.assertEqual((hello["type"], hello["protocol"]), ("hello", 1))
        self.assertEqual(hello["name"], PLUGIN.stem, "the file is named as the plugin")
        self.assertEqual([tunable["name"] for tunable in hello["tunables"]], [TUNABLE])

    def test_an_overflow_doubles_the_room(self):
        [_, proposal] = talk(WELCOME, sample(None, 1024), sample(12.5, 1024))
        self.assertEqual((proposal["type"], proposal["netns"], proposal["target"]), ("propose", "1", [2048]))
        self.assertIn("12.5 connections a second", proposal["reason"])

    def test_proposes_nothing_without_need_or_room(self):
        said = talk(WELCOME, sample(0.0, 1024), sample(5.0, 262144), sample(5.0, None), {"type": "of a later version"})
        self.assertEqual(len(said), 1, said)

    def test_is_quiet_where_it_was_told_so(self):
        quiet = {"type": "quiet", "netns": "1", "for_ms": 60000}
        [_, proposal] = talk(WELCOME, quiet, sample(5.0, 1024), sample(5.0, 1024, netns="2"))
        self.assertEqual(proposal["netns"], "2")


if __name__ == "__main__":
    unittest.main()
