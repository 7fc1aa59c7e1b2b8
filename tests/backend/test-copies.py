#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Two disks of every nbdkit plugin that is installed, with a test for each plugin. A plugin that
may serve two disks serves them side by side until the server ends. One that may not is refused a
second disk: the message names the library and a way out, and the way out works. `served` says which
arguments each plugin gets. Each library in the list of plugin-share.c has been seen here, shared by
two disks."""

import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading

import nbd

from fleece import Server, die_with_parent, nbdfleece, require_plugin, require_program, tmpdir
from sshd import sshd_script
from tap import main, note, skip, test

sys.path.insert(0, os.path.dirname(__file__))
import httpd

SIZE = 200_000


# ---- what to serve: two disks, each its plugin's arguments and its first bytes ----

def content(seed):
    return random.Random(seed).randbytes(SIZE)


def a_file(folder, name, seed):
    path = f"{folder}/{name}"
    with open(path, "wb") as f:
        f.write(content(seed))
    return path


def of_files(key):
    """For a plugin that serves a file: a file for each disk."""
    def disks(folder):
        return [([f"{key}={a_file(folder, str(i), i)}"], content(i)) for i in (1, 2)]
    return disks


def of_scripts(suffix, text):
    """For a plugin that runs a script: a script for each disk, which is `text` with another letter
    in the place of BYTE. The disk is full of that letter."""
    def disks(folder):
        result = []
        for letter in "pq":
            path = f"{folder}/{letter}{suffix}"
            with open(path, "w") as f:
                f.write(text.replace("BYTE", letter))
            os.chmod(path, 0o755)
            result.append(([path], letter.encode() * 4096))
        return result
    return disks


def of_words(*two):
    """For a plugin that needs no file. Each of the two disks is its arguments and what it begins
    with; None says that its bytes are not known, only that they can be read."""
    return lambda _: [(list(args), begin) for args, begin in two]


def folders(folder):
    """For a plugin that makes a disk out of a folder."""
    for name in "one", "two":
        os.mkdir(f"{folder}/{name}")
        a_file(f"{folder}/{name}", "file", 1)
    return [([f"dir={folder}/{name}"], None) for name in ("one", "two")]


def empty_folders(folder):
    return [([f"dir={args[0][4:]}", "size=64M"], None) for args, _ in folders(folder)]


def partitions(folder):
    """Files that the plugin puts behind a partition table."""
    return [(args, None) for args, _ in of_files("file")(folder)]


def isos(folder):
    """The plugin lets a program make the image. Ours makes it of the file in the last folder that
    it is given."""
    program = f"{folder}/program"
    with open(program, "w") as f:
        f.write('#!/bin/sh\nfor last; do :; done\nexec cat "$last/file"\n')
    os.chmod(program, 0o755)
    return [(args + [f"prog={program}"], content(1)) for args, _ in folders(folder)]


def needing(program, disks):
    def checked(folder):
        require_program(program)
        return disks(folder)
    return checked


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, dict):
        return b"d" + b"".join(bencode(k) + bencode(value[k]) for k in sorted(value)) + b"e"
    value = value.encode() if isinstance(value, str) else value
    return b"%d:%s" % (len(value), value)


def torrents(folder):
    """A torrent whose data is in the cache already, so that nothing is fetched."""
    result = []
    for i in 1, 2:
        os.mkdir(f"{folder}/cache{i}")
        a_file(f"{folder}/cache{i}", "disk.img", i)
        pieces = b"".join(hashlib.sha1(content(i)[at:at + 65536]).digest()
                          for at in range(0, SIZE, 65536))
        with open(f"{folder}/{i}.torrent", "wb") as f:
            f.write(bencode({"announce": "http://127.0.0.1:1/announce",
                             "info": {"length": SIZE, "name": "disk.img", "piece length": 65536,
                                      "pieces": pieces}}))
        result.append(([f"torrent={folder}/{i}.torrent", f"cache={folder}/cache{i}",
                        "listen-interfaces=127.0.0.1:0"], content(i)))
    return result


def guests(folder):
    """Disks of a guest of libvirt's test driver, which knows their sizes and has no data."""
    image = a_file(folder, "image", 1)
    with open(f"{folder}/guest.xml", "w") as f:
        f.write("<domain type='test'><name>guest</name><memory>8192</memory>"
                "<os><type>hvm</type></os><devices><disk type='file' device='disk'>"
                f"<source file='{image}'/><target dev='vda'/></disk></devices></domain>")
    with open(f"{folder}/node.xml", "w") as f:
        f.write('<node><domain file="guest.xml"/></node>')
    args = [f"connect=test://{folder}/node.xml", "domain=guest", "disk=vda"]
    return [(args, OSError), (args, OSError)]


