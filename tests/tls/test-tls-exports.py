#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Which client may use which export: tls-required and tls-authz of block-export-add, with --tls=on
and --tls=require; and what plugins are told about a client."""

import os
import re

import nbd

from fleece import QmpError, Server, require_plugin, run, tmpdir
from tap import main, test
from tlslib import TlsClient, certs, certificate, context, psk, tls_server, uri

from rawnbd import *  # noqa: F401,F403

ADD = "block-export-add"


def add(q, name, **more):
    q.cmd(ADD, type="nbd", id=name, name=name, **{"node-name": "disk0", **more})


def fails(text, q, **more):
    try:
        add(q, "e", **more)
    except QmpError as error:
        assert re.fullmatch(text, error.desc), error.desc
    else:
        raise AssertionError("it succeeded")


def names(c):
    return [name for name, _ in c.list()]


def alice(s):
    return TlsClient(s.socket, context(certs()))


def bob(s):
    return TlsClient(s.socket, context(f"{certs()}/bob"))


@test
def a_TLS_only_export_is_not_there_in_plain_text():
    with tls_server(certs(), "--tls=on") as s:
        add(s.qmp(), "secret", **{"tls-required": True})
        add(s.qmp(), "open")
        with Client(s.socket) as c:
            c.structured()
            assert names(c) == ["disk0", "open"]
            answers = []
            for name in "secret", "nonsense":
                # Both get the same answers, so that nobody can find out which of them exists.
                answers.append((c.info(name), c.message.replace(name, "X"),
                                c.info(name, option=OPT_GO),
                                c.meta(OPT_LIST_META, name)[0],
                                c.meta(OPT_SET_META, name, "base:allocation")[0]))
            assert answers[0] == answers[1], answers
            assert answers[0][0] == answers[0][2] == ERR_TLS_REQD
            c.go("open")
        with Client(s.socket) as c:
            c.send_option(OPT_EXPORT_NAME, b"secret")
            c.expect_end()
        with TlsClient(s.socket, context()) as c:
            assert names(c) == ["disk0", "secret", "open"]
            assert c.info("nonsense") == ERR_UNKNOWN
            c.go("secret")
            c.in_step()
        with Client(s.socket) as c:  # TLS may come after the refusal
            assert c.info("secret") == ERR_TLS_REQD
            assert c.option(OPT_STARTTLS)[0] == REP_ACK
            c.socket = context().wrap_socket(c.socket)
            c.go("secret")
            c.in_step()


@test
def certificates_open_their_exports_and_no_others():
    for mode in "on", "require":
        with tls_server(certs(), f"--tls={mode}", "--tls-verify-peer") as s:
            q = s.qmp()
            add(q, "alices", **{"tls-authz": ["CN=alice"]})
            add(q, "both", **{"tls-authz": ["CN=nobody", "CN=bob", "CN=alice"]})
            add(q, "nobodys", **{"tls-authz": []})
            add(q, "near", **{"tls-authz": ["CN=alic", "CN=alice2", "alice", "CN=Alice", "cn=alice",
                                            "CN=alice ", " CN=alice", "CN=alice,O=x", "", "CN=*"]})
            with alice(s) as c:
                assert names(c) == ["disk0", "alices", "both"]
                for name in "nobodys", "near":
                    assert c.info(name) == ERR_UNKNOWN
                    unknown = c.message.replace(name, "X")
                    assert c.info("nonsense") == ERR_UNKNOWN
                    assert c.message.replace("nonsense", "X") == unknown
                c.go("alices")
                c.in_step()
            with bob(s) as c:
                assert names(c) == ["disk0", "both"]
                assert c.info("alices") == ERR_UNKNOWN
                c.structured()
                assert c.meta(OPT_SET_META, "alices", "base:allocation")[0] == ERR_UNKNOWN
                c.go("both")
                c.in_step()
            with bob(s) as c:
                c.send_option(OPT_EXPORT_NAME, b"alices")
                c.expect_end()
            if mode == "on":
                with Client(s.socket) as c:
                    assert names(c) == ["disk0"]
                    assert c.info("both") == ERR_TLS_REQD


@test
def alternative_names_count_with_their_kind():
    folder = certificate(
        "with-names", "cn = carol\ndns_name = host.example.com\nemail = ops@example.com\n"
        "uri = urn:backup\nip_address = 192.0.2.1\ntls_www_client\nsigning_key\n")
    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        q = s.qmp()
        good = ["CN=carol", "DNS:host.example.com", "EMAIL:ops@example.com", "URI:urn:backup",
                "IP:192.0.2.1"]
        bad = ["host.example.com", "DNS:example.com", "DNS:host", "DNS:ops@example.com",
               "EMAIL:host.example.com", "IP:192.0.2.10", "IP:192.0.2", "CN=host.example.com"]
        for i, name in enumerate(good + bad):
            add(q, f"e{i}", **{"tls-authz": [name]})
        with TlsClient(s.socket, context(folder)) as c:
            assert names(c) == ["disk0"] + [f"e{i}" for i in range(len(good))]


@test
def a_subject_of_several_parts_is_in_RFC_4514_order():
    """The last part comes first. certtool -i and openssl -nameopt RFC2253 show it so, too."""
    folder = certificate("parts", 'cn = dave\norganization = "Example, Ltd."\ncountry = GB\n'
                         "tls_www_client\nsigning_key\n")
    shown = run("certtool", "-i", "--infile", f"{folder}/client-cert.pem").stdout
    subject = re.search(r"Subject: (.*)", shown)[1]
    assert "CN=dave" in subject and r"Example\, Ltd." in subject, subject
    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        add(s.qmp(), "e", **{"tls-authz": [subject]})
        add(s.qmp(), "f", **{"tls-authz": ["CN=dave"]})
        with TlsClient(s.socket, context(folder)) as c:
            assert names(c) == ["disk0", "e"]


@test
def keys_open_their_exports_and_no_others():
    with tls_server(psk(), "--tls=require") as s:
        q = s.qmp()
        add(q, "alices", writable=True, **{"tls-authz": ["alice"]})
        add(q, "near", **{"tls-authz": ["alic", "alice2", "CN=alice", ""]})

        def listed(user):
            h = nbd.NBD()
            h.set_uri_allow_local_file(True)
            h.set_opt_mode(True)
            h.connect_uri(uri(s, user=user, keys=psk()))
            found = []
            h.opt_list(lambda name, _: found.append(name))
            h.opt_abort()
            return found
        assert listed("alice") == ["disk0", "alices"]
        assert listed("bob") == ["disk0"]
        h = nbd.NBD()
        h.set_uri_allow_local_file(True)
        h.connect_uri(uri(s, "alices", user="alice", keys=psk()))
        h.pwrite(b"x" * 512, 0)
        assert h.pread(512, 0) == b"x" * 512


@test
def promises_that_cannot_be_kept_are_refused():
    needs_tls = "This server has no TLS: start it with --tls"
    needs_names = "TLS clients of this server do not prove who they are: .*"
    with Server("memory", "1M") as s:
        fails(needs_tls, s.qmp(), **{"tls-required": True})
        fails(needs_tls, s.qmp(), **{"tls-authz": ["CN=alice"]})
        add(s.qmp(), "e", **{"tls-required": False})
    with tls_server(certs(), "--tls=require") as s:
        fails(needs_names, s.qmp(), **{"tls-authz": ["CN=alice"]})
        fails(r"Invalid parameter type for 'tls-authz'.*", s.qmp(), **{"tls-authz": "CN=alice"})
    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        fails("Parameter 'tls-authz' is unexpected", s.qmp(),
              **{"tls-authz": ["CN=alice"], "tls-required": False})
        try:
            s.qmp().cmd("nbd-server-start", addr={"type": "unix", "data": {"path": s.path("x")}},
                        **{"tls-creds": "tls0"})
            raise AssertionError("tls-creds was taken")
        except QmpError as error:
            assert error.desc == "No TLS credentials with id 'tls0'"


@test
def a_listener_of_QMP_has_the_command_lines_TLS():
    with tls_server(certs(), "--tls=require") as s:
        q = s.qmp()
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": s.path("second")}})
        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "disk0"})
        with Client(s.path("second")) as c:
            assert c.option(OPT_LIST)[0] == ERR_TLS_REQD
        with TlsClient(s.path("second"), context()) as c:
            c.go("disk0")
            c.in_step()
        uris = [e["uri"] for e in q.cmd("query-nbd-servers")]
        assert len(uris) == 2 and all(u.startswith("nbds+unix://") for u in uris), uris


@test
def on_a_backups_socket_an_export_can_have_a_disks_name():
    """On that socket the name means the export. A client that may not use the export gets nothing
    there, not even the disk. On the socket of the command line, every client gets the disk."""
    with tls_server(certs(), "--tls=on", "--tls-verify-peer") as s:
        q = s.qmp()
        second = s.path("second")
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": second}})
        for number, name in enumerate(("disk0", "")):
            q.cmd(ADD, type="nbd", id=f"e{number}", name=name, description="the export",
                  **{"node-name": "disk0", "tls-authz": ["CN=alice"]})
        for name in "disk0", "":
            with TlsClient(second, context(certs())) as c:
                assert c.list() == [("disk0", "the export"), ("", "the export")]
                c.go(name).in_step()
                assert c.eflags & READ_ONLY
            for stranger in TlsClient(second, context(f"{certs()}/bob")), Client(second):
                with stranger as c:
                    unknown = ERR_UNKNOWN if isinstance(c, TlsClient) else ERR_TLS_REQD
                    assert c.list() == [] and c.info(name) == unknown
                    c.structured()
                    assert c.meta(OPT_SET_META, name, "base:allocation")[0] == ERR_UNKNOWN
                    assert c.info(name, option=OPT_GO) == unknown
                    c.send_option(OPT_EXPORT_NAME, name.encode())
                    c.expect_end()
            for c in alice(s), bob(s), Client(s.socket):
                with c:
                    assert c.list() == [("disk0", "")]
                    c.go(name).in_step()
                    assert not c.eflags & READ_ONLY


@test
def plugins_are_told_the_truth_about_the_client():
    require_plugin("sh")
    plugin = ("#!/bin/sh\n"
              "case $1 in\n"
              "  get_size) echo 512;;\n"
              "  can_multi_conn) exit 0;;\n"  # so that each client has a handle of its own
              "  open) echo tls=$4;;\n"
              "  pread) printf '%-512s' $2 | dd bs=1 count=$3 skip=$4 2>/dev/null;;\n"
              "  *) exit 2;;\n"
              "esac\n")
    with tmpdir() as folder:
        path = f"{folder}/plugin.sh"
        with open(path, "w", encoding="utf-8") as f:
            f.write(plugin)
        os.chmod(path, 0o755)
        with tls_server(certs(), "--tls=on", "--tls-verify-peer", disk=("sh", path)) as s:
            with alice(s) as c:
                c.go("disk0")
                data = c.read(0, 512).rstrip()
                assert data == b"tls=true", data
            with Client(s.socket) as c:
                c.go("disk0")
                assert c.read(0, 512).rstrip() == b"tls=false"


main()
