# SPDX-License-Identifier: BSD-3-Clause
"""The sockets that clients come by (-U, -p, -i, -4, -6, --vsock, -s, socket activation), and limits
of clients."""

import os
import socket
import stat
import struct
import subprocess

import nbd

import fleece
from fleece import NBDFLEECE, Server, nbdfleece, run, sanitizer_env, tmpdir, uri
from tap import main, skip, test


def size_at(where):
    h = nbd.NBD()
    h.connect_uri(where)
    size = h.get_size()
    h.shutdown()
    return size


def printed_uri(*args, **kwargs):
    """Start a server with --print-uri: (server, its URI)."""
    s = Server("--print-uri", *args, stdout=subprocess.PIPE, text=True, **kwargs)
    s.start()
    return s, s.process.stdout.readline().strip()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


@test
def unix_socket():
    with Server("memory", "1M") as s:
        assert stat.S_ISSOCK(os.stat(s.socket).st_mode)
        assert size_at(s.uri()) == 1 << 20
        assert size_at(s.uri("disk0")) == 1 << 20


@test
def a_relative_unix_socket():
    with tmpdir() as d:
        with Server("-U", "rel", "memory", "1M", unix=False, cwd=d):
            assert size_at(uri(unix=f"{d}/rel")) == 1 << 20


@test
def a_stale_unix_socket_is_replaced_and_a_live_one_is_not():
    with tmpdir() as d:
        with Server("memory", "1M", dir=d) as s:
            result = nbdfleece("-f", "-U", s.socket, "null", check=False)
            assert result.returncode == 1, result
            assert f"{s.socket}: another process listens on it" in result.stderr, result
            s.kill()
            assert os.path.exists(s.socket)
        with Server("memory", "2M", dir=d) as s:
            assert size_at(s.uri()) == 2 << 20


@test
def a_file_that_is_not_a_socket_is_not_replaced():
    with tmpdir() as d:
        with open(f"{d}/file", "w") as f:
            f.write("precious")
        result = nbdfleece("-f", "-U", f"{d}/file", "null", check=False)
        assert result.returncode == 1, result
        assert f"{d}/file: a file of that name is there already" in result.stderr, result
        with open(f"{d}/file") as f:
            assert f.read() == "precious"


@test
def a_started_servers_socket_is_removed_only_if_it_is_its_own():
    with tmpdir() as d, socket.socket(socket.AF_UNIX) as other, Server("memory", "1M") as s:
        q, path = s.qmp(), f"{d}/nbd"
        address = {"type": "unix", "data": {"path": path}}
        q.cmd("nbd-server-start", addr=address)
        os.rename(path, f"{d}/old")
        other.bind(path)
        q.cmd("nbd-server-stop")
        assert os.path.exists(path)


@test
def a_private_unix_socket_goes_away():
    result = nbdfleece("-U", "-", "memory", "1M", "--run", 'echo "$unixsocket"; test -S "$unixsocket"')
    path = result.stdout.strip()
    assert path.endswith("/socket")
    assert not os.path.exists(os.path.dirname(path))


@test
def tcp_on_a_free_port_of_one_address():
    s, where = printed_uri("-p", "0", "-i", "127.0.0.1", "memory", "1M", unix=False)
    with s:
        assert where.startswith("nbd://127.0.0.1:"), where
        assert size_at(where) == 1 << 20


@test
def tcp_on_a_free_port_of_all_addresses():
    if not has_ipv6():
        skip("this machine has no IPv6")
    s, where = printed_uri("-p", "0", "memory", "1M", unix=False)
    with s:
        port = where.split(":")[2].strip("/")
        for host in "127.0.0.1", "[::1]":
            assert size_at(f"nbd://{host}:{port}") == 1 << 20, host


@test
def tcp_ipv4_only():
    s, where = printed_uri("-p", "0", "-4", "memory", "1M", unix=False)
    with s:
        assert where.startswith("nbd://localhost:"), where
        port = int(where.split(":")[2].strip("/"))
        assert size_at(f"nbd://127.0.0.1:{port}") == 1 << 20
        if has_ipv6():
            try:
                socket.create_connection(("::1", port)).close()
                raise AssertionError("IPv6 answers")
            except ConnectionRefusedError:
                pass


