/* SPDX-License-Identifier: BSD-3-Clause */
/* Backends that are started while threads run and others are at work. */
#include "tests/backend/harness.h"

#include "server/backend/start.h"

#include <dirent.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

#define WORDS(...)                                                                                 \
    .words = (const struct backend_word[]){__VA_ARGS__},                                           \
    .n_words = sizeof((const struct backend_word[]){__VA_ARGS__}) / sizeof(struct backend_word)

static char *plugin_path(const char *name)
{
    const char *top = g_getenv("top_builddir");

    return g_strdup_printf("%s/tests/plugins-src/.libs/%s.so", top ? top : ".", name);
}

static struct backend *start(const struct backend_spec *spec)
{
    g_autoptr(GError) err = NULL;
    struct backend *b = backend_start(spec, &err);

    g_assert_no_error(err);
    return b;
}

/* ---- beside a client ---- */

struct client {
    struct backend_handle *h;
    atomic_bool over;
    atomic_uint rounds;
};

/* Write and read the same bytes until `over`. */
static void *work(void *opaque)
{
    struct client *c = opaque;
    char buf[512], back[512];

    for (unsigned i = 0; !atomic_load(&c->over); i++) {
        memset(buf, (int)(i % 251), sizeof buf);
        g_assert_cmpint(c->h->backend->ops->pwrite(c->h, buf, sizeof buf, 4096, 0), ==, 0);
        g_assert_cmpint(c->h->backend->ops->pread(c->h, back, sizeof back, 4096), ==, 0);
        g_assert_cmpmem(buf, sizeof buf, back, sizeof back);
        atomic_fetch_add(&c->rounds, 1);
    }
    return NULL;
}

static void wait_for_rounds(struct client *c, unsigned n)
{
    unsigned before = atomic_load(&c->rounds);

    while (atomic_load(&c->rounds) - before < n)
        g_usleep(100);
}

/* The second one has globals and a configuration of its own, and its calls come in order. */
static void test_beside_a_client(void)
{
    if (!harness_have_plugins())
        return;
    g_autofree char *path = plugin_path("v2");
    struct backend_spec spec = {
        .plugin = path, .disk = "vdb", WORDS({NULL, "late"}, {"can_trim", "0"}, {"stdio", ""})};
    struct backend *first = harness_load("@v2", NULL);
    struct client c = {.h = harness_open(first)};
    pthread_t thread;

    pthread_create(&thread, NULL, work, &c);
    wait_for_rounds(&c, 1);
    struct backend *second = start(&spec);
    g_autofree char *calls = harness_probe(second);
    g_assert_cmpstr(calls, ==,
                    "load level=0\nconfig label=late\nconfig can_trim=0\nconfig stdio=\n"
                    "stdio_safe=0\nconfig_complete\nthread_model\nget_ready\nafter_fork\n");
    struct backend_handle *h = harness_open(second);
    char byte = 1;
    g_assert_false(h->can_trim);
    g_assert_true(c.h->can_trim);
    g_assert_cmpint(second->ops->pread(h, &byte, 1, 4096), ==, 0);
    g_assert_cmpint(byte, ==, 0); /* the client writes to the other disk */
    wait_for_rounds(&c, 1);
    harness_close(h);
    harness_free(second);
    wait_for_rounds(&c, 1);
    atomic_store(&c.over, true);
    pthread_join(thread, NULL);
    harness_close(c.h);
    harness_free(first);
}

/* ---- several at once ---- */

#define AT_ONCE 8

struct starter {
    const char *path;
    int number;
    pthread_barrier_t *together;
    struct backend *b;
};

static void *start_one(void *opaque)
{
    struct starter *s = opaque;
    g_autofree char *label = g_strdup_printf("number-%d", s->number);
    struct backend_spec spec = {.plugin = s->path, .disk = label, WORDS({"label", label})};

    pthread_barrier_wait(s->together);
    s->b = start(&spec);
    return NULL;
}

static void check_own(struct starter *s)
{
    g_autofree char *calls = harness_probe(s->b);
    g_autofree char *own = g_strdup_printf("load level=0\nconfig label=number-%d\nconfig_complete\n"
                                           "thread_model\nget_ready\nafter_fork\n",
                                           s->number);
    g_assert_cmpstr(calls, ==, own);
}

