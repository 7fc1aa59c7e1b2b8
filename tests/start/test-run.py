# SPDX-License-Identifier: BSD-3-Clause
"""--run and --print-uri: the variables and the URI that a command gets, which are nbdkit's, above all
those of TLS; and the end of the server with the command."""

import os
import signal
import urllib.parse

import fleece
from fleece import nbdfleece, tmpdir
from tap import main, test

import tlslib

VARIABLES = "uri", "nbd", "unixsocket", "port", "exportname", "tls", "tls_certificates", "tls_psk"
# A variable that is not set is "-".
SCRIPT = "; ".join(f'printf "%s\\n" "${{{name}--}}"' for name in VARIABLES)
TCP = "-i", "localhost", "-p", "0"
# libnbd tells a TLS server the address as a name, and GnuTLS refuses a name with colons.
IPV4 = "-i", "127.0.0.1", "-p", "0"


def told(*args, after="", **env):
    """The variables as a dictionary. "more" is the output of `after`, a command that runs last."""
    out = nbdfleece(*args, "memory", "1M", "--run", f"{SCRIPT}; {after}", env=env).stdout
    lines = out.split("\n", len(VARIABLES))
    return {**dict(zip(VARIABLES, lines)), "more": lines[-1]}


def query(t):
    assert t["uri"] == t["nbd"], t
    return urllib.parse.parse_qs(urllib.parse.urlsplit(t["uri"]).query, strict_parsing=True)


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
def without_tls():
    # Variables that the caller happens to have are replaced or removed.
    t = told(tls="2", tls_psk="k", tls_certificates="c", port="1")
    assert query(t) == {"socket": [t["unixsocket"]]}, t
    assert [t[name] for name in VARIABLES[3:]] == ["", "", "-", "", ""], t
    assert t["uri"].startswith("nbd+unix:"), t
    # Credentials that are given but not used.
    t = told("--tls=off", "--tls-psk=/no/such", "--tls-certificates=/no", "--tls-verify-peer", *TCP)
    assert t["uri"] == f"nbd://127.0.0.1:{t['port']}/" or "::1" in t["uri"], t
    assert (t["tls"], t["tls_psk"], t["tls_certificates"]) == ("-", "/no/such", "/no"), t


@test
def optional_tls():
    t = told(f"--tls-certificates={tlslib.certs()}", after='nbdinfo --size "$uri"')
    assert query(t) == {"socket": [t["unixsocket"]]} and t["uri"].startswith("nbd+unix:"), t
    assert (t["tls"], t["tls_certificates"], t["tls_psk"]) == ("1", tlslib.certs(), ""), t
    assert t["more"] == f"{1 << 20}\n", t


@test
def certificates_that_are_required():
    fleece.require_program("nbdinfo")
    folder = tlslib.certs()
    for verify in (), ("--tls-verify-peer",):
        t = told("--tls=require", f"--tls-certificates={folder}", *verify, *IPV4, "-e", "disk0",
                 after='nbdinfo --size "$uri"')
        assert query(t) == {"tls-certificates": [folder]} and t["uri"].startswith("nbds://"), t
        assert (t["tls"], t["tls_certificates"], t["tls_psk"]) == ("2", folder, ""), t
        assert t["more"] == f"{1 << 20}\n", t
    t = told("--tls=require", f"--tls-certificates={folder}")
    assert query(t) == {"socket": [t["unixsocket"]], "tls-certificates": [folder]}, t


@test
def keys_that_are_required():
    """If there are keys and certificates, the keys count, as in nbdkit. The URI says the same."""
    fleece.require_program("nbdinfo")
    keys = tlslib.psk()
    certificates = f"--tls-certificates={tlslib.certs()}", "--tls-verify-peer"
    for more in (), ("--tls-verify-peer",), certificates:
        t = told("--tls=require", f"--tls-psk={keys}", *more,
                 after='nbdinfo --size "$uri"', LOGNAME="alice")
        assert query(t) == {"socket": [t["unixsocket"]], "tls-psk-file": [keys]}, t
        assert t["uri"].startswith("nbds+unix:") and (t["tls"], t["tls_psk"]) == ("2", keys), t
        assert t["more"] == f"{1 << 20}\n", t
    assert t["tls_certificates"] == tlslib.certs(), t


@test
def paths_of_credentials():
    """The URI works in every folder and with any characters in the path. The variables have the
    paths as they were given."""
    with tmpdir() as d:
        strange = f"{d}/a b&c=d?e#f%41"
        os.mkdir(strange)
        os.symlink(tlslib.psk(), f"{strange}/k")
        given = os.path.relpath(f"{strange}/k", d)
        out = nbdfleece("--tls=require", "--tls-psk", given, "memory", "1M", "--run",
                        'printf "%s\\n" "$tls_psk"; cd /; nbdinfo --size "$uri"', cwd=d,
                        env={"LOGNAME": "bob"}).stdout
        assert out == f"{given}\n{1 << 20}\n", out
        out = nbdfleece("--tls=require", "--tls-psk", given, "--print-uri", "memory", "1M", "--run",
                        'printf "%s\\n" "$uri"', cwd=d).stdout.splitlines()
        assert len(out) == 2 and out[0] == out[1], out
        assert urllib.parse.parse_qs(urllib.parse.urlsplit(out[0]).query)["tls-psk-file"] == \
            [f"{os.path.realpath(d)}/{given}"], out


main()
