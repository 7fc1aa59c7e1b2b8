# SPDX-License-Identifier: BSD-3-Clause
"""Servers, QMP clients and files for tests.

    with Server("--disk", "vda", "memory", "1G") as s:
        h = s.nbd("vda", contexts=["base:allocation"])
        h.pwrite(b"x" * 512, 0)
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="b0")

Nothing here waits by sleeping: a server is ready when it writes its PID file, which is a FIFO.
"""

import collections
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.parse

import memory_folder
import tap

BUILD = os.environ.get("top_builddir", os.getcwd())
SOURCE = os.environ.get("top_srcdir", os.path.join(os.path.dirname(__file__), "..", ".."))
NBDFLEECE = os.path.join(BUILD, "nbdfleece")
FLEECECTL = os.path.join(BUILD, "fleecectl")
SANITIZER = os.environ.get("SANITIZER", "no")  # the build has: no, address or thread

# What must happen soon happens within this many seconds, on a busy machine too.
SOON = 60

_libc = ctypes.CDLL(None)


@contextlib.contextmanager
def tmpdir():
    """A new folder, which is removed at the end. Its path is short enough for Unix sockets."""
    path = tempfile.mkdtemp(prefix="fleece-")
    try:
        yield path
    finally:
        remove_folder(path)


def remove_folder(path):
    """With all that servers which were killed have left of it elsewhere."""
    memory_folder.forget_all(path)
    shutil.rmtree(path, ignore_errors=True)


def die_with_parent():
    """Called in a child before exec, so that the child does not outlive its test. It ends with the thread that
    has started it: what is to last is not started from a hook on another thread."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def by_hand():
    """Called in a child before exec, so that it is one that somebody has started by hand: the signals that
    whoever runs the tests ignores, as nohup does, end it. It does not outlive its test."""
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, signal.SIG_DFL)
    die_with_parent()


def require_program(name):
    """The path of a program; skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        tap.skip(f"{name} is not installed")
    return path


def require_plugin(name):
    """Skip the test where this machine's nbdkit has no such plugin."""
    folders = [os.environ.get("NBDKIT_PLUGINDIR", "")]
    if not any(os.path.exists(f"{d}/nbdkit-{name}-plugin.so") for d in folders):
        tap.skip(f"nbdkit's {name} plugin is not installed")


def sanitizer_env(folder):
    """An environment in which the sanitizers of a child write their reports into `folder`. A child
    that goes to the background does so too."""
    env = dict(os.environ)
    for variable in "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS":
        options = [o for o in env.get(variable, "").split(":") if o]
        env[variable] = ":".join(options + [f"log_path={folder}/sanitizer"])
    return env


def sanitizer_reports(folder):
    """All that sanitizers wrote into `folder`; "" if they found nothing."""
    reports = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("sanitizer."):
            with open(os.path.join(folder, name), errors="replace") as f:
                reports.append(f.read())
    return "".join(reports)


def run(*command, check=True, timeout=SOON, env=None, **popen):
    """Run a program to its end. Returns subprocess.CompletedProcess with text in stdout and stderr.
    check: fail the test if it exits with anything but 0. A sanitizer report always fails it."""
    with tmpdir() as folder:
        popen.setdefault("stdin", subprocess.DEVNULL)
        if "input" in popen:
            del popen["stdin"]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                timeout=timeout, env={**sanitizer_env(folder), **(env or {})},
                                preexec_fn=die_with_parent, **popen)
        reports = sanitizer_reports(folder)
        assert not reports, f"{command}: {reports}"
    if check and result.returncode != 0:
        raise AssertionError(f"{command}: exit code {result.returncode}\n{result.stdout}"
                             f"{result.stderr}")
    return result


def nbdfleece(*args, **kwargs):
    """Run the server to its end; like run()."""
    return run(NBDFLEECE, *args, **kwargs)


def fleecectl(*args, **kwargs):
    """Run the client to its end; like run()."""
    return run(FLEECECTL, *args, **kwargs)


def uri(export="", *, unix=None, port=None, host="localhost"):
    """An NBD URI."""
    name = urllib.parse.quote(export, safe="")
    if unix is not None:
        return f"nbd+unix:///{name}?socket={urllib.parse.quote(unix)}"
    return f"nbd://{host}:{port}/{name}"


class QmpError(Exception):
    """An error reply: its class and its description."""

    def __init__(self, cls, desc):
        super().__init__(f"{cls}: {desc}")
        self.cls = cls
        self.desc = desc


