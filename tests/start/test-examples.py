# SPDX-License-Identifier: BSD-3-Clause
"""Every example of the manual pages and of README works with the programs that were built. Each
command line is run, with its paths in a temporary folder, and each configuration file is read.
Commands of other projects (nbdcopy, systemctl) are left out."""

import os
import re
import shlex

from fleece import FLEECECTL, NBDFLEECE, SOURCE, Server, run, tmpdir
from tap import main, note, test

PAGES = "README.md", "man/fleecectl.pod", "man/nbdfleece-plugins.pod", "man/nbdfleece-fsfreeze-qga.pod", "man/nbdfleece.pod"
OURS = re.compile(r"(\./)?(nbdfleece|fleecectl) ")
SYNOPSIS = re.compile(r"\[|\.\.\.|\bPLUGIN\b|\|| [A-Z]{3,}")


def blocks(page):
    """The literal blocks of a page, without their indentation."""
    with open(os.path.join(SOURCE, page), encoding="utf-8") as f:
        text = re.sub(r"(?s)=head1 SYNOPSIS.*?(?==head1)", "", f.read())
    for block in re.findall(r"(?m)(?:^[ \t]+\S.*\n(?:^[ \t]*\n(?=^[ \t]+\S))?)+", text):
        lines = block.splitlines()
        indent = min(len(l) - len(l.lstrip()) for l in lines if l.strip())
        yield "\n".join(l[indent:] for l in lines)


def commands(page):
    """The command lines of our programs, as lists of words. A line that goes on with a backslash or
    inside quotes is joined with the next."""
    for block in blocks(page):
        text = ""
        for line in block.splitlines():
            if not text and not OURS.match(line):
                continue
            text = f"{text}\n{line}" if text else line
            if text.endswith("\\"):
                text = text[:-1]
                continue
            try:
                words = shlex.split(text, comments=True)
            except ValueError:  # a quote is open
                continue
            yield words
            text = ""
        assert not text, f"{page}: an example without an end: {text}"


def configs(page):
    return [b for b in blocks(page) if re.search(r"(?m)^\[nbdfleece\]$|^\[disk .*\]$", b)]


# The smallest script that nbdkit's python plugin serves as a disk.
SCRIPT = """
import nbdkit
API_VERSION = 2
def open(readonly): return 1
def get_size(h): return 1048576
def pread(h, buf, offset, flags): buf[:] = bytes(len(buf))
"""


def prepare(folder, text):
    """The text with its absolute paths moved into `folder`. The images, scripts and folders that it
    names are made there."""
    def move(match):
        path = folder + match.group(0)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if path.endswith(".raw") or "/dev/" in path:
            make_image(path)
        if path.endswith(".py"):
            with open(path, "w", encoding="utf-8") as f:
                f.write(SCRIPT)
        return path
    return re.sub(r"(?<![\w.:/>-])/(?:[\w.-]+/)*[\w.-]+", move, text)


def make_image(path):
    with open(path, "wb") as f:
        f.truncate(1 << 20)


def images(folder):
    for name in "disk.img", "disk.raw", "vda.raw", "vdb.raw":
        make_image(f"{folder}/{name}")


def has_socket(words):
    return any(re.match(r"-U|-p|-s$|--run|--unix|--port", w) for w in words)


def starts(folder, words, page):
    """The server starts with this command line, and clients can connect."""
    if "--run" in words:
        run(NBDFLEECE, *words, cwd=folder)
        return
    if "--tls-verify-peer" in words and "--tls-certificates" not in words:
        words = ["--tls-certificates", "certs", *words]  # instead of those of the machine
    # A shell carries out redirections such as 5<>disk.raw.
    redirections = [w for w in words if re.match(r"\d<>", w)]
    words = [w for w in words if w not in redirections]
    with Server(*words, unix=not has_socket(words), control=False, cwd=folder,
                prefix=("env", f"HOME={folder}",
                        "sh", "-c", " ".join(['exec "$@"', *redirections]), "sh")):
        note(f"{page}: nbdfleece {shlex.join(words + redirections)}")


