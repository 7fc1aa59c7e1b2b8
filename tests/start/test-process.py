# SPDX-License-Identifier: BSD-3-Clause
"""The server as a process: the background, its user, its messages, --run, and how it ends."""

import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import time

import nbd

import fleece
from fleece import NBDFLEECE, Server, nbdfleece, sanitizer_env, sanitizer_reports, tmpdir, uri
from tap import main, skip, test


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


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
def run_tells_where_the_server_is():
    with tmpdir() as d:
        script = 'printf "%s\\n" "$uri" "$nbd" "$unixsocket" "$port" "$exportname"; nbdinfo --size "$uri"'
        fleece.require_program("nbdinfo")
        sock = f"{d}/a 'b' $c \"d\""
        out = nbdfleece("-U", sock, "-e", "disk0", "memory", "1M", "--run", script).stdout
        where, same, path, port, name, size = out.splitlines()
        assert where == same
        assert path == sock
        assert (port, name, size) == ("", "disk0", str(1 << 20))
        out = nbdfleece("-U", sock, "-e", "x y/z?", "--disk", "x y/z?", "memory", "3M",
                        "--run", script).stdout
        assert out.splitlines()[4:] == ["x y/z?", str(3 << 20)], out
        out = nbdfleece("-i", "127.0.0.1", "-p", "0", "memory", "2M", "--run", script).stdout
        where, same, path, port, name, size = out.splitlines()
        assert where == same == f"nbd://127.0.0.1:{port}/"
        assert (path, name, size) == ("", "", str(2 << 20))


@test
def run_ends_the_server_with_the_commands_code():
    assert nbdfleece("-U", "-", "null", "--run", "exit 0").returncode == 0
    assert nbdfleece("-U", "-", "null", "--run", "exit 41", check=False).returncode == 41
    result = nbdfleece("-U", "-", "null", "--run", "kill -9 $$", check=False)
    assert result.returncode == 137
    assert "killed by signal 9" in result.stderr


@test
def run_has_the_terminals_streams_and_plain_signals():
    result = nbdfleece("-U", "-", "null", "--run", "cat; grep -E 'Sig(Blk|Ign)' /proc/self/status",
                       input="hello\n")
    lines = result.stdout.splitlines()
    assert lines[0] == "hello"
    for line in lines[1:]:
        mask = int(line.split()[1], 16)
        for s in signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD:
            assert not mask & (1 << (s - 1)), line


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
def sigterm_sigint_and_sigquit_end_it_in_order():
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT:
        with Server("memory", "1M") as s:
            s.process.send_signal(number)
            s.wait(0)


@test
def sigterm_finishes_the_request_under_way():
    """A read that the plugin is in the middle of when SIGTERM comes is answered."""
    fleece.require_plugin("eval")
    with tmpdir() as d:
        for name in "begun", "go":
            os.mkfifo(f"{d}/{name}")
        script = f"echo begun > {d}/begun; read x < {d}/go; head -c $3 /dev/zero | tr '\\0' z"
        with Server("eval", "get_size=echo 1M", f"pread={script}", "thread_model=echo parallel") as s:
            h = s.nbd()
            buffer = nbd.Buffer(512)
            cookie = h.aio_pread(buffer, 0)
            while h.aio_in_flight() and not h.aio_get_direction() == nbd.AIO_DIRECTION_READ:
                h.poll(0)
            with open(f"{d}/begun") as f:  # until the plugin has the request
                f.read()
            s.process.send_signal(signal.SIGTERM)
            wait_for_refusal(s.socket)
            with open(f"{d}/go", "w") as f:
                f.write("x\n")
            while not h.aio_command_completed(cookie):
                assert h.poll(fleece.SOON * 1000) > 0
            assert buffer.to_bytearray() == b"z" * 512
            s.wait(0)


def wait_for_refusal(path):
    """Until nobody listens on a Unix socket: the server has begun to end."""
    while True:
        with socket.socket(socket.AF_UNIX) as c:
            try:
                c.connect(path)
            except (ConnectionRefusedError, FileNotFoundError):
                return


