/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the registry owes its callers, whoever they are: it checks names, and tells events in order.
 */
#include "tests/rigs/control-rig.h"
#include "tests/rigs/fake-backend.h"

/* The registry refuses bad names of disks, although the command line does so before it, and keeps
 * nothing of them. */
static void test_names_of_disks(void)
{
    g_autofree char *long_name = g_strnfill(4097, 'n');
    const char *const bad[] = {"", "vda", long_name};
    struct house h;

    house_begin(&h);
    succeeds(&h, "view-create", "{'disk':'vda','name':'v'}");
    g_autofree char *before = everything(&h);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(server_add_disk(h.server, bad[i], fake_backend_new(MIB), &error));
        g_assert_nonnull(error);
    }
    g_autofree char *after = everything(&h);
    g_assert_cmpstr(after, ==, before);
    succeeds(&h, "view-delete", "{'name':'v'}");
    house_end(&h);
}

static void note_event(void *opaque, const struct server_event *event)
{
    g_string_append_printf(opaque, "%s ", event->id);
}

static void emit(struct house *h, const char *id)
{
    const struct server_event event = {.kind = EVENT_BLOCK_EXPORT_DELETED, .id = id};

    server_emit(h->server, &event);
}

/* All sinks get events in order, and none after it was removed. */
static void test_sinks(void)
{
    g_autoptr(GString) first = g_string_new(NULL), second = g_string_new(NULL);
    struct house h;

    house_begin(&h);
    server_add_event_sink(h.server, note_event, first);
    server_add_event_sink(h.server, note_event, second);
    emit(&h, "a");
    emit(&h, "b");
    g_assert_cmpint(next_timer(), ==, -1);
    emit(&h, "c");
    server_remove_event_sink(h.server, note_event, first);
    g_assert_cmpint(next_timer(), ==, -1);
    g_assert_cmpstr(first->str, ==, "a b ");
    g_assert_cmpstr(second->str, ==, "a b c ");
    server_remove_event_sink(h.server, note_event, second);
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/names-of-disks", test_names_of_disks);
    g_test_add_func("/registry/sinks", test_sinks);
    return g_test_run();
}