@test
def tcp_ipv6_only():
    if not has_ipv6():
        skip("this machine has no IPv6")
    s, where = printed_uri("-p", "0", "-4", "-6", "memory", "1M", unix=False)
    with s:
        port = int(where.split(":")[2].strip("/"))
        assert size_at(f"nbd://[::1]:{port}") == 1 << 20
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            raise AssertionError("IPv4 answers")
        except ConnectionRefusedError:
            pass


@test
def tcp_and_unix_at_once():
    s, where = printed_uri("-p", "0", "-i", "127.0.0.1", "memory", "1M")
    with s:
        assert where == s.uri(), where  # the Unix socket is told first
        port = None
        for line in open(f"/proc/{s.pid}/net/tcp"):
            fields = line.split()
            if fields[3] == "0A" and owns(s.pid, fields[9]):
                port = int(fields[1].split(":")[1], 16)
        assert port, "no TCP socket is listening"
        assert size_at(s.uri()) == size_at(f"nbd://127.0.0.1:{port}") == 1 << 20


def owns(pid, inode):
    folder = f"/proc/{pid}/fd"
    return any(os.readlink(f"{folder}/{fd}") == f"socket:[{inode}]" for fd in os.listdir(folder))


@test
def a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = nbdfleece("-f", "-i", "127.0.0.1", "-p", port, "null", check=False)
        assert result.returncode == 1, result
        assert port in result.stderr and "in use" in result.stderr, result.stderr


def free_vsock_port():
    """A port that no other test uses at the same time: the kernel gives each number once, until it
    has given all."""
    with socket.socket(socket.AF_VSOCK) as s:
        s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        return str(s.getsockname()[1])


@test
def vsock_is_listened_on():
    try:
        socket.socket(socket.AF_VSOCK).close()
    except OSError as e:
        skip(f"there is no AF_VSOCK here: {e}")
    port = free_vsock_port()
    out = nbdfleece("--vsock", "-p", port, "memory", "1M", "--run", 'echo "$uri" "$port"').stdout
    assert out == f"nbd+vsock://1:{port}/ {port}\n", out


@test
def vsock_serves():
    try:
        with socket.socket(socket.AF_VSOCK) as s:
            s.bind((1, 0xffffffff))
            s.listen()
            with socket.socket(socket.AF_VSOCK) as c:
                c.settimeout(5)
                c.connect((1, s.getsockname()[1]))
    except OSError as e:
        skip(f"AF_VSOCK has no loopback here: {e}")
    port = free_vsock_port()
    with Server("--vsock", "-p", port, "memory", "1M", unix=False):
        h = nbd.NBD()
        h.connect_vsock(1, int(port))
        assert h.get_size() == 1 << 20


@test
def single_on_standard_input_and_output():
    h = nbd.NBD()
    h.connect_command([NBDFLEECE, "-s", "memory", "1M"])
    assert h.get_size() == 1 << 20
    h.pwrite(b"x" * 512, 512)
    assert h.pread(1024, 0) == bytes(512) + b"x" * 512
    h.shutdown()


@test
def single_ends_when_its_client_goes():
    ours, theirs = socket.socketpair()
    with tmpdir() as d:
        server = subprocess.Popen([NBDFLEECE, "-s", "memory", "1M"], stdin=theirs, stdout=theirs,
                                  env=sanitizer_env(d), preexec_fn=fleece.die_with_parent)
        theirs.close()
        assert ours.recv(8, socket.MSG_WAITALL) == b"NBDMAGIC"
        ours.close()
        assert server.wait(fleece.SOON) == 0
        assert fleece.sanitizer_reports(d) == ""