class HeldRead:
    """A server on a private socket, with a client's read that the plugin is in the middle of, and
    stays in until let_go(). `private`: the socket's folder, in the server's own `dir`."""

    def __init__(self, d):
        fleece.require_plugin("eval")
        for name in "begun", "go":
            os.mkfifo(f"{d}/{name}")
        os.mkdir(f"{d}/tmp")
        script = f"echo begun > {d}/begun; read x < {d}/go; head -c $3 /dev/zero | tr '\\0' z"
        # Where it ends at once it leaves threads behind, on purpose.
        env = {"TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + ":report_thread_leaks=0",
               "TMPDIR": f"{d}/tmp"}
        self.d = d
        self.server = Server("-U", "-", "--print-uri", "eval", "get_size=echo 1M",
                             f"pread={script}", unix=False, env=env, stdout=subprocess.PIPE,
                             text=True)

    def __enter__(self):
        s = self.server.__enter__()
        where = s.process.stdout.readline().strip()
        self.private = [f"{self.d}/tmp/{name}" for name in os.listdir(f"{self.d}/tmp")]
        assert len(self.private) == 1, self.private
        self.handle = nbd.NBD()
        self.handle.connect_uri(where)
        self.buffer = nbd.Buffer(512)
        self.cookie = self.handle.aio_pread(self.buffer, 0)
        with open(f"{self.d}/begun") as f:
            f.read()
        return self

    def __exit__(self, *exception):
        return self.server.__exit__(*exception)

    def end(self):
        """SIGTERM; returns when the orderly end is under way: it cannot be over."""
        self.server.process.send_signal(signal.SIGTERM)
        wait_for_refusal(f"{self.private[0]}/socket")

    def let_go(self):
        with open(f"{self.d}/go", "w") as f:
            f.write("x\n")

    def nothing_is_left(self):
        assert os.listdir(f"{self.d}/tmp") == [], os.listdir(f"{self.d}/tmp")


@test
def two_signals_in_a_row_are_one_wish():
    """timeout(1) sends its signal to the process and then to the group."""
    with tmpdir() as d, HeldRead(d) as h:
        # Two numbers, so that they cannot become one on the way.
        for number in signal.SIGINT, signal.SIGTERM:
            h.server.process.send_signal(number)
        while int(status(h.server.pid)["ShdPnd"], 16):
            pass  # until both have been delivered
        wait_for_refusal(f"{h.private[0]}/socket")
        h.let_go()
        while not h.handle.aio_command_completed(h.cookie):
            assert h.handle.poll(fleece.SOON * 1000) > 0
        assert h.buffer.to_bytearray() == b"z" * 512
        h.server.wait(0)
        h.nothing_is_left()


@test
def a_second_signal_ends_it_at_once_when_the_first_is_a_second_old():
    with tmpdir() as d, HeldRead(d) as h:
        h.server.qmp().cmd("nbd-server-start", addr={"type": "unix", "data": {"path": f"{d}/s"}})
        assert sorted(os.listdir(h.server.dir)).count("qmp") == 1 and os.path.exists(f"{d}/s")
        process = h.server.process
        begun = time.monotonic()
        h.end()
        while True:  # by itself it would never end
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(0.02)
                break
            except subprocess.TimeoutExpired:
                assert time.monotonic() - begun < fleece.SOON
        assert time.monotonic() - begun >= 1
        h.server.wait(1)
        h.nothing_is_left()
        assert not os.path.exists(f"{d}/s") and not os.path.exists(h.server.qmp_path)
        h.let_go()  # the plugin's script, orphaned, ends too


@test
def a_start_that_hangs_can_be_ended():
    """A plugin whose open never returns: one SIGTERM ends the start, and says what hung."""
    fleece.require_plugin("eval")
    with tmpdir() as d:
        os.mkfifo(f"{d}/begun")
        os.mkfifo(f"{d}/never")
        script = f"echo begun > {d}/begun; read x < {d}/never"
        p = subprocess.Popen([NBDFLEECE, "-f", "-U", f"{d}/s", "eval", "get_size=echo 1M",
                              f"open={script}"], stderr=subprocess.PIPE, text=True)
        with open(f"{d}/begun") as f:
            f.read()
        p.send_signal(signal.SIGTERM)
        # It has ended when nobody holds its standard error but the plugin's script.
        assert p.wait(30) == 1
        with open(f"{d}/never", "w") as f:
            f.write("x\n")
        assert "a plugin hangs" in p.stderr.read()
        p.stderr.close()


