#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl map with NBD servers of other projects: nbdkit and qemu-nbd."""

import contextlib
import fcntl
import html.parser
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

from fakeqmp import FakeQmp, error
from fleece import (FLEECECTL, SOON, die_with_parent, fleecectl, require_plugin, require_program,
                    run, tmpdir, uri, wait_ready)
from tap import main, test

K, M, G = 1 << 10, 1 << 20, 1 << 30
UTF8 = {"LC_ALL": "C.UTF-8"}


@contextlib.contextmanager
def nbdkit(plugin, *args):
    """Run nbdkit, and give its URI."""
    require_program("nbdkit")
    require_plugin(plugin)
    with tmpdir() as folder:
        os.mkfifo(f"{folder}/pid")
        process = subprocess.Popen(["nbdkit", "-f", "-U", f"{folder}/s", "-P", f"{folder}/pid",
                                    plugin, *args], preexec_fn=die_with_parent)
        try:
            wait_ready(process, f"{folder}/pid", "nbdkit")
            yield uri("", unix=f"{folder}/s")
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def qemu_nbd(*writes, size="1G", granularity="64k"):
    """Serve a qcow2 image with bitmap b0, after qemu-io has run `writes` on it. Gives the URI."""
    for program in "qemu-img", "qemu-io", "qemu-nbd":
        require_program(program)
    with tmpdir() as folder:
        image = f"{folder}/q.qcow2"
        run("qemu-img", "create", "-f", "qcow2", image, size)
        run("qemu-img", "bitmap", "--add", "-g", granularity, image, "b0")
        run("qemu-io", *(word for w in writes for word in ("-c", w)), image)
        # qemu-nbd replaces its PID file, so that it cannot be a FIFO. It is ready when the process
        # that is started here ends.
        run("qemu-nbd", "--fork", "-r", "-t", "-f", "qcow2", "-B", "b0", "-x", "vda",
            "-k", f"{folder}/s", f"--pid-file={folder}/pid", image)
        with open(f"{folder}/pid") as f:
            pidfd = os.pidfd_open(int(f.read()))
        try:
            yield uri("vda", unix=f"{folder}/s")
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], SOON)
            os.close(pidfd)


def map_json(*args):
    """The map as JSON. Checks that the extents are in order and without gaps, and that their sums
    are the totals."""
    m = json.loads(fleecectl("--json", "map", *args).stdout)
    if "extents" in m:
        position, sums = 0, {}
        for e in m["extents"]:
            assert e["start"] == position and e["length"] > 0, e
            position += e["length"]
            n, total = sums.get(e["flags"], (0, 0))
            sums[e["flags"]] = n + 1, total + e["length"]
        assert position == m["size"]
        assert sums == {t["flags"]: (t["extents"], t["bytes"]) for t in m["totals"]}, m["totals"]
    return m


def picture(text):
    """The cells of a picture: all rows as one string."""
    rows = [re.match(r"^ *([\d.]+( [KMGTPE]iB)?)  (\S+)$", line) for line in text.splitlines()]
    return "".join(r[3] for r in rows if r)


def nbdinfo_map(target, context):
    """The map that nbdinfo gives, with equal neighbours merged: [start, length, flags]."""
    require_program("nbdinfo")
    out = []
    for e in json.loads(run("nbdinfo", "--json", f"--map={context}", target).stdout):
        if out and out[-1][2] == e["type"]:
            out[-1][1] += e["length"]
        else:
            out.append([e["offset"], e["length"], e["type"]])
    return out


