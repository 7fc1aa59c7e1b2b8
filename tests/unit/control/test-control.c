/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QMP commands on the real registry and disks, and nothing else: what fails late, after all checks,
 * is told; and what is done while somebody is on the way out.
 */
#include "common/util/error.h"
#include "server/control/actual-size.h"
#include "server/control/control-private.h"
#include "server/disk/disk-private.h"
#include "server/registry/registry-private.h"
#include "tests/rigs/fake-backend.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1u << 20)

struct house {
    struct server *server;
    struct control control;
    struct qmp_client client;
    struct qmp_client other; /* another monitor */
    struct qmp_client third;
    struct disk *disk;       /* vda, 4 MiB; vdb is as large */
    struct backend *backend; /* its */
    struct node_io *io;      /* a guest's; NULL: gone */
};

/* The command line's listeners run, and nbd-server-start's does not. */
static bool runs(void *opaque)
{
    return true;
}

static bool runs_not(void *opaque)
{
    return false;
}

static void answered(void *opaque)
{
}

static void house_begin(struct house *h)
{
    struct server_options options = {.scratch_dir = g_get_tmp_dir()};
    GError *error = NULL;

    memset(h, 0, sizeof *h);
    h->server = server_new(&options);
    h->backend = fake_backend_new(4 * MIB);
    h->disk = server_add_disk(h->server, "vda", h->backend, &error);
    g_assert_no_error(error);
    h->control =
        (struct control){.server = h->server, .nbd = {.any_running = runs, .started = runs_not}};
    h->client = (struct qmp_client){.commands = control_commands,
                                    .context = &h->control,
                                    .negotiated = true,
                                    .answered = answered};
    h->other = h->third = h->client;
    node_io_open(disk_node(h->disk), true, false, NULL, &h->io, &error);
    g_assert_no_error(error);
}

static void house_end(struct house *h)
{
    if (h->io)
        node_io_close(h->io);
    server_free(h->server);
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

/* Its reply, when it has come; g_free. */
static char *end(struct qmp_client *client)
{
    while (client->open)
        g_main_context_iteration(NULL, TRUE);
    return g_string_free(g_steal_pointer(&client->out), FALSE);
}

static void ends_well(struct qmp_client *client)
{
    g_autofree char *text = end(client);

    g_assert_cmpstr(text, ==, "{\"return\": {}}\r\n");
}

static void ends_with(struct qmp_client *client, const char *desc)
{
    g_autofree char *text = end(client);
    g_autofree char *expected =
        g_strdup_printf("{\"error\": {\"class\": \"GenericError\", \"desc\": \"%s\"}}\r\n", desc);

    g_assert_cmpstr(text, ==, expected);
}

static char *reply(struct house *h, const char *command, const char *arguments)
{
    begin(&h->client, command, arguments);
    return end(&h->client);
}

static void succeeds(struct house *h, const char *command, const char *arguments)
{
    begin(&h->client, command, arguments);
    ends_well(&h->client);
}

static void fails(struct house *h, const char *desc, const char *command, const char *arguments)
{
    begin(&h->client, command, arguments);
    ends_with(&h->client, desc);
}

/* All that the queries show. */
static char *everything(struct house *h)
{
    g_autofree char *nodes = reply(h, "query-named-block-nodes", "{}");
    g_autofree char *views = reply(h, "query-views", "{}");
    g_autofree char *exports = reply(h, "query-block-exports", "{}");

    return g_strconcat(nodes, views, exports, NULL);
}

/* ---- what fails late ---- */

#define DRAIN "disk vda: writes under way did not end within 0 s"

/* A write hangs in the plugin for longer than a command waits: there is no instant, whatever was to
 * be done at it, nothing has changed, and the command says so. */
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
        g_assert_cmpint(node_write(h.io, "x", 1, 1, 0), ==, 0); /* nobody stays shut out */
    }
    h.disk->drain_usec = DRAIN_USEC;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (strcmp(rows[i].command, "transaction") != 0) /* its names have been taken by then */
            succeeds(&h, rows[i].command, rows[i].arguments);
    }
    /* A view that is not deleted stays one. */
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

static int no_space(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    return call == FAKE_RESIZE ? -ENOSPC : 0;
}

