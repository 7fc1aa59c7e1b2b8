#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Block sizes and payload sizes: the rules of tests/conformance/README.md whose names begin with
Z."""

import contextlib
import random
import struct

from fleece import Server
from rawnbd import *
from tap import main, test

SIZE = 128 << 20


@contextlib.contextmanager
def serve(*args, structured=True):
    with Server(*args) as s, Client(s.socket) as c:
        if structured:
            c.structured()
        yield s, c


def sizes(c):
    assert c.info("", (INFO_BLOCK_SIZE,)) == REP_ACK
    return struct.unpack(">III", c.infos[INFO_BLOCK_SIZE])


def is_power_of_2(n):
    return n > 0 and n & (n - 1) == 0


@test
def Z1_defaults():
    with serve("memory", "1M") as (s, c):
        assert sizes(c) == (1, 4096, OUR_MAX_PAYLOAD)


@test
def Z1_a_plugins_own():
    for triple in ("1 512 4294967295", "512 4096 1048576", "4096 65536 1048576",
                   "65536 65536 65536", "1 4096 5000000"):
        with serve("eval", f"get_size=echo {SIZE}", "pread=head -c $3 /dev/zero",
                   f"block_size=echo {triple}") as (s, c):
            minimum, preferred, maximum = sizes(c)
            assert is_power_of_2(minimum) and minimum <= 65536
            assert is_power_of_2(preferred) and preferred >= max(512, minimum)
            assert maximum >= preferred
            assert minimum == int(triple.split()[0])


@test
def Z2_payloads_up_to_64_MiB():
    """nbdkit and nbd-server take as much."""
    for structured in False, True:
        with serve("memory", str(SIZE), structured=structured) as (s, c):
            c.go()
            for largest in MAX_PAYLOAD, OUR_MAX_PAYLOAD:
                data = random.randbytes(4096) * (largest // 4096)
                c.write(4096, data)
                assert c.read(4096, largest) == data
                c.write(0, data[:largest - 1])
                if structured:
                    assert c.read(1, largest - 2, DF) == data[1:largest - 1]
                c.in_step()


@test
def Z2_libnbd_sends_them():
    with Server("memory", str(SIZE)) as s:
        h = s.nbd()
        data = random.randbytes(4096) * (OUR_MAX_PAYLOAD // 4096)
        h.pwrite(data, 4096)
        assert h.pread(len(data), 4096) == data
        h.shutdown()


@test
def Z2_above_the_advertised_maximum():
    with serve("eval", f"get_size=echo {SIZE}", "pread=head -c $3 /dev/zero",
               "pwrite=cat >/dev/null", "can_write=exit 0",
               "block_size=echo 512 4096 1048576") as (s, c):
        c.go("", (INFO_BLOCK_SIZE,))
        assert c.do(WRITE, 0, 4 << 20) in (0, EINVAL)
        assert c.do(READ, 0, 4 << 20) in (0, EINVAL, EOVERFLOW)
        assert c.do(WRITE, 0, MAX_PAYLOAD) in (0, EINVAL)
        assert c.do(WRITE, 0, OUR_MAX_PAYLOAD) in (0, EINVAL)
        c.in_step()


@test
def Z2_refused_payloads_are_drained():
    with serve("-r", "memory", str(SIZE)) as (s, c):
        c.go()
        for length in 1, 65536, 1 << 20, MAX_PAYLOAD, OUR_MAX_PAYLOAD:
            assert c.do(WRITE, 0, length) == EPERM
            c.in_step()


@test
def Z2_a_larger_payload_ends_the_connection():
    for length in OUR_MAX_PAYLOAD + 1, 0xFFFFFFFF:
        with serve("memory", str(SIZE)) as (s, c):
            c.go()
            c.request(WRITE, 0, length)
            c.expect_end()
    with serve("memory", str(SIZE)) as (s, c):
        with Client(s.socket) as other:
            other.go()
            assert other.do(READ, 0, OUR_MAX_PAYLOAD + 1) == EINVAL
            other.in_step()
        with Client(s.socket) as other:
            other.structured()
            other.go()
            assert other.do(READ, 0, OUR_MAX_PAYLOAD + 1) == EOVERFLOW
            other.in_step()


main()
