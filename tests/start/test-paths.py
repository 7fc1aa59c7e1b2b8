# SPDX-License-Identifier: BSD-3-Clause
"""The server checks at its start all paths of the command line that it uses later, as the user that
it becomes. What cannot work is an error then, before any client can connect."""

import os
import pwd
import select
import signal

import fleece
from fleece import Server, nbdfleece, tmpdir
from tap import main, skip, test

import tlslib


def refused(*args, env=None, cwd=None, pid=None):
    """The one line on standard error of a start that fails, before clients could connect."""
    with tmpdir() as d:
        os.chmod(d, 0o777)  # for -u
        result = nbdfleece("-f", "-U", f"{d}/s", "-P", pid or f"{d}/pid", *args, "null", check=False,
                           env=env, cwd=cwd)
        assert result.returncode == 1, (args, result)
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("nbdfleece: error: "), result.stderr
        assert not os.path.exists(f"{d}/pid")
        return lines[0][len("nbdfleece: error: "):]


def nobodys(*args, **kwargs):
    """Like refused(), with -u nobody."""
    if os.getuid() != 0:
        skip("only root can become another user")
    return refused("-u", "nobody", *args, **kwargs)


@test
def a_scratch_folder_that_is_not_one():
    with tmpdir() as d:
        with open(f"{d}/file", "w", encoding="ascii"):
            pass
        for control in [], ["-C", f"{d}/qmp"]:
            assert refused(*control, "--scratch", f"{d}/none") == \
                f"option '--scratch': scratch: {d}/none: No such file or directory"
            assert refused(*control, "--scratch", f"{d}/file") == \
                f"option '--scratch': scratch: {d}/file: Not a directory"
            assert not os.path.exists(f"{d}/qmp")
        # The caller gets the error even if the server would go to the background.
        result = nbdfleece("-U", f"{d}/s", "--scratch", "none", "null", cwd=d, check=False)
        assert result.returncode == 1 and f"{d}/none" in result.stderr, result


@test
def a_scratch_folder_that_the_user_cannot_write_to():
    with tmpdir() as d:
        os.mkdir(f"{d}/scratch", 0o700)
        os.chmod(d, 0o777)
        assert nobodys("--scratch", f"{d}/scratch") == \
            f"option '--scratch': scratch: {d}/scratch: Permission denied"
        os.chown(f"{d}/scratch", pwd.getpwnam("nobody").pw_uid, -1)
        with Server("-u", "nobody", "--scratch", f"{d}/scratch", "memory", "1M", control=False, dir=d):
            pass


@test
def a_TMPDIR_that_is_no_folder():
    with tmpdir() as d:
        none = {"TMPDIR": f"{d}/none"}
        assert refused("-C", f"{d}/qmp", env=none) == \
            f"TMPDIR: scratch: {d}/none: No such file or directory"
        os.mkdir(f"{d}/there")
        for more in ["--scratch", f"{d}/there"], []:  # here the server does not use TMPDIR
            with Server(*more, "memory", "1M", control=bool(more), env=none) as s:
                s.nbd().pread(512, 0)
        result = nbdfleece("null", "--run", "true", env=none, check=False)
        assert result.returncode == 1 and f"'{d}/none/nbdfleece-" in result.stderr, result


@test
def a_TMPDIR_that_is_relative():
    """The path counts from the folder of the caller. In the background the server is in another
    one."""
    with tmpdir() as d:
        os.mkdir(f"{d}/tmp")
        nbdfleece("-U", "s", "-P", "pid", "-C", "qmp", "memory", "1M", cwd=d,
                  env={**fleece.sanitizer_env(d), "TMPDIR": "tmp"})
        with open(f"{d}/pid", encoding="ascii") as f:
            pid = int(f.read())
        pidfd = os.pidfd_open(pid)
        try:
            with fleece.Qmp(f"{d}/qmp") as q:
                q.cmd("view-create", disk="disk0", name="v")
                files = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
                assert any(f.startswith(f"{os.path.realpath(d)}/tmp/") for f in files), files
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            assert select.select([pidfd], [], [], fleece.SOON)[0], "the server does not end"
            os.close(pidfd)
        assert fleece.sanitizer_reports(d) == ""


@test
def a_TMPDIR_that_is_too_long_for_a_socket():
    with tmpdir() as d:
        long = f"{d}/{'x' * 100}"
        os.mkdir(long)
        path = nbdfleece("memory", "1M", "--run", 'echo "$unixsocket"; test -S "$unixsocket"',
                         env={"TMPDIR": long}).stdout.strip()
        assert path.startswith("/tmp/nbdfleece-") and not os.path.exists(os.path.dirname(path)), path


@test
def a_pid_file_that_cannot_be_written():
    with tmpdir() as d:
        for bad, why in ((d, "Is a directory"), (f"{d}/none/pid", "No such file or directory"),
                         (f"{d}/s/pid", "Not a directory")):
            if why == "Not a directory":
                with open(f"{d}/s", "w", encoding="ascii"):
                    pass
            assert refused(pid=bad) == f"cannot write PID file '{bad}': {why}"
        os.mkdir(f"{d}/private", 0o700)
        os.chmod(d, 0o777)
        assert nobodys(pid=f"{d}/private/pid") == \
            f"cannot write PID file '{d}/private/pid': Permission denied"


@test
def keys_that_cannot_be_read():
    with tmpdir() as d:
        assert refused("--tls-psk", f"{d}/none") == f"TLS: '{d}/none': No such file or directory"
        assert refused("--tls-psk", d) == f"TLS: '{d}': Is a directory"
        with open(tlslib.psk(), encoding="ascii") as f, \
                open(f"{d}/keys", "w", encoding="ascii") as copy:
            copy.write(f.read())
        os.chmod(f"{d}/keys", 0o600)
        os.chmod(d, 0o777)
        # GnuTLS opens the file for each client, when the server has become that user.
        assert nobodys("--tls-psk", f"{d}/keys") == f"TLS: '{d}/keys': Permission denied"


@test
def certificates_that_cannot_be_read():
    with tmpdir() as d:
        assert refused("--tls-certificates", f"{d}/none") == \
            f"TLS: '{d}/none/ca-cert.pem': No such file or directory"


@test
def a_control_socket_that_cannot_be_made():
    with tmpdir() as d:
        assert f"{d}/none/qmp" in refused("-C", f"{d}/none/qmp")
        assert "x" * 200 in refused("-C", f"{d}/{'x' * 200}")
        os.mkdir(f"{d}/private", 0o700)
        os.chmod(d, 0o777)
        assert "Permission denied" in nobodys("-C", f"{d}/private/qmp")


main()
