/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading, configuring, opening, ending: the order of calls, what is asked, what is said. */
#include "tests/backend/harness.h"

#include "server/backend/plugin-private.h"

#include <stdlib.h>
#include <string.h>

#define assert_probe(b, expected)                                                                  \
    G_STMT_START                                                                                   \
    {                                                                                              \
        g_autofree char *probe_ = harness_probe(b);                                                \
        g_assert_cmpstr(probe_, ==, (expected));                                                   \
    }                                                                                              \
    G_STMT_END

static void assert_load_error(const char *plugin, const char *expected)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(harness_try(&err, plugin, NULL));
    assert_contains(err->message, "disk vda: ");
    assert_contains(err->message, expected);
}

/* ---- the three kinds of plugin ---- */

static void test_v2_order(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", "label", "one", "two", NULL, NULL);
    assert_probe(b, "load level=0\nconfig label=one\nconfig label=two\nconfig_complete\n"
                    "thread_model\nget_ready\nafter_fork\n");

    struct backend_handle *h = harness_open(b);
    assert_probe(b, "default_export 0 0\npreconnect 0\nopen 0 name=the-default tls=0\nget_size\n"
                    "can_write\ncan_zero\ncan_fast_zero\ncan_trim\ncan_fua\ncan_flush\n"
                    "is_rotational\ncan_multi_conn\ncan_cache\ncan_extents\n");
    g_assert_cmpuint(h->size, ==, 1 << 20);
    g_assert_true(h->can_write && h->can_flush && h->can_trim && h->can_zero && h->can_fast_zero &&
                  h->can_fua && h->can_cache && h->can_extents && h->can_multi_conn &&
                  h->rotational && h->has_block_size);
    g_assert_cmpint(h->fd, ==, -1);

    /* A second handle is for the same image: the plugin is not asked for a name again, whatever
     * name the client uses. */
    struct backend_client client = {.export_name = "vda", .tls = true, .socket = -1};
    struct backend_handle *h2;
    g_assert_cmpint(b->ops->open(b, true, &client, &h2, NULL), ==, 0);
    assert_probe(b, "preconnect 1\nopen 1 name=the-default tls=1\nget_size\ncan_flush\n"
                    "is_rotational\ncan_multi_conn\ncan_cache\ncan_extents\n");
    g_assert_false(h2->can_write || h2->can_trim || h2->can_zero || h2->can_fua);
    harness_close(h2);
    harness_close(h);
    assert_probe(b, "close\nclose\n");
    harness_free(b);
}