@test
def allocation_is_as_nbdinfo_has_it():
    with nbdkit("sparse-random", "10G", "percent=10", "seed=1") as target:
        m = map_json(target)
        assert m["size"] == 10 * G and m["context"] == "base:allocation"
        extents = [[e["start"], e["length"], e["flags"]] for e in m["extents"]]
        assert extents == nbdinfo_map(target, "base:allocation")
        assert {e["type"] for e in m["extents"]} == {"data", "hole,zero"}
        # Each cell of the picture shows how much of its part is data.
        cells = picture(fleecectl("map", target, "--ascii").stdout)
        span = 8 * M
        assert len(cells) == 10 * G // span, len(cells)
        data = [0] * len(cells)
        for start, length, flags in extents:
            while length and not flags:
                part = min(length, span - start % span)
                data[start // span] += part
                start, length = start + part, length - part
        for cell, n in zip(cells, data):
            assert (cell == ".") == (n == 0) and (cell == "#") == (n == span), (cell, n)


@test
def dirty_bitmap_of_qemu():
    with qemu_nbd("write 3M 17M", "write 200M 4k", "write 1023M 1M") as target:
        m = map_json(target, "--bitmap", "b0")
        assert m["context"] == "qemu:dirty-bitmap:b0"
        dirty = [(e["start"], e["length"]) for e in m["extents"] if e["type"] == "dirty"]
        assert dirty == [(3 * M, 17 * M), (200 * M, 64 * K), (1023 * M, M)], dirty
        text = fleecectl("map", target, "-b", "b0", env=UTF8).stdout
        cells = picture(text)
        assert len(cells) == 1024
        assert cells[2:21] == "·" + "█" * 17 + "·" and cells[200] == "░" and cells[-1] == "█"
        assert "dirty     18.06 MiB     1.8 %  3 extents" in text, text
        assert "a cell is 1 MiB" in text
        assert map_json(target, "--context", "qemu:dirty-bitmap:b0") == m
        assert map_json(target)["totals"][0]["type"] == "data"
        result = fleecectl("map", target, "-b", "b1", check=False)
        assert result.returncode == 1, result
        assert "no context qemu:dirty-bitmap:b1; it has base:allocation, " \
               "qemu:dirty-bitmap:b0" in result.stderr, result.stderr
        result = fleecectl("map", target.replace("vda", "vdb"), check=False)
        assert result.returncode == 1 and "no such export; it has vda" in result.stderr


@test
def many_extents():
    n, span = 200000, 40960
    with tmpdir() as folder:
        with open(f"{folder}/extents", "w") as f:
            f.writelines(f"{i * span} {span} {'hole,zero' if i % 2 else ''}\n" for i in range(n))
        with nbdkit("eval", f"get_size=echo {n * span}", "pread=exit 1", "can_extents=exit 0",
                    f"extents=cat {folder}/extents") as target:
            m = map_json(target)
            assert [t["extents"] for t in m["totals"]] == [n // 2] * 2, m["totals"]
            assert len(m["extents"]) == n
            assert set(picture(fleecectl("map", target, "--ascii").stdout)) <= set("-+*")


@test
def unaligned_and_tiny_disks():
    for size in 1, 511, 513, 1000000, 5 * G + 3:
        with nbdkit("memory", str(size)) as target:
            m = map_json(target)
            assert m["size"] == size and m["totals"][0]["bytes"] == size, m
            assert set(picture(fleecectl("map", target, "--ascii").stdout)) == {"."}
    with nbdkit("memory", "0") as target:
        assert map_json(target) == {"name": target, "context": "base:allocation", "size": 0,
                                    "extents": [], "totals": []}
        assert "total" in fleecectl("map", target).stdout


@test
def a_disk_of_many_tebibytes():
    with nbdkit("memory", "8T") as target:
        m = map_json(target, "--summary")
        assert "extents" not in m
        assert m["totals"] == [{"flags": 3, "type": "hole,zero", "bytes": 8 << 40, "extents": 1}]


@test
def a_server_that_answers_for_few_bytes_at_a_time():
    # This server answers for 1000 bytes, however much it is asked for.
    with nbdkit("eval", "get_size=echo 1000500", "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
                "can_extents=exit 0",
                'extents=test $(( $4 / 1000 % 2 )) = 0 || hole=hole,zero; '
                'echo "$4 1000 $hole"') as target:
        m = map_json(target)
        assert [e["length"] for e in m["extents"]] == [1000] * 1000 + [500], m["extents"][-3:]
        assert m["extents"][1]["flags"] == 3


@test
def backend_error_in_the_middle():
    with nbdkit("eval", "get_size=echo 8G", "pread=exit 1", "can_extents=exit 0",
                "extents=test $4 -lt 2147483648 && echo 0 2147483648 || { echo EIO >&2; exit 1; }"
                ) as target:
        result = fleecectl("map", target, check=False)
        assert result.returncode == 1, result
        assert "at 2147483648: " in result.stderr and "Input/output error" in result.stderr, result
        assert result.stdout == ""


@test
def servers_without_meta_contexts():
    """One server has no structured replies, one has the oldstyle handshake, which has no
    options."""
    require_program("nbdkit")
    for option in "--no-sr", "-o":
        result = run("nbdkit", option, "-U", "-", "memory", "1M", "--run",
                     f'{FLEECECTL} map "$uri"', check=False)
        assert result.returncode != 0, (option, result)
        assert "no context base:allocation" in result.stderr, (option, result)


@test
def the_control_socket_tells_where_a_disk_is_served():
    with nbdkit("memory", "1G") as target:
        servers = [{"uri": "nbd://localhost:1"}, {"else": 1}, {"uri": target}]
        with FakeQmp({"query-nbd-servers": servers}) as fake:
            m = map_json("-C", fake.path, "any/name")
            assert m["name"] == "any/name" and m["size"] == G  # nbdkit has all exports
        for servers, why in (([], "no NBD socket"), ([{}], "no NBD socket"), ({}, "not a list"),
                             (error("no", "CommandNotFound"), "no"), ([1], "not a list")):
            with FakeQmp({"query-nbd-servers": servers}) as fake:
                result = fleecectl("-C", fake.path, "map", "vda", check=False)
                assert result.returncode == 1 and why in result.stderr, result


@test
def usage():
    for args in (["x", "--context", "a", "--bitmap", "b"], ["x", "--html", "f", "--summary"],
                 ["nbd://localhost:99999/"], ["nbd://[::1]:65536/x"],  # not 34463 and 0
                 ["ssh://h/x"], ["file:///x"],
                 ["x", "--html", "f", "--json"], ["x", "y"], ["x", "-b", b"\xff"]):
        assert fleecectl("map", *args, check=False).returncode == 2, args


class Page(html.parser.HTMLParser):
    """Notes which elements are open, and what the page loads from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.loads = [], set(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [a for a in attrs if a[0] in ("src", "href", "srcset")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


@test
def html_page():
    with nbdkit("sparse-random", "1G", "seed=2") as target, tmpdir() as folder:
        with FakeQmp({"query-nbd-servers": [{"uri": target}]}) as fake:
            name = "<script>alert(1)</script>&\"'"
            assert fleecectl("-C", fake.path, "map", name, "--html", f"{folder}/m").stdout == ""
            with open(f"{folder}/m", encoding="utf-8") as f:
                text = f.read()
            assert fleecectl("-C", fake.path, "map", name, "--html", "-").stdout == text
            page = Page(text)
            assert not page.open and not page.loads and "script" not in page.tags, page.tags
            assert "svg" in page.tags and "1073741824 bytes" in text
            result = fleecectl("map", target, "--html", f"{folder}/no/m", check=False)
            assert result.returncode == 1 and f"{folder}/no/m: No such file" in result.stderr, result
            os.symlink("m", f"{folder}/link")
            fleecectl("map", target, "--html", f"{folder}/link")
            assert os.path.islink(f"{folder}/link")


def in_terminal(*args, columns=100, **env):
    """What fleecectl prints into a terminal with so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen([FLEECECTL, *args], stdout=slave, stdin=subprocess.DEVNULL,
                               env={**os.environ, **UTF8, "TERM": "xterm-256color", **env},
                               preexec_fn=die_with_parent)
    os.close(slave)
    text = b""
    with open(master, "rb", buffering=0) as reader:
        try:
            while piece := reader.read(65536):
                text += piece
        except OSError:  # EIO: the other end is closed
            pass
    assert process.wait(SOON) == 0
    return text.decode().replace("\r\n", "\n")


@test
def colours_and_width_of_a_terminal():
    with nbdkit("sparse-random", "1G", "percent=30", "seed=2") as target:
        piped = fleecectl("map", target, env=UTF8).stdout
        assert "\033" not in piped
        for columns in 50, 80, 132, 300:
            text = in_terminal("map", target, columns=columns)
            assert "\033[38;5;" in text
            bare = re.sub("\033\\[[0-9;]*m", "", text)
            longest = max(len(line) for line in bare.splitlines()[2:])
            assert longest <= columns, longest
            assert longest >= columns / 2, longest
            if columns == 80:
                assert bare == piped
        assert "\033" not in in_terminal("map", target, NO_COLOR="1")
        assert "\033" not in in_terminal("map", target, TERM="dumb")
        text = in_terminal("map", target, TERM="vt100", COLORTERM="")
        assert "\033[" in text and "38;5" not in text
        assert in_terminal("map", target, "--ascii", NO_COLOR="1").isascii()
        assert in_terminal("map", target, LC_ALL="C", NO_COLOR="1").isascii()


@test
def headers_are_bold_in_a_terminal_only():
    with FakeQmp({"query-named-block-nodes": [], "query-views": []}) as fake:
        assert in_terminal("-C", fake.path, "disks").startswith("\033[1mNAME")
        assert in_terminal("-C", fake.path, "disks", NO_COLOR="1").startswith("NAME")


main()
