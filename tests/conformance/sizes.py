# SPDX-License-Identifier: BSD-3-Clause
"""Section Z: block sizes and payload sizes."""

from client import *
from lines import line


def sizes(t, c):
    """(minimum, preferred, maximum), as advertised."""
    assert c.info(c.export, (INFO_BLOCK_SIZE,)) == REP_ACK
    return t.sizes(c, advertised=True)


def is_power_of_2(n):
    return n > 0 and n & (n - 1) == 0


@line
def Z1(t):
    """The minimum is a power of 2, at most 64 KiB. The preferred size is a power of 2, at least 512
    and at least the minimum. The maximum is at least the preferred size. Ours are 1, 4096 and 64
    MiB if the storage has no others."""
    for role in "main", "aligned", "odd", "empty", "large":
        with t.part(role), t.client(role) as c:
            minimum, preferred, maximum = sizes(t, c)
            assert is_power_of_2(minimum) and minimum <= 65536, minimum
            assert is_power_of_2(preferred) and preferred >= max(512, minimum), preferred
            assert maximum >= preferred, maximum
            assert minimum == c.block, f"{minimum}, but it is {c.block}"
    with t.part("defaults"), t.client() as c:
        t.ours()
        assert sizes(t, c) == (1, 4096, OUR_MAX_PAYLOAD)


@line
def Z2(t):
    """A payload of up to 32 MiB never ends the connection, also if it is above the maximum that is
    advertised. The payload of a write that is refused is drained."""
    for part in t.modes("32 MiB"):
        with part as mode, t.writable(mode) as c:
            t.needs(c.size >= 2 * MAX_PAYLOAD, "export:64M", "the export is too small")
            data = bytes(range(256)) * (MAX_PAYLOAD // 256)
            c.write(4096, data)
            assert c.read(4096, MAX_PAYLOAD) == data
            c.in_step()
    for part in t.modes("above the advertised maximum", (SIMPLE, STRUCTURED)):
        with part as mode, t.writable(mode, role="aligned") as c:
            maximum = t.sizes(c)[2]
            t.needs(maximum < MAX_PAYLOAD, "export:maximum", "none below 32 MiB")
            for length in maximum + c.block, MAX_PAYLOAD:
                c.fails(READ, 0, length, wanted=(0, EINVAL, EOVERFLOW))
                c.fails(WRITE, 0, length, wanted=(0, EINVAL))
    for part in t.modes("a refused payload"):
        with part as mode, t.ready("readonly", mode) as c:
            for length in 1, 65536, MAX_PAYLOAD:
                error = c.do(WRITE, 0, length)
                assert error, "a read-only export was written to"
                c.in_step()
