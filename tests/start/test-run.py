# SPDX-License-Identifier: BSD-3-Clause
"""The variables of the command of --run, and the URI of --print-uri. They are those of nbdkit; most
tests are about TLS."""

import os
import urllib.parse

import fleece
from fleece import nbdfleece
from tap import main, test

import tlslib

VARIABLES = "uri", "nbd", "unixsocket", "port", "exportname", "tls", "tls_certificates", "tls_psk"
# A variable that is not set is "-".
SCRIPT = "; ".join(f'printf "%s\\n" "${{{name}--}}"' for name in VARIABLES)
TCP = "-i", "localhost", "-p", "0"


def told(*args, after="", **env):
    """The variables as a dictionary. "more" is the output of `after`, a command that runs last."""
    out = nbdfleece(*args, "memory", "1M", "--run", f"{SCRIPT}; {after}", env=env).stdout
    lines = out.split("\n", len(VARIABLES))
    return {**dict(zip(VARIABLES, lines)), "more": lines[-1]}


def query(t):
    assert t["uri"] == t["nbd"], t
    return urllib.parse.parse_qs(urllib.parse.urlsplit(t["uri"]).query, strict_parsing=True)


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
        t = told("--tls=require", f"--tls-certificates={folder}", *verify, *TCP, "-e", "disk0",
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
    with fleece.tmpdir() as d:
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
