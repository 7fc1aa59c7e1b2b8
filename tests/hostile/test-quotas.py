#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients, line 3 once more: places. Those who negotiate and those of each export have
places of their own, so that nobody takes them from others."""

import contextlib
import select

from harness import *
from tap import main, test

PLACES = 6


@contextlib.contextmanager
def ground(*args):
    """vda, vdb, and a view of vda, exported as "view"."""
    with Ground("--max-connections", PLACES, "--handshake-timeout", "60", "--disk", "vdb", "memory",
                "1M", *args) as g:
        with g.setting() as q:
            q.cmd("view-create", disk="vda", name="view")
            q.cmd("block-export-add", type="nbd", id="view", name="view", **{"node-name": "view"})
        yield g
        with g.qmp() as q:
            q.cmd("block-export-del", id="view", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
            q.cmd("view-delete", name="view")


def is_silent(c):
    return not select.select([c.socket], [], [], 0)[0]


def refused(c, export, option=OPT_GO):
    assert c.info(export, option=option) == ERR_POLICY, (export, c.message)
    assert export in c.message and str(PLACES) in c.message, c.message


@test
def line_03_clients_of_one_export_do_not_starve_another():
    """Whichever it is that all of them sit on; vda's neighbour has one of its places."""
    with ground() as g:
        for export, places in ("view", PLACES), ("vdb", PLACES), ("vda", PLACES - 1):
            def attack():
                with contextlib.ExitStack() as stack:
                    inside = [stack.enter_context(g.user(export)) for _ in range(places)]
                    outside = [stack.enter_context(g.client()) for _ in range(3)]
                    refused(outside[0], export)
                    for other in {"vda", "vdb", "view"} - {export}:
                        g.newcomer(other)
                        assert outside[1].info(other) == REP_ACK, outside[1].message
                    outside[0].go(({"vdb", "view"} - {export}).pop()).in_step()
                    inside.pop().close()
                    outside[1].go(export).in_step()
            g.endure(attack, rounds=1)
        assert "export view: a client is refused" in g.server.log()


@test
def line_03_a_refused_client_may_try_again():
    """And again: in the same connection, as the handshake goes on."""
    with ground() as g:
        inside = [g.user("vdb") for _ in range(PLACES)]
        with g.client() as c:
            c.structured()
            refused(c, "vdb")
            refused(c, "vdb", OPT_INFO)
            assert [export[1][4:7] for export in c.option(OPT_LIST)[1]] == [b"vda", b"vdb", b"vie"]
            inside.pop().close()
            assert c.info("vdb") == REP_ACK, "to ask takes no place"
            c.go("vdb").in_step()
            with g.client() as old:  # which cannot be told why
                old.send_option(OPT_EXPORT_NAME, b"vdb")
                old.expect_end()
        for c in inside:
            c.close()
        g.newcomer("vdb")


@test
def line_03_a_place_is_free_as_soon_as_its_client_has_gone():
    """Who hangs up and comes again never finds his own place taken."""
    with ground() as g:
        inside = [g.user("vdb") for _ in range(PLACES)]
        for _ in range(200):
            inside.pop().close()
            inside.append(g.user("vdb"))
        for c in inside:
            c.close()


@test
def line_03_silent_clients_do_not_starve_exports():
    """All that is left of the live disk's places and more are silent: the backup gets in."""
    with ground() as g:
        def attack():
            with contextlib.ExitStack() as stack:
                for _ in range(PLACES - 1):
                    stack.enter_context(g.user("vda"))
                for _ in range(3 * PLACES):
                    stack.enter_context(g.client(flags=None))
                g.newcomer("view")
                for _ in range(PLACES):
                    stack.enter_context(g.user("view"))
        g.endure(attack, rounds=1)


@test
def line_03_when_all_is_full_who_comes_waits():
    with ground() as g:
        inside = [g.user(export) for export in ("vda", "vdb", "view") for _ in range(PLACES)]
        late = [g.client(flags=None) for _ in range(3)]
        for c in inside:
            c.in_step()
        assert all(is_silent(c) for c in late), "somebody is served who can have nothing"
        inside.pop().close()
        late[0].greet()
        late[0].go("view").in_step()
        for c in inside + late:
            c.close()
        g.newcomer()


@test
def line_03_a_new_export_is_room():
    """The only disk is full and somebody waits for it: a view that is made now has room."""
    with Ground("--max-connections", PLACES, "--handshake-timeout", "60", neighbours=()) as g:
        inside = [g.user() for _ in range(PLACES)]
        late = g.client(flags=None)
        inside[0].in_step()
        assert is_silent(late), "there is no room for it"
        with g.qmp() as q:
            q.cmd("view-create", disk="vda", name="view")
            q.cmd("block-export-add", type="nbd", id="view", name="view", **{"node-name": "view"})
            g.newcomer("view")
            late.greet()
            refused(late, "vda")
            for c in inside + [late]:
                c.close()
            q.cmd("block-export-del", id="view", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
            q.cmd("view-delete", name="view")


main()