static void test_v2_data(void)
{
    char buf[4096], back[4096];

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", NULL);
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));

    memset(buf, 7, sizeof buf);
    g_assert_cmpint(b->ops->pwrite(h, buf, 4096, 8192, 0), ==, 0);
    g_assert_cmpint(b->ops->pwrite(h, buf, 4096, 12288, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->pread(h, back, 4096, 8192), ==, 0);
    g_assert_cmpmem(buf, 4096, back, 4096);
    g_assert_cmpint(b->ops->zero(h, 4096, 8192, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(b->ops->zero(h, 4096, 8192, BACKEND_FUA | BACKEND_FAST), ==, 0);
    g_assert_cmpint(b->ops->trim(h, 4096, 0, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->flush(h), ==, 0);
    g_assert_cmpint(b->ops->cache(h, 65536, 4096), ==, 0);
    assert_probe(b, "pwrite 4096 8192 0\npwrite 4096 12288 2\npread 4096 8192 0\n"
                    "zero 4096 8192 1\nzero 4096 8192 10\ntrim 4096 0 2\nflush 0\n"
                    "cache 65536 4096 0\n");
    harness_close(h);
    harness_free(b);
}

static void test_v2_extents(void)
{
    struct extents e = EXTENTS_INIT;

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v2", NULL);
    struct backend_handle *h = harness_open(b);
    g_free(harness_probe(b));
    /* The plugin tells of the whole disk, in pieces that can be merged. */
    g_assert_cmpint(b->ops->extents(h, 900000, 4096, BACKEND_REQ_ONE, &e), ==, 0);
    assert_probe(b, "extents 900000 4096 4\n");
    g_assert_cmpuint(e.count, ==, 2);
    g_assert_cmpuint(e.list[0].length, ==, 786432 - 4096);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    g_assert_cmpuint(e.list[1].length, ==, 900000 + 4096 - 786432);
    g_assert_cmpuint(e.list[1].flags, ==, EXTENT_HOLE | EXTENT_ZERO);
    extents_free(&e);
    harness_close(h);
    harness_free(b);
}

static void test_v1(void)
{
    char buf[512] = {1}, back[512];

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@v1", "any.key-1_2", "value", NULL);
    struct backend_handle *h = harness_open(b);
    assert_probe(b, "load\nconfig any.key-1_2=value\nconfig_complete\nopen 0\n");
    g_assert_true(h->can_write && h->can_flush && h->can_trim && h->can_zero && h->can_fua &&
                  h->rotational);
    /* A version 1 plugin has no flags: fast zeroing fails fast. */
    g_assert_true(h->can_fast_zero);
    g_assert_false(h->can_cache || h->can_extents || h->can_multi_conn || h->has_block_size);
    g_assert_cmpint(b->ops->pwrite(h, buf, 512, 512, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->pread(h, back, 512, 512), ==, 0);
    g_assert_cmpmem(buf, 512, back, 512);
    g_assert_cmpint(b->ops->zero(h, 512, 512, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(b->ops->zero(h, 512, 512, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->zero(h, 512, 512, BACKEND_FAST), ==, -ENOTSUP);
    g_assert_cmpint(b->ops->trim(h, 512, 512, BACKEND_FUA), ==, 0);
    g_assert_cmpint(b->ops->flush(h), ==, 0);
    assert_probe(b, "pwrite 512 512\nflush\npread 512 512\nzero 512 512 may_trim=1\n"
                    "zero 512 512 may_trim=0\nflush\ntrim 512 512\nflush\nflush\n");
    harness_close(h);
    harness_free(b);
}

static void test_minimal(void)
{
    struct extents e = EXTENTS_INIT;
    char buf[4096];

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@minimal", NULL);
    struct backend_handle *h = harness_open(b);
    g_assert_false(h->can_write || h->can_flush || h->can_trim || h->can_zero || h->can_fast_zero ||
                   h->can_fua || h->can_cache || h->can_extents || h->can_multi_conn ||
                   h->rotational || h->has_block_size);
    g_assert_cmpuint(h->min_block, ==, 1);
    g_assert_cmpuint(h->pref_block, ==, 4096);
    g_assert_cmpuint(h->max_block, ==, 64 << 20);
    g_assert_cmpint(b->ops->pread(h, buf, 4096, 8192), ==, 0);
    g_assert_cmpint(buf[0], ==, 2);
    g_assert_cmpint(b->ops->pwrite(h, buf, 512, 0, 0), ==, -EROFS);
    g_assert_cmpint(b->ops->zero(h, 512, 0, 0), ==, -EROFS);
    g_assert_cmpint(b->ops->trim(h, 512, 0, 0), ==, -EROFS);
    g_assert_cmpint(b->ops->flush(h), ==, -EINVAL);
    g_assert_cmpint(b->ops->cache(h, 512, 0), ==, -EINVAL);
    g_assert_cmpint(b->ops->extents(h, 1 << 20, 0, 0, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 1);
    g_assert_cmpuint(e.list[0].length, ==, 1 << 20);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    extents_free(&e);

    /* It registered thread model 0: one handle at a time. */
    g_autofree char *error = harness_open_error(b, false);
    g_assert_cmpstr(error, ==, "disk vda: minimal: this plugin allows one handle at a time");
    harness_close(h);
    harness_close(harness_open(b));

    g_autoptr(GError) err = NULL;
    g_assert_cmpint(plugin_config(b, "a", "b", &err), <, 0);
    g_assert_cmpstr(err->message, ==,
                    "disk vda: minimal: this plugin takes no configuration "
                    "(a=...)");
    harness_free(b);
}

/* ---- instances ---- */

static void test_instances(void)
{
    enum { N = 5 };
    struct backend *b[N];
    struct backend_handle *h[N];
    char buf[512], back[512];

    if (!harness_have_plugins())
        return;
    for (int i = 0; i < N; i++) {
        g_autofree char *label = g_strdup_printf("disk %d", i);
        b[i] = harness_load("@v2", "label", label, NULL);
        h[i] = harness_open(b[i]);
        memset(buf, 'a' + i, sizeof buf);
        g_assert_cmpint(b[i]->ops->pwrite(h[i], buf, 512, 0, 0), ==, 0);
    }
    for (int i = 0; i < N; i++) {
        g_autofree char *expected = g_strdup_printf("config label=disk %d\n", i);
        g_autofree char *record = harness_probe(b[i]);
        assert_contains(record, expected);
        g_assert_null(strstr(strstr(record, "config label") + 1, "config label"));
        memset(buf, 'a' + i, sizeof buf);
        g_assert_cmpint(b[i]->ops->pread(h[i], back, 512, 0), ==, 0);
        g_assert_cmpmem(buf, 512, back, 512);
        /* This holds for exported variables too, which RTLD_GLOBAL would have shared. */
        for (int j = 0; j < i; j++)
            g_assert_true(harness_symbol(b[i], "v2_debug_level") !=
                          harness_symbol(b[j], "v2_debug_level"));
    }
    /* One in the middle of the row ends and is started again. */
    harness_close(h[2]);
    harness_free(b[2]);
    b[2] = harness_load("@v2", NULL);
    h[2] = harness_open(b[2]);
    g_assert_cmpint(b[2]->ops->pread(h[2], back, 512, 0), ==, 0);
    g_assert_cmpint(back[0], ==, 0);
    for (int i = 0; i < N; i++) {
        harness_close(h[i]);
        harness_free(b[i]);
    }
}

static void test_debug_flags(void)
{
    if (!harness_have_plugins())
        return;
    struct backend *other = harness_load("@v2", NULL);
    g_autofree char *path =
        g_strdup_printf("%s/tests/plugins-src/.libs/v2.so", g_getenv("top_builddir"));
    struct backend *b = plugin_load(path, "vdb", NULL);
    harness_log_begin();
    g_assert_false(plugin_debug_flag(b, "nobody", "level", 1));
    g_assert_true(plugin_debug_flag(b, "v2", "level", 42));
    g_autofree char *silence = harness_log_end();
    g_assert_cmpstr(silence, ==, "");
    harness_log_begin();
    g_assert_true(plugin_debug_flag(b, "v2", "what.ever", 1));
    g_autofree char *log = harness_log_end();
    assert_contains(log, "warning: -D v2.what.ever: plugin v2 has no such debug flag");
    assert_contains(log, "v2_debug_what_ever");
    g_assert_cmpint(plugin_config(b, "label", "x", NULL), ==, 0);
    assert_probe(b, "load level=42\nconfig label=x\n");
    g_assert_cmpint(*(int *)harness_symbol(other, "v2_debug_level"), ==, 0);
    harness_free(b);
    harness_free(other);
}

/* ---- what is refused ---- */

static void test_load_errors(void)
{
    g_autofree char *text = harness_file("text.so", 0, "no object\n", 10);

    assert_load_error("no-such-plugin", "there is no nbdkit-no-such-plugin-plugin.so in ");
    assert_load_error("/nonexistent/x.so", "/nonexistent/x.so");
    assert_load_error(text, text);
    g_autofree char *filter = g_build_filename(g_getenv("NBDKIT_PLUGINDIR"), "..", "filters",
                                               "nbdkit-cow-filter.so", NULL);
    if (g_file_test(filter, G_FILE_TEST_EXISTS))
        assert_load_error(filter, "nbdkit-cow-filter.so");
    if (!harness_have_plugins())
        return;
    assert_load_error("@missing-symbol", "nbdkit_from_the_future");
    assert_load_error("@missing-symbol", "/missing-symbol.so");
}

static void test_bad_registration(void)
{
    static const struct {
        const char *way, *message;
    } cases[] = {
        {"nothing", "plugin_init returned nothing"},
        {"version-3", "API version 3 is not supported"},
        {"version-minus-1", "API version -1 is not supported"},
        {"model-4", "unknown thread model 4"},
        {"no-name", "no name"},
        {"bad-name", "no name"},
        {"no-open", "has no open callback"},
        {"no-get_size", "has no get_size callback"},
        {"no-pread", "has no pread callback"},
        {"tiny", "16 bytes is too small"},
    };

    if (!harness_have_plugins())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_setenv("TEST_REGISTRATION", cases[i].way, TRUE);
        g_test_message("%s", cases[i].way);
        assert_load_error("@registration", cases[i].message);
        assert_load_error("@registration", "/registration.so");
    }
}

/* Plugins whose structure is older or newer than ours. */
static void test_odd_registration(void)
{
    static const struct {
        const char *way;
        int byte; /* which pread was called */
        bool can_write;
    } cases[] = {{"version-0", 1, false}, {"version-1", 1, false}, {"newer", 2, true}};
    char c = 0;

    if (!harness_have_plugins())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_setenv("TEST_REGISTRATION", cases[i].way, TRUE);
        struct backend *b = harness_load("@registration", NULL);
        struct backend_handle *h = harness_open(b);
        g_assert_cmpint(b->ops->pread(h, &c, 1, 0), ==, 0);
        g_assert_cmpint(c, ==, cases[i].byte);
        g_assert_true(h->can_write == cases[i].can_write);
        g_assert_cmpint(plugin_of(b)->api.errno_is_preserved, ==, 0);
        harness_close(h);
        harness_free(b);
    }
}

static void test_config_errors(void)
{
    g_autoptr(GError) err = NULL;

    if (!harness_have_plugins())
        return;
    g_assert_null(harness_try(&err, "@v2", "bogus", "1", NULL));
    g_assert_cmpstr(err->message, ==, "disk vda: v2: what is 'bogus'?");
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "@v2", "1bogus", "1", NULL));
    g_assert_cmpstr(err->message, ==, "disk vda: v2: '1bogus' is not a key");
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "@v2", "", "1", NULL));
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "@evil", "mode", "silent-config", NULL));
    g_assert_cmpstr(err->message, ==, "disk vda: evil: config mode failed and did not say why");
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "@evil", "wrong", "return", NULL));
    g_clear_error(&err);
    g_assert_null(harness_try(&err, "@v2", "after_fork", "-1", NULL));
    assert_contains(err->message, "disk vda: v2: after_fork");
    g_clear_error(&err);
    /* Without a magic key the first word alone is script=. */
    g_assert_null(harness_try(&err, "@evil", "mode", "x", "word", NULL, NULL));
    g_assert_cmpstr(err->message, ==, "disk vda: evil: expected KEY=VALUE, not 'word'");
    g_clear_error(&err);
    struct backend *b = harness_load("@v1", "word", NULL, NULL);
    assert_probe(b, "load\nconfig script=word\nconfig_complete\n");
    harness_free(b);
}

