#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl watch, with servers that are made up."""

import json
import os
import signal
import subprocess

from fakeqmp import GREETING, FakeQmp, Script
from fleece import FLEECECTL, SOON, die_with_parent, fleecectl
from tap import main, test

EVENTS = [
    {"timestamp": {"seconds": 0, "microseconds": 7}, "event": "VIEW_BROKEN",
     "data": {"name": "v0", "disk": "vda", "reason": "no space\033[2J", "n": 5, "o": {"a": [1]}}},
    {"timestamp": {"seconds": 0, "microseconds": 8}, "event": "BITMAP_INCONSISTENT",
     "data": {"node": "vda", "name": "b0", "reason": "the state folder failed"}},
    {"timestamp": {"seconds": 0, "microseconds": 9}, "event": "BACKUP_ENDED",
     "data": {"id": "b1", "result": "abort", "reason": "its lease of 60 s has ended"}},
    {"timestamp": {"seconds": 0, "microseconds": 10}, "event": "CHECKPOINT_DELETED",
     "data": {"name": "mon", "reason": "backup-end"}},
    {"event": "ODD", "timestamp": 5, "data": 7},
    {"event": "SHUTDOWN", "timestamp": {"seconds": 1, "microseconds": 0}, "data": {"guest": False}},
]


@test
def watch_prints_events():
    lines = b"".join(json.dumps(e).encode() + b"\r\n" for e in EVENTS)
    with FakeQmp(after_ready=lines) as fake:
        result = fleecectl("-C", fake.path, "watch", env={"TZ": "UTC"})
        assert result.stdout.splitlines() == [
            "1970-01-01 00:00:00.000007  VIEW_BROKEN  name=v0  disk=vda  "
            'reason="no space\\u001b[2J"  n=5  o={"a":[1]}',
            "1970-01-01 00:00:00.000008  BITMAP_INCONSISTENT  node=vda  name=b0  "
            'reason="the state folder failed"',
            "1970-01-01 00:00:00.000009  BACKUP_ENDED  id=b1  result=abort  "
            'reason="its lease of 60 s has ended"',
            "1970-01-01 00:00:00.000010  CHECKPOINT_DELETED  name=mon  reason=backup-end",
            "-  ODD",
            "1970-01-01 00:00:01.000000  SHUTDOWN  guest=false"], result.stdout
        assert fake.path in result.stderr
        result = fleecectl("-C", fake.path, "--json", "watch")
        assert [json.loads(line) for line in result.stdout.splitlines()] == EVENTS
    # It is an error if the connection ends without a SHUTDOWN event, or if a line is broken.
    with FakeQmp(after_ready=json.dumps(EVENTS[0]).encode() + b"\n") as fake:
        assert fleecectl("-C", fake.path, "watch", check=False).returncode == 4
    with FakeQmp(after_ready=b"nonsense\n") as fake:
        assert fleecectl("-C", fake.path, "watch", check=False).returncode == 1


GREETED = b'{"return": {}}\r\n' + json.dumps(EVENTS[0]).encode() + b"\r\n"


def start_watch(fake, stdout):
    return subprocess.Popen([FLEECECTL, "-C", fake.path, "watch"], stdout=stdout,
                            stderr=subprocess.DEVNULL, text=True, preexec_fn=die_with_parent)


@test
def watch_ends_when_interrupted():
    for number in signal.SIGINT, signal.SIGTERM:
        with Script(GREETING, GREETED, stay=True) as fake:
            watch = start_watch(fake, subprocess.PIPE)
            assert "VIEW_BROKEN" in watch.stdout.readline()  # each line is flushed
            watch.send_signal(number)
            assert watch.wait(SOON) == 0
            watch.stdout.close()


@test
def watch_ends_with_its_reader():
    with Script(GREETING, GREETED, stay=True) as fake:
        reader, writer = os.pipe()
        watch = start_watch(fake, writer)
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        assert watch.wait(SOON) == 0


main()
