#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The model test, end to end: guests write to two disks over NBD, at random and without a pause,
while transactions over both disks make views and change bitmaps. What each view holds, what each
bitmap of a view's export says and what QMP tells must be what a simple model says, byte for
byte."""

import os
import random

from expected import Model
from fleece import SANITIZER, Server, tmpdir
from rounds import DISKS, SIZE, Run
from tap import main, note, test

from rig import seed

LONG = bool(os.environ.get("FLEECE_LONG"))
ROUNDS = 600 if LONG else 8 if SANITIZER == "thread" else 20


def model(*disks, grows):
    rng = random.Random(seed())
    with Server(*disks) as s:
        r = Run(s, rng, Model({d: bytearray(SIZE) for d in DISKS}), grows)
        with r.writing():
            for _ in range(ROUNDS):
                r.round()
        while r.views:
            r.drop_view()
        assert r.q.cmd("query-views") == []
        note(f"{sum(r.model.answered())} requests, {ROUNDS} instants")


@test
def files():
    with tmpdir() as d:
        for disk in DISKS:
            with open(f"{d}/{disk}", "wb") as f:
                f.truncate(SIZE)
        model("--disk", "vda", "file", f"{d}/vda", "--disk", "vdb", "file", f"{d}/vdb",
              grows=DISKS)


@test
def memory():
    model("--disk", "vda", "memory", SIZE, "--disk", "vdb", "memory", SIZE, grows=())


main()
