# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest with our exports as its virtio disks is backed up while it runs.

/dev/vda holds an ext4 file system, /dev/vdb is used raw. The tests share one guest. Each can also
be run alone."""

import contextlib
import os
import re

from fleece import Server, require_program, run, tmpdir
from guest import Machine, check_ext4, programs_for_ext4
from rig import (KIB, MIB, assert_same, content, dirty_context, dirty_extents, export_view, freeze,
                 image, pull)
from tap import main, note, test

SLOTS = 16

# The guest works in the background until /tmp/stop is there. In step N it rewrites the file of slot
# N % SLOTS and syncs it. Then it writes N to the file `last` and syncs that, too. Then it writes N
# to the first sector of /dev/vdb, past the page cache. At last a mark tells the test that N is
# done.
WORK = (
    "work() { n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); "
    f"yes \"step $n\" | head -c 50000 >/mnt/slot$((n % {SLOTS})); sync; "
    "echo $n >/mnt/last.new; mv /mnt/last.new /mnt/last; sync; "
    "printf '%511d\\n' $n | dd of=/dev/vdb bs=512 oflag=direct conv=notrunc 2>/dev/null; "
    "echo $n >/dev/ttyS2; done; }")


class Rig:
    """The server with two disks, and the guest."""

    def __init__(self):
        with contextlib.ExitStack() as stack:
            mke2fs = programs_for_ext4()
            self.dir = stack.enter_context(tmpdir())
            self.vda, self.vdb = f"{self.dir}/vda", f"{self.dir}/vdb"
            image(self.vda, 64 * MIB)
            image(self.vdb, 16 * MIB)
            run(mke2fs, "-q", "-t", "ext4", "-J", "size=4", self.vda)
            self.server = stack.enter_context(Server("--disk", "vda", "file", self.vda,
                                                     "--disk", "vdb", "file", self.vdb))
            self.guest = Machine(self.dir, {"vda": (self.server.socket, "vda"),
                                            "vdb": (self.server.socket, "vdb")})
            stack.callback(self.guest.kill)
            self.q = self.server.qmp()
            self.working = False
            self._stack = stack.pop_all()

    def path(self, name):
        return os.path.join(self.dir, name)

    def close(self):
        self._stack.close()

    def mount(self):
        self.guest.run("grep -q ' /mnt ' /proc/mounts || mount -t ext4 /dev/vda /mnt")

    def start_work(self):
        """Start the work. Returns when the first step is done."""
        self.mount()
        self.guest.run("rm -f /tmp/stop; " + WORK)
        self.guest.run("work </dev/null >/dev/null 2>&1 &")
        return self.wait_steps(1)

    def wait_steps(self, count):
        """Wait until `count` more steps are done. Returns the number of the last one."""
        for _ in range(count):
            mark = self.guest.mark()
        return int(mark)

    def steps_done(self, before):
        """The last step that is done by now. `before` is a step that was done earlier."""
        return max([before] + [int(mark) for mark in self.guest.marks()])

    def stop_work(self):
        # The guest itself waits for the end of the work. Its shell loses a line that it is just
        # reading when a background job ends, so no line may be sent at that time.
        self.guest.run("touch /tmp/stop; wait")
        self.guest.marks()

    def freeze_both(self, names, actions=()):
        """Make views of both disks at one instant, together with other actions."""
        self.q.transaction(("view-create", {"disk": "vda", "name": names[0]}),
                           ("view-create", {"disk": "vdb", "name": names[1]}), *actions)

    def drop(self, *views):
        for view in views:
            self.q.cmd("block-export-del", id=view, mode="hard")
            self.q.wait_event("BLOCK_EXPORT_DELETED")
            self.q.cmd("view-delete", name=view)

    def drop_bitmaps(self, node):
        for block in self.q.cmd("query-block"):
            if block["device"] == node:
                for bitmap in block["inserted"].get("dirty-bitmaps", []):
                    self.q.cmd("block-dirty-bitmap-remove", node=node, name=bitmap["name"])


_rig = None


def rig():
    global _rig
    if _rig is None:
        _rig = Rig()
    return _rig


def dump(file_system, name):
    """The content of a file in an ext4 image, by debugfs."""
    return run("debugfs", "-R", f"cat /{name}", file_system).stdout


def check_file_system(path, least, most):
    """Check an image of /dev/vda that was taken while the guest worked: its journal can be
    replayed, nothing else is wrong with it, and all that the guest had synced is in it. Returns the
    step that it is at."""
    check_ext4(path)
    last = int(dump(path, "last"))
    assert least <= last <= most, f"step {last}, {least} to {most} expected"
    # The slot of the step after `last` may be half written. The others are complete.
    for n in range(max(1, last - SLOTS + 2), last + 1):
        expected = (f"step {n}\n" * 50000)[:50000]
        assert dump(path, f"slot{n % SLOTS}") == expected, f"slot {n % SLOTS} of step {n}"
    return last


@test
def the_guest_sees_its_disks():
    guest = rig().guest
    assert guest.run("cat /sys/block/vda/size") == str(64 * MIB // 512)
    assert guest.run("cat /sys/block/vdb/size") == str(16 * MIB // 512)
    assert guest.run("cat /sys/block/vdb/serial") == "vdb"
    assert int(guest.run("cat /sys/block/vdb/queue/discard_max_bytes")) > 0


@test
def raw_writes_arrive_and_are_recorded():
    r = rig()
    r.q.cmd("block-dirty-bitmap-add", node="vdb", name="b", granularity=4 * KIB)
    model = bytearray(content(r.vdb))
    for offset in 0, 256 * KIB, 5 * MIB, 16 * MIB - 64 * KIB:
        text = f"guest {offset}\n"
        r.guest.run(f"yes 'guest {offset}' | head -c 65536 | dd of=/dev/vdb bs=64k iflag=fullblock "
                    f"oflag=direct conv=notrunc seek={offset // (64 * KIB)} 2>/dev/null")
        model[offset:offset + 64 * KIB] = (text * 64 * KIB)[:64 * KIB].encode()
    assert_same(content(r.vdb), model)
    h = r.server.nbd("vdb", [dirty_context("b")])
    assert dirty_extents(h, "b") == [(0, 64 * KIB), (256 * KIB, 64 * KIB), (5 * MIB, 64 * KIB),
                                     (16 * MIB - 64 * KIB, 64 * KIB)]
    r.drop_bitmaps("vdb")


def data_file():
    """The largest file that the guest has and that we know: busybox. (To make a megabyte by `yes`
    would take the guest seconds.)"""
    return content(require_program("busybox"))


@test
def buffered_writes_arrive_with_sync():
    r = rig()
    r.guest.run("dd if=/bin/busybox of=/dev/vdb bs=4k seek=512 conv=notrunc,fsync 2>/dev/null")
    data = data_file()
    assert_same(content(r.vdb)[2 * MIB:2 * MIB + len(data)], data)


@test
def discard_punches_and_is_recorded():
    r = rig()
    r.guest.run("cat /bin/busybox /bin/busybox | dd of=/dev/vdb bs=64k iflag=fullblock "
                "conv=notrunc,fsync seek=128 2>/dev/null")
    assert any(content(r.vdb)[8 * MIB:9 * MIB])
    r.q.cmd("block-dirty-bitmap-add", node="vdb", name="b", granularity=4 * KIB)
    before = os.stat(r.vdb).st_blocks
    r.guest.run(f"blkdiscard -o {8 * MIB} -l {MIB} /dev/vdb")
    assert content(r.vdb)[8 * MIB:9 * MIB] == b"\0" * MIB
    assert before - os.stat(r.vdb).st_blocks >= MIB // 512
    h = r.server.nbd("vdb", [dirty_context("b")])
    assert dirty_extents(h, "b") == [(8 * MIB, MIB)]
    r.drop_bitmaps("vdb")


@test
def a_file_system_made_in_the_guest():
    r = rig()
    r.guest.run("mke2fs -F /dev/vdb && mkdir -p /tmp/b && mount -t ext2 /dev/vdb /tmp/b")
    r.guest.run("cp /bin/busybox /tmp/b/ && umount /tmp/b")
    assert run("e2fsck", "-f", "-n", r.vdb, check=False).returncode == 0
    run("debugfs", "-R", f"dump /busybox {r.path('out')}", r.vdb)
    assert_same(content(r.path("out")), data_file())


@test
def full_and_incremental_while_it_works():
    r = rig()
    require_program("nbdcopy")
    r.start_work()
    try:
        # Monday: the full backup of both disks.
        least = r.wait_steps(2)
        r.freeze_both(("mon-a", "mon-b"),
                      [("block-dirty-bitmap-add", {"node": n, "name": "since-monday",
                                                   "granularity": 4 * KIB})
                       for n in ("vda", "vdb")])
        most = r.steps_done(least) + 1
        for view in "mon-a", "mon-b":
            export_view(r.q, view)
            run("nbdcopy", r.server.uri(view), r.path(view))
        r.drop("mon-a", "mon-b")
        run("cp", r.path("mon-a"), r.path("check"))
        monday = check_file_system(r.path("check"), least, most)

        # Tuesday: the changes since Monday, while the guest works on. wait_steps() shows that it
        # does.
        least = r.wait_steps(SLOTS + 5)
        r.freeze_both(("tue-a", "tue-b"),
                      [("block-dirty-bitmap-disable", {"node": n, "name": "since-monday"})
                       for n in ("vda", "vdb")])
        most = r.steps_done(least) + 1
        for view, node in ("tue-a", "vda"), ("tue-b", "vdb"):
            export_view(r.q, view, node, "since-monday")
            r.wait_steps(1)
            h = r.server.nbd(view, [dirty_context("since-monday")])
            changed = dirty_extents(h, "since-monday")
            r.wait_steps(1)
            full = r.path(view.replace("tue", "mon"))
            pulled = pull(h, changed, full)
            note(f"{node}: {pulled} bytes in {len(changed)} extents")
            r.wait_steps(1)
            assert 0 < pulled < h.get_size() // 2
            assert dirty_extents(h, "since-monday") == changed
            h.shutdown()
            # A full copy of the view, made later, must be the same.
            run("nbdcopy", r.server.uri(view), r.path(view))
            assert_same(content(full), content(r.path(view)), view)
            assert content(full) != content(r.path(node))
        tuesday = check_file_system(r.path("mon-a"), least, most)
        assert tuesday > monday
        # Both views are of one instant. The guest writes to vda first, then to vdb, so vda may be
        # one step ahead.
        number = int(content(r.path("mon-b"))[:512])
        assert tuesday - number in (0, 1), (tuesday, number)
    finally:
        r.stop_work()
    r.drop("tue-a", "tue-b")
    r.drop_bitmaps("vda")
    r.drop_bitmaps("vdb")


@test
def fstrim_under_a_view():
    r = rig()
    require_program("nbdcopy")
    r.mount()
    r.guest.run("for i in 0 1 2 3 4 5 6 7; do cat /bin/busybox; done >/mnt/big; sync")
    data = 8 * data_file()
    r.q.cmd("block-dirty-bitmap-add", node="vda", name="b")
    freeze(r.q, "vda", "v")
    export_view(r.q, "v")
    run("nbdcopy", r.server.uri("v"), r.path("before"))
    used = os.stat(r.vda).st_blocks
    r.guest.run("rm /mnt/big; sync")
    trimmed = r.guest.run("fstrim -v /mnt")
    assert re.search(r"[1-9]", trimmed), trimmed
    assert used - os.stat(r.vda).st_blocks >= len(data) // 512, (used, os.stat(r.vda).st_blocks)
    dirty = sum(n for _, n in dirty_extents(r.server.nbd("vda", [dirty_context("b")]), "b"))
    assert dirty >= len(data), dirty
    run("nbdcopy", r.server.uri("v"), r.path("after"))
    assert_same(content(r.path("after")), content(r.path("before")), "the view")
    run("debugfs", "-R", f"dump /big {r.path('big')}", r.path("after"))
    assert_same(content(r.path("big")), data, "the file")
    r.drop("v")
    r.drop_bitmaps("vda")


@test
def the_guest_ends_in_order_and_so_does_the_server():
    r = rig()
    r.mount()
    r.guest.run("echo bye >/mnt/bye; umount /mnt")
    r.guest.power_off()
    checked = run("e2fsck", "-f", "-n", r.vda, check=False)
    assert checked.returncode == 0, checked
    assert dump(r.vda, "bye") == "bye\n"
    r.server.stop()


try:
    main()
finally:
    if _rig:
        _rig.close()
