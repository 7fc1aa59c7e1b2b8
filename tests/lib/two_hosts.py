# SPDX-License-Identifier: BSD-3-Clause
"""Two network namespaces with a cable between them: a server's host and a client's host, which
nobody else sees.

    with two_hosts() as hosts:
        with Server(..., prefix=hosts.server) as s:      # has the address hosts.address
            run(*hosts.client, "nbdinfo", ...)
"""

import contextlib
import subprocess

from fleece import die_with_parent, require_program
from tap import skip

SERVER, CLIENT = "10.91.7.1", "10.91.7.2"


class Hosts:
    address = SERVER

    def __init__(self, server, client):
        self.server, self.client = server, client


def _host(stack):
    """A process that holds a network namespace; the command that runs others in it."""
    unshare, nsenter = require_program("unshare"), require_program("nsenter")
    process = stack.enter_context(subprocess.Popen(
        [unshare, "-n", "sh", "-c", "echo && exec cat"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent))
    stack.callback(process.kill)
    if process.stdout.readline() != b"\n":
        skip("no right to a network namespace of one's own")
    return process.pid, [nsenter, "-t", str(process.pid), "-n"]


@contextlib.contextmanager
def two_hosts():
    ip = require_program("ip")
    with contextlib.ExitStack() as stack:
        server, in_server = _host(stack)
        client, in_client = _host(stack)
        cable = subprocess.run(
            [*in_server, ip, "link", "add", "cable", "type", "veth", "peer", "name", "cable",
             "netns", str(client)], stderr=subprocess.PIPE, text=True, check=False)
        if cable.returncode != 0:
            skip(f"no veth devices: {cable.stderr.strip()}")
        for prefix, address in (in_server, SERVER), (in_client, CLIENT):
            for command in (["addr", "add", f"{address}/24", "dev", "cable"],
                            ["link", "set", "cable", "up"], ["link", "set", "lo", "up"]):
                subprocess.run([*prefix, ip, *command], check=True)
        yield Hosts(in_server, in_client)