@test
def every_command_line_of_the_server():
    count = 0
    for page in PAGES:
        for words in commands(page):
            if not words[0].endswith("nbdfleece"):
                continue
            with tmpdir() as d:
                images(d)
                run(FLEECECTL, "tls", "init", f"{d}/certs")
                words = [w if re.match(r"/run/slow", w) else prepare(d, w) for w in words[1:]]
                if "vm.qcow2" in words:
                    run("qemu-img", "create", "-q", "-f", "qcow2", f"{d}/vm.qcow2", "1M")
                for folder in [w[len("allow="):] for w in words if w.startswith("allow=")]:
                    os.makedirs(folder)
                for folder in [w[len("dir="):] for w in words if w.startswith("dir=")]:
                    os.makedirs(folder)
                    images(folder)
                slow = next((w for w in words if w.startswith("socket=")), None)
                if slow:  # the socket of nbdkit in the line before; any server will do
                    with Server("memory", "1M", control=False) as other:
                        words[words.index(slow)] = f"socket={other.socket}"
                        starts(d, words, page)
                else:
                    starts(d, words, page)
            count += 1
    assert count >= 8, f"only {count} examples were found"


@test
def every_configuration_file():
    count = 0
    for page in PAGES:
        for text in configs(page):
            with tmpdir() as d:
                images(d)
                with open(f"{d}/conf", "w", encoding="utf-8") as f:
                    f.write(prepare(d, text))
                unix = re.search(r"(?m)^unix *= *(.*)$", prepare(d, text))
                with Server("--config", f"{d}/conf", unix=False, control=False, cwd=d):
                    assert unix is None or os.path.exists(unix.group(1))
            count += 1
    assert count >= 1


def dialogues():
    """The fleecectl commands of each page that talk to a server, in order."""
    for page in PAGES:
        lines = [w[1:] for w in commands(page) if w[0].endswith("fleecectl")]
        yield page, [w for w in lines if not SYNOPSIS.search(" ".join(w).split("'")[0])
                     or w[0] == "qmp" or w[0] == "-C"]


@test
def every_command_line_of_the_client():
    """In the order of each page, with a server that has the disks of the examples."""
    count = 0
    for page, lines in dialogues():
        with tmpdir() as d:
            images(d)
            with Server("--disk", "vda", "file", f"{d}/vda.raw", "--disk", "vdb", "file",
                        f"{d}/vdb.raw") as s:
                for words in lines:
                    if words[0] == "-C":
                        words = words[2:]
                    # The server that the page names is replaced by this one.
                    words = [re.sub(r"^nbd://server/(export|vda)$", s.uri("vda"), prepare(d, w))
                             for w in words]
                    # The port of NBD may be in use on this machine.
                    words = [w.replace('port="10809"', 'port="0"') for w in words]
                    result = run(FLEECECTL, *words, cwd=d, check=False,
                                 env={"NBDFLEECE_CONTROL": s.qmp_path})
                    assert result.returncode == 0, \
                        f"{page}: fleecectl {shlex.join(words)}: {result.stderr}"
                    note(f"{page}: fleecectl {shlex.join(words)}")
                    if "nbd-server-start" in words:
                        s.qmp().cmd("nbd-server-stop")
                    count += 1
    assert count >= 12, f"only {count} examples were found"


@test
def every_option_that_is_named_exists():
    """Every option that nbdfleece(1) or nbdfleece-plugins(5) names exists, not only those in the
    list of options."""
    known = set(run(NBDFLEECE, "--long-options").stdout.split())
    known |= {"--filter", "--oldstyle"}  # refused with a reason
    for page in "man/nbdfleece.pod", "man/nbdfleece-plugins.pod":
        with open(os.path.join(SOURCE, page), encoding="utf-8") as f:
            named = set(re.findall(r"B<(--[a-z0-9-]+)", f.read()))
        assert named <= known, (page, named - known)


main()
