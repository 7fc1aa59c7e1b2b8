# SPDX-License-Identifier: BSD-3-Clause
"""An sshd for tests, which a test starts for each client, with its connection as standard input."""

import os
import shutil

from tap import skip

# Where no sshd has been started since the boot, its folder is missing: it gets one that nobody else
# sees. It is a session of its own, as on another host.
SCRIPT = """#!/bin/sh
[ -d /run/sshd ] && exec setsid {sshd} -i -f {config}
exec setsid unshare -m sh -c 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd &&
    exec {sshd} -i -f {config}'
"""


def sshd_script(path, config):
    """Write a script that serves one client by this configuration. The test is skipped where there is no
    sshd."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    if not sshd:
        skip("sshd is not installed")
    with open(path, "w", encoding="utf-8") as f:
        f.write(SCRIPT.format(sshd=sshd, config=config))
    os.chmod(path, 0o755)
    return path
