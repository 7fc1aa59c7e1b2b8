# SPDX-License-Identifier: BSD-3-Clause
"""An incremental backup: demo-pull.py URI BITMAP IMAGE

Read all that is dirty in BITMAP from the export URI, and write it over IMAGE, an older backup."""

import sys

import nbd

uri, bitmap, image = sys.argv[1:]
context = f"qemu:dirty-bitmap:{bitmap}"
DIRTY = 1
PIECE = 1 << 20

h = nbd.NBD()
h.add_meta_context(context)
h.set_uri_allow_local_file(True)  # TLS keys and certificates that the URI names
h.connect_uri(uri)
size = h.get_size()

dirty = []  # (offset, length)


def on_extents(name, offset, entries, error):
    if name != context:
        return
    for length, flags in zip(entries[0::2], entries[1::2]):
        if flags & DIRTY:
            dirty.append((offset, length))
        offset += length
    on_extents.end = offset


on_extents.end = 0
while on_extents.end < size:
    h.block_status(min(size - on_extents.end, 1 << 30), on_extents.end, on_extents)

with open(image, "r+b") as f:
    for offset, length in dirty:
        for start in range(offset, offset + length, PIECE):
            piece = min(PIECE, offset + length - start)
            f.seek(start)
            f.write(h.pread(piece, start))
h.shutdown()
total = sum(length for _, length in dirty)
print(f"{len(dirty)} extents, {total} bytes of {size} were pulled ({100 * total / size:.2f} %)")
