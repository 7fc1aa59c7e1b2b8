#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl pull: copies that are cut, by a signal, by the end of the client, of the server, or of the
space; what is left of them, and going on."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading

from backup_rig import STEPS
from fleece import (FLEECECTL, SANITIZER, SOON, Server, die_with_parent, fleecectl, require_plugin,
                    require_program, run, tmpdir, wait_ready)
from pulls import (KIB, MIB, assert_equal, contents, pull, pull_json, read_all, refused, seeded,
                   started)
from tap import main, skip, test
from waiting import wait_until

SIZE = 160 * MIB
SLOW = "--rate-limit", "10M"  # so that it is cut long before its end
FASTER = "--rate-limit", "40M"


def server(folder, rng, size=SIZE, options=()):
    """A server of a disk in a file, full of what cannot be foreseen."""
    with open(f"{folder}/disk", "wb") as f:
        for _ in range(size // MIB):
            f.write(rng.randbytes(MIB))
    return Server("--disk", "vda", "file", f"{folder}/disk", *options)


def position(target):
    """Up to where a copy can be gone on with; None: nobody knows."""
    try:
        with open(f"{target}.pull") as f:
            return json.load(f)["position"]
    except FileNotFoundError:
        return None


def wait_position(target):
    """Wait until something of a copy is durable."""
    wait_until(lambda: (position(target) or 0) > 0, os.path.dirname(target))


def ends(process, code, why):
    error = process.communicate(timeout=SOON)[1].decode()
    assert process.returncode == code and why in error, (process.returncode, error)


def begun(target, least=1, other_than=None):
    """Has a new file so many bytes, and another inode?"""
    def look():
        try:
            found = os.stat(f"{target}.partial")
        except FileNotFoundError:
            return False
        return found.st_blocks * 512 >= least and found.st_ino != other_than
    return look


@test
def a_signal_removes_what_is_not_whole():
    with tmpdir() as folder, server(folder, seeded()) as s:
        os.mkdir(f"{folder}/t")
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            for name in "a.raw", "a.qcow2":
                target = f"{folder}/t/{name}"
                with started(s.uri("vda"), "-o", target, *SLOW) as p:
                    poll(begun(target))
                    p.send_signal(number)
                    ends(p, 1, f"interrupted by {number.name}")
                assert os.listdir(f"{folder}/t") == [], os.listdir(f"{folder}/t")


def poll(condition):
    """Wait for what no event tells of."""
    deadline = threading.Event()
    for _ in range(SOON * 100):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError("it did not happen")


@test
def a_signal_at_any_time():
    with tmpdir() as folder:
        rng = seeded()
        with server(folder, rng) as s:
            os.mkdir(f"{folder}/t")
            for _ in range(15):
                target = f"{folder}/t/a.qcow2"
                with started(s.uri("vda"), "-o", target) as p:
                    try:
                        p.wait(rng.uniform(0, 0.3))
                    except subprocess.TimeoutExpired:
                        p.send_signal(signal.SIGINT)
                    _, error = p.communicate(timeout=SOON)
                left = os.listdir(f"{folder}/t")
                if p.returncode == 0:
                    assert left == ["a.qcow2"], left
                    os.unlink(target)
                else:  # before it takes signals, nothing is there
                    assert p.returncode in (1, -signal.SIGINT) and left == [], (p.returncode, left, error)


@test
def a_killed_client_goes_on_by_choice():
    with tmpdir() as folder, server(folder, seeded()) as s:
        os.mkdir(f"{folder}/t")
        target = f"{folder}/t/a.raw"
        with started(s.uri("vda"), "-o", target, "--resume", *SLOW) as p:
            wait_position(target)
            p.kill()
        assert sorted(os.listdir(f"{folder}/t"))[:2] == ["a.raw.partial", "a.raw.pull"]
        at = position(target)
        assert 0 < at < SIZE and at % (2 * MIB) == 0, at
        summary = pull_json(s.uri("vda"), "-o", target, "--resume")
        assert summary["resumed"] == at and summary["read"] == SIZE - at, (summary, at)
        assert_equal(contents(target), contents(f"{folder}/disk"))
        assert os.listdir(f"{folder}/t") == ["a.raw"], os.listdir(f"{folder}/t")


@test
def without_resume_it_begins_anew():
    with tmpdir() as folder, server(folder, seeded()) as s:
        os.mkdir(f"{folder}/t")
        target = f"{folder}/t/a.raw"
        with started(s.uri("vda"), "-o", target, "--resume", *SLOW) as p:
            wait_position(target)
            p.kill()
        shutil.copy(f"{target}.pull", f"{folder}/pull")
        # What is cut here without --resume is another file: its .partial is not that of the position.
        # The first one is open meanwhile, so that its inode is not used again.
        with open(f"{target}.partial", "rb") as first:
            inode = os.fstat(first.fileno()).st_ino
            with started(s.uri("vda"), "-o", target, *SLOW) as p:
                poll(begun(target, other_than=inode))
                p.kill()
        assert position(target) is None
        # Where the position comes back all the same, it is known to be of another file.
        shutil.copy(f"{folder}/pull", f"{target}.pull")
        refused(s.uri("vda"), "-o", target, "--resume", why="of a file that is not there any more")
        os.unlink(f"{target}.pull")
        summary = pull_json(s.uri("vda"), "-o", target, "--resume")
        assert summary["resumed"] == 0 and summary["read"] == SIZE, summary
        assert_equal(contents(target), contents(f"{folder}/disk"))


@test
def an_interrupted_copy_goes_on_in_place():
    with tmpdir() as folder, server(folder, seeded()) as s:
        target = f"{folder}/a.raw"
        with open(target, "wb") as f:
            f.truncate(SIZE)
        fleecectl("-C", s.qmp_path, "bitmap", "add", "vda", "b")
        h = s.nbd("vda")
        for at in range(0, SIZE, MIB):
            h.pwrite(b"n" * MIB, at)
        args = s.uri("vda"), "-o", target, "--bitmap", "b", "--resume"
        with started(*args, *SLOW) as p:
            wait_position(target)
            p.send_signal(signal.SIGINT)
            ends(p, 1, "the target has some of the changes now, and needs all: interrupted")
        at = position(target)
        assert 0 < at < SIZE, at
        # It is another instant once something more is dirty: then nothing is gone on with.
        fleecectl("-C", s.qmp_path, "bitmap", "clear", "vda", "b")
        refused(*args, why="of another instant")
        refused(s.uri("vda"), "-o", f"{folder}/a.raw", "--resume", why="of another context")
        with open(f"{folder}/b.raw.pull", "w") as f:
            f.write("{")
        refused(s.uri("vda"), "-o", f"{folder}/b.raw", "--resume", why="it is damaged")
        for offset in range(0, SIZE, MIB):
            h.pwrite(b"n" * MIB, offset)
        summary = pull_json(*args)
        assert summary["resumed"] == at and summary["read"] == SIZE - at, summary
        assert_equal(contents(target), read_all(h))
        assert position(target) is None


@test
def a_server_that_dies_is_waited_for():
    with tmpdir() as folder, server(folder, seeded()) as s:
        target = f"{folder}/a.raw"
        with started(s.uri("vda"), "-o", target, *FASTER) as p:
            poll(begun(target))
            s.kill()
            s.start()
            ends(p, 0, "")
        assert_equal(contents(target), contents(f"{folder}/disk"))


@test
def a_server_that_stays_away():
    with tmpdir() as folder, server(folder, seeded()) as s:
        os.mkdir(f"{folder}/t")
        for name, options in ("a.raw", ("--resume",)), ("b.raw", ()), ("c.qcow2", ()):
            target = f"{folder}/t/{name}"
            with started(s.uri("vda"), "-o", target, "--retry", "0", *options, *SLOW) as p:
                poll(begun(target, 40 * MIB))
                s.kill()
                ends(p, 4, f"pull {s.uri('vda')} to {target}: ")
            s.start()
        assert sorted(os.listdir(f"{folder}/t")) == ["a.raw.partial", "a.raw.pull"]
        summary = pull_json(s.uri("vda"), "-o", f"{folder}/t/a.raw", "--resume")
        # All that had come is durable: an end in order says so, without a mark of its own.
        assert summary["resumed"] > 0 and summary["resumed"] + summary["read"] == SIZE, summary
        assert_equal(contents(f"{folder}/t/a.raw"), contents(f"{folder}/disk"))


@test
def two_at_once():
    with tmpdir() as folder, server(folder, seeded()) as s:
        target = f"{folder}/a.raw"
        with started(s.uri("vda"), "-o", target, *SLOW) as p:
            poll(begun(target))
            refused(s.uri("vda"), "-o", target, why="another process is writing it")
            assert p.poll() is None and begun(target)()


@test
def a_target_that_is_full():
    if os.geteuid() != 0:
        skip("only root can mount")
    require_program("mount")
    with tmpdir() as folder, server(folder, seeded(), 32 * MIB) as s:
        os.mkdir(f"{folder}/small")
        run("mount", "-t", "tmpfs", "-o", "size=16m", "none", f"{folder}/small")
        try:
            for name in "a.raw", "a.qcow2":
                why = refused(s.uri("vda"), "-o", f"{folder}/small/{name}", why="No space left")
                assert f"{folder}/small/{name}.partial" in why, why
                assert os.listdir(f"{folder}/small") == []
            with open(f"{folder}/small/stream", "wb") as f:
                result = subprocess.run([FLEECECTL, "pull", s.uri("vda"), "-o", "-"], stdout=f,
                                        stderr=subprocess.PIPE, text=True, timeout=SOON,
                                        preexec_fn=die_with_parent)
            assert result.returncode == 1 and "No space left" in result.stderr, result
        finally:
            run("umount", f"{folder}/small")


@test
def a_reader_that_goes_away():
    with tmpdir() as folder, server(folder, seeded(), 32 * MIB) as s:
        for options in (), ("--format", "raw"):
            with started(s.uri("vda"), "-o", "-", *options, stdout=subprocess.PIPE) as p:
                assert p.stdout.read(1)
                p.stdout.close()
                error = p.stderr.read().decode()
                p.wait(SOON)
                assert p.returncode == 1 and "Broken pipe" in error, (p.returncode, error)


@test
def discarding_at_the_source():
    with tmpdir() as folder, Server("--disk", "vda", "memory", str(SIZE)) as s:
        h, q = s.nbd("vda"), s.qmp()
        for at in range(0, SIZE, MIB):
            h.pwrite(bytes([at // MIB + 1]) * MIB, at)
        target = f"{folder}/a.raw"
        d = q.cmd("backup-begin", id="a", discard=True)[0]
        state = read_all(h)
        h.pwrite(b"o" * 64 * MIB, 0)  # the view keeps what was there
        assert kept(q) >= 64 * MIB, kept(q)
        pull(d["uri"], "-o", target, "--discard")
        assert kept(q) < 64 * KIB, kept(q)
        assert_equal(contents(target), state)
        assert os.listdir(folder) == ["a.raw"], os.listdir(folder)
        q.cmd("backup-end", id="a", result="commit")

        state = read_all(h)
        d = q.cmd("backup-begin", id="b", discard=True)[0]
        h.pwrite(b"p" * 64 * MIB, 0)
        args = d["uri"], "-o", target, "--context", d["context"]
        # A cut: what is discarded is in the target alone.
        with started(*args, "--discard", *SLOW) as p:
            wait_position(target)
            p.kill()
        at = position(target)
        refused(*args, why="has discarded at the source")
        refused(*args, "--discard", why="has discarded at the source")
        assert position(target) == at
        summary = pull_json(*args, "--discard", "--resume")
        assert summary["resumed"] == at, summary
        assert_equal(contents(target), state)
        for other in f"{folder}/b.qcow2", "nbd://localhost/x", "-":
            refused(d["uri"], "-o", other, "--discard", code=2, why="--discard is for raw files")
            refused(d["uri"], "-o", other, "--resume", code=2, why="--resume is for raw files")
        q.cmd("backup-end", id="b", result="commit")


@test
def a_live_disk_is_never_discarded():
    with tmpdir() as folder, Server("--disk", "vda", "memory", str(4 * MIB)) as s:
        h = s.nbd("vda")
        h.pwrite(b"g" * 4 * MIB, 0)
        refused(s.uri("vda"), "-o", f"{folder}/a.raw", "--discard",
                why="the export is a disk that can be written: --discard would destroy it")
        assert_equal(read_all(h), b"g" * 4 * MIB)
        assert os.listdir(folder) == [], os.listdir(folder)


def kept(q):
    """Bytes of the session's scratch."""
    return q.cmd("query-backups")[0]["disks"][0]["scratch-bytes"]


@test
def a_copy_whose_source_is_empty_is_only_named():
    """What was discarded at the end is in the .partial alone, also where that does not get its name."""
    require_program("nbdkit")
    require_plugin("eval")
    state = seeded().randbytes(3 * MIB + 512)
    with tmpdir() as folder, tmpdir() as other:
        with open(f"{other}/disk", "wb") as f:
            f.write(state)
        target = f"{folder}/a.raw"
        with slow(other, "pread") as (uri, let_read):
            # The other file comes while the copy waits for its first byte.
            with started(uri, "-o", target, "--discard") as p:
                poll(lambda: os.path.exists(f"{other}/pread"))
                with open(target, "w") as f:
                    f.write("x")
                let_read()
                ends(p, 1, "name the file: File exists")
            assert position(target) == len(state), position(target)
            assert_equal(contents(f"{other}/disk"), bytes(len(state)))
            other_spelling = uri.replace("socket=/", "socket=//")
            for args in ((uri, "-o", target, "--force"),
                         (other_spelling, "-o", target, "--discard", "--force"),
                         (uri, "-o", target, "--format", "qcow2", "--force")):
                refused(*args, why="has discarded at the source")
            os.unlink(target)
            refused(uri, "-o", target, "--format", "qcow2", why="has discarded at the source")
            summary = pull_json(uri, "-o", target, "--discard", "--resume")
            assert summary["resumed"] == len(state) and summary["read"] == 0, summary
            assert_equal(contents(target), state)
            assert os.listdir(folder) == ["a.raw"], os.listdir(folder)


@test
def a_copy_that_only_has_to_lose_its_position():
    """The run is cut when the file has its name: nothing is lost, and the next run says so."""
    if SANITIZER != "no":
        skip("a sanitizer's runtime has to be loaded first")
    require_program("nbdkit")
    require_plugin("eval")
    state = seeded().randbytes(3 * MIB + 512)
    with tmpdir() as folder, tmpdir() as other:
        with open(f"{other}/disk", "wb") as f:
            f.write(state)
        target = f"{folder}/a.raw"
        cut = {"LD_PRELOAD": STEPS, "FLEECE_STEP_KILL": f"behind rename {target}"}
        with slow(other, "pread") as (uri, let_read):
            let_read()
            for words in ("--resume",), ("--discard",):
                with started(uri, "-o", target, *words, env={**os.environ, **cut}) as p:
                    ends(p, -signal.SIGKILL, "")
                assert sorted(os.listdir(folder)) == ["a.raw", "a.raw.pull"], os.listdir(folder)
                if "--discard" in words:
                    assert_equal(contents(f"{other}/disk"), bytes(len(state)))
                    refused(uri, "-o", target, "--force", why=f"has made {target}, which is whole")
                # Another file of this name is not that copy.
                os.rename(target, f"{folder}/b.raw")
                shutil.copy(f"{folder}/b.raw", target)
                refused(uri, "-o", target, *words, "--resume", why="it exists")
                os.rename(f"{folder}/b.raw", target)
                summary = pull_json(uri, "-o", target, *words, "--resume")
                assert summary["resumed"] == len(state) and summary["read"] == 0, summary
                assert os.listdir(folder) == ["a.raw"], os.listdir(folder)
                assert_equal(contents(target), state)
                os.unlink(target)


@test
def a_client_that_dies_in_its_last_trims():
    require_program("nbdkit")
    require_plugin("eval")
    size = 3 * MIB + 512
    state = seeded().randbytes(size)
    for end in signal.SIGKILL, signal.SIGINT:
        with tmpdir() as folder:
            with open(f"{folder}/disk", "wb") as f:
                f.write(state)
            with slow(folder, "trim") as (uri, let_trim):
                target = f"{folder}/a.raw"
                with started(uri, "-o", target, "--discard") as p:
                    poll(lambda: os.path.exists(f"{folder}/trim"))
                    p.send_signal(end)
                    let_trim()
                    p.wait(SOON)
                    if end == signal.SIGKILL:
                        assert p.returncode == -end, p.returncode
                poll(lambda: not any(open(f"{folder}/disk", "rb").read()))
                if end == signal.SIGKILL or p.returncode != 0:
                    assert position(target) == size, position(target)
                    refused(uri, "-o", target, "--discard", why="has discarded at the source")
                    summary = pull_json(uri, "-o", target, "--discard", "--resume")
                    assert summary["resumed"] == size, summary
                assert_equal(contents(target), state)


@contextlib.contextmanager
def slow(folder, held):
    """An export of the file `disk`, by another server. Each of its reads ("pread") or trims ("trim") makes a
    file of that name and waits for the lock of `gate`, until the function is called that comes with the URI."""
    calls = {"pread": f"dd if={folder}/disk iflag=skip_bytes,count_bytes count=$3 skip=$4 status=none",
             "trim": f"dd if=/dev/zero of={folder}/disk conv=notrunc iflag=count_bytes oflag=seek_bytes "
                     "count=$3 seek=$4 status=none"}
    calls[held] = f"touch {folder}/{held}; flock -s {folder}/gate true; {calls[held]}"
    with open(f"{folder}/gate", "w") as gate, nbdkit_without_zeroes(
            folder, "eval", f"get_size=stat -c %s {folder}/disk", "pwrite=exit 1", "can_write=exit 0",
            "can_trim=exit 0", *(f"{name}={call}" for name, call in calls.items()),
            "thread_model=echo parallel") as uri:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield uri, lambda: fcntl.flock(gate, fcntl.LOCK_UN)


@contextlib.contextmanager
def nbdkit_without_zeroes(folder, *plugin):
    """The URI of a disk that takes TRIM, but no WRITE_ZEROES: pull takes it for a view."""
    os.mkfifo(f"{folder}/pid")
    process = subprocess.Popen(["nbdkit", "-f", "-U", f"{folder}/s", "-P", f"{folder}/pid", "--filter=nozero",
                                *plugin], preexec_fn=die_with_parent)
    try:
        wait_ready(process, f"{folder}/pid", "nbdkit")
        yield f"nbd+unix:///?socket={folder}/s"
    finally:
        process.kill()
        process.wait()


main()