def start_activated(listeners, *args, folder, pid="self", **kwargs):
    """A server that is given these listening sockets as descriptors 3, 4, ..."""
    shift = "; ".join(f"exec {3 + i}<&{20 + i} {20 + i}<&-" for i in range(len(listeners)))
    pid_word = "$$" if pid == "self" else pid
    script = (f"{shift}; LISTEN_PID={pid_word} LISTEN_FDS={len(listeners)}; "
              f"export LISTEN_PID LISTEN_FDS; exec \"$@\"")

    def place():
        fleece.die_with_parent()
        for i, l in enumerate(listeners):
            os.dup2(l.fileno(), 20 + i)

    with open(f"{folder}/log", "wb") as log:
        return subprocess.Popen(["/bin/bash", "-c", script, "bash", NBDFLEECE, *args],
                                stdin=subprocess.DEVNULL, stderr=log, env=sanitizer_env(folder),
                                close_fds=False, preexec_fn=place, **kwargs)


@test
def socket_activation():
    with tmpdir() as d, socket.socket(socket.AF_UNIX) as a, socket.socket() as b:
        a.bind(f"{d}/s")
        a.listen()
        b.bind(("127.0.0.1", 0))
        b.listen()
        os.mkfifo(f"{d}/pid")
        server = start_activated([a, b], "-P", f"{d}/pid", "memory", "1M", folder=d)
        pid = fleece.wait_ready(server, f"{d}/pid")
        assert pid == server.pid  # it has stayed in the foreground
        assert size_at(uri(unix=f"{d}/s")) == 1 << 20
        assert size_at(f"nbd://127.0.0.1:{b.getsockname()[1]}") == 1 << 20
        with open(f"/proc/{pid}/environ") as f:
            assert "LISTEN_FDS" in f.read()  # as at its start
        server.terminate()
        assert server.wait(fleece.SOON) == 0
        assert fleece.sanitizer_reports(d) == ""


@test
def socket_activation_by_nbdinfo():
    nbdinfo = fleece.require_program("nbdinfo")
    out = run(nbdinfo, "--size", "--", "[", NBDFLEECE, "memory", "3M", "]").stdout
    assert int(out) == 3 << 20


@test
def socket_activation_refuses_sockets_of_its_own():
    with tmpdir() as d, socket.socket(socket.AF_UNIX) as a:
        a.bind(f"{d}/s")
        a.listen()
        for option in ["-U", f"{d}/other"], ["-p", "0"], ["-s"], ["--run", "true"]:
            server = start_activated([a], *option, "memory", "1M", folder=d)
            assert server.wait(fleece.SOON) == 1, option
            with open(f"{d}/log") as f:
                assert "socket activation" in f.read()


@test
def socket_activation_with_what_is_no_listening_socket():
    with tmpdir() as d, socket.socket(socket.AF_UNIX) as a:
        server = start_activated([a], "memory", "1M", folder=d)
        assert server.wait(fleece.SOON) == 1
        with open(f"{d}/log") as f:
            assert "descriptor 3 is not a listening stream socket" in f.read()


@test
def socket_activation_meant_for_another_process_is_not_ours():
    with tmpdir() as d, socket.socket(socket.AF_UNIX) as a:
        a.bind(f"{d}/s")
        a.listen()
        server = start_activated([a], "-f", "-U", "-", "--run", "true", "memory", "1M", folder=d,
                                 pid="1")
        assert server.wait(fleece.SOON) == 0


@test
def max_connections():
    with Server("--max-connections", "2", "memory", "1M") as s:
        first, second = s.nbd(), s.nbd()
        with socket.socket(socket.AF_UNIX) as third:
            third.settimeout(fleece.SOON)
            third.connect(s.socket)
            second.pread(512, 0)
            third.setblocking(False)
            try:
                third.recv(8)
                raise AssertionError("a third client is served")
            except BlockingIOError:
                third.settimeout(fleece.SOON)
            first.shutdown()
            assert third.recv(8, socket.MSG_WAITALL) == b"NBDMAGIC"  # it has waited for its turn
        second.pread(512, 0)


