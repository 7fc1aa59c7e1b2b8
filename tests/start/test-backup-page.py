#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The complete backup of nbdfleece-backup(7) works as it is printed there: the command lines, the
QMP dialogue with its answers, and the program that reads what is dirty.

$PRINT set: the real answers are printed, to be copied into the page."""

import json
import os
import random
import re
import shlex
import shutil
import sys

from fleece import FLEECECTL, SOURCE, Server, require_program, run, tmpdir
from qmp_backup import wait_clients_gone
from tap import main, note, test

K, M = 1 << 10, 1 << 20
DISKS = {"vda": 256 * M, "vdb": 64 * M}
PKI, PORT, HOST = "/etc/nbdfleece", "10810", "backup.example.com"
# They are another at each run: only that they are there, and their type, is compared.
VARYING = "time", "lease-left"


def page():
    with open(os.path.join(SOURCE, "man", "nbdfleece-backup.pod"), encoding="utf-8") as f:
        return re.sub(r"(?s)=head1 SYNOPSIS.*?(?==head1)", "", f.read())


def blocks(text):
    """Its literal blocks, without their indentation."""
    for block in re.findall(r"(?m)(?:^ +\S.*\n(?:^ *\n(?=^ +\S))?)+", text):
        yield re.sub(r"(?m)^ ", "", block)


def steps(text):
    """What the blocks say, in order: ("qmp", request, answer) and ("command", words)."""
    for block in blocks(text):
        dialogue = re.findall(r"(?ms)^-> (.*?)^<- (.*?)(?=^->|\Z)", block)
        for request, answer in dialogue:
            yield "qmp", json.loads(request), json.loads(answer)
        if not dialogue and re.match(r"(nbdfleece|fleecectl|nbdcopy|nbdinfo|pull\.py) ", block):
            for line in block.replace("\\\n", "").splitlines():
                yield "command", shlex.split(line)


def program():
    """The text of pull.py."""
    found, = [b for b in blocks(page()) if b.startswith("import sys\nimport nbd\n")]
    return found


def same(shown, real, where="return"):
    """What the page shows of an answer is what the server says."""
    if isinstance(shown, dict) and isinstance(real, dict):
        assert shown.keys() == real.keys(), (where, shown, real)
        for key, value in shown.items():
            if key in VARYING:
                assert type(value) is type(real[key]), (where, key, real)
            else:
                same(value, real[key], f"{where}.{key}")
    elif isinstance(shown, list) and isinstance(real, list):
        assert len(shown) == len(real), (where, shown, real)
        for i, (a, b) in enumerate(zip(shown, real)):
            same(a, b, f"{where}[{i}]")
    else:
        assert shown == real, (where, shown, real)


class Lab:
    """A server as the page starts it, and what else its example needs, in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.pki = f"{folder}/pki"
        self.port = None
        self.server = None
        self.monitor = None
        self.chance = random.Random(1)
        self.expected = {}  # disk: its bytes at the last session's instant
        with open(f"{folder}/pull.py", "w", encoding="utf-8") as f:
            f.write(program())
        for disk, size in DISKS.items():
            with open(f"{folder}/{disk}.raw", "wb") as f:
                f.truncate(size)
                f.seek(M)
                f.write(self.chance.randbytes(2 * M))

    def here(self, word):
        """A word of the page, with the paths and addresses of this machine."""
        for theirs, ours in ((PKI, self.pki), ("/srv/", f"{self.folder}/"),
                             ("/var/lib/fleece", f"{self.folder}/state"),
                             (f"{HOST}:{PORT}", f"127.0.0.1:{self.port}")):
            word = word.replace(theirs, ours)
        return word

    def start(self, words):
        words = [self.here(w) for w in words]
        for option in "-U", "-C":
            at = words.index(option)
            del words[at:at + 2]
        self.server = Server(*words).start()
        self.monitor = self.server.qmp()

    def guest(self):
        """The guest writes to both disks. On one it also zeroes and trims."""
        import nbd
        for disk in DISKS:
            h = nbd.NBD()
            h.set_uri_allow_local_file(True)
            h.connect_uri(f"nbds+unix:///{disk}?socket={self.server.socket}"
                          f"&tls-certificates={self.pki}")
            h.pwrite(self.chance.randbytes(4 * K), 20 * M)
            if disk == "vda":
                h.pwrite(self.chance.randbytes(128 * K), 2 * M)
                h.zero(64 * K, M)
                h.trim(64 * K, M + 256 * K)
            h.flush()
            h.shutdown()

    def qmp(self, request, shown):
        if "nbd-server-start" in request["execute"]:
            request["arguments"]["addr"]["data"] = {"host": "127.0.0.1", "port": "0"}
        if request["execute"] == "backup-begin":
            self.guest()
            for disk in DISKS:
                with open(f"{self.folder}/{disk}.raw", "rb") as f:
                    self.expected[disk] = f.read()
        if request["execute"] == "query-backups":
            wait_clients_gone(self.monitor)
        answer = self.monitor.cmd(request["execute"], **request.get("arguments", {}))
        if request["execute"] == "nbd-server-start":
            added, = [s["uri"] for s in self.monitor.cmd("query-nbd-servers") if not s["live"]]
            self.port = re.search(r":(\d+)/", added)[1]
        if request["execute"] == "backup-begin":
            self.guest()  # after the instant: nothing of this may be read
        text = json.dumps({"return": answer}).replace(f"127.0.0.1:{self.port}/",
                                                         f"localhost:{PORT}/")
        if "PRINT" in os.environ:
            note(f"-> {json.dumps(request)}\n<- {text}")
        else:
            same(shown["return"], json.loads(text)["return"])

    def copies(self):
        return f"{self.folder}/copies"

    def command(self, words):
        words = [self.here(w) for w in words]
        program, *arguments = words
        if program == "nbdfleece":
            self.start(arguments)
            return
        os.makedirs(self.copies(), exist_ok=True)
        path = {"fleecectl": [FLEECECTL], "pull.py": [sys.executable, f"{self.folder}/pull.py"],
                "nbdcopy": ["nbdcopy"], "nbdinfo": ["nbdinfo"]}[program]
        out = run(*path, *arguments, cwd=self.copies()).stdout
        note(f"{program}: {out}")
        if program == "pull.py":  # the page shows one disk
            run(*path, *[a.replace("vda", "vdb") for a in arguments], cwd=self.copies())
        if program in ("pull.py", "nbdcopy"):
            self.compare([a for a in arguments if a.endswith(".raw")][0])
        if program == "nbdinfo":
            assert re.search(r"\b131072 +1 +dirty", out), out

    def compare(self, name):
        with open(f"{self.copies()}/{name}", "rb") as f:
            assert f.read() == self.expected[name.removesuffix(".raw")], f"{name} is wrong"


@test
def the_complete_backup():
    for name in "nbdcopy", "nbdinfo":
        require_program(name)
    text = page()
    backup = text[text.index("=head1 A COMPLETE BACKUP"):text.index("=head1 THE RULES")]
    info, = [s for s in steps(text[text.index("=head1 READING"):]) if s[1][0] == "nbdinfo"]
    done = []
    with tmpdir() as folder:
        lab = Lab(folder)
        try:
            for kind, *step in steps(backup):
                getattr(lab, kind)(*step)
                done.append(step[0]["execute"] if kind == "qmp" else step[0][0])
                if done[-1] == "pull.py":
                    lab.command(info[1])
                    lab.compare("vdb.raw")
            assert lab.monitor.cmd("query-views") == []
            assert [c["name"] for c in lab.monitor.cmd("query-checkpoints")] == ["tue"]
            lab.server.stop()
        finally:
            if lab.server:
                lab.server.kill()
                shutil.rmtree(lab.server.dir, ignore_errors=True)
    assert done.count("backup-begin") == done.count("backup-end") == 2, done
    assert done.count("nbdcopy") == 2 and "pull.py" in done, done


main()
