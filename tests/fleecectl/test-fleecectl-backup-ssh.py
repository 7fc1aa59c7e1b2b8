#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl backup --ssh, by an sshd of the test's own that ssh starts itself: there is no port."""

import contextlib
import glob
import json
import os
import random
import select
import signal
import tempfile

from backup_rig import BackupRig
from fleece import FLEECECTL, SOON, require_program, run
from rig import MIB, seed
from sshd import sshd_script
from tap import main, skip, test
from tlslib import certs

SERVER_CONFIG = """
HostKey {d}/host
AuthorizedKeysFile {d}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
PidFile none
LogLevel QUIET
"""
CLIENT_CONFIG = """
Host far
    HostName localhost
    ProxyCommand {d}/sshd
    IdentityFile {d}/user
    IdentitiesOnly yes
    UserKnownHostsFile {d}/known
    StrictHostKeyChecking accept-new
    LogLevel ERROR
Host nobody
    ProxyCommand false
"""


SSH = """#!/bin/sh
exec {ssh} -F {d}/ssh_config "$@"
"""


def write(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)


@contextlib.contextmanager
def far(rig):
    """The environment in which `ssh far` leads to this machine."""
    ssh, keygen = require_program("ssh"), require_program("ssh-keygen")
    d = f"{rig.dir}/ssh"
    os.mkdir(d)
    sshd_script(f"{d}/sshd", f"{d}/sshd_config")
    for key in "host", "user":
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", f"{d}/{key}")
    for name, text, mode in (("sshd_config", SERVER_CONFIG, 0o644), ("ssh_config", CLIENT_CONFIG, 0o644),
                             ("ssh", SSH, 0o755)):
        write(f"{d}/{name}", text.format(d=d, ssh=ssh), mode)
    os.mkdir(f"{d}/run", 0o700)
    if run(f"{d}/ssh", "far", "true", check=False).returncode != 0:
        skip("sshd does not run here")
    yield {"PATH": f"{d}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": f"{d}/run"}


