# SPDX-License-Identifier: BSD-3-Clause
"""How the server ends: signals, a start that hangs, and clients and disks that hang while it ends."""

import os
import signal
import socket
import subprocess
import time

import nbd

import fleece
from fleece import NBDFLEECE, Server, process_status, tmpdir
from tap import main, test


@test
def sigterm_sigint_and_sigquit_end_it_in_order():
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGQUIT:
        with Server("memory", "1M") as s:
            s.process.send_signal(number)
            s.wait(0)


def wait_for_refusal(path):
    """Until nobody listens on a Unix socket: the server has begun to end."""
    while True:
        with socket.socket(socket.AF_UNIX) as c:
            try:
                c.connect(path)
            except (ConnectionRefusedError, FileNotFoundError):
                return


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
    """timeout(1) sends its signal to the process, and then to its group."""
    with tmpdir() as d, HeldRead(d) as h:
        # Two numbers, so that they cannot become one on the way.
        for number in signal.SIGINT, signal.SIGTERM:
            h.server.process.send_signal(number)
        while int(process_status(h.server.pid)["ShdPnd"], 16):
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
    """A server of three disks, of which `vdb` hangs for good: a client's read does, or its flush or
    close.
    A disk that is closed leaves a file."""

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
                if in_call == "flush":
                    calls["pwrite"] = "cat > /dev/null"
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

    def ends_without_vdb(self):
        """Wait until the server has ended, with the other two disks closed. Returns its log, which says of
        `vdb` alone that something is wrong."""
        self.server.wait(1)
        log = self.server.log()
        assert "disk vdb" in log and "disk vda" not in log and "disk vdc" not in log, log
        assert self.closed() == ["vda", "vdc"], self.closed()
        return log


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
        log = h.ends_without_vdb()
        assert time.monotonic() - begun >= 2
        assert 'export "vdb"' in log and "a READ is in the plugin for 2 s" in log, log
        assert "the server did not end in order" in log, log
        assert not os.path.exists(h.server.qmp_path)
        del client


@test
def a_disk_whose_close_hangs_does_not_keep_the_others():
    with tmpdir() as d, Hung(d, "close", "--stop-timeout", "4") as h:
        h.server.process.send_signal(signal.SIGTERM)
        assert "disk vdb: its plugin has not flushed and closed it for " in h.ends_without_vdb()
        h.wait_begun()


@test
def a_disk_whose_flush_hangs_holds_the_others_up_once():
    """They are closed while one patience, half of the limit, has passed and a second one has not."""
    with tmpdir() as d, Hung(d, "flush", "--stop-timeout", "12") as h:
        client = h.server.nbd("vdb")
        client.pwrite(bytes(512), 0)
        client.shutdown()
        h.server.process.send_signal(signal.SIGTERM)
        assert "disk vdb: its plugin has not flushed and closed it for " in h.ends_without_vdb()
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


main()