@test
def a_server_that_is_its_own_disk():
    """It waits for itself to answer, and says so; one SIGTERM ends it."""
    fleece.require_plugin("nbd")
    with tmpdir() as d:
        p = subprocess.Popen([NBDFLEECE, "-f", "-U", f"{d}/s", "--disk", "vda", "nbd",
                              f"socket={d}/s"], stderr=subprocess.PIPE, text=True)
        line = p.stderr.readline()
        assert line.startswith("nbdfleece: warning: disk vda: nbd: not open after 5 s: "), line
        assert "a server cannot be its own disk" in line
        p.send_signal(signal.SIGTERM)
        assert p.wait(30) == 1
        p.stderr.close()


class Hung:
    """A server of three disks, of which `vdb` hangs for good: a client's read does, or its close.
    What is closed leaves a file. `end` has the server told to end."""

    def __init__(self, d, in_call, *args):
        fleece.require_plugin("eval")
        for name in "begun", "never":
            os.mkfifo(f"{d}/{name}")
        self.d = d
        hang = f"echo begun > {d}/begun; read x < {d}/never"
        disks = []
        for name in "vda", "vdb", "vdc":
            calls = {"pread": "head -c $3 /dev/zero", "close": f"touch {d}/{name}.closed"}
            if name == "vdb":
                calls[in_call] = hang
            disks += ["--disk", name, "eval", "get_size=echo 1M", "thread_model=echo parallel",
                      *(f"{call}={script}" for call, script in calls.items())]
        # It leaves threads behind, on purpose.
        env = {"TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + ":report_thread_leaks=0"}
        self.server = Server(*args, *disks, env=env)

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *exception):
        try:
            return self.server.__exit__(*exception)
        finally:
            self.let_go()

    def wait_begun(self):
        with open(f"{self.d}/begun") as f:
            f.read()

    def let_go(self):
        """The plugin's script, orphaned, ends too."""
        try:
            os.close(os.open(f"{self.d}/never", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass  # nobody hangs there

    def hung_read(self):
        h = self.server.nbd("vdb")
        self.buffer = nbd.Buffer(512)
        h.aio_pread(self.buffer, 0)
        self.wait_begun()
        return h

    def closed(self):
        return [name for name in ("vda", "vdb", "vdc") if os.path.exists(f"{self.d}/{name}.closed")]


@test
def a_client_that_hangs_in_its_disk_does_not_keep_the_server():
    """Told to end, it closes the other disks in order, and says what is left."""
    with tmpdir() as d, Hung(d, "pread", "--stop-timeout", "2") as h:
        client, other, q = h.hung_read(), h.server.nbd("vda"), h.server.qmp()
        assert other.pread(512, 0) == bytes(512)
        begun = time.monotonic()
        h.server.process.send_signal(signal.SIGTERM)
        assert q.wait_event("SHUTDOWN")["data"]["reason"] == "host-signal"
        # While the clients end, monitors are answered.
        assert q.cmd("query-status")["status"] == "running"
        assert len(q.cmd("query-named-block-nodes")) == 3
        h.server.wait(1)
        assert time.monotonic() - begun >= 2
        log = h.server.log()
        assert 'export "vdb"' in log and "a READ is in the plugin for 2 s" in log, log
        assert "disk vdb" in log and "the server did not end in order" in log, log
        assert "disk vda" not in log and "disk vdc" not in log, log
        assert h.closed() == ["vda", "vdc"], h.closed()
        assert not os.path.exists(h.server.qmp_path)
        del client


@test
def a_disk_whose_close_hangs_does_not_keep_the_others():
    with tmpdir() as d, Hung(d, "close", "--stop-timeout", "4") as h:
        h.server.process.send_signal(signal.SIGTERM)
        h.server.wait(1)
        log = h.server.log()
        assert "disk vdb: its plugin has not flushed and closed it for " in log, log
        assert "disk vda" not in log and "disk vdc" not in log, log
        assert h.closed() == ["vda", "vdc"], h.closed()
        h.wait_begun()


@test
def quit_ends_a_server_that_hangs_too():
    with tmpdir() as d, Hung(d, "pread", "--stop-timeout", "1") as h:
        h.hung_read()
        q = h.server.qmp()
        assert q.cmd("quit") == {}
        assert q.wait_event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
        h.server.wait(1)
        assert h.closed() == ["vda", "vdc"], h.closed()


@test
def no_listener_is_started_while_the_server_ends():
    with tmpdir() as d, HeldRead(d) as h:
        q = h.server.qmp()
        h.end()
        q.wait_event("SHUTDOWN")
        try:
            q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": f"{d}/s"}})
            raise AssertionError("it was started")
        except fleece.QmpError as e:
            assert "the server is ending" in str(e), e
        h.let_go()
        while not h.handle.aio_command_completed(h.cookie):
            assert h.handle.poll(fleece.SOON * 1000) > 0
        h.server.wait(0)


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
def another_user():
    if os.getuid() != 0:
        skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    with tmpdir() as d:
        os.chmod(d, 0o777)
        # Started with a group too many, as by a shell of somebody who is in many.
        with Server("-u", "nobody", "memory", "1M", control=False, dir=d,
                    extra_groups=[54321]) as s:
            fields = status(s.pid)
            assert "54321" not in fields["Groups"].split(), fields["Groups"]
            assert fields["Uid"].split() == [str(nobody.pw_uid)] * 4
            assert fields["Gid"].split() == [str(nobody.pw_gid)] * 4
            assert "0" not in fields["Groups"].split()
            s.nbd().pread(512, 0)


@test
def another_user_with_a_private_socket():
    if os.getuid() != 0:
        skip("only root can become another user")
    result = nbdfleece("-U", "-", "-u", "nobody", "memory", "1M",
                       "--run", 'id -un; echo "$unixsocket"; nbdinfo --size "$uri"')
    user, path, size = result.stdout.splitlines()
    assert (user, size) == ("nobody", str(1 << 20)), result.stdout
    assert not os.path.exists(os.path.dirname(path))
    assert result.stderr == "", result.stderr


@test
def another_group_by_number():
    if os.getuid() != 0:
        skip("only root can become another group")
    with tmpdir() as d:
        os.chmod(d, 0o777)
        with Server("-g", "12345", "-u", "23456", "memory", "1M", control=False, dir=d) as s:
            fields = status(s.pid)
            assert fields["Uid"].split() == ["23456"] * 4
            assert fields["Gid"].split() == ["12345"] * 4
            assert fields["Groups"].split() == ["12345"]


def private_image(folder):
    """An image that root alone may open, in a folder of its own in one of nobody's."""
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    os.mkdir(f"{folder}/private", 0o700)
    path = f"{folder}/private/image"
    with open(path, "wb") as f:
        f.truncate(1 << 20)
    os.chmod(path, 0o600)
    return path


@test
def another_user_has_images_that_only_root_may_open():
    if os.getuid() != 0:
        skip("only root can become another user")
    for key in (), ("direct=true",):
        with tmpdir() as d:
            path = private_image(d)
            with Server("-u", "nobody", "--disk", "vda", "file", path, *key, dir=d) as s:
                assert status(s.pid)["Uid"].split()[0] != "0"
                first, second = s.nbd("vda"), s.nbd("vda")
                first.pwrite(b"x" * 4096, 0)
                first.flush()
                s.qmp().cmd("view-create", disk="vda", name="v")
                first.shutdown()
                second.pwrite(b"y" * 4096, 0)
                s.qmp().cmd("block_resize", **{"node-name": "vda", "size": 2 << 20})
                assert s.nbd("vda").get_size() == 2 << 20  # a new client, after one has gone
            with open(path, "rb") as f:
                assert f.read(4096) == b"y" * 4096
    with tmpdir() as d:
        path = private_image(d)
        with Server("-r", "-u", "nobody", "--disk", "vda", "file", path, dir=d) as s:
            assert s.nbd("vda").is_read_only()


@test
def another_user_and_a_plugin_of_nbdkit():
    if os.getuid() != 0:
        skip("only root can become another user")
    with tmpdir() as d:
        path = private_image(d)
        result = nbdfleece("-U", "-", "-u", "nobody", "split", path, "--run", "true", check=False)
        assert result.returncode == 1 and "Permission denied" in result.stderr, result.stderr


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