static void test_several_at_once(void)
{
    struct starter starters[AT_ONCE];
    pthread_t threads[AT_ONCE];
    pthread_barrier_t together;

    if (!harness_have_plugins())
        return;
    g_autofree char *path = plugin_path("v2");
    pthread_barrier_init(&together, NULL, AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++) {
        starters[i] = (struct starter){.path = path, .number = i, .together = &together};
        pthread_create(&threads[i], NULL, start_one, &starters[i]);
    }
    for (int i = 0; i < AT_ONCE; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < AT_ONCE; i++)
        check_own(&starters[i]);
    for (int i = 0; i < AT_ONCE; i++)
        harness_free(starters[i].b);
    pthread_barrier_destroy(&together);
}

/* ---- those that fail ---- */

static unsigned count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    g_assert_nonnull(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static int count_object(struct dl_phdr_info *info, size_t size, void *n)
{
    ++*(unsigned *)n;
    return 0;
}

static unsigned count_objects(void)
{
    unsigned n = 0;

    dl_iterate_phdr(count_object, &n);
    return n;
}

/* One stage fails in each. `ends`: what the plugin was told after that. */
static const struct {
    const char *key, *value, *message, *ends;
} failures[] = {
    {"no-such-key", "1", "disk vdb: v2: what is 'no-such-key'?", "u"},
    {"0", "1", "disk vdb: v2: '0' is not a key", "u"},
    {"config_complete", "-1", "disk vdb: v2: config_complete", "u"},
    {"thread_model", "-1", "disk vdb: v2: thread_model", "u"},
    {"get_ready", "-1", "disk vdb: v2: get_ready", "u"},
    {"after_fork", "-1", "disk vdb: v2: after_fork", "cu"},
};

static void test_failures_leave_nothing(void)
{
    if (!harness_have_plugins())
        return;
    g_autofree char *path = plugin_path("v2");
    struct backend *first = harness_load("@v2", NULL); /* so that the others are copies */
    int ends[2];
    g_assert_cmpint(pipe2(ends, O_NONBLOCK | O_CLOEXEC), ==, 0);
    g_autofree char *ends_fd = g_strdup_printf("%d", ends[1]);

    for (size_t i = 0; i < G_N_ELEMENTS(failures); i++) {
        struct backend_spec spec = {
            .plugin = path,
            .disk = "vdb",
            WORDS({"ends_fd", ends_fd}, {failures[i].key, failures[i].value})};
        unsigned descriptors = count_descriptors(), objects = count_objects();
        g_autoptr(GError) err = NULL;
        char told[8] = "";

        g_assert_null(backend_start(&spec, &err));
        assert_contains(err->message, failures[i].message);
        g_assert_cmpint(read(ends[0], told, sizeof told - 1), >, 0);
        g_assert_cmpstr(told, ==, failures[i].ends);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* objects stay: plugin_unmap */
        g_assert_cmpuint(count_descriptors(), ==, descriptors);
        g_assert_cmpuint(count_objects(), ==, objects);
#else
        (void)descriptors;
        (void)objects;
#endif
    }
    close(ends[0]);
    close(ends[1]);
    harness_free(first);
}

static void test_no_such_plugin(void)
{
    struct backend_spec spec = {.plugin = "no-such-plugin", .disk = "vdb"};
    g_autoptr(GError) err = NULL;

    g_assert_null(backend_start(&spec, &err));
    assert_contains(err->message, "disk vdb: plugin no-such-plugin: there is no ");
}

/* A second plugin with a library that bears only one is refused, as it is at the start. */
static void test_single_instance(void)
{
    if (!harness_have_plugins())
        return;
    g_autofree char *path = plugin_path("needy");
    struct backend_spec spec = {.plugin = path, .disk = "vdb"};
    g_autoptr(GError) err = NULL;
    struct backend *first = start(&spec);

    g_assert_null(backend_start(&spec, &err));
    assert_contains(err->message, "disk vdb: ");
    assert_contains(err->message, "can serve only one disk of a server: it needs lib");
    harness_free(first);
}

static void add_tests(void)
{
    g_test_add_func("/start/beside-a-client", test_beside_a_client);
    g_test_add_func("/start/several-at-once", test_several_at_once);
    g_test_add_func("/start/failures-leave-nothing", test_failures_leave_nothing);
    g_test_add_func("/start/no-such-plugin", test_no_such_plugin);
    g_test_add_func("/start/single-instance", test_single_instance);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
