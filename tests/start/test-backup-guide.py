#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What nbdfleece-backup(7) tells administrators works as it is printed there, from the first backup to the
restore after a disaster. (test-backup-page.py does so with the part for backup software, and
test-fleecectl-backup-ssh.py with --ssh.)"""

import datetime
import os
import random
import re
import shlex

from fleece import FLEECECTL, SOURCE, Server, require_program, run, tmpdir
from tap import main, note, test

K, M = 1 << 10, 1 << 20
DISKS = {"vda": 64 * M, "vdb": 16 * M}
TIME = "2026-11-24 12:00"  # on the page, of a point to restore


def guide():
    with open(os.path.join(SOURCE, "man", "nbdfleece-backup.pod"), encoding="utf-8") as f:
        text = f.read()
    return text[text.index("=head1 FOR ADMINISTRATORS"):text.index("=head1 WORDS")]


def commands(title):
    """The commands below a heading, those of ExecStart= among them, each as its words."""
    text = guide()
    part = text[text.index(f"=head2 {title}\n"):].split("=head2 ")[1]
    for line in part.replace("\\\n", "").splitlines():
        found = re.match(r" (?:ExecStart=)?((?:nbdfleece|fleecectl|qemu-img) .*)", line)
        if found:
            yield shlex.split(found[1])


class Lab:
    """The two hosts of the page, in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.server = None
        self.chance = random.Random(1)
        self.points = {}  # what the disks were: name of the point: {disk: bytes}
        os.mkdir(f"{folder}/srv")
        os.mkdir(f"{folder}/backup")
        for disk, size in DISKS.items():
            with open(f"{folder}/srv/{disk}.raw", "wb") as f:
                f.truncate(size)
                f.seek(M)
                f.write(self.chance.randbytes(2 * M))

    def here(self, word, **others):
        for theirs, ours in {"/srv": f"{self.folder}/srv", "/backup/": f"{self.folder}/backup/",
                             "/var/lib/fleece": f"{self.folder}/state",
                             "/run/fleece.qmp": self.server and self.server.qmp_path, **others}.items():
            if ours and (word.startswith(theirs) or theirs == word):
                return word.replace(theirs, ours, 1)
        return word

    def start(self, words):
        words = [self.here(w) for w in words[1:]]
        for option in "-U", "-C":
            at = words.index(option)
            del words[at:at + 2]
        self.server = Server(*words, dir=self.folder).start()

    def do(self, words, **others):
        words = [self.here(w, **others) for w in words]
        program = FLEECECTL if words[0] == "fleecectl" else words[0]
        out = run(program, *words[1:], cwd=self.folder).stdout
        note(f"$ {shlex.join(words)}\n{out}")
        return out

    def guest(self):
        import nbd
        for disk, size in DISKS.items():
            h = nbd.NBD()
            h.connect_uri(f"nbd+unix:///{disk}?socket={self.server.socket}")
            for _ in range(20):
                h.pwrite(self.chance.randbytes(4 * K), self.chance.randrange(size // M) * M)
            h.flush()
            h.shutdown()

    def disks(self):
        found = {}
        for disk in DISKS:
            with open(f"{self.folder}/srv/{disk}.raw", "rb") as f:
                found[disk] = f.read()
        return found

    def same(self, path, disk, point):
        with open(f"{self.folder}/{path}", "rb") as f:
            assert f.read() == self.points[point][disk], path


@test
def from_the_first_backup_to_the_restore():
    require_program("qemu-img")
    with tmpdir() as folder:
        lab = Lab(folder)
        try:
            serve, backup = commands("The first backup")
            lab.start(serve)
            lab.do(backup)
            lab.points["first"] = lab.disks()
            between = datetime.datetime.now().isoformat(sep=" ")
            lab.guest()
            backup, prune = commands("Every night")
            lab.do(backup)
            lab.points["second"] = lab.disks()
            for words in commands("Is it good?"):
                lab.do(words)
            lab.server.stop()
            for disk in DISKS:
                os.unlink(f"{folder}/srv/{disk}.raw")
            lists, everything, one, convert = commands("After a disaster")
            assert lab.do(lists).count(" ok") == 4
            lab.do(everything)
            for disk in DISKS:
                lab.same(f"srv/{disk}.raw", disk, "second")
            os.unlink(f"{folder}/srv/vda.raw")
            lab.do(one, **{TIME: between})
            lab.same("srv/vda.raw", "vda", "first")
            lab.do(convert)
            lab.same("vda.raw", "vda", "second")
            lab.do(prune)
            assert "vda" in lab.do(lists)
        finally:
            if lab.server:
                lab.server.kill()


@test
def another_servers_disks():
    """A mirror is the second disk of the same server; the bitmap is one of the live disk."""
    with tmpdir() as folder:
        lab = Lab(folder)
        try:
            with open(f"{folder}/srv/mirror.raw", "wb") as f:
                f.write(lab.disks()["vda"])
            lab.server = Server("--disk", "vda", "file", f"{folder}/srv/vda.raw",
                                "--disk", "mirror", "file", f"{folder}/srv/mirror.raw",
                                "--disk", "vdb", "file", f"{folder}/srv/vdb.raw", dir=folder).start()
            uri = f"nbd+unix:///{{}}?socket={lab.server.socket}".format
            others = {"nbd://host:10809/vda": uri("vda"), "nbd://mirror/vda": uri("mirror")}
            run(FLEECECTL, "pull", uri("vda"), "-o", f"{folder}/monday.qcow2")
            run(FLEECECTL, "-C", lab.server.qmp_path, "bitmap", "add", "vda", "backup-vda")
            lab.guest()
            lab.points["now"] = lab.disks()
            onto, mirror = commands("Another server's disks")
            lab.do(onto, **others)
            run("qemu-img", "convert", "-O", "raw", f"{folder}/tuesday.qcow2", f"{folder}/tuesday.raw")
            lab.same("tuesday.raw", "vda", "now")
            lab.do(mirror, **others)
            lab.same("srv/mirror.raw", "vda", "now")
        finally:
            if lab.server:
                lab.server.kill()


main()