static void test_image_does_not_resize(void)
{
    struct house h;

    house_begin(&h);
    g_clear_pointer(&h.io, node_io_close);
    g_autofree char *before = everything(&h);
    fake_backend_set_hook(h.backend, no_space, NULL);
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

static void add_vdb(struct house *h)
{
    GError *error = NULL;

    server_add_disk(h->server, "vdb", fake_backend_new(4 * MIB), &error);
    g_assert_no_error(error);
}

static void run_main_loop(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

/* A command that waits for a write on one disk holds up no other disk's. A command of the same disk
 * comes after it and sees what it did, whichever monitor it is of. */
static void test_turns(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    gate_enter(h.io->slot);
    begin(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    run_main_loop();
    g_assert_nonnull(h.client.open);
    begin(&h.other, "block-dirty-bitmap-add", "{'node':'vdb','name':'a'}");
    ends_well(&h.other);
    begin(&h.other, "view-create", "{'disk':'vdb','name':'v'}");
    ends_well(&h.other);
    begin(&h.other, "query-named-block-nodes", "{}");
    g_free(end(&h.other));
    begin(&h.other, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    run_main_loop();
    g_assert_nonnull(h.client.open);
    g_assert_nonnull(h.other.open);
    gate_leave(h.io->slot);
    ends_well(&h.client);
    ends_well(&h.other); /* the bitmap was there by then */
    succeeds(&h, "view-delete", "{'name':'v'}");
    house_end(&h);
}

/* A transaction over two disks waits for the first, and what comes after it on the second waits for
 * the transaction. The names that it makes are taken meanwhile, and free when it has failed. */
static void test_transaction_waits(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    h.disk->drain_usec = 300000;
    gate_enter(h.io->slot);
    begin(&h.client, "transaction",
          "{'actions':[{'type':'view-create','data':{'disk':'vda','name':'v'}},"
          "{'type':'block-dirty-bitmap-add','data':{'node':'vdb','name':'b'}}]}");
    run_main_loop();
    g_assert_nonnull(h.client.open);
    begin(&h.other, "block-dirty-bitmap-clear", "{'node':'vdb','name':'b'}");
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

/* A change of one disk does not end. What waits for it fails in time and names that disk; what is
 * behind on another disk, and has waited as long, then begins. */
static void test_turn_does_not_come(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    gate_enter(h.io->slot);
    begin(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    run_main_loop();
    h.server->turn_ms = 1; /* told in whole seconds */
    begin(&h.other, "transaction",
          "{'actions':[{'type':'block-dirty-bitmap-add','data':{'node':'vdb','name':'b'}},"
          "{'type':'view-create','data':{'disk':'vda','name':'v'}}]}");
    begin(&h.third, "block-dirty-bitmap-add", "{'node':'vdb','name':'c'}");
    g_assert_nonnull(h.other.open);
    g_assert_nonnull(h.third.open);
    g_usleep(2000); /* both have waited for too long when the main loop runs again */
    ends_with(&h.other, NO_TURN);
    ends_well(&h.third);
    begin(&h.other, "view-delete", "{'name':'v'}");
    ends_with(&h.other, "Node 'v' not found");
    begin(&h.other, "block_resize", "{'device':'vda','size':8388608}");
    ends_with(&h.other, NO_TURN);
    g_assert_nonnull(h.client.open);
    gate_leave(h.io->slot);
    ends_well(&h.client);
    succeeds(&h, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    house_end(&h);
}

/* The same name on another disk, whose turn it is. */
static void test_name_is_reserved(void)
{
    struct house h;

    house_begin(&h);
    add_vdb(&h);
    gate_enter(h.io->slot);
    begin(&h.client, "view-create", "{'disk':'vda','name':'v'}");
    run_main_loop();
    begin(&h.other, "view-create", "{'disk':'vdb','name':'v'}");
    ends_with(&h.other, "Duplicate nodes with node-name='v'");
    begin(&h.other, "view-delete", "{'name':'v'}");
    ends_with(&h.other, "Node 'v' not found");
    gate_leave(h.io->slot);
    ends_well(&h.client);
    succeeds(&h, "view-delete", "{'name':'v'}");
    house_end(&h);
}

/* An export does not come to use a bitmap that a transaction is about to remove. */
static void test_export_waits(void)
{
    struct house h;

    house_begin(&h);
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'a','disabled':true}");
    gate_enter(h.io->slot);
    begin(&h.client, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    run_main_loop();
    begin(&h.other, "block-export-add",
          "{'type':'nbd','id':'e','node-name':'vda','name':'e','bitmaps':['a']}");
    run_main_loop();
    g_assert_nonnull(h.other.open);
    gate_leave(h.io->slot);
    ends_well(&h.client);
    ends_with(&h.other, "Bitmap 'a' is not found");
    house_end(&h);
}

/* A monitor goes while its transaction waits: it takes effect, nobody is told. */
static void test_monitor_goes(void)
{
    struct house h;

    house_begin(&h);
    gate_enter(h.io->slot);
    begin(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    run_main_loop();
    qmp_client_leave(&h.client);
    g_string_free(h.client.out, TRUE);
    gate_leave(h.io->slot);
    begin(&h.other, "block-dirty-bitmap-remove", "{'node':'vda','name':'a'}");
    ends_well(&h.other);
    house_end(&h);
}

/* The server ends while commands wait for a write that does not end, and for their turn: all are
 * answered, nothing has changed, guests are let in again. */
static void test_server_ends(void)
{
    struct house h;

    house_begin(&h);
    g_autofree char *before = everything(&h);
    gate_enter(h.io->slot);
    begin(&h.client, "block-dirty-bitmap-add", "{'node':'vda','name':'a'}");
    begin(&h.other, "block-dirty-bitmap-add", "{'node':'vda','name':'b'}");
    run_main_loop();
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

/* ---- a file system that hangs ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool released;
    unsigned asked;
    GThread *main;
} mount = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, NULL};

/* Instead of libc's: what is below /hung hangs until it is released, and takes 4096 bytes. */
int stat(const char *path, struct stat *st)
{
    if (!g_str_has_prefix(path, "/hung"))
        return fstatat(AT_FDCWD, path, st, 0);
    g_assert_true(g_thread_self() != mount.main);
    pthread_mutex_lock(&mount.lock);
    mount.asked++;
    while (!mount.released)
        pthread_cond_wait(&mount.changed, &mount.lock);
    pthread_mutex_unlock(&mount.lock);
    *st = (struct stat){.st_mode = S_IFREG, .st_blocks = 8};
    return 0;
}

static void name_file(struct backend *b, const char *filename)
{
    g_free((char *)b->filename);
    b->filename = g_strdup(filename);
}

static unsigned count_sizes(struct house *h, const char *query)
{
    g_autofree char *text = reply(h, query, "{}");
    unsigned n = 0;

    for (const char *at = text; (at = strstr(at, "\"actual-size\": ")); at++)
        n++;
    return n;
}

/* The queries do not hang with the file system of one image, nor do their threads become more; other
 * monitors go on. When it answers again, its size is shown. */
static void test_file_system_hangs(void)
{
    g_autofree char *path = NULL;
    struct house h;

    close(g_file_open_tmp("control-XXXXXX", &path, NULL));
    mount.main = g_thread_self();
    house_begin(&h);
    add_vdb(&h);
    name_file(h.backend, "/hung/image");
    name_file(disk_backend(server_find_disk(h.server, "vdb")), path);
    begin(&h.client, "query-block", "{}");
    begin(&h.other, "view-create", "{'disk':'vda','name':'v'}");
    ends_well(&h.other);
    g_assert_nonnull(h.client.open);
    g_free(end(&h.client));
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpuint(count_sizes(&h, "query-block"), ==, 1); /* vdb's */
        g_assert_cmpuint(count_sizes(&h, "query-named-block-nodes"), ==, 1);
    }
    pthread_mutex_lock(&mount.lock);
    g_assert_cmpuint(mount.asked, ==, 1);
    mount.released = true;
    pthread_cond_broadcast(&mount.changed);
    pthread_mutex_unlock(&mount.lock);
    while (count_sizes(&h, "query-block") != 2)
        g_thread_yield();
    succeeds(&h, "view-delete", "{'name':'v'}");
    run_main_loop();
    actual_sizes_free(h.control.sizes);
    house_end(&h);
    unlink(path);
}

/* ---- clients on their way out ---- */

/* A client whose peer has closed, or not. It leaves only after it was asked about, on a thread of
 * its own, as a connection does. */
struct leaver {
    struct export_client client;
    struct export *export;
    bool is_gone, leaves;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool asked;
    pthread_t thread;
};

static void cancelled(struct export_client *c, bool cut)
{
}

static bool hung_up(struct export_client *client)
{
    struct leaver *l = (struct leaver *)client;

    pthread_mutex_lock(&l->lock);
    l->asked = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return l->is_gone;
}

static void *leave(void *leaver)
{
    struct leaver *l = leaver;

    pthread_mutex_lock(&l->lock);
    while (!l->asked)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
    export_detach(&l->client);
    return NULL;
}

static void leaver_begin(struct leaver *l, struct house *h, const char *name, bool is_gone,
                         bool leaves)
{
    *l = (struct leaver){
        .client = {.cancel = cancelled, .hung_up = hung_up}, .is_gone = is_gone, .leaves = leaves};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->export = server_find_export(h->server, EXPORTS_LIVE, name);
    g_assert_nonnull(l->export);
    g_assert_true(export_attach(l->export, &l->client));
    if (leaves)
        g_assert_cmpint(pthread_create(&l->thread, NULL, leave, l), ==, 0);
}

static void leaver_end(struct leaver *l)
{
    pthread_mutex_lock(&l->lock);
    g_assert_true(l->asked || !l->leaves); /* else the thread never ends */
    pthread_mutex_unlock(&l->lock);
    if (l->leaves)
        pthread_join(l->thread, NULL);
    else
        export_detach(&l->client);
    export_unref(l->export);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

static void add_export(struct house *h)
{
    succeeds(h, "block-export-add",
             "{'type':'nbd','id':'e','node-name':'vda','name':'e','writable':true}");
}

#define IN_USE "export 'e' still in use"

/* A client that has hung up and has not left yet does not count as using its export: the removal
 * waits for it. */
static void test_hung_up(void)
{
    struct leaver one, two;
    struct house h;

    house_begin(&h);
    add_export(&h);
    leaver_begin(&one, &h, "e", true, true);
    leaver_begin(&two, &h, "e", true, true);
    gint64 begin = g_get_monotonic_time();
    succeeds(&h, "block-export-del", "{'id':'e'}");
    /* Woken by the last, not by the end of its patience. */
    g_assert_cmpint(g_get_monotonic_time() - begin, <, EXPORT_GRACE_MS * 1000);
    leaver_end(&one);
    leaver_end(&two);
    fails(&h, "Export 'e' is not found", "block-export-del", "{'id':'e'}");
    house_end(&h);
}

/* A removal does not wait for a client that has not hung up, nor for others beside it. */
static void test_not_hung_up(void)
{
    struct leaver there, gone;
    struct house h;

    house_begin(&h);
    add_export(&h);
    leaver_begin(&gone, &h, "e", true, false);
    leaver_begin(&there, &h, "e", false, false);
    gint64 begin = g_get_monotonic_time();
    fails(&h, IN_USE, "block-export-del", "{'id':'e'}");
    g_assert_cmpint(g_get_monotonic_time() - begin, <, EXPORT_GRACE_MS * 1000);
    leaver_end(&there);
    /* One that has hung up and does not leave is waited for, but not for ever; the export stays. */
    fails(&h, IN_USE, "block-export-del", "{'id':'e'}");
    leaver_end(&gone);
    succeeds(&h, "block-export-del", "{'id':'e'}");
    house_end(&h);
}

/* Milliseconds until the main context's next timer; -1: it has none. */
static int next_timer(void)
{
    GMainContext *context = g_main_context_default();
    int priority, timeout = -1;
    GPollFD fds[8];

    while (g_main_context_iteration(context, FALSE))
        ;
    g_assert_true(g_main_context_acquire(context));
    g_main_context_prepare(context, &priority);
    g_main_context_query(context, G_MAXINT, &timeout, fds, G_N_ELEMENTS(fds));
    g_main_context_release(context);
    return timeout;
}

/* An export that is going is not found, and a client that has found it before does not get in. All
 * its bitmaps are busy until its last client has left, which may take long. */
static void test_on_its_way_out(void)
{
    struct house h;
    struct leaver guest;
    struct export_client late = {.cancel = cancelled, .hung_up = hung_up};

    house_begin(&h);
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'a','disabled':true}");
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'b','disabled':true}");
    succeeds(&h, "block-dirty-bitmap-add", "{'node':'vda','name':'c','disabled':true}");
    g_autofree char *before = everything(&h);
    succeeds(&h, "block-export-add",
             "{'type':'nbd','id':'e','node-name':'vda','name':'e','bitmaps':['a','b']}");
    struct export *found = server_find_export(h.server, EXPORTS_ADDED, "e");
    g_assert_nonnull(found);
    leaver_begin(&guest, &h, "e", false, false);
    succeeds(&h, "block-export-del", "{'id':'e','mode':'hard'}");
    g_assert_cmpint(next_timer(), >=, 0);
    fails(&h, "Export 'e' is already shutting down", "block-export-del", "{'id':'e'}");
    fails(&h, "Block export id 'e' is already in use", "block-export-add",
          "{'type':'nbd','id':'e','node-name':'vda','name':'e'}");
    g_assert_null(server_find_export(h.server, EXPORTS_ADDED, "e"));
    g_assert_null(server_find_export(h.server, EXPORTS_LIVE, "e"));
    g_assert_false(export_attach(found, &late));
    for (int i = 0; i < 2; i++)
        fails(&h,
              i ? "Bitmap 'b' is currently in use by another operation and cannot be used"
                : "Bitmap 'a' is currently in use by another operation and cannot be used",
              "block-dirty-bitmap-remove",
              i ? "{'node':'vda','name':'b'}" : "{'node':'vda','name':'a'}");
    fails(&h, "Bitmap 'b' is currently in use by another operation and cannot be used",
          "block-export-add", /* which then uses none of them */
          "{'type':'nbd','id':'f','node-name':'vda','name':'f','bitmaps':['c','b']}");
    leaver_end(&guest);
    export_unref(found);
    g_assert_cmpint(next_timer(), ==, -1); /* nor is there anything left to be done to it */
    g_autofree char *after = everything(&h);
    g_assert_cmpstr(after, ==, before);
    house_end(&h);
}

/* nbd-server-start's listener, as text; port 7 is taken. */
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

/* What a listener is begun with: what was asked for, and QEMU's defaults; and that it was not. */
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

/* ---- nbd-server-stop ---- */

struct fake_listener {
    bool started;
    void (*stopped)(void *opaque); /* the stop has been asked for, and is not over */
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

/* It waits for the exports' clients, then for the listener's; other monitors go on. While it waits
 * for the exports nobody starts or stops the listener. */
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
    begin(&h.client, "nbd-server-stop", "{}");
    run_main_loop();
    g_assert_nonnull(h.client.open);
    begin(&h.other, "nbd-server-stop", "{}");
    ends_with(&h.other, "NBD server not running");
    begin(&h.other, "nbd-server-start", "{'addr':{'type':'unix','data':{'path':'/s'}}}");
    ends_with(&h.other, "NBD server already running");
    begin(&h.other, "block-export-del", "{'id':'e'}");
    ends_with(&h.other, "Export 'e' is already shutting down");
    g_assert_null(listener.stopped);
    leaver_end(&guest);
    while (!listener.stopped)
        g_main_context_iteration(NULL, TRUE);
    begin(&h.other, "query-block-exports", "{}");
    g_autofree char *exports = end(&h.other);
    g_assert_cmpstr(exports, ==, "{\"return\": []}\r\n");
    g_assert_nonnull(h.client.open);
    listener.stopped(listener.opaque);
    ends_well(&h.client);
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

/* Events come in order to all sinks, and to none that was removed. */
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

/* What the command line cannot say, the registry refuses all the same, and keeps nothing of it. */
static void test_names_of_disks(void)
{
    g_autofree char *long_name = g_strnfill(4097, 'n');
    const char *const bad[] = {"", "vda", "v", long_name};
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

/* The other thing that clients keep from being done. */
static void test_shrink(void)
{
    struct leaver guest;
    struct house h;

    house_begin(&h);
    fails(&h, "disk vda: cannot shrink while a client is connected", "block_resize",
          "{'device':'vda','size':1048576}");
    add_export(&h);
    g_clear_pointer(&h.io, node_io_close);
    for (int live = 0; live < 2; live++) {
        leaver_begin(&guest, &h, live ? "vda" : "e", true, true);
        succeeds(&h, "block_resize",
                 live ? "{'device':'vda','size':1048576}" : "{'device':'vda','size':2097152}");
        leaver_end(&guest);
    }
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/no-instant", test_no_instant);
    g_test_add_func("/control/image-does-not-resize", test_image_does_not_resize);
    g_test_add_func("/control/turns", test_turns);
    g_test_add_func("/control/transaction-waits", test_transaction_waits);
    g_test_add_func("/control/name-is-reserved", test_name_is_reserved);
    g_test_add_func("/control/export-waits", test_export_waits);
    g_test_add_func("/control/monitor-goes", test_monitor_goes);
    g_test_add_func("/control/turn-does-not-come", test_turn_does_not_come);
    g_test_add_func("/control/server-ends", test_server_ends);
    g_test_add_func("/control/file-system-hangs", test_file_system_hangs);
    g_test_add_func("/control/stop-waits", test_stop_waits);
    g_test_add_func("/control/hung-up", test_hung_up);
    g_test_add_func("/control/not-hung-up", test_not_hung_up);
    g_test_add_func("/control/shrink", test_shrink);
    g_test_add_func("/control/on-its-way-out", test_on_its_way_out);
    g_test_add_func("/control/names-of-disks", test_names_of_disks);
    g_test_add_func("/control/sinks", test_sinks);
    g_test_add_func("/control/listener", test_listener);
    return g_test_run();
}
