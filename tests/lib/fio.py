# SPDX-License-Identifier: BSD-3-Clause
"""fio with its nbd engine."""

import json

from fleece import require_program, run, tmpdir
from tap import skip


def fio(uri, *options):
    """Run fio once and return its jobs. Any error fails the test, also a wrong block."""
    require_program("fio")
    engines = run("fio", "--enghelp").stdout.split()
    if "nbd" not in engines:
        skip("this fio was built without its nbd engine")
    with tmpdir() as d:  # fio leaves state files in its current folder
        result = run("fio", "--name=test", "--ioengine=nbd", f"--uri={uri}", "--iodepth=16",
                     "--randrepeat=0", "--output-format=json", *options, check=False, cwd=d)
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = json.loads(result.stdout[result.stdout.index("{"):])["jobs"]
    for job in jobs:
        assert job["error"] == 0, job["error"]
    return jobs


VERIFY = ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1"]
