# SPDX-License-Identifier: BSD-3-Clause
"""Reads of random pieces, whatever form their replies have."""

import random

from tap import note

MIB = 1 << 20


def read_random_pieces(c, size, flags=(0,)):
    """Fill an export of `size` bytes with random data, and read it: short and long pieces, with one of
    these flags each, and all at once."""
    seed = random.randrange(1 << 32)
    note(f"seed {seed}")
    rng = random.Random(seed)
    image = rng.randbytes(size)
    for offset in range(0, size, MIB):
        c.write(offset, image[offset:offset + MIB])
    for _ in range(30):
        offset = rng.randrange(size)
        length = min(rng.randint(1, rng.choice([100, 5000, 300000, size])), size - offset)
        assert c.read(offset, length, rng.choice(flags)) == image[offset:offset + length]
    assert c.read(0, size) == image
