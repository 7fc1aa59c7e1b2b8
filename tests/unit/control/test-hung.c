/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QMP commands on the real registry and disks while something hangs for good: the scratch file of a
 * disk that is being made, a client of an export that was taken away.
 */
#include "server/control/control-private.h"
#include "server/disk/disk-private.h"
#include "server/registry/export-private.h"
#include "tests/rigs/fake-backend.h"

#include <string.h>

#define MIB (1u << 20)

/* Where the making of a scratch hangs. */
struct trap {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached, released;
};

struct house {
    struct server *server;
    struct control control;
    struct qmp_client client, other;
    struct disk *disk; /* vda; vdb is another */
    struct disk_hooks hooks;
    struct trap trap;
};

static bool runs(void *opaque)
{
    return true;
}

static void answered(void *opaque)
{
}

static int hang(void *opaque, enum disk_point point, uint64_t offset)
{
    struct trap *t = opaque;

    if (point != POINT_SCRATCH_MAKING)
        return 0;
    pthread_mutex_lock(&t->lock);
    t->reached = true;
    pthread_cond_broadcast(&t->changed);
    while (!t->released)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    return 0;
}

static void wait_reached(struct trap *t)
{
    pthread_mutex_lock(&t->lock);
    while (!t->reached)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void release(struct trap *t)
{
    pthread_mutex_lock(&t->lock);
    t->released = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static struct disk *add_disk(struct house *h, const char *name)
{
    GError *error = NULL;
    struct disk *d = server_add_disk(h->server, name, fake_backend_new(MIB), &error);

    g_assert_no_error(error);
    return d;
}

static void house_begin(struct house *h)
{
    struct server_options options = {.scratch_dir = g_get_tmp_dir()};

    *h = (struct house){.server = server_new(&options)};
    pthread_mutex_init(&h->trap.lock, NULL);
    pthread_cond_init(&h->trap.changed, NULL);
    h->disk = add_disk(h, "vda");
    add_disk(h, "vdb");
    h->hooks = (struct disk_hooks){.at = hang, .opaque = &h->trap};
    h->disk->hooks = &h->hooks;
    h->control =
        (struct control){.server = h->server, .nbd = {.any_running = runs, .started = runs}};
    h->client = (struct qmp_client){.commands = control_commands,
                                    .context = &h->control,
                                    .negotiated = true,
                                    .answered = answered};
    h->other = h->client;
}

static void house_end(struct house *h)
{
    release(&h->trap);
    g_assert_true(server_free(h->server));
    pthread_cond_destroy(&h->trap.changed);
    pthread_mutex_destroy(&h->trap.lock);
}

static unsigned count_members(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += *text == ':';
    return n;
}

/* Begin a command, written with ' for ", on one of the monitors. */
static void begin(struct qmp_client *client, const char *command, const char *arguments)
{
    g_autofree char *request =
        g_strdup_printf("{'execute':'%s','arguments':%s}", command, arguments);
    g_autoptr(GString) text = g_string_new(g_strdelimit(request, "'", '"'));
    g_autoptr(GString) id = g_string_new(NULL);

    client->out = g_string_new(NULL);
    qmp_handle(client, text, count_members(text->str), id);
}

/* It is answered, with this in it. */
static void ends_with(struct qmp_client *client, const char *part)
{
    g_autofree char *text = NULL;

    while (client->open)
        g_main_context_iteration(NULL, TRUE);
    text = g_string_free(g_steal_pointer(&client->out), FALSE);
    if (!strstr(text, part))
        g_error("%s is not in %s", part, text);
}

#define DONE "{\"return\": {}}"

/* ---- scratch ---- */

static void make_view(struct house *h)
{
    begin(&h->client, "view-create", "{'disk':'vda','name':'v'}");
    wait_reached(&h->trap);
}

/* While the scratch file of one disk does not come to be, all commands of others are answered, and
 * those of its own that only look. */
static void test_others_go_on(void)
{
    struct house h;

    house_begin(&h);
    make_view(&h);
    begin(&h.other, "view-create", "{'disk':'vdb','name':'w'}");
    ends_with(&h.other, DONE);
    begin(&h.other, "query-views", "{}");
    ends_with(&h.other, "\"name\": \"w\"");
    begin(&h.other, "query-block", "{}");
    ends_with(&h.other, "\"vda\"");
    begin(&h.other, "view-delete", "{'name':'w'}");
    ends_with(&h.other, DONE);
    g_assert_nonnull(h.client.open);
    release(&h.trap);
    ends_with(&h.client, DONE);
    house_end(&h);
}

/* The command itself fails in time, and says where it has waited for what. */
static void test_fails_in_time(void)
{
    g_autofree char *why = g_strdup_printf(
        "\"disk vda: scratch: a file in %s could not be made within 0 s\"", g_get_tmp_dir());
    struct house h;

    house_begin(&h);
    h.disk->scratch_usec = 1000; /* told in whole seconds */
    make_view(&h);
    ends_with(&h.client, why);
    begin(&h.other, "query-views", "{}");
    ends_with(&h.other, "{\"return\": []}");
    begin(&h.other, "block-dirty-bitmap-add", "{'node':'vda','name':'b'}");
    ends_with(&h.other, DONE);
    h.disk->scratch_usec = SCRATCH_USEC;
    begin(&h.client, "view-create", "{'disk':'vda','name':'v'}");
    release(&h.trap);
    ends_with(&h.client, DONE);
    house_end(&h);
}

/* SIGTERM does not wait for it. */
static void test_server_ends(void)
{
    struct house h;

    house_begin(&h);
    make_view(&h);
    g_assert_true(server_end_changes(h.server, 60000));
    ends_with(&h.client, "disk vda: given up while its scratch file was being made");
    house_end(&h);
}

/* ---- exports ---- */

static void cancelled(struct export_client *c, bool cut)
{
}

static bool hung_up(struct export_client *c)
{
    return false;
}

static void add_export(struct house *h, const char *id, struct export_client *client)
{
    const struct export_options options = {.id = id, .name = id, .node = disk_node(h->disk)};
    GError *error = NULL;

    server_export_add(h->server, &options, &error);
    g_assert_no_error(error);
    *client = (struct export_client){.cancel = cancelled, .hung_up = hung_up};
    struct export *e = server_find_export(h->server, EXPORTS_ADDED, id);
    g_assert_true(export_attach(e, client));
    export_unref(e); /* the list has it */
}

static void note_end(void *opaque, const GError *error)
{
    char **end = opaque;

    *end = g_strdup(error ? error->message : "done");
}

/* The end of all exports waits for those whose clients have just been asked to go, also by an earlier
 * command, but not for one that was waited for long enough before; and tells of it. */
static void test_given_up(void)
{
    struct export_client hung, other;
    g_autofree char *first = NULL, *second = NULL;
    struct house h;

    house_begin(&h);
    add_export(&h, "hung", &hung);
    h.server->gone_ms = EXPORT_GRACE_MS + 1;
    server_export_del(h.server, "hung", true, note_end, &first);
    g_assert_cmpstr(first, ==, "done");
    while (!hung.export->given_up)
        g_main_context_iteration(NULL, TRUE);
    h.server->gone_ms = EXPORT_GONE_MS;

    add_export(&h, "other", &other);
    server_export_del_all(h.server, note_end, &second);
    g_assert_null(second);
    gint64 begin = g_get_monotonic_time();
    export_detach(&other);
    while (!second)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(g_get_monotonic_time() - begin, <, EXPORT_GONE_MS * 500);
    g_assert_cmpstr(second, ==, "export 'hung' still in use: a request of its client does not end");
    export_detach(&hung);
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hung/scratch/others-go-on", test_others_go_on);
    g_test_add_func("/hung/scratch/fails-in-time", test_fails_in_time);
    g_test_add_func("/hung/scratch/server-ends", test_server_ends);
    g_test_add_func("/hung/export/given-up", test_given_up);
    return g_test_run();
}
