# SPDX-License-Identifier: BSD-3-Clause
"""A server that root starts and that becomes another user: what it may do, and what it still has."""

import os
import pwd

from fleece import Server, nbdfleece, process_status, tmpdir
from tap import main, skip, test


@test
def another_user():
    if os.getuid() != 0:
        skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    with tmpdir() as d:
        os.chmod(d, 0o777)
        # The server is started with one group more, as by somebody who is in many groups.
        with Server("-u", "nobody", "memory", "1M", control=False, dir=d,
                    extra_groups=[54321]) as s:
            fields = process_status(s.pid)
            assert "54321" not in fields["Groups"].split(), fields["Groups"]
            assert fields["Uid"].split() == [str(nobody.pw_uid)] * 4
            assert fields["Gid"].split() == [str(nobody.pw_gid)] * 4
            assert "0" not in fields["Groups"].split()
            s.nbd().pread(512, 0)


@test
def another_user_with_a_private_socket():
    if os.getuid() != 0:
        skip("only root can become another user")
    result = nbdfleece("-U", "-", "-u", "nobody", "memory", "1M",
                       "--run", 'id -un; echo "$unixsocket"; nbdinfo --size "$uri"')
    user, path, size = result.stdout.splitlines()
    assert (user, size) == ("nobody", str(1 << 20)), result.stdout
    assert not os.path.exists(os.path.dirname(path))
    assert result.stderr == "", result.stderr


@test
def another_group_by_number():
    if os.getuid() != 0:
        skip("only root can become another group")
    with tmpdir() as d:
        os.chmod(d, 0o777)
        with Server("-g", "12345", "-u", "23456", "memory", "1M", control=False, dir=d) as s:
            fields = process_status(s.pid)
            assert fields["Uid"].split() == ["23456"] * 4
            assert fields["Gid"].split() == ["12345"] * 4
            assert fields["Groups"].split() == ["12345"]


def private_image(folder):
    """An image that root alone may open, in a folder of its own in one of nobody's."""
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    os.mkdir(f"{folder}/private", 0o700)
    path = f"{folder}/private/image"
    with open(path, "wb") as f:
        f.truncate(1 << 20)
    os.chmod(path, 0o600)
    return path


@test
def another_user_has_images_that_only_root_may_open():
    if os.getuid() != 0:
        skip("only root can become another user")
    for key in (), ("direct=true",):
        with tmpdir() as d:
            path = private_image(d)
            with Server("-u", "nobody", "--disk", "vda", "file", path, *key, dir=d) as s:
                assert process_status(s.pid)["Uid"].split()[0] != "0"
                first, second = s.nbd("vda"), s.nbd("vda")
                first.pwrite(b"x" * 4096, 0)
                first.flush()
                s.qmp().cmd("view-create", disk="vda", name="v")
                first.shutdown()
                second.pwrite(b"y" * 4096, 0)
                s.qmp().cmd("block_resize", **{"node-name": "vda", "size": 2 << 20})
                assert s.nbd("vda").get_size() == 2 << 20  # a new client, after one has gone
            with open(path, "rb") as f:
                assert f.read(4096) == b"y" * 4096
    with tmpdir() as d:
        path = private_image(d)
        with Server("-r", "-u", "nobody", "--disk", "vda", "file", path, dir=d) as s:
            assert s.nbd("vda").is_read_only()


@test
def another_user_and_a_plugin_of_nbdkit():
    if os.getuid() != 0:
        skip("only root can become another user")
    with tmpdir() as d:
        path = private_image(d)
        result = nbdfleece("-U", "-", "-u", "nobody", "split", path, "--run", "true", check=False)
        assert result.returncode == 1 and "Permission denied" in result.stderr, result.stderr


main()