def keepalive_timer(*args, enter=False):
    """True if the kernel checks with keepalive probes whether the peer of such a server still
    lives."""
    s, where = printed_uri("-p", "0", "-i", "127.0.0.1", *args, "memory", "1M", unix=False)
    with s, socket.socket() as c:
        c.connect(("127.0.0.1", int(where.split(":")[2].strip("/"))))
        assert c.recv(8, socket.MSG_WAITALL) == b"NBDMAGIC"  # the server serves it
        c.recv(10, socket.MSG_WAITALL)
        if enter:
            c.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 1, 0))  # EXPORT_NAME ""
            assert len(c.recv(10, socket.MSG_WAITALL)) == 10
        # The server's side of our connection. proc(5): its timer is 00 (none), 01 (data that is not
        # acknowledged yet) or 02 (keepalive, which runs for a long time).
        ours = "%08X:%04X" % (0x0100007F, c.getsockname()[1])
        while True:
            for line in open(f"/proc/{s.pid}/net/tcp"):
                fields = line.split()
                if fields[2] == ours and fields[5][:2] != "01":
                    return fields[5][:2] == "02" and int(fields[5][3:], 16) > 0


@test
def keepalive():
    assert not keepalive_timer()
    assert keepalive_timer("--keepalive")
    assert keepalive_timer(enter=True)
    with Server("--keepalive", "memory", "1M") as s:
        assert size_at(s.uri()) == 1 << 20  # does no harm on a Unix socket


@test
def run_without_a_socket_is_private():
    """There is no port by which others could connect, as in nbdkit since 1.36."""
    out = nbdfleece("memory", "1M", "--run",
                    'echo "$uri"; echo "$port"; echo "$unixsocket"; nbdinfo --size "$uri"; '
                    'cat /proc/$PPID/net/tcp /proc/$PPID/net/tcp6; echo; '
                    'ls -l /proc/$PPID/fd').stdout
    where, port, path, size, rest = out.split("\n", 4)
    assert where == uri(unix=path), where
    assert port == "" and int(size) == 1 << 20, out
    sockets, descriptors = rest.split("\n\n")
    for line in sockets.splitlines():
        fields = line.split()
        assert fields[3] != "0A" or f"socket:[{fields[9]}]" not in descriptors, line
    assert not os.path.exists(os.path.dirname(path))


@test
def handshake_timeout():
    for option in "--handshake-timeout=2", "--timeout=1.5":  # time enough for an honest client
        drops_silent_clients(option)


def drops_silent_clients(option):
    with Server(option, "memory", "1M") as s:
        settled = s.nbd()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.settimeout(fleece.SOON)
            silent.connect(s.socket)
            received = b"begin"
            while received:
                try:
                    received = silent.recv(4096)
                except ConnectionResetError:
                    break
        settled.pread(512, 0)


@test
def what_clients_are_offered():
    with Server("memory", "1M") as s:
        h = s.nbd()
        assert h.get_structured_replies_negotiated()
        assert h.can_multi_conn()
    for option in "--no-sr", "--no-structured-replies":
        with Server(option, "memory", "1M") as s:
            h = s.nbd()
            assert not h.get_structured_replies_negotiated()
            assert h.can_multi_conn()
    for option in "--no-mc", "--no-meta-contexts":
        with Server(option, "memory", "1M") as s:
            h = s.nbd(contexts=["base:allocation"])
            assert h.get_structured_replies_negotiated()
            assert not h.can_meta_context("base:allocation")
            assert h.can_multi_conn()
    # Without the flag for fixed newstyle, NBD_OPT_EXPORT_NAME is the only option.
    with Server("--mask-handshake", "0", "memory", "1M") as s:
        h = s.nbd()
        assert h.get_protocol() == "newstyle"
        assert h.get_size() == 1 << 20


@test
def readonly():
    with Server("-r", "memory", "1M") as s:
        h = s.nbd()
        assert h.is_read_only()
        h.set_strict_mode(0)
        try:
            h.pwrite(b"x" * 512, 0)
            raise AssertionError("it was written")
        except nbd.Error as e:
            assert e.errno in ("EPERM", "EROFS"), e


main()
