# SPDX-License-Identifier: BSD-3-Clause
"""The units for systemd are well-formed, and give the server few rights, as `systemd-analyze
security` counts them."""

import os
import re
import shutil

from fleece import BUILD, SOURCE, require_program, run, tmpdir
from tap import main, note, test

# 0 is safe, 10 unsafe. The service needs the network, Unix sockets and the host's /proc.
MOST_EXPOSED = 1.5


def install(folder):
    """Write the units of an instance into `folder`, with a program that is installed here."""
    service, socket = (os.path.join(folder, f"nbdfleece@vm1.{kind}") for kind in
                       ("service", "socket"))
    with open(os.path.join(BUILD, "systemd/nbdfleece@.service")) as f:
        text = f.read()
    with open(service, "w") as f:
        f.write(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M))
    shutil.copy(os.path.join(SOURCE, "systemd/nbdfleece@.socket"), socket)
    return service, socket


@test
def they_are_well_formed():
    program = require_program("systemd-analyze")
    with tmpdir() as d:
        result = run(program, "verify", "--man=no", *install(d), check=False)
        assert result.returncode == 0 and result.stderr == "", result.stderr


@test
def they_expose_little():
    program = require_program("systemd-analyze")
    with tmpdir() as d:
        result = run(program, "security", "--offline=true", "--no-pager", install(d)[0], check=False)
        exposure = re.search(r"Overall exposure level.*: ([0-9.]+) ", result.stdout)
        assert exposure, result
        note(exposure.group(0))
        assert float(exposure.group(1)) <= MOST_EXPOSED


main()
