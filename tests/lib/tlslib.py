# SPDX-License-Identifier: BSD-3-Clause
"""TLS for tests: folders with good and bad certificates, keys, and a raw client. The client uses
the TLS of Python, which shares no code with that of the server.

    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        c = TlsClient(s.socket, context(certs()))
        c.go("disk0")
"""

import atexit
import functools
import os
import shutil
import ssl
import subprocess
import tempfile

from fleece import Server, fleecectl, require_program, run

from rawnbd import Client, OPT_STARTTLS, REP_ACK

DISK = "memory", "64M"


@functools.cache
def folder():
    """A temporary folder for this process."""
    path = tempfile.mkdtemp(prefix="fleece-tls-")
    atexit.register(shutil.rmtree, path, True)
    return path


@functools.cache
def certs():
    """The folder that `fleecectl tls init` makes: alice's certificate is in it, bob's in bob/."""
    path = f"{folder()}/certs"
    fleecectl("tls", "init", path, "--client", "alice", "--client", "bob")
    return path


@functools.cache
def psk():
    """A file with the keys of alice and bob."""
    path = f"{folder()}/keys.psk"
    with open(path, "w", encoding="ascii") as f:
        for user in "alice", "bob":
            f.write(f"{user}:{os.urandom(32).hex()}\n")
    return path


@functools.cache
def wrong_psk():
    """Wrong keys for alice, and keys for users whom the server does not know."""
    path = f"{folder()}/wrong.psk"
    with open(path, "w", encoding="ascii") as f:
        for user in "alice", "alic", "mallory":
            f.write(f"{user}:{os.urandom(32).hex()}\n")
    return path


def certificate(name, template, ca=None):
    """A client folder whose certificate certtool makes from `template`, signed by the CA of certs()
    or of the folder `ca`."""
    certtool = require_program("certtool")
    path, ca = f"{folder()}/{name}", ca or certs()
    os.mkdir(path)
    with open(f"{path}/template", "w", encoding="utf-8") as f:
        f.write(template)
    run(certtool, "--generate-privkey", "--key-type=ecdsa", "--outfile", f"{path}/client-key.pem")
    run(certtool, "--generate-certificate", "--load-privkey", f"{path}/client-key.pem",
        "--load-ca-certificate", f"{ca}/ca-cert.pem", "--load-ca-privkey", f"{ca}/ca-key.pem",
        "--template", f"{path}/template", "--outfile", f"{path}/client-cert.pem")
    shutil.copy(f"{certs()}/ca-cert.pem", path)
    return path


GOOD = "tls_www_client\nsigning_key\n"


@functools.cache
def bad_clients():
    """{what is wrong with it: (folder, a word of the server's reason)}"""
    other = f"{folder()}/other-ca"
    fleecectl("tls", "init", other)
    return {
        "of another CA": (certificate("other", "cn = alice\n" + GOOD, other), "issuer"),
        "expired": (certificate(
            "expired", "cn = alice\nactivation_date = 2001-01-01 00:00:00 UTC\n"
            "expiration_date = 2002-01-01 00:00:00 UTC\n" + GOOD), "expired"),
        "not yet valid": (certificate(
            "future", "cn = alice\nactivation_date = 2100-01-01 00:00:00 UTC\n"
            "expiration_date = 2101-01-01 00:00:00 UTC\n" + GOOD), "not yet"),
        "made for servers": (certificate(
            "server", "cn = alice\ntls_www_server\nsigning_key\n"), "purpose"),
    }


def revoke(name, server):
    """A certificate folder `server` like certs(), with a CRL that revokes the certificate in
    `name`."""
    certtool = require_program("certtool")
    path = f"{folder()}/{server}"
    shutil.copytree(certs(), path)
    with open(f"{path}/template", "w", encoding="ascii") as f:
        f.write("crl_next_update = 100\n")
    run(certtool, "--generate-crl", "--load-ca-privkey", f"{path}/ca-key.pem",
        "--load-ca-certificate", f"{path}/ca-cert.pem",
        "--load-certificate", f"{name}/client-cert.pem", "--template", f"{path}/template",
        "--outfile", f"{path}/ca-crl.pem")
    return path


def tls_server(credentials, *args, disk=DISK, **kwargs):
    """A server with a folder of certificates or a file of keys."""
    option = "--tls-certificates" if os.path.isdir(credentials) else "--tls-psk"
    return Server(option, credentials, *args, *disk, **kwargs)


def context(client=None, version=None, ca=None):
    """A TLS context of Python, with the certificate in folder `client`, for one version only. It
    does not check the name of the server, because a Unix socket has none."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.load_verify_locations(f"{ca or certs()}/ca-cert.pem")
    if client:
        c.load_cert_chain(f"{client}/client-cert.pem", f"{client}/client-key.pem")
    if version:
        if version < ssl.TLSVersion.TLSv1_2:
            c.set_ciphers("ALL:@SECLEVEL=0")
        c.minimum_version = c.maximum_version = version
    return c


class TlsClient(Client):
    """A raw client that has begun TLS."""

    def __init__(self, where, tls, **kwargs):
        super().__init__(where, **kwargs)
        self.starttls(tls)

    def starttls(self, tls):
        final, replies = self.option(OPT_STARTTLS)
        assert (final, replies) == (REP_ACK, []), hex(final)
        self.wrap(tls)

    def wrap(self, tls):
        self.socket = tls.wrap_socket(self.socket)


def uri(s, export="", client=None, user=None, keys=None):
    """The nbds URI of an export on a server's Unix socket, with the credentials of the client."""
    if user:
        return f"nbds+unix://{user}@/{export}?socket={s.socket}&tls-psk-file={keys}"
    return f"nbds+unix:///{export}?socket={s.socket}&tls-certificates={client or certs()}"


def open_files(s):
    return len(os.listdir(f"/proc/{s.pid}/fd"))


def command(*args, **kwargs):
    """Run a program. Returns its exit code and all its output."""
    result = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=60, stdin=subprocess.DEVNULL, **kwargs)
    return result.returncode, result.stdout
