#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Signals while fleecectl waits for others: for an answer of the server, for a connection, for who reads
a stream. It ends, and the next run settles what is left."""

import contextlib
import fcntl
import random
import signal
import socket
import struct
import subprocess
import termios
import threading

from backup_rig import BackupRig
from fleece import FLEECECTL, SOON, by_hand
from rig import MIB, seed
from tap import main, test


class Stalled:
    """A hook that holds back a command, or its reply, for as long as the block lasts."""

    def __init__(self, name):
        self._name, self._end = name, threading.Event()
        self.reached = threading.Event()

    def _hold(self, request):
        if request["execute"] == self._name:
            self.reached.set()
            self._end.wait()

    def before(self, request):
        self._hold(request)
        return None if self._end.is_set() else request

    def after(self, request, reply):
        self._hold(request)
        return None if self._end.is_set() else reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end.set()


def ends(process, stalled, number):
    """The signal comes while the command waits: its exit code, and what it says."""
    assert stalled.reached.wait(SOON)
    process.send_signal(number)
    _, errors = process.communicate(timeout=SOON)
    return process.returncode, errors


@contextlib.contextmanager
def begun(rng):
    """A repository with three backups, so that the next one deletes a checkpoint, and writes since."""
    with BackupRig("vda", size=MIB) as rig:
        for _ in range(3):
            rig.write(rng, most=3)
            rig.backup()
        rig.write(rng, most=3)
        yield rig


def stops(rng, name, place, number, code):
    """A backup whose command has no answer is ended; the next one settles what is left."""
    with begun(rng) as rig:
        stalled = Stalled(name)
        with rig.running(**{place: getattr(stalled, place)}) as process, stalled:
            found = ends(process, stalled, number)
            assert found[0] == code and f"interrupted by {number.name}" in found[1], found
        assert (len(rig.members()) == 4) == (code == 3), rig.members()
        rig.write(rng, most=3)
        rig.backup()
        rig.check()


@test
def a_server_that_does_not_answer_when_asked():
    stops(random.Random(seed()), "query-checkpoints", "before", signal.SIGTERM, 1)


@test
def a_server_that_does_not_say_that_a_session_has_begun():
    stops(random.Random(seed()), "backup-begin", "after", signal.SIGINT, 1)


@test
def a_server_that_does_not_say_that_a_session_is_committed():
    stops(random.Random(seed()), "backup-end", "before", signal.SIGHUP, 3)


@test
def a_server_that_does_not_delete_a_checkpoint():
    stops(random.Random(seed()), "checkpoint-delete", "before", signal.SIGTERM, 3)


def takes_signals(process):
    """Has it taken one, so that the next one ends it?"""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
        blocked = next(int(line.split()[1], 16) for line in f if line.startswith("SigBlk:"))
    return not blocked >> (signal.SIGTERM - 1) & 1


@test
def a_second_signal_ends_it_at_once():
    rng = random.Random(seed())
    with begun(rng) as rig:
        stalled = Stalled("backup-begin")
        with rig.running(after=stalled.after) as process, stalled:
            assert stalled.reached.wait(SOON) and not takes_signals(process)
            process.send_signal(signal.SIGINT)
            poll(lambda: takes_signals(process))
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == -signal.SIGTERM
        rig.backup()
        rig.check()


@test
def an_answer_that_is_no_qmp_leaves_the_record():
    """The session has begun all the same."""
    rng = random.Random(seed())
    with begun(rng) as rig:
        def garble(request, reply):
            return {"nothing": {}} if request["execute"] == "backup-begin" else reply

        result = rig.backup(after=garble, check=False)
        assert result.returncode == 1 and "is not QMP" in result.stderr, result
        assert "running.json" in rig.files()
        rig.backup()
        rig.check()


def poll(condition):
    """Wait for what no event tells of."""
    deadline = threading.Event()
    for _ in range(SOON * 100):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError("it did not happen")


# ---- connections ----

class Silent:
    """A server that takes a connection, and says nothing."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SOON)
        self.uri = f"nbd://127.0.0.1:{self._listener.getsockname()[1]}/"
        return self

    def wait(self):
        self._connection, _ = self._listener.accept()

    def __exit__(self, *_):
        self._listener.close()


@test
def an_nbd_server_that_says_nothing():
    rng = random.Random(seed())
    with begun(rng) as rig, Silent() as silent:
        def elsewhere(request, reply):
            for s in reply["return"] if request["execute"] == "query-backups" else []:
                for d in s["disks"]:
                    d["uri"] = silent.uri
            return reply

        with rig.running(after=elsewhere) as process:
            silent.wait()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=SOON)
            assert process.returncode == 1 and "interrupted" in errors, (process.returncode, errors)
        assert len(rig.members()) == 3
        rig.check()


@contextlib.contextmanager
def restoring(repo, *args, **more):
    process = subprocess.Popen([FLEECECTL, "restore", repo, "--disk", "vda", *args], stderr=subprocess.PIPE,
                               preexec_fn=by_hand, **more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@test
def restoring_into_a_server_that_says_nothing():
    """While it looks at what is there, and while it connects to write."""
    with BackupRig("vda", size=MIB) as rig:
        rig.backup()
        for args in [], ["--force"]:
            with Silent() as silent, restoring(rig.repo, "-o", silent.uri, *args) as process:
                silent.wait()
                process.send_signal(signal.SIGTERM)
                assert process.wait(SOON) == -signal.SIGTERM


@test
def restoring_into_a_stream_that_nobody_reads():
    """Its head is written before the copy begins."""
    with BackupRig("vda", size=MIB) as rig:
        rig.backup()
        with restoring(rig.repo, "-o", "-", "--format", "qcow2", stdout=subprocess.PIPE, pipesize=4096) as process:
            def is_full():
                n = fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0" * 4)
                return struct.unpack("i", n)[0] >= fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)

            poll(is_full)
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == -signal.SIGTERM


main()
