/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands that change disks, on the real registry: they wait for writes and for each other, and
 * they take effect or leave nothing behind.
 */
#include "server/disk/disk-private.h"
#include "server/registry/registry-private.h"
#include "server/registry/turn.h"
#include "tests/rigs/control-rig.h"
#include "tests/rigs/fake-backend.h"

#include <errno.h>
#include <string.h>

/* ---- changes that fail after all checks ---- */

#define DRAIN "disk vda: writes under way did not end within 0 s"

/* A write hangs in the plugin for longer than a command waits. So there is no instant: the command
 * says so, and nothing has changed, whatever it was to do. */
static void test_no_instant(void)
{
    static const struct {
        const char *command, *arguments;
    } rows[] = {
        {"block-dirty-bitmap-add", "{'node':'vda','name':'new'}"},
        {"block-dirty-bitmap-clear", "{'node':'vda','name':'a'}"},
        {"block-dirty-bitmap-disable", "{'node':'vda','name':'a'}"},
        {"block-dirty-bitmap-enable", "{'node':'vda','name':'b'}"},
        {"block-dirty-bitmap-merge", "{'node':'vda','target':'b','bitmaps':['a']}"},
        {"block-dirty-bitmap-remove", "{'node':'vda','name':'a'}"},
        {"view-create", "{'disk':'vda','name':'v'}"},
        {"transaction",
         "{'actions':[{'type':'block-dirty-bitmap-add','data':{'node':'vda','name':'new'}},"
         "{'type':'view-create','data':{'disk':'vda','name':'v'}}]}"},
        {"block_resize", "{'device':'vda','size':8388608}"},
    };
    struct house h;

    house_begin(&h);
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    g_assert_cmpint(node_write(h.io, "x", 1, 0, 0), ==, 0);
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'b','disabled':true}");
    g_autofree char *before = everything(&h);
    h.disk->drain_usec = 1000; /* told in whole seconds */
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        gate_enter(h.io->slot);
        fails(&h, DRAIN, rows[i].command, rows[i].arguments);
        gate_leave(h.io->slot);
        g_autofree char *after = everything(&h);
        g_assert_cmpstr(after, ==, before);
        g_assert_cmpint(node_write(h.io, "x", 1, 1, 0), ==, 0); /* guests are let in again */
    }
    h.disk->drain_usec = DRAIN_USEC;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (strcmp(rows[i].command, "transaction") != 0) /* others have taken its names by now */
            succeeds(&h, rows[i].command, rows[i].arguments);
    }
    /* A view whose deletion fails stays. */
    g_autofree char *with_view = everything(&h);
    h.disk->drain_usec = 1000;
    gate_enter(h.io->slot);
    fails(&h, DRAIN, "view-delete", "{'name':'v'}");
    gate_leave(h.io->slot);
    g_autofree char *still = everything(&h);
    g_assert_cmpstr(still, ==, with_view);
    fails(&h, "Duplicate nodes with node-name='v'", "view-create", "{'disk':'vda','name':'v'}");
    h.disk->drain_usec = DRAIN_USEC;
    succeeds(&h, "view-delete", "{'name':'v'}");
    house_end(&h);
}

static void test_image_does_not_resize(void)
{
    struct fake_failure failure = {.call = FAKE_RESIZE, .error = -ENOSPC};
    struct house h;

    house_begin(&h);
    g_clear_pointer(&h.io, node_io_close);
    g_autofree char *before = everything(&h);
    fake_backend_fail(h.backend, &failure);
    for (int grow = 0; grow < 2; grow++) {
        g_autofree char *text =
            reply(&h, "block_resize",
                  grow ? "{'device':'vda','size':8388608}" : "{'device':'vda','size':1048576}");
        g_autofree char *after = everything(&h);

        g_assert_true(g_str_has_prefix(text, "{\"error\""));
        g_assert_nonnull(strstr(text, "resize refused"));
        g_assert_cmpstr(after, ==, before);
    }
    house_end(&h);
}

