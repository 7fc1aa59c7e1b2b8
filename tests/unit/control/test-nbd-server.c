/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd-server-start and nbd-server-stop, with a listener that only notes what it is asked for.
 */
#include "common/util/error.h"
#include "tests/rigs/leaver.h"

/* Note what a listener is to be, as text. Port 7 is taken. */
static int start_noted(void *opaque, const char *unix_path, const char *host, const char *port,
                       int fd, unsigned handshake_max_seconds, unsigned max_connections,
                       GError **err)
{
    if (g_strcmp0(port, "7") == 0)
        return fail(err, "port 7 is taken");
    g_string_printf(opaque, "%s %s %s %d %u %u", unix_path ? unix_path : "-", host ? host : "-",
                    port ? port : "-", fd, handshake_max_seconds, max_connections);
    return 0;
}

/* A listener gets what was asked for and QEMU's defaults. Its failure is told. */
static void test_listener(void)
{
    static const struct {
        const char *arguments, *noted;
    } rows[] = {
        {"{'addr':{'type':'unix','data':{'path':'/s'}}}", "/s - - -1 10 100"},
        {"{'addr':{'type':'inet','data':{'host':'','port':'0'}},'max-connections':0}",
         "- - 0 -1 10 0"},
        {"{'addr':{'type':'inet','data':{'host':'h','port':'1'}},'handshake-max-seconds':0}",
         "- h 1 -1 0 100"},
        {"{'addr':{'type':'fd','data':{'str':'9'}},'handshake-max-seconds':4294967295,"
         "'max-connections':4294967295}",
         "- - - 9 4294967295 4294967295"},
    };
    g_autoptr(GString) noted = g_string_new(NULL);
    struct house h;

    house_begin(&h);
    h.control.nbd.start = start_noted;
    h.control.nbd.opaque = noted;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        succeeds(&h, "nbd-server-start", rows[i].arguments);
        g_assert_cmpstr(noted->str, ==, rows[i].noted);
    }
    fails(&h, "port 7 is taken", "nbd-server-start",
          "{'addr':{'type':'inet','data':{'host':'','port':'7'}}}");
    fails(&h, "Parameter 'max-connections' expects uint32_t", "nbd-server-start",
          "{'addr':{'type':'unix','data':{'path':'/s'}},'max-connections':4294967296}");
    house_end(&h);
}

struct fake_listener {
    bool started;
    void (*stopped)(void *opaque); /* the stop has begun, and is not over; else NULL */
    void *opaque;
};

static bool is_started(void *opaque)
{
    return ((struct fake_listener *)opaque)->started;
}

static void stop_later(void *opaque, void (*stopped)(void *stopped_opaque), void *stopped_opaque)
{
    struct fake_listener *l = opaque;

    l->started = false;
    l->stopped = stopped;
    l->opaque = stopped_opaque;
}

/* The stop waits for the exports' clients, then for the listener's. Other monitors go on. While it
 * waits for the exports, nobody can start or stop a listener. */
static void test_stop_waits(void)
{
    struct fake_listener listener = {.started = true};
    struct leaver guest;
    struct house h;

    house_begin(&h);
    h.control.nbd.started = is_started;
    h.control.nbd.stop = stop_later;
    h.control.nbd.opaque = &listener;
    add_export(&h);
    leaver_begin(&guest, &h, "e", false, false);
    command_waits(&h.client, "nbd-server-stop", "{}");
    g_assert_nonnull(h.client.open);
    command_begin(&h.other, "nbd-server-stop", "{}");
    ends_with(&h.other, "NBD server not running");
    command_begin(&h.other, "nbd-server-start", "{'addr':{'type':'unix','data':{'path':'/s'}}}");
    ends_with(&h.other, "NBD server already running");
    command_begin(&h.other, "block-export-del", "{'id':'e'}");
    ends_with(&h.other, "Export 'e' is already shutting down");
    g_assert_null(listener.stopped);
    leaver_end(&guest);
    while (!listener.stopped)
        g_main_context_iteration(NULL, TRUE);
    command_begin(&h.other, "query-block-exports", "{}");
    g_autofree char *exports = command_end(&h.other);
    g_assert_cmpstr(exports, ==, "{\"return\": []}\r\n");
    g_assert_nonnull(h.client.open);
    listener.stopped(listener.opaque);
    ends_well(&h.client);
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-server/listener", test_listener);
    g_test_add_func("/nbd-server/stop-waits", test_stop_waits);
    return g_test_run();
}
