/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of checkpoints where they wait for disks, and for checkpoints that have lost a bitmap. */
#include "server/backup/backup.h"
#include "server/backup/checkpoints-private.h"
#include "server/disk/disk-private.h"
#include "tests/rigs/control-rig.h"

#include <string.h>

static void begin(struct house *h, struct backup *b)
{
    house_begin(h);
    add_vdb(h);
    *b = (struct backup){.checkpoints = checkpoints_new(h->server)};
    h->control.backup = b;
}

static void end(struct house *h)
{
    g_assert_true(checkpoints_free(h->control.backup->checkpoints));
    house_end(h);
}

static void query_has(struct qmp_client *client, const char *text)
{
    command_begin(client, "query-checkpoints", "{}");
    g_autofree char *answer = command_end(client);

    if (!strstr(answer, text))
        g_error("%s: it has no %s", answer, text);
}

/* A bitmap that is gone stays the checkpoint's: another one of its name would be taken for it by the
 * next server. */
static void test_gone(void)
{
    struct checkpoint_record *record = checkpoint_record_new("c");
    struct backup b;
    struct house h;

    begin(&h, &b);
    g_ptr_array_add(record->disks, g_strdup("vda"));
    struct checkpoint *p = checkpoint_add(b.checkpoints, record);
    p->state = CHECKPOINT_EXISTS;
    g_array_index(p->disks, struct checkpoint_disk, 0).gone = true;
    fails(&h, "Bitmap already exists: c", "block-dirty-bitmap-add", "{'node':'vda','name':'c'}");
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vdb','name':'c'}");
    query_has(&h.other, "\"valid\": false, \"reason\": \"its bitmap is gone\"}");
    succeeds(&h, "checkpoint-delete", "{'name':'c'}");
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'c'}");
    end(&h);
}

/* A guest's write holds up what concerns its disk, and nothing else. */
static void test_waits(void)
{
    struct backup b;
    struct house h;

    begin(&h, &b);
    gate_enter(h.io->slot);
    command_waits(&h.client, "checkpoint-create", "{'name':'c','disks':['vda']}");
    command_begin(&h.other, "checkpoint-create", "{'name':'c','disks':['vdb']}");
    ends_with(&h.other, "Checkpoint already exists: c");
    command_begin(&h.other, "checkpoint-create", "{'name':'d','disks':['vdb']}");
    ends_well(&h.other);
    query_has(&h.other, "{\"return\": [{\"name\": \"d\", \"time\"");
    command_waits(&h.third, "checkpoint-delete", "{'name':'c'}");
    gate_leave(h.io->slot);
    ends_well(&h.client);
    ends_well(&h.third);
    query_has(&h.other, "{\"return\": [{\"name\": \"d\", \"time\"");
    end(&h);
}

/* While a deletion waits for its turn, another one deletes the checkpoint. */
static void test_two_deletions(void)
{
    struct backup b;
    struct house h;

    begin(&h, &b);
    succeeds(&h, "checkpoint-create", "{'name':'c','disks':['vda']}");
    gate_enter(h.io->slot);
    command_waits(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'x'}");
    command_waits(&h.other, "checkpoint-delete", "{'name':'c'}");
    command_waits(&h.third, "checkpoint-delete", "{'name':'c'}");
    gate_leave(h.io->slot);
    ends_well(&h.client);
    ends_well(&h.other);
    ends_with(&h.third, "Checkpoint 'c' not found");
    end(&h);
}

/* What fails at the instant leaves nothing. */
static void test_no_instant(void)
{
    struct backup b;
    struct house h;

    begin(&h, &b);
    succeeds(&h, "checkpoint-create", "{'name':'old'}");
    g_autofree char *before = reply(&h, "query-checkpoints", "{}");
    h.disk->drain_usec = 1000; /* told in whole seconds */
    for (int i = 0; i < 2; i++) {
        gate_enter(h.io->slot);
        fails(&h, "disk vda: writes under way did not end within 0 s",
              i ? "checkpoint-delete" : "checkpoint-create",
              i ? "{'name':'old'}" : "{'name':'new'}");
        gate_leave(h.io->slot);
        g_autofree char *after = reply(&h, "query-checkpoints", "{}");
        g_assert_cmpstr(after, ==, before);
    }
    h.disk->drain_usec = DRAIN_USEC;
    succeeds(&h, "checkpoint-create", "{'name':'new'}");
    succeeds(&h, "checkpoint-delete", "{'name':'old'}");
    end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/checkpoints/gone", test_gone);
    g_test_add_func("/checkpoints/waits", test_waits);
    g_test_add_func("/checkpoints/two-deletions", test_two_deletions);
    g_test_add_func("/checkpoints/no-instant", test_no_instant);
    return g_test_run();
}
