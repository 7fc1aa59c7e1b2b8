# SPDX-License-Identifier: BSD-3-Clause
"""The guest of demo.sh.

    demo-guest.py change URI IMAGE FILE
        With debugfs, change files in IMAGE, which is a copy of the disk, and add FILE to it. Then write
        each block that has changed to the disk over NBD.

    demo-guest.py storm URI FIFO
        Write random blocks all over the disk until SIGTERM. Write a line to FIFO when the first 1000 are
        written.
"""

import random
import subprocess
import sys

import nbd

BLOCK = 4096


def connect(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h


def debugfs(image, *requests):
    for request in requests:
        print(f"debugfs: {request}", flush=True)
        subprocess.run(["debugfs", "-w", "-R", request, image], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


def delete_folder(image, folder):
    """The requests that delete a folder and the files in it."""
    out = subprocess.run(["debugfs", "-R", f"ls -p {folder}", image], check=True, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    # /inode/mode/uid/gid/name/size/
    names = [line.split("/")[5] for line in out.splitlines() if line.startswith("/")]
    files = [f"rm {folder}/{name}" for name in names if name not in (".", "..")]
    return [*files, f"rmdir {folder}"]


def change(uri, image, new_file):
    with open(image, "rb") as f:
        before = f.read()
    debugfs(image, "mkdir new", f"write {new_file} new/photos", *delete_folder(image, "/man"),
            "rm /common/util/log.c", f"write {__file__} /common/util/log.c")
    with open(image, "rb") as f:
        after = f.read()
    h = connect(uri)
    blocks = 0
    for offset in range(0, len(after), BLOCK):
        block = after[offset:offset + BLOCK]
        if block != before[offset:offset + BLOCK]:
            h.pwrite(block, offset)
            blocks += 1
    h.flush()
    h.shutdown()
    print(f"{blocks} blocks of {BLOCK} bytes were written over NBD")


def storm(uri, fifo):
    h = connect(uri)
    blocks = h.get_size() // BLOCK
    chance = random.Random(1)
    written = 0
    while True:
        h.pwrite(chance.randbytes(BLOCK), chance.randrange(blocks) * BLOCK)
        written += 1
        if written == 1000:
            with open(fifo, "w") as f:
                f.write("writing\n")


if __name__ == "__main__":
    {"change": change, "storm": storm}[sys.argv[1]](*sys.argv[2:])
