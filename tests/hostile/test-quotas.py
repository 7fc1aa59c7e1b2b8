#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients, line 3 of README.md: places. Clients that negotiate, and the clients of each
export, have places of their own, so that nobody can take those of others."""

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
    """All places of one export are taken; each export has its turn. (The neighbour has one of vda's
    places.)"""
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
    """It may do so in the same connection, because the handshake goes on."""
    with ground() as g:
        inside = [g.user("vdb") for _ in range(PLACES)]
        with g.client() as c:
            c.structured()
            refused(c, "vdb")
            refused(c, "vdb", OPT_INFO)
            assert [export[1][4:7] for export in c.option(OPT_LIST)[1]] == [b"vda", b"vdb", b"vie"]
            inside.pop().close()
            assert c.info("vdb") == REP_ACK, "there is a place again"
            c.go("vdb").in_step()
            with g.client() as old:  # EXPORT_NAME has no error reply
                old.send_option(OPT_EXPORT_NAME, b"vdb")
                old.expect_end()
        for c in inside:
            c.close()
        g.newcomer("vdb")


@test
def line_03_a_place_is_free_as_soon_as_its_client_has_gone():
    """A client that hangs up and comes again never finds its place still taken."""
    with ground() as g:
        inside = [g.user("vdb") for _ in range(PLACES)]
        for _ in range(200):
            inside.pop().close()
            inside.append(g.user("vdb"))
        for c in inside:
            c.close()


@test
def line_03_silent_clients_do_not_starve_exports():
    """The live disk has no place left, and many silent clients are connected: a backup gets in."""
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
def line_03_a_newcomer_waits_while_all_places_are_taken():
    with ground() as g:
        inside = [g.user(export) for export in ("vda", "vdb", "view") for _ in range(PLACES)]
        late = [g.client(flags=None) for _ in range(3)]
        for c in inside:
            c.in_step()
        assert all(is_silent(c) for c in late), "a client is served though there is no place"
        inside.pop().close()
        late[0].greet()
        late[0].go("view").in_step()
        for c in inside + late:
            c.close()
        g.newcomer()


@test
def line_03_a_new_export_has_places():
    """The only disk is full, and a client waits. A view that is exported now has places."""
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
