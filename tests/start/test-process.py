# SPDX-License-Identifier: BSD-3-Clause
"""The server as a process: the background, its PID file, its parent, its memory, and its messages."""

import os
import select
import signal
import subprocess
import sys

import nbd

import fleece
from fleece import NBDFLEECE, Server, nbdfleece, sanitizer_env, sanitizer_reports, tmpdir, uri
from tap import main, skip, test


def wait_gone(pid, pidfd):
    """Wait for the end of a process that is not our child."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(fleece.SOON * 1000), f"process {pid} is still there"
    os.close(pidfd)


@test
def the_background():
    with tmpdir() as d:
        result = nbdfleece("-U", f"{d}/s", "-P", f"{d}/pid", "memory", "1M", cwd=d,
                           env=sanitizer_env(d))
        with open(f"{d}/pid") as f:
            pid = int(f.read())
        pidfd = os.pidfd_open(pid)
        try:
            # At once, without a retry: it was ready when its parent ended.
            h = nbd.NBD()
            h.connect_uri(uri(unix=f"{d}/s"))
            h.pread(512, 0)
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            for fd in 0, 1, 2:
                assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null", fd
            assert os.getsid(pid) == pid
            assert result.stderr == "", result.stderr
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_gone(pid, pidfd)
        assert sanitizer_reports(d) == ""


@test
def relative_paths_work_in_the_background():
    with tmpdir() as d:
        os.mkdir(f"{d}/scratch")
        with open(f"{d}/disk", "wb") as f:
            f.truncate(1 << 20)
        nbdfleece("-U", "s", "-P", "pid", "-C", "qmp", "--scratch", "scratch", "file", "disk",
                  cwd=d, env=sanitizer_env(d))
        with open(f"{d}/pid") as f:
            pid = int(f.read())
        pidfd = os.pidfd_open(pid)
        with fleece.Qmp(f"{d}/qmp") as q:
            q.cmd("view-create", disk="disk0", name="v")
            q.cmd("quit")
        wait_gone(pid, pidfd)
        assert sanitizer_reports(d) == ""


@test
def the_pid_file():
    with Server("memory", "1M") as s:
        assert s.pid == s.process.pid
    with tmpdir() as d:
        with open(f"{d}/old", "w") as f:
            f.write("a long line that was there before\n")
        nbdfleece("-U", "-", "-P", f"{d}/old", "--run", f"cat {d}/old > {d}/copy", "memory", "1M")
        with open(f"{d}/old") as f, open(f"{d}/copy") as copy:
            text = f.read()
            assert text == copy.read() == f"{int(text)}\n"


@test
def programs_of_plugins_can_be_terminated():
    fleece.require_plugin("eval")
    with tmpdir() as d:
        with Server("eval", f"after_fork=cat /proc/self/status > {d}/status", "get_size=echo 1M",
                    "pread=cat"):
            pass
        if os.path.exists(f"{d}/status"):
            with open(f"{d}/status") as f:
                fields = dict(line.split(":\t") for line in f if ":\t" in line)
            assert not int(fields["SigBlk"], 16) & (1 << (signal.SIGTERM - 1))
        else:
            skip("this eval plugin has no after_fork")


@test
def exit_with_parent():
    """A parent that starts the server and ends as soon as the server is ready."""
    with tmpdir() as d:
        os.mkfifo(f"{d}/pid")
        parent_program = ("import subprocess, sys, os\n"
                          "p = subprocess.Popen(sys.argv[2:])\n"
                          "pid = open(sys.argv[1]).read().strip()\n"
                          "assert int(pid) == p.pid\n"
                          "print(pid, flush=True)\n"
                          "sys.stdin.read()\n")
        parent = subprocess.Popen(
            [sys.executable, "-c", parent_program, f"{d}/pid", NBDFLEECE, "--exit-with-parent",
             "-U", f"{d}/s", "-P", f"{d}/pid", "memory", "1M"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=sanitizer_env(d),
            preexec_fn=fleece.die_with_parent)
        pid = int(parent.stdout.readline())
        pidfd = os.pidfd_open(pid)
        parent.stdin.close()
        assert parent.wait(fleece.SOON) == 0
        wait_gone(pid, pidfd)
        assert sanitizer_reports(d) == ""


@test
def an_image_that_cannot_be_opened():
    """Told before there is a socket, or anything else that other processes may find."""
    with tmpdir() as d:
        result = nbdfleece("-U", f"{d}/s", "-P", f"{d}/pid", "--disk", "vda", "file", f"{d}/none",
                           check=False)
        assert result.returncode == 1
        assert result.stderr == (f"nbdfleece: error: disk vda: file: open: {d}/none: No such file "
                                 "or directory\n"), result.stderr
        assert os.listdir(d) == []


@test
def swap_locks_memory():
    if fleece.SANITIZER != "no":
        skip("sanitizers make mlockall do nothing")
    with tmpdir() as d:
        result = nbdfleece("-U", "-", "--swap", "memory", "1M", "--run",
                           "grep VmLck /proc/$PPID/status", check=False)
        if result.returncode != 0 and "mlockall" in result.stderr:
            skip(f"memory cannot be locked here: {result.stderr.strip()}")
        assert int(result.stdout.split()[1]) > 0, result.stdout


@test
def messages():
    with Server("-v", "memory", "1M") as s:
        s.nbd()
        s.stop()
        assert "nbdfleece: debug: " in s.log()
    with Server("memory", "1M", control=False) as s:
        s.nbd()
        s.stop()
        assert s.log() == "", s.log()
    with Server("--log", "null", "memory", "1M") as s:
        s.stop()
        assert s.log() == "", s.log()
    with Server("memory", "1M") as s:
        s.stop()
        assert s.log().count("transient") == 1, s.log()


@test
def debug_flags():
    with Server("-D", "file.zero=1", "-D", "no-such.flag=1", "memory", "1M", control=False) as s:
        s.stop()
        assert "no-such.flag" in s.log()


@test
def a_key_file():
    with tmpdir() as d:
        with open(f"{d}/conf", "w") as f:
            f.write("[nbdfleece]\nreadonly = true\n"
                    "[disk one]\nplugin = memory\narguments = 1M\n"
                    "[disk two]\nplugin = memory\nsize = 2M\n")
        with Server("--config", f"{d}/conf", "--disk", "three", "memory", "3M") as s:
            assert [s.nbd(n).get_size() >> 20 for n in ("one", "two", "three", "")] == [1, 2, 3, 1]
            assert s.nbd("one").is_read_only()


@test
def several_disks_of_one_plugin():
    with Server("--disk", "a", "memory", "1M", "--disk", "b", "memory", "2M") as s:
        a, b = s.nbd("a"), s.nbd("b")
        a.pwrite(b"a" * 512, 0)
        b.pwrite(b"b" * 512, 0)
        assert a.pread(512, 0) == b"a" * 512
        assert (a.get_size(), b.get_size()) == (1 << 20, 2 << 20)


main()