@contextlib.contextmanager
def nothing(folder):
    yield folder


@contextlib.contextmanager
def web_server(folder):
    with httpd.serve(content(1)) as url:
        yield url


def of_web(url):
    return [([url], content(1)), ([url], content(1))]


@contextlib.contextmanager
def nbd_servers(folder):
    """An NBD server, ours, with two exports."""
    with Server("--disk", "one", "file", a_file(folder, "1", 1),
                "--disk", "two", "file", a_file(folder, "2", 2)) as s:
        yield s.socket


def of_nbd(path):
    return [([f"socket={path}", f"export={name}"], content(i))
            for i, name in ((1, "one"), (2, "two"))]


def answer_ssh(listener, command):
    """Start an sshd for each client, until the listener is shut down."""
    servers = []
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client:
                servers.append(subprocess.Popen(command, stdin=client, stdout=client,
                                                stderr=subprocess.DEVNULL,
                                                preexec_fn=die_with_parent))
    for server in servers:
        server.kill()
        server.wait()


@contextlib.contextmanager
def ssh_server(folder):
    """An SSH server for the test, with keys of its own."""
    sshd = sshd_script(f"{folder}/sshd", f"{folder}/config")
    keygen = require_program("ssh-keygen")
    for name in "host", "user":
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"],
                       check=True)
    shutil.copy(f"{folder}/user.pub", f"{folder}/authorized")
    with open(f"{folder}/config", "w") as f:
        f.write(f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
                "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
                "Subsystem sftp internal-sftp\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_ssh,
                                  args=(listener, [sshd]))
        thread.start()
        try:
            yield folder, listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def of_ssh(there):
    folder, port = there
    common = ["host=127.0.0.1", f"port={port}", "verify-remote-host=false",
              f"identity={folder}/user", f"known-hosts={folder}/known"]
    return [([*common, f"path={a_file(folder, str(i), i)}"], content(i)) for i in (1, 2)]


CC = r"""
#include <string.h>
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
static void *a_open(int readonly) { return NBDKIT_HANDLE_NOT_NEEDED; }
static int64_t a_get_size(void *h) { return 4096; }
static int a_pread(void *h, void *buf, uint32_t n, uint64_t at, uint32_t flags)
{ memset(buf, 'BYTE', n); return 0; }
static struct nbdkit_plugin plugin = {
    .name = "cBYTE", .open = a_open, .get_size = a_get_size, .pread = a_pread,
};
NBDKIT_REGISTER_PLUGIN(plugin)
"""
SH = """#!/bin/sh
case "$1" in
    get_size) echo 4096 ;;
    pread) printf "%$3s" | tr ' ' BYTE ;;
    *) exit 2 ;;
esac
"""
EVAL = ["get_size=echo 4096", "pread=printf %$3s | tr ' ' p"]
LUA = """
function open(readonly) return 1 end
function get_size(h) return 4096 end
function pread(h, count, offset) return string.rep("BYTE", count) end
"""
PERL = """
sub open { return 1 }
sub get_size { return 4096 }
sub pread { my ($h, $count, $offset) = @_; return "BYTE" x $count; }
"""
PYTHON = """
API_VERSION = 2
def open(readonly): return 1
def get_size(h): return 4096
def pread(h, buf, offset, flags): buf[:] = b"BYTE" * len(buf)
"""
TCL = """
proc plugin_open {readonly} { return 1 }
proc get_size {h} { return 4096 }
proc pread {h count offset} { return [string repeat BYTE $count] }
"""
RUBY = """
def open(readonly) 1 end
def get_size(h) 4096 end
def pread(h, count, offset) "BYTE" * count end
"""
ZEROES = bytes(4096)


