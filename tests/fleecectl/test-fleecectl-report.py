#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl report: the page has what it is to have, is safe, and loads nothing; a browser shows it."""

import html.parser
import os
import re
import stat
import struct
import subprocess
import zlib

from fleece import FLEECECTL, SOON, die_with_parent, fleecectl, require_program, run, tmpdir
from repository import Disk, Repository, read, write
from tap import main, test

K, M = 1 << 10, 1 << 20
UTC = {"TZ": "UTC"}
VOID = {"meta", "br", "line", "path", "circle", "rect", "i"}


class Page(html.parser.HTMLParser):
    """Its elements, as (name, attributes), and the text of each kind. Elements must be closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)

    def count(self, tag, **attrs):
        return sum(name == tag and all(have.get(k) == v for k, v in attrs.items())
                   for name, have in self.elements)


def make(top):
    repo = Repository(os.path.join(top, "repo"))
    repo.add({"vda": Disk(64 * M, [(i * M, M // 2, 1) for i in range(20)]), "vdb": Disk(M)})
    for i in range(1, 7):
        repo.add({"vda": Disk(64 * M, [(i * 8 * M, M, 1)], "diff" if i == 3 else "inc", 0 if i == 3 else None)})
    return repo


def report(repo, *options):
    result = fleecectl("report", repo.path, "--html", "-", *options, env=UTC)
    assert result.stderr == ""
    return result.stdout


@test
def what_it_has():
    with tmpdir() as top:
        repo = make(top)
        text = report(repo)
        page = Page(text)
        assert page.texts["h2"] == ["vda", "vdb"], page.texts["h2"]
        assert page.texts["title"][0] == f"Backups in {repo.path}"
        assert "It has never been verified." in text
        # A point and a bar for each file, an arc for each that stands on another.
        for level, n in ("full", 2), ("inc", 5), ("diff", 1):
            assert page.count("circle", **{"class": level}) == n, level
            assert page.count("rect", **{"class": level}) == n, level
        assert page.count("path", **{"class": "arc inc"}) == 5
        assert page.count("path", **{"class": "arc diff"}) == 1
        # What changed, where: each has one MiB at another place, two cells of 512 KiB.
        for i in range(1, 7):
            assert f"<title>{8 * i} MiB \u2013 {8 * i + 1} MiB\n100 % in this file</title>" in text, i
        # And nothing else: not what those below it have.
        assert page.count("rect", **{"class": "heat f"}) == 6
        assert "2026-11-07 03:00:00</b><span>newest member" in text
        assert len(re.findall("<tr><td class=\"n\">", text)) == 8


@test
def verified():
    with tmpdir() as top:
        repo = make(top)
        fleecectl("verify", repo.path)
        assert "fleecectl verify has looked at all files and read 0 of 8, last at " in report(repo)
        fleecectl("verify", repo.path, "2", "--deep")
        assert "and read 3 of 8, last at " in report(repo)
        fleecectl("verify", repo.path, "--deep")
        text = report(repo)
        assert '<p class="good">fleecectl verify has read all files, last at ' in text
        data = bytearray(read(repo.file(5, "vda")))
        data[-1] ^= 1
        write(repo.file(5, "vda"), data)
        fleecectl("verify", repo.path, "--deep", check=False)
        os.unlink(repo.file(2, "vda"))
        text = report(repo)
        assert '<p class="bad">Something is wrong with 3 of 8 files. ' in text
        assert Page(text).count("circle", **{"class": "inc bad"}) == 3
        assert "vda/00002-inc.qcow2: it is missing</td>" in text
        assert re.search(r"vda/00005-inc.qcow2: its bytes \d+ to \d+ have been changed", text), text
        for word in ">missing<", ">damaged<", ">broken chain<":
            assert text.count(word) == 1, word


@test
def it_loads_nothing():
    with tmpdir() as top:
        text = report(make(top))
        page = Page(text)
        assert not page.count("script") and not page.count("link") and not page.count("img")
        for name, attributes in page.elements:
            assert not any(a.startswith("on") or a in ("src", "href", "xlink:href") for a in attributes), name
        assert "url(" not in text and "@import" not in text and "://" not in text


@test
def names_that_mean_harm():
    """Of disks and checkpoints, and of the folder: they are text, and act on nothing."""
    with tmpdir() as top:
        evil = "<script>alert('\"&\u202e"
        top = os.path.join(top, "<b>&\"'")
        repo = make(top)
        for member in repo.members():
            member["checkpoint"] = evil
            for disk in member["disks"]:
                disk["disk"] = disk["disk"].replace("vda", evil)
        repo.save()
        os.unlink(repo.file(1, evil))
        text = report(repo)
        page = Page(text)
        assert not page.count("script") and not page.count("b", **{}) - 4, page.count("b")
        assert "\u202e" not in text
        assert "<script>alert('\"&\\u{202e}" in page.texts["h2"], page.texts["h2"]


@test
def small_ones():
    """No members; one member; a disk without bytes; a disk that grew."""
    with tmpdir() as top:
        repo = Repository(os.path.join(top, "repo"))
        assert "There are no backups yet." in report(repo)
        repo.add({"vda": Disk(0)})
        Page(report(repo))
        repo.add({"vda": Disk(3 * M, [(0, 64 * K, 1)], "inc")})
        assert "100 % in this file" in report(repo)
        assert "NaN" not in report(repo) and "nan" not in report(repo) and "inf\"" not in report(repo)


@test
def where_it_goes():
    with tmpdir() as top:
        repo = make(top)
        path = os.path.join(top, "page.html")
        fleecectl("report", repo.path, "--html", path, env=UTC)
        assert read(path).decode() == report(repo)
        result = fleecectl("report", repo.path, check=False)
        assert result.returncode == 2 and "give --html FILE" in result.stderr, result
        result = fleecectl("report", repo.path, "--html", top + "/no/page", check=False)
        assert result.returncode == 1, result
        assert result.stderr == f"fleecectl: {top}/no/page: No such file or directory\n", result.stderr


@test
def what_is_no_regular_file_stays_what_it_is():
    with tmpdir() as top:
        repo = make(top)
        page = report(repo)
        fifo, link, dangling, far = (os.path.join(top, name) for name in ("fifo", "link", "dangling", "far"))
        os.mkfifo(fifo)
        process = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        fleecectl("report", repo.path, "--html", fifo, env=UTC)
        assert process.communicate(timeout=SOON)[0].decode() == page
        assert stat.S_ISFIFO(os.lstat(fifo).st_mode)
        # What it led to is longer than the page: nothing of it is left.
        write(far, b"x" * (len(page.encode()) + 4 * K))
        inode = os.stat(far).st_ino
        os.symlink("far", link)
        os.symlink("new", dangling)
        for path in link, dangling:
            fleecectl("report", repo.path, "--html", path, env=UTC)
            assert os.path.islink(path) and read(path).decode() == page, path
        assert os.stat(far).st_ino == inode
        # Standard output is where the shell lets it begin.
        log = os.path.join(top, "log")
        write(log, b"before\n")
        with open(log, "ab") as f:
            subprocess.run([FLEECECTL, "report", repo.path, "--html", "/dev/stdout"], stdout=f, check=True,
                           timeout=SOON, env={**os.environ, **UTC})
        assert read(log).decode() == "before\n" + page
        # A folder is none, either.
        result = fleecectl("report", repo.path, "--html", top, check=False)
        assert result.returncode == 1 and result.stderr == f"fleecectl: {top}: Is a directory\n", result
        assert not [name for name in os.listdir(top) if name.count(".")], os.listdir(top)


def picture(path):
    """The rows of a PNG of 8 bits a channel, as bytes; bytes a pixel."""
    data = read(path)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        chunk = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", chunk[:10])
            assert depth == 8 and colour in (2, 6)
        elif kind == b"IDAT":
            packed += chunk
        at += length + 12
    size = 3 if colour == 2 else 4
    raw, rows, previous = zlib.decompress(packed), [], bytes(width * size)
    for y in range(height):
        start = y * (width * size + 1)
        rows.append(previous := unfilter(raw[start], raw[start + 1:start + 1 + width * size], previous, size))
    return rows, size


def unfilter(kind, line, above, size):
    row = bytearray(line)
    for i, value in enumerate(line):
        left, up = row[i - size] if i >= size else 0, above[i]
        corner = above[i - size] if i >= size else 0
        if kind == 1:
            row[i] = value + left & 255
        elif kind == 2:
            row[i] = value + up & 255
        elif kind == 3:
            row[i] = value + (left + up) // 2 & 255
        elif kind == 4:
            guess = left + up - corner
            best = min((abs(guess - v), n, v) for n, v in enumerate((left, up, corner)))
            row[i] = value + best[2] & 255
    return bytes(row)


@test
def in_a_browser():
    """Light and dark: each has its page's colour, and the bars are drawn in theirs."""
    browser = require_program("chromium")
    with tmpdir() as top:
        repo = make(top)
        page, shot = os.path.join(top, "page.html"), os.path.join(top, "shot.png")
        fleecectl("report", repo.path, "--html", page, env=UTC)
        for scheme, ground, full, inc in ((1, (255, 255, 255), (0x2f, 0x74, 0xc9), (0xe0, 0x8a, 0x2e)),
                                          (0, (0x12, 0x16, 0x1c), (0x70, 0xb4, 0xff), (0xf0, 0xa5, 0x5a))):
            run(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={top}/profile", "--window-size=1000,700", f"--screenshot={shot}",
                f"--blink-settings=preferredColorScheme={scheme}", f"file://{page}", timeout=300,
                env={"HOME": top})
            rows, size = picture(shot)
            assert tuple(rows[0][:3]) == ground, rows[0][:3]
            pixels = {tuple(row[i:i + 3]) for row in rows for i in range(0, len(row), size)}
            assert full in pixels and inc in pixels, scheme
            os.unlink(shot)


main()