def sshs(rig):
    """The processes of this test's ssh."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
            if f"{rig.dir}/ssh/".encode() in f.read():
                found.append(int(pid))
    return found


def wait_end(pid):
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            assert select.select([fd], [], [], SOON)[0], "ssh is still there"
        finally:
            os.close(fd)


def all_gone(rig):
    """Of ssh nothing is left, at once or soon: it hears of the end of a pipe."""
    for pid in sshs(rig):
        wait_end(pid)
    assert not sshs(rig), "ssh has left another process"


@test
def control_and_data_go_through_ssh():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=MIB) as rig, far(rig) as env:
        for level in "full", "inc":
            rig.write(rng)
            done = json.loads(rig.backup("--json", "--ssh", "far", env=env).stdout.splitlines()[-1])
            assert done["level"] == level, done
        rig.check()
        assert os.listdir(f"{rig.dir}/ssh/run") == []
        all_gone(rig)


@test
def without_a_runtime_folder_the_sockets_are_below_the_home():
    with BackupRig("vda", size=MIB) as rig, far(rig) as env:
        home, seen = f"{rig.dir}/home", []
        os.mkdir(home)

        def look(request):
            seen.append(glob.glob(f"{home}/.ssh/fleecectl-*/socket"))
            seen.append(glob.glob(f"{tempfile.gettempdir()}/fleecectl-*"))
            return request

        for unset in "", "relative":
            before = glob.glob(f"{tempfile.gettempdir()}/fleecectl-*")
            rig.backup("--ssh", "far", before=look, env={**env, "XDG_RUNTIME_DIR": unset, "HOME": home})
            assert seen and len(seen[0]) == 1 and seen[1] == before, seen
            assert os.stat(f"{home}/.ssh").st_mode & 0o777 == 0o700
            assert os.listdir(f"{home}/.ssh") == [], os.listdir(f"{home}/.ssh")
            seen.clear()
        rig.check()
        os.rmdir(f"{home}/.ssh")
        with open(f"{home}/.ssh", "w", encoding="utf-8"):
            pass
        run_ = rig.backup("--ssh", "far", env={**env, "XDG_RUNTIME_DIR": "", "HOME": home}, check=False)
        assert run_.returncode == 1 and "Not a directory" in run_.stderr, run_
        all_gone(rig)


@test
def an_audit_goes_through_ssh_too():
    rng = random.Random(seed())
    with BackupRig("vda", size=MIB) as rig, far(rig) as env:
        rig.write(rng)
        rig.backup()
        rig.write(rng)
        with rig.qmp() as q:
            q.cmd("block-dirty-bitmap-add", node="vda", name="since")
        words = ["audit", rig.repo, "vda", "--ssh", "far"]
        text = run(FLEECECTL, "-C", rig.server.qmp_path, *words, env=env).stdout
        assert "all that has changed is dirty" in text, text
        rig.check_server()
        # No control socket is asked, where the export is named.
        result = run(FLEECECTL, *words, "--uri", rig.server.uri("vda"), "--bitmap", "since", env=env, check=False)
        assert result.returncode == 1 and "are not dirty" in result.stderr, result
        assert run(FLEECECTL, *words, env=env, check=False).returncode == 2
        assert os.listdir(f"{rig.dir}/ssh/run") == []
        all_gone(rig)


@test
def tls_goes_through_ssh_too():
    """Without the proxy, whose clients have no TLS."""
    with BackupRig("vda", size=MIB, options=["--tls=require", "--tls-verify-peer",
                                             "--tls-certificates", certs()]) as rig, far(rig) as env:
        words = rig.command(rig.server.qmp_path, "--tls-certificates", certs())
        run(*words)
        run(*words, "--ssh", "far", env=env)
        assert [m["level"] for m in rig.members()] == ["full", "inc"]
        bad = run(*rig.command(rig.server.qmp_path), check=False)
        assert bad.returncode in (1, 4) and len(rig.members()) == 2, bad
        rig.check_files()
        rig.check_server()
        all_gone(rig)


@test
def a_host_that_is_not_there_is_unreachable():
    with BackupRig("vda", size=MIB) as rig, far(rig) as env:
        result = rig.backup("--ssh", "nobody", check=False, env=env)
        assert result.returncode == 4 and "nobody: ssh could not connect" in result.stderr, result
        result = rig.backup("--ssh", "far", "-C", "/nonexistent", check=False, env=env)
        assert result.returncode == 4, result
        result = rig.backup("--ssh", "far", "-C", "relative", check=False, env=env)
        assert result.returncode == 2, result
        assert os.listdir(f"{rig.dir}/ssh/run") == [] and not os.path.exists(rig.repo)
        all_gone(rig)


@test
def a_signal_from_the_terminal_ends_it_in_order():
    """It goes to ssh as well, which must outlive it."""
    rng = random.Random(seed())
    with BackupRig("vda", size=MIB) as rig, far(rig) as env:
        rig.write(rng)
        rig.backup()

        def interrupt(request, reply):
            if request["execute"] == "backup-begin":
                os.killpg(rig.process.pid, signal.SIGINT)
            return reply

        with rig.running("--ssh", "far", after=interrupt, start_new_session=True,
                         env={**os.environ, **env}) as process:
            _, errors = process.communicate(timeout=SOON)
            assert process.returncode == 1 and errors == "fleecectl: interrupted by SIGINT\n", errors
        rig.check()
        assert len(rig.members()) == 1 and os.listdir(f"{rig.dir}/ssh/run") == []
        all_gone(rig)


@test
def ssh_ends_with_a_client_that_is_killed():
    with BackupRig("vda", size=MIB) as rig, far(rig) as env:
        def die(request, reply):
            if request["execute"] == "backup-begin":
                rig.process.kill()
                rig.process.wait()
                return None
            return reply

        with rig.running("--ssh", "far", after=die, env={**os.environ, **env}) as process:
            assert process.wait(SOON) == -signal.SIGKILL
        all_gone(rig)
        rig.backup("--ssh", "far", env=env)
        rig.check()


if __name__ == "__main__":
    main()