/* ---- what people see ---- */

static char *text_of(struct backend *b, void (*print)(struct backend *b, FILE *out))
{
    char *text = NULL;
    size_t length;
    FILE *f = open_memstream(&text, &length);

    print(b, f);
    fclose(f);
    char *copy = g_strdup(text);
    free(text);
    return copy;
}

static void test_dump(void)
{
    if (!harness_have_plugins())
        return;
    g_autofree char *path =
        g_strdup_printf("%s/tests/plugins-src/.libs/v2.so", g_getenv("top_builddir"));
    struct backend *b = plugin_load(path, "vda", NULL);
    g_assert_cmpint(plugin_config(b, "thread_model", "1", NULL), ==, 0);
    g_autofree char *dump = text_of(b, plugin_dump);
    g_autofree char *real = realpath(path, NULL);
    g_autofree char *expected = g_strdup_printf(
        "path=%s\nname=v2\nversion=2.0\napi_version=2\nstruct_size=%u\n"
        "max_thread_model=parallel\nthread_model=serialize_all_requests\nerrno_is_preserved=1\n"
        "magic_config_key=label\nhas_longname=1\nhas_description=1\nhas_load=1\nhas_unload=1\n"
        "has_dump_plugin=1\nhas_config=1\nhas_config_complete=1\nhas_config_help=1\n"
        "has_thread_model=1\nhas_get_ready=1\nhas_after_fork=1\nhas_cleanup=1\n"
        "has_preconnect=1\nhas_list_exports=1\nhas_default_export=1\nhas_open=1\nhas_close=1\n"
        "has_export_description=1\nhas_get_size=1\nhas_block_size=1\nhas_can_write=1\n"
        "has_can_flush=1\nhas_is_rotational=1\nhas_can_trim=1\nhas_can_zero=1\n"
        "has_can_fast_zero=1\nhas_can_extents=1\nhas_can_fua=1\nhas_can_multi_conn=1\n"
        "has_can_cache=1\nhas_pread=1\nhas_pwrite=1\nhas_flush=1\nhas_trim=1\nhas_zero=1\n"
        "has_extents=1\nhas_cache=1\n",
        real, (unsigned)plugin_of(b)->api.struct_size);
    g_assert_cmpstr(dump, ==, expected);
    g_autofree char *help = text_of(b, plugin_help);
    g_autofree char *expected_help = g_strdup_printf(
        "plugin: v2 (test plugin, version 2)\n(%s)\nEvery callback.\nlabel=TEXT\n", path);
    g_assert_cmpstr(help, ==, expected_help);
    /* No config_complete: this is as far as --dump-plugin goes. */
    assert_probe(b, "load level=0\nconfig thread_model=1\nthread_model\n");
    harness_free(b);
}

