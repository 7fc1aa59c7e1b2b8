# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest with a qcow2 disk of ours: an overlay of an ext4 file system. It is backed up in full and
incrementally while it works; at the end QEMU finds the image and the file system in order."""

import contextlib

from fleece import Server, require_program, run, tmpdir
from guest import Machine, check_ext4, programs_for_ext4
from qcow2 import check, disk_of, qemu_img
from rig import KIB, MIB, assert_same, content, dirty_context, dirty_extents, export_view, freeze, image, pull
from tap import main, note, test

# Files are rewritten, deleted and trimmed, and each step is synced, until /tmp/stop is there. A mark says that the
# step is done.
WORK = ("work() { n=0; while [ ! -e /tmp/stop ]; do n=$((n + 1)); "
        "yes \"step $n\" | head -c 50000 >/mnt/f$((n % 8)); rm -f /mnt/f$(((n + 4) % 8)); sync; "
        "[ $((n % 4)) -ne 0 ] || fstrim /mnt; echo $n >/dev/ttyS2; done; }")


@contextlib.contextmanager
def working(options):
    """A guest at work on an overlay: (its server, a function that waits for steps of it, the folder)."""
    mke2fs = programs_for_ext4()
    with tmpdir() as d:
        image(f"{d}/base", 64 * MIB)
        run(mke2fs, "-q", "-t", "ext4", "-J", "size=4", f"{d}/base")
        qemu_img("create", "-q", "-f", "qcow2", *options, "-b", "base", "-F", "raw", f"{d}/vda")
        with Server("--disk", "vda", "qcow2", f"{d}/vda") as s:
            guest = Machine(d, {"vda": (s.socket, "vda")})
            try:
                guest.run("mount -t ext4 /dev/vda /mnt; " + WORK)
                guest.run("work </dev/null >/dev/null 2>&1 &")
                yield s, lambda count: [guest.mark() for _ in range(count)], d
                guest.run("touch /tmp/stop; wait")
                guest.run("umount /mnt")
                guest.power_off()
            finally:
                guest.kill()
        check(f"{d}/vda")
        with open(f"{d}/end", "wb") as f:
            f.write(disk_of(f"{d}/vda"))
        result = run("e2fsck", "-f", "-n", f"{d}/end", check=False)
        assert result.returncode == 0, result


def view_copied(s, view, path):
    """A view of the disk, exported, as a file."""
    run("nbdcopy", s.uri(view), path)
    run("cp", path, path + ".checked")
    check_ext4(path + ".checked")


def backed_up(options):
    require_program("nbdcopy")
    with working(options) as (s, wait_steps, d):
        q = s.qmp()
        wait_steps(5)
        freeze(q, "vda", "full", new="since", granularity=4 * KIB)
        export_view(q, "full")
        view_copied(s, "full", f"{d}/backup")
        for i in range(2):
            wait_steps(6)
            freeze(q, "vda", f"inc{i}", new=f"since{i}", old="since" if i == 0 else f"since{i - 1}", granularity=4 * KIB)
            old = "since" if i == 0 else f"since{i - 1}"
            export_view(q, f"inc{i}", "vda", old)
            changed = dirty_extents(s.nbd(f"inc{i}", [dirty_context(old)]), old)
            note(f"{pull(s.nbd(f'inc{i}'), changed, f'{d}/backup')} bytes in {len(changed)} extents")
            wait_steps(1)
            view_copied(s, f"inc{i}", f"{d}/view")
            assert_same(content(f"{d}/backup"), content(f"{d}/view"), "the backup")


@test
def a_guest_on_an_overlay_is_backed_up():
    backed_up(())


@test
def a_guest_on_subclusters_is_backed_up():
    backed_up(("-o", "extended_l2=on,cluster_size=128k"))


main()