# {plugin: (function that gives its two disks, what must run for them)}
served = {
    "cc": (needing("cc", of_scripts(".c", CC)), nothing),
    "curl": (of_web, web_server),
    "data": (of_words((["data=1 2 3"], b"\1\2\3"), (["data=9 8"], b"\x09\x08")), nothing),
    "eval": (of_words((EVAL, b"p" * 4096), (EVAL, b"p" * 4096)), nothing),
    "example1": (of_words(([], None), ([], None)), nothing),
    "example2": (of_files("file"), nothing),
    "example3": (of_words((["size=1M"], ZEROES), (["size=2M"], ZEROES)), nothing),
    "file": (of_files("file"), nothing),
    "floppy": (folders, nothing),
    "full": (of_words((["1M"], ZEROES), (["2M"], ZEROES)), nothing),
    "info": (of_words((["mode=base64exportname"], None), (["mode=time"], None)), nothing),
    "iso": (isos, nothing),
    "libvirt": (guests, nothing),
    "linuxdisk": (needing("mke2fs", folders), nothing),
    "lua": (of_scripts(".lua", LUA), nothing),
    "memory": (of_words((["1M"], ZEROES), (["2M"], ZEROES)), nothing),
    "nbd": (of_nbd, nbd_servers),
    "null": (of_words((["1M"], ZEROES), (["2M"], ZEROES)), nothing),
    "ondemand": (needing("mke2fs", empty_folders), nothing),
    "partitioning": (partitions, nothing),
    "pattern": (of_words((["1M"], bytes(15) + b"\x08"), (["2M"], bytes(15) + b"\x08")), nothing),
    "perl": (of_scripts(".pl", PERL), nothing),
    "python": (of_scripts(".py", PYTHON), nothing),
    "random": (of_words((["1M"], None), (["2M"], None)), nothing),
    "ruby": (of_scripts(".rb", RUBY), nothing),
    "sh": (of_scripts(".sh", SH), nothing),
    "sparse-random": (of_words((["1M", "seed=1"], None), (["2M", "seed=2"], None)), nothing),
    "split": (of_files("file"), nothing),
    "ssh": (of_ssh, ssh_server),
    "tcl": (of_scripts(".tcl", TCL), nothing),
    "tmpdisk": (needing("mke2fs", of_words((["64M"], None), (["32M"], None))), nothing),
    "torrent": (torrents, nothing),
    "zero": (of_words(([], b""), ([], b"")), nothing),
}
# Plugins that are refused a second disk because of their interpreter. The ruby plugin is refused
# even one disk.
ONE_DISK = {"perl", "python", "tcl"}


# ---- the tests ----

def assert_reads(h, begin):
    if begin is OSError:
        try:
            h.pread(1, 0)
        except nbd.Error:
            return
        raise AssertionError("it read from a disk that has no data")
    length = min(4096, h.get_size())
    data = h.pread(length, 0) if length else b""
    if begin is not None:
        assert data[:len(begin)] == begin[:length], (data[:20], begin[:20])


def command_line(plugin, disks):
    line = []
    for name, (args, _) in zip(("vda", "vdb"), disks):
        line += ["--disk", name, plugin, *args]
    return line