class Qmp:
    """A monitor: one connection to a control socket. `path` may also be a TCP (host, port), of
    something that passes all on."""

    def __init__(self, path, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(path, str) else socket.AF_INET)
        self.socket.settimeout(SOON)
        self.socket.connect(path)
        self._buffer = b""
        self._events = collections.deque()
        self._id = 0
        self.greeting = self.read()
        if negotiate:
            self.cmd("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def hang_up(self):
        """Tell the server that nothing more comes, and wait until it has closed its side."""
        self.socket.shutdown(socket.SHUT_WR)
        try:
            while True:
                self.read()
        except EOFError:
            pass

    def write(self, data):
        """Send bytes as they are, or anything else as JSON."""
        if not isinstance(data, bytes):
            data = json.dumps(data).encode() + b"\r\n"
        self.socket.sendall(data)

    def read(self):
        """The next object that the server sends, whatever it is; EOFError at its end."""
        while b"\n" not in self._buffer:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError("the control socket was closed")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def reply(self, id=None):
        """The next reply, unchanged. Events that come before it are kept. With an `id`, the reply
        must have that id."""
        while True:
            obj = self.read()
            if "event" in obj:
                self._events.append(obj)
                continue
            assert id is None or obj.get("id") == id, f"reply to {id} expected, got {obj}"
            return obj

    def cmd(self, command, /, **arguments):
        """Execute a command: its `return`, or QmpError. Arguments with a dash: **{"a-b": 1}."""
        self._id += 1
        request = {"execute": command, "id": self._id}
        if arguments:
            request["arguments"] = arguments
        self.write(request)
        reply = self.reply(self._id)
        if "error" in reply:
            raise QmpError(reply["error"]["class"], reply["error"]["desc"])
        return reply["return"]

    def transaction(self, *actions):
        """transaction() of (type, {data}) pairs."""
        return self.cmd("transaction", actions=[{"type": t, "data": d} for t, d in actions])

    def events(self):
        """The events that have come so far and were not taken yet."""
        self.cmd("query-version")  # all events sent before its reply have arrived with it
        taken, self._events = list(self._events), collections.deque()
        return taken

    def wait_event(self, name):
        """Wait for an event of this name and take it; others stay."""
        for event in self._events:
            if event["event"] == name:
                self._events.remove(event)
                return event
        while True:
            obj = self.read()
            assert "event" in obj, f"event {name} expected, got {obj}"
            if obj["event"] == name:
                return obj
            self._events.append(obj)


def wait_ready(process, fifo, what="the server"):
    """Wait until `process` (Popen) has written its PID into `fifo`, an existing FIFO. Returns the
    PID. Raises RuntimeError if the process ends before that."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        text = b""
        while True:
            ready = poll.poll(SOON * 1000)
            assert ready, f"{what} was not ready within {SOON} seconds"
            if any(fd == reader for fd, _ in ready):
                piece = os.read(reader, 4096)
                if piece:
                    text += piece
                elif text:
                    return int(text)
            elif any(fd == pidfd for fd, _ in ready):
                raise RuntimeError(f"{what} ended with {process.wait()} before it was ready")
    finally:
        os.close(pidfd)
        os.close(reader)


def wait_file(process, path):
    """Wait until the file `path` exists, and return True. Return False if `process` (Popen) has
    ended without making it."""
    folder, name = os.path.split(path)
    watch = _libc.inotify_init1(os.O_CLOEXEC)
    assert watch >= 0, "inotify"
    pidfd = os.pidfd_open(process.pid)
    try:
        assert _libc.inotify_add_watch(watch, folder.encode(), 0x180) >= 0  # IN_CREATE, IN_MOVED_TO
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while not os.path.exists(path):
            ready = [fd for fd, _ in poll.poll(SOON * 1000)]
            assert ready, f"there was no {path} within {SOON} seconds"
            if watch in ready:
                os.read(watch, 65536)
            elif pidfd in ready:
                return os.path.exists(path)
        return True
    finally:
        os.close(watch)
        os.close(pidfd)


def wait_removed(what, folders):
    """Wait until `what()` returns nothing: paths of files in these folders, which others remove."""
    watch = _libc.inotify_init1(os.O_CLOEXEC)
    assert watch >= 0, "inotify"
    try:
        for folder in folders:
            # IN_DELETE, IN_MOVED_FROM
            assert _libc.inotify_add_watch(watch, folder.encode(), 0x240) >= 0, folder
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        while left := what():
            assert poll.poll(SOON * 1000), f"{left} are still there after {SOON} seconds"
            os.read(watch, 65536)
    finally:
        os.close(watch)


def has_ended(process, within=0):
    """True if `process` (Popen) has ended, or ends `within` so many seconds."""
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


def process_status(pid):
    """The fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


class Server:
    """nbdfleece in the foreground, with a temporary folder of its own (`dir`). Clients can connect
    when __enter__ returns. Leaving the `with` ends the server by SIGTERM; the test fails unless the
    server exits with 0 and no sanitizer has reported anything.

    args       the command line without -f, -P, -U and -C, which are added here
    unix       False: without -U
    control    False: without -C
    dir        a folder to use instead, which stays at the end
    env        is added to the environment
    prefix     a command that runs the server, such as strace
    program    another build of the server"""

    def __init__(self, *args, unix=True, control=True, dir=None, env=None, prefix=(), program=NBDFLEECE,
                 **popen):
        self.args = [str(a) for a in args]
        self._own_dir = dir is None
        self.dir = tempfile.mkdtemp(prefix="fleece-") if dir is None else dir
        self.socket = os.path.join(self.dir, "sock") if unix else None
        self.qmp_path = os.path.join(self.dir, "qmp") if control else None
        self._env = env or {}
        self._prefix = list(prefix)
        self._program = program
        self._popen = popen
        self._monitors = []
        self.process = None
        self.pid = None

    def path(self, name):
        """A path in its folder."""
        return os.path.join(self.dir, name)

    def command(self):
        """The command line that starts it."""
        command = self._prefix + [self._program, "-f", "-P", self.path("pid")]
        if self.socket:
            command += ["-U", self.socket]
        if self.qmp_path:
            command += ["-C", self.qmp_path]
        return command + self.args

    def start(self):
        if os.path.exists(self.path("pid")):
            os.unlink(self.path("pid"))
        os.mkfifo(self.path("pid"))
        os.chmod(self.path("pid"), 0o666)  # also for -u
        with open(self.path("log"), "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stderr=log,
                env={**sanitizer_env(self.dir), **self._env}, preexec_fn=die_with_parent,
                **self._popen)
        try:
            self.pid = wait_ready(self.process, self.path("pid"), "nbdfleece")
        except BaseException:
            tap.note(f"{' '.join(self.command())}\n{self.log()}{sanitizer_reports(self.dir)}")
            self.kill()
            raise
        return self

    def __enter__(self):
        if self.process is not None:
            return self  # start() was called before
        try:
            return self.start()
        except BaseException:
            self._clean()
            raise

    def __exit__(self, kind, value, trace):
        try:
            if self.process is not None:
                if kind is None:
                    self.stop()
                else:
                    if not issubclass(kind, tap.Skip):
                        tap.note(f"{' '.join(self.command())}\n{self.log()}"
                                 f"{sanitizer_reports(self.dir)}")
                    self.kill()
        finally:
            self._clean()

    def _clean(self):
        self.kill()
        for monitor in self._monitors:
            monitor.close()
        if self._own_dir:
            remove_folder(self.dir)

    def wait(self, expect=0):
        """Wait until the server has ended by itself. The test fails if the exit code is not
        `expect` or if a sanitizer has reported anything."""
        code = self.process.wait(SOON)
        self.process = None
        reports = sanitizer_reports(self.dir)
        if code != expect or reports:
            tap.note(self.log())
        assert not reports, reports
        assert code == expect, f"nbdfleece exited with {code}, {expect} expected"

    def stop(self, expect=0):
        """Send SIGTERM and wait for the orderly end. Does nothing if the server has ended
        before."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.wait(expect)
            except subprocess.TimeoutExpired:
                tap.note(self.log())
                raise

    def kill(self):
        """Send SIGKILL: the process crashes. Does nothing if it has ended before."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self):
        """What the server has written to standard error so far."""
        with open(self.path("log"), errors="replace") as f:
            return f.read()

    def uri(self, export=""):
        """The NBD URI of an export on its Unix socket."""
        return uri(export, unix=self.socket)

    def nbd(self, export="", contexts=(), setup=None):
        """A connected libnbd handle. setup(handle) is called before it connects."""
        import nbd
        h = nbd.NBD()
        for context in contexts:
            h.add_meta_context(context)
        if setup:
            setup(h)
        h.connect_uri(self.uri(export))
        return h

    def qmp(self, negotiate=True):
        """A new monitor on its control socket."""
        monitor = Qmp(self.qmp_path, negotiate)
        self._monitors.append(monitor)
        return monitor
