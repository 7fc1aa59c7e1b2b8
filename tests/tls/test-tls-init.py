#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl tls init: what it makes; it overwrites nothing; the commands that it prints work."""

import json
import os
import re
import shlex
import shutil
import stat
import time

from fleece import FLEECECTL, NBDFLEECE, fleecectl, require_program, run, tmpdir
from tap import main, test

OURS = {"ca-cert.pem", "ca-key.pem", "server-cert.pem", "server-key.pem", "client-cert.pem",
        "client-key.pem"}


def snapshot(folder):
    return {os.path.join(where, n): open(os.path.join(where, n), "rb").read()
            for where, _, names in os.walk(folder) for n in names}


def show(path):
    return run(require_program("certtool"), "-i", "--infile", path).stdout


@test
def it_makes_a_folder_for_both_ends():
    with tmpdir() as d:
        told = json.loads(fleecectl("--json", "tls", "init", f"{d}/c", "--host", "a.example.com",
                                    "--host", "192.0.2.7", "--client", "alice", "--client",
                                    "bob@example.com").stdout)
        assert set(os.listdir(f"{d}/c")) == OURS | {"bob@example.com"}
        assert set(os.listdir(f"{d}/c/bob@example.com")) == {"ca-cert.pem", "client-cert.pem",
                                                             "client-key.pem"}
        for path in snapshot(f"{d}/c"):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            assert mode == (0o600 if path.endswith("-key.pem") else 0o644), (path, oct(mode))
        assert stat.S_IMODE(os.stat(f"{d}/c").st_mode) == 0o700
        assert told["directory"] == f"{d}/c"
        assert told["hosts"] == ["a.example.com", "192.0.2.7", "localhost", "127.0.0.1", "::1"]
        assert [(c["name"], c["subject"]) for c in told["clients"]] == \
            [("alice", "CN=alice"), ("bob@example.com", "CN=bob@example.com")]
        assert 2.9 < (told["expires"] - time.time()) / (365.25 * 86400) < 3.1

        ca, server = show(f"{d}/c/ca-cert.pem"), show(f"{d}/c/server-cert.pem")
        client = show(f"{d}/c/bob@example.com/client-cert.pem")
        assert "Certificate Authority (CA): TRUE" in ca and "Certificate signing" in ca
        assert "TLS WWW Server" in server and "TLS WWW Client" not in server
        assert "DNSname: a.example.com" in server and "IPAddress: 192.0.2.7" in server
        assert "TLS WWW Client" in client and "TLS WWW Server" not in client
        assert "Subject: CN=bob@example.com\n" in client
        for text in server, client:
            assert "Certificate Authority (CA): FALSE" in text
            assert "Digital signature" in text and "Key encipherment" in text
        serials = {re.search(r"Serial Number \(hex\): (\w+)", t)[1] for t in (ca, server, client)}
        assert len(serials) == 3


@test
def openssl_agrees():
    openssl = require_program("openssl")
    with tmpdir() as d:
        fleecectl("tls", "init", f"{d}/c")
        for name, purpose in ("server", "sslserver"), ("client", "sslclient"):
            out = run(openssl, "verify", "-x509_strict", "-purpose", purpose, "-CAfile",
                      f"{d}/c/ca-cert.pem", f"{d}/c/{name}-cert.pem").stdout
            assert out.strip().endswith("OK"), out
        result = run(openssl, "verify", "-purpose", "sslserver", "-CAfile", f"{d}/c/ca-cert.pem",
                     f"{d}/c/client-cert.pem", check=False)
        assert result.returncode != 0


@test
def the_commands_that_it_prints_work():
    """They run as printed, but with a plugin in the place of PLUGIN, and on a Unix socket."""
    nbdinfo = require_program("nbdinfo")
    with tmpdir() as d:
        text = fleecectl("tls", "init", f"{d}/c d", "--host", "127.0.0.1", "--client", "x").stdout
        server = shlex.split(re.search(r"^  (nbdfleece .*) PLUGIN \.\.\.$", text, re.M)[1])
        client = shlex.split(re.search(r"^  (nbdinfo .*)$", text, re.M)[1])
        where = client[1].replace("nbds://127.0.0.1/", "")
        run(NBDFLEECE, *server[1:], "-U", "-", "memory", "1M", "--run",
            f'{shlex.quote(nbdinfo)} "nbds+unix:///?socket=$unixsocket&"' + shlex.quote(where[1:]))


@test
def it_overwrites_nothing():
    with tmpdir() as d:
        fleecectl("tls", "init", f"{d}/c")
        before = snapshot(d)
        result = fleecectl("tls", "init", f"{d}/c", check=False)
        assert result.returncode == 1 and "exists: nothing is overwritten" in result.stderr
        assert snapshot(d) == before
        for name in OURS:
            one = f"{d}/{name}.d"
            os.mkdir(one)
            with open(f"{one}/{name}", "w", encoding="ascii") as f:
                f.write("mine")
            result = fleecectl("tls", "init", one, check=False)
            assert result.returncode == 1 and f"{one}/{name} exists" in result.stderr, result
            assert os.listdir(one) == [name]
            shutil.rmtree(one)
        os.mkdir(f"{d}/link")
        os.symlink("/no/where", f"{d}/link/server-key.pem")
        assert fleecectl("tls", "init", f"{d}/link", check=False).returncode == 1
        assert os.listdir(f"{d}/link") == ["server-key.pem"]


@test
def a_failure_half_way_leaves_nothing():
    with tmpdir() as d:
        os.makedirs(f"{d}/c/bob")  # where bob's folder would be
        result = fleecectl("tls", "init", f"{d}/c", "--client", "alice", "--client", "bob",
                           check=False)
        assert result.returncode == 1 and "bob: making the folder: File exists" in result.stderr, result
        assert os.listdir(f"{d}/c") == ["bob"] and os.listdir(f"{d}/c/bob") == []
        result = fleecectl("tls", "init", f"{d}/no/such/parent", check=False)
        assert result.returncode == 1 and f"{d}/no/such/parent: making the folder: No such file" in result.stderr
        # No file may be larger than 2 KiB: a certificate can be written, and a key cannot.
        result = run("sh", "-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "sh", FLEECECTL, "tls",
                     "init", f"{d}/small", check=False)
        assert result.returncode == 1 and "File too large" in result.stderr, result
        assert not os.path.exists(f"{d}/small") or os.listdir(f"{d}/small") == []


@test
def names_that_make_no_sense_are_usage_errors():
    with tmpdir() as d:
        for bad in "../x", "a/b", "", ".hidden", "-x", "a b", "a,O=b", "ä", "x" * 65:
            result = run(FLEECECTL, "tls", "init", f"{d}/c", f"--client={bad}", check=False)
            assert result.returncode == 2, (bad, result)
        for bad in "a b", "", "-x", "a/b", "[::1]", "1.2.3.4:80":
            result = run(FLEECECTL, "tls", "init", f"{d}/c", f"--host={bad}", check=False)
            assert result.returncode == 2, (bad, result)
        assert fleecectl("tls", "init", check=False).returncode == 2
        assert fleecectl("status", "--host", "x", check=False).returncode == 2
        assert os.listdir(d) == []


main()
