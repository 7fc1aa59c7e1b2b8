# SPDX-License-Identifier: BSD-3-Clause
"""The clients that load the servers: fio, nbdcopy and idle connections, always this machine's."""

import dataclasses
import json
import os
import statistics
import subprocess
import threading
import time

import nbd

import fleece


@dataclasses.dataclass
class Load:
    """What fio measured, over all its jobs: requests a second, MB/s, requests, bytes; the time in
    which 99 % of the requests were done, in µs, and 99.99 % and the slowest, in ms."""
    iops: float
    rate: float
    ios: int
    bytes: int
    p99: float
    p9999: float
    longest: float


def parse(text):
    """fio's output as a Load. The job either read or wrote."""
    # fio prints messages before the JSON.
    job = json.loads(text[text.index("{"):])["jobs"][0]
    got = job["write"] if job["write"]["total_ios"] else job["read"]
    clat = got["clat_ns"]
    done = clat["percentile"]
    return Load(got["iops"], got["bw_bytes"] / 1e6, got["total_ios"], got["io_bytes"],
                done["99.000000"] / 1e3, done["99.990000"] / 1e6, clat["max"] / 1e6)


def together(loads):
    """Several loads that ran one after the other, as one; a percentile is the median of theirs."""
    ios, size = sum(load.ios for load in loads), sum(load.bytes for load in loads)
    seconds = sum(load.ios / load.iops for load in loads)
    return Load(ios / seconds, size / 1e6 / seconds, ios, size,
                statistics.median(load.p99 for load in loads),
                statistics.median(load.p9999 for load in loads),
                max(load.longest for load in loads))


def fio_command(jobs, rw, bs, depth, *more):
    """jobs: [(URI, first byte, bytes)], each with a connection of its own."""
    command = ["fio", "--name=global", "--ioengine=nbd", f"--rw={rw}", f"--bs={bs}",
               f"--iodepth={depth}", "--group_reporting", "--output-format=json", *more]
    for uri, offset, size in jobs:
        command += ["--name=job", f"--uri={uri}", f"--offset={offset}", f"--size={size}"]
    return command


def fio(jobs, rw, bs, depth, *more):
    """Run fio's nbd engine to its end."""
    return parse(fleece.run(*fio_command(jobs, rw, bs, depth, *more), timeout=300).stdout)


def split(uri, size, connections):
    """Jobs for several connections to one disk, each in a part of its own."""
    part = size // connections
    return [(uri, i * part, part) for i in range(connections)]


class Loop:
    """A thread that repeats an action until the `with` ends, with `pause` seconds between. `count`
    is how often it was done."""

    def __init__(self, action, pause=0.0):
        self._action, self._pause = action, pause
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error = None
        self.count = 0

    def _run(self):
        try:
            while not self._ending.wait(self._pause):
                self._action()
                self.count += 1
        except Exception as error:  # __exit__ raises it
            self._error = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self._ending.set()
        self._thread.join(fleece.SOON)
        if self._error and kind is None:
            raise self._error


class Puller:
    """Reads a whole export with nbdcopy, again and again until the `with` ends. Afterwards `copies`
    says how many times it has read the export, and `seconds` how long that took."""

    def __init__(self, uri):
        self._uri = uri
        self._ending = False
        self._process = None
        self._error = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self.copies = self.seconds = 0.0

    def _run(self):
        while self._copy():
            pass

    def _copy(self):
        """Copy once, or a part if the `with` ends meanwhile. Returns False after the last copy."""
        with self._lock:
            if self._ending:
                return False
            reader, writer = os.pipe()
            self._process = subprocess.Popen(
                ["nbdcopy", f"--progress={writer}", self._uri, "null:"],
                stderr=subprocess.PIPE, text=True, pass_fds=[writer],
                preexec_fn=fleece.die_with_parent)
        os.close(writer)
        done = 0
        with open(reader) as progress:
            for line in progress:
                done = int(line.split("/")[0])
        _, said = self._process.communicate()
        self.copies += done / 100
        if self._process.returncode != 0 and not self._ending:
            self._error = f"nbdcopy {self._uri}: {said.strip()}"
        return self._error is None and not self._ending

    def __enter__(self):
        self.seconds -= time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.seconds += time.monotonic()
        with self._lock:
            self._ending = True
            if self._process is not None:
                self._process.terminate()
        self._thread.join(fleece.SOON)
        if kind is None and (self._error or not self.copies):
            raise RuntimeError(self._error or f"nbdcopy {self._uri}: nothing was read")


def connect(uri, count):
    """A list of so many connections. They stay open as long as the list exists."""
    handles = [nbd.NBD() for _ in range(count)]
    for handle in handles:
        handle.connect_uri(uri)
    return handles