/* ---- commands that wait ---- */

/* A command that waits for a write on one disk holds up no other disk. A command of the same disk,
 * of any monitor, comes after it and sees what it did. */
static void test_turns(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    gate_enter(h.io->slot);
    command_waits(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    g_assert_nonnull(h.client.open);
    command_begin(&h.other, "block-dirty-bitmap-add", "{'node':'vdb','name':'a'}");
    ends_well(&h.other);
    command_begin(&h.other, "view-create", "{'disk':'vdb','name':'v'}");
    ends_well(&h.other);
    command_begin(&h.other, "query-named-block-nodes", "{}");
    g_free(command_end(&h.other));
    command_waits(&h.other, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    g_assert_nonnull(h.client.open);
    g_assert_nonnull(h.other.open);
    gate_leave(h.io->slot);
    ends_well(&h.client);
    ends_well(&h.other); /* the bitmap is there by now */
    succeeds(&h, "view-delete", "{'name':'v'}");
    house_end(&h);
}

/* A transaction over two disks waits for the first disk, and a later command of the second waits
 * for the transaction. The transaction's new names are taken meanwhile, and free when it has
 * failed. */
static void test_transaction_waits(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    h.disk->drain_usec = 300000;
    gate_enter(h.io->slot);
    command_waits(&h.client, "transaction",
                  "{'actions':[{'type':'view-create','data':{'disk':'vda','name':'v'}},"
                  "{'type':'block-dirty-bitmap-add','data':{'node':'vdb','name':'b'}}]}");
    g_assert_nonnull(h.client.open);
    command_begin(&h.other, "block-dirty-bitmap-clear", "{'node':'vdb','name':'b'}");
    ends_with(&h.other, "Dirty bitmap 'b' not found");
    g_assert_null(h.client.open); /* it has failed first */
    ends_with(&h.client, DRAIN);
    gate_leave(h.io->slot);
    h.disk->drain_usec = DRAIN_USEC;
    succeeds(&h, "view-create", "{'disk':'vdb','name':'v'}");
    succeeds(&h, "view-delete", "{'name':'v'}");
    house_end(&h);
}

#define NO_TURN "disk vda: an earlier change of it did not end within 0 s"

/* A change of one disk does not end. A command that waits for it fails in time and names that disk.
 * A command that was behind it on another disk then begins, and does not wait for its own time. */
static void test_turn_does_not_come(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    gate_enter(h.io->slot);
    command_waits(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    h.server->turn_ms = 1; /* told in whole seconds */
    command_begin(&h.other, "transaction",
                  "{'actions':[{'type':'block-dirty-bitmap-add','data':{'node':'vdb','name':'b'}},"
                  "{'type':'view-create','data':{'disk':'vda','name':'v'}}]}");
    h.server->turn_ms = 3600 * 1000;
    command_begin(&h.third, "block-dirty-bitmap-add", "{'node':'vdb','name':'c'}");
    g_assert_nonnull(h.other.open);
    g_assert_nonnull(h.third.open);
    h.server->turn_ms = 1;
    ends_with(&h.other, NO_TURN);
    ends_well(&h.third);
    command_begin(&h.other, "view-delete", "{'name':'v'}");
    ends_with(&h.other, "Node 'v' not found");
    command_begin(&h.other, "block_resize", "{'device':'vda','size':8388608}");
    ends_with(&h.other, NO_TURN);
    g_assert_nonnull(h.client.open);
    gate_leave(h.io->slot);
    ends_well(&h.client);
    succeeds(&h, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    house_end(&h);
}

static void take_it(void *opaque, struct turn *turn, const GError *error)
{
    struct turn **taken = opaque;

    g_assert_no_error(error);
    *taken = turn;
}

/* The time of a turn runs out at the moment at which its disk becomes free: it begins. */
static void test_turn_comes_at_last(void)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    struct turn *first = NULL, *second = NULL;
    struct house h;

    house_begin(&h);
    h.server->turn_ms = 0;
    g_ptr_array_add(disks, h.disk);
    server_take_turn(h.server, disks, take_it, &first);
    server_take_turn(h.server, disks, take_it, &second);
    g_assert_nonnull(first);
    g_assert_null(second);
    turn_end(first);
    run_main_loop();
    g_assert_nonnull(second);
    turn_end(second);
    house_end(&h);
}

/* The name of a view that is being made is taken on all disks. */
static void test_name_is_reserved(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    gate_enter(h.io->slot);
    command_waits(&h.client, "view-create", "{'disk':'vda','name':'v'}");
    command_begin(&h.other, "view-create", "{'disk':'vdb','name':'v'}");
    ends_with(&h.other, "Duplicate nodes with node-name='v'");
    command_begin(&h.other, "view-delete", "{'name':'v'}");
    ends_with(&h.other, "Node 'v' not found");
    gate_leave(h.io->slot);
    ends_well(&h.client);
    succeeds(&h, "view-delete", "{'name':'v'}");
    house_end(&h);
}

/* An export does not get a bitmap that an earlier command is about to remove. */
static void test_export_waits(void)
{
    struct house h;

    house_begin(&h);
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'a','disabled':true}");
    gate_enter(h.io->slot);
    command_waits(&h.client, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    command_waits(&h.other, "block-export-add",
                  "{'type':'nbd','id':'e','node-name':'vda','name':'e','bitmaps':['a']}");
    g_assert_nonnull(h.other.open);
    gate_leave(h.io->slot);
    ends_well(&h.client);
    ends_with(&h.other, "Bitmap 'a' is not found");
    house_end(&h);
}

/* A monitor goes while its command waits: the command takes effect, and nobody is told. */
static void test_monitor_goes(void)
{
    struct house h;

    house_begin(&h);
    gate_enter(h.io->slot);
    command_waits(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    qmp_client_leave(&h.client);
    g_string_free(h.client.out, TRUE);
    gate_leave(h.io->slot);
    command_begin(&h.other, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    ends_well(&h.other);
    house_end(&h);
}

/* The server ends while one command waits for a write that does not end, and another for its turn.
 * Both are answered, nothing has changed, and guests are let in again. */
static void test_server_ends(void)
{
    struct house h;

    house_begin(&h);
    g_autofree char *before = everything(&h);
    gate_enter(h.io->slot);
    command_begin(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    command_waits(&h.other, "block-dirty-bitmap-add", "{'node':'vda','name':'b'}");
    g_assert_true(server_end_changes(h.server, 60000));
    ends_with(&h.other, "The server is shutting down");
    ends_with(&h.client, "disk vda: given up while writes were under way");
    gate_leave(h.io->slot);
    g_autofree char *after = everything(&h);
    g_assert_cmpstr(after, ==, before);
    g_assert_cmpint(node_write(h.io, "x", 1, 1, 0), ==, 0);
    fails(&h, "The server is shutting down", "block-dirty-bitmap-add", "{'node':'vda','name':'c'}");
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/changes/no-instant", test_no_instant);
    g_test_add_func("/changes/image-does-not-resize", test_image_does_not_resize);
    g_test_add_func("/changes/turns", test_turns);
    g_test_add_func("/changes/transaction-waits", test_transaction_waits);
    g_test_add_func("/changes/name-is-reserved", test_name_is_reserved);
    g_test_add_func("/changes/export-waits", test_export_waits);
    g_test_add_func("/changes/monitor-goes", test_monitor_goes);
    g_test_add_func("/changes/turn-does-not-come", test_turn_does_not_come);
    g_test_add_func("/changes/turn-comes-at-last", test_turn_comes_at_last);
    g_test_add_func("/changes/server-ends", test_server_ends);
    return g_test_run();
}