def refusal(*args):
    result = nbdfleece("-f", "-U", "-", *args, check=False)
    assert result.returncode == 1, result
    assert result.stdout == "", result
    note(result.stderr.strip())
    return result.stderr


def serve(plugin, disks):
    with Server(*command_line(plugin, disks)) as s:
        handles = [s.nbd("vda"), s.nbd("vdb")]
        for _ in range(2):
            for h, (_, begin) in zip(handles, disks):
                assert_reads(h, begin)


def serve_one(plugin, disks):
    """The second disk is refused. The way out that the message names serves it."""
    text = refusal(*command_line(plugin, disks))
    assert "disk vdb" in text and "can serve only one disk" in text, text
    assert f"lib{plugin}" in text and f"'nbd command=nbdkit arg={plugin} arg=...'" in text, text
    with Server(*command_line(plugin, disks[:1])) as s:
        assert_reads(s.nbd("vda"), disks[0][1])
    require_plugin("nbd")
    require_program("nbdkit")
    instead = [f"arg={a}" for a in disks[1][0]]
    with Server(*command_line(plugin, disks[:1]), "--disk", "vdb", "nbd", "command=nbdkit",
                "arg=--exit-with-parent", f"arg={plugin}", *instead) as s:
        assert_reads(s.nbd("vda"), disks[0][1])
        assert_reads(s.nbd("vdb"), disks[1][1])


def load_twice(plugin):
    """A plugin that `served` does not know: a second disk may be served or refused, but the server
    does not crash."""
    result = nbdfleece("--help", "--disk", "vda", plugin, "--disk", "vdb", plugin, check=False)
    note(result.stderr.strip())
    assert result.returncode in (0, 1), result
    assert result.returncode == 0 or "can serve only one disk" in result.stderr


def two_disks(plugin):
    def a_test():
        if plugin not in served:
            load_twice(plugin)
            return
        make, surroundings = served[plugin]
        with tmpdir() as folder, surroundings(folder) as there:
            disks = make(there)
            if plugin in ONE_DISK:
                serve_one(plugin, disks)
            elif plugin == "ruby":
                text = refusal(*command_line(plugin, disks[:1]))
                assert "libruby" in text and "cannot be served" in text, text
            else:
                serve(plugin, disks)
    a_test.__name__ = "two_disks_of_" + plugin.replace("-", "_")
    return a_test


def installed():
    folder = os.environ.get("NBDKIT_PLUGINDIR", "")
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else []):
        if name.startswith("nbdkit-") and name.endswith("-plugin.so"):
            yield name[len("nbdkit-"):-len("-plugin.so")]


for each in installed():
    test(two_disks(each))


@test
def a_plugin_under_another_name_shares_its_library():
    """Two files of one plugin are two objects, but they share one interpreter."""
    require_plugin("python")
    path = os.path.join(os.environ["NBDKIT_PLUGINDIR"], "nbdkit-python-plugin.so")
    with tmpdir() as folder:
        disks = of_scripts(".py", PYTHON)(folder)
        shutil.copy(path, f"{folder}/other.so")
        text = refusal("--disk", "vda", "python", *disks[0][0],
                       "--disk", "vdb", f"{folder}/other.so", *disks[1][0])
        assert "disk vdb" in text and "libpython" in text, text


@test
def interpreters_of_several_languages_live_beside_one_another():
    makers = {"lua": of_scripts(".lua", LUA), "perl": of_scripts(".pl", PERL),
              "python": of_scripts(".py", PYTHON), "tcl": of_scripts(".tcl", TCL)}
    there = [name for name in installed() if name in makers]
    if len(there) < 2:
        skip("fewer than two language plugins are installed")
    with tmpdir() as folder:
        line = []
        for name in there:
            line += ["--disk", name, name, *makers[name](folder)[0][0]]
        with Server(*line) as s:
            for name in there:
                assert s.nbd(name).pread(3, 0) == b"ppp"


main()