static void test_dump_like_nbdkit(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    g_test_skip("nbdkit itself cannot load plugins that were built with a sanitizer");
    return;
#endif
    g_autofree char *nbdkit = g_find_program_in_path("nbdkit");

    if (!nbdkit || !harness_have_plugins()) {
        g_test_skip("no nbdkit to compare with");
        return;
    }
    static const char *const names[] = {"@v1", "@minimal", "@big", "@evil"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("%s/tests/plugins-src/.libs/%s.so",
                                                g_getenv("top_builddir"), names[i] + 1);
        char *argv[] = {nbdkit, (char *)"--dump-plugin", path, NULL};
        g_autofree char *theirs = NULL;
        int status;
        g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                                   &theirs, NULL, &status, NULL));
        g_assert_true(status == 0);
        struct backend *b = plugin_load(path, "vda", NULL);
        g_autofree char *ours = text_of(b, plugin_dump);
        g_assert_cmpstr(ours, ==, theirs);
        harness_free(b);
    }
}

static void add_tests(void)
{
    g_test_add_func("/host/v2/order", test_v2_order);
    g_test_add_func("/host/v2/data", test_v2_data);
    g_test_add_func("/host/v2/extents", test_v2_extents);
    g_test_add_func("/host/v1", test_v1);
    g_test_add_func("/host/minimal", test_minimal);
    g_test_add_func("/host/instances", test_instances);
    g_test_add_func("/host/debug-flags", test_debug_flags);
    g_test_add_func("/host/load-errors", test_load_errors);
    g_test_add_func("/host/registration/bad", test_bad_registration);
    g_test_add_func("/host/registration/odd", test_odd_registration);
    g_test_add_func("/host/config-errors", test_config_errors);
    g_test_add_func("/host/dump", test_dump);
    g_test_add_func("/host/dump-like-nbdkit", test_dump_like_nbdkit);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
