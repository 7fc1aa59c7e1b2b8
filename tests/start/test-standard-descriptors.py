#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A server that is started with standard input, output and error closed. Nothing that it opens may
get their numbers: log messages would be written there, and going to the background would close
it."""

import os
import select
import signal
import subprocess

from fleece import NBDFLEECE, SOON, Server, tmpdir
from tap import main, test


def close_standard_descriptors():
    os.closerange(0, 3)


def targets(pid):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]


@test
def in_the_foreground():
    with tmpdir() as folder:
        image = os.path.join(folder, "image")
        with open(image, "wb") as f:
            f.truncate(1 << 20)
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
        with Server("--disk", "vda", "file", image, prefix=command) as s:
            assert targets(s.pid) == ["/dev/null"] * 3, targets(s.pid)
            s.nbd("vda").pwrite(b"x" * 512, 0)


@test
def in_the_background():
    import nbd
    with tmpdir() as folder:
        socket, pid_file = os.path.join(folder, "sock"), os.path.join(folder, "pid")
        subprocess.run([NBDFLEECE, "-U", socket, "-P", pid_file, "memory", "1M"], check=True,
                       preexec_fn=close_standard_descriptors, timeout=SOON)
        with open(pid_file) as f:
            pid = int(f.read())
        pidfd = os.pidfd_open(pid)
        try:
            h = nbd.NBD()
            h.connect_uri(f"nbd+unix:///?socket={socket}")
            h.pwrite(b"x" * 512, 0)
            h.shutdown()
            assert targets(pid) == ["/dev/null"] * 3, targets(pid)
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            assert select.select([pidfd], [], [], SOON)[0], "it does not end"
            os.close(pidfd)


main()
