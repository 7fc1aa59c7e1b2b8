/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/backend/harness.h"

#include "common/util/log.h"
#include "common/util/log-limit.h"
#include "server/backend/plugin-private.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *folder;

static char *plugin_path(const char *name)
{
    const char *top = g_getenv("top_builddir");

    if (*name != '@')
        return g_strdup(name);
    return g_strdup_printf("%s/tests/plugins-src/.libs/%s.so", top ? top : ".", name + 1);
}

bool harness_have_plugins(void)
{
    g_autofree char *path = plugin_path("@minimal");

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return true;
    g_test_skip("nbdkit-plugin.h was not there to build test plugins with");
    return false;
}

static int configure(struct backend *b, va_list args, GError **err)
{
    const char *key;

    while ((key = va_arg(args, const char *))) {
        const char *value = va_arg(args, const char *);
        int r = value ? plugin_config(b, key, value, err) : plugin_config_bare(b, key, err);
        if (r < 0)
            return -1;
    }
    return 0;
}

static struct backend *load(GError **err, const char *plugin, va_list args)
{
    g_autofree char *path = plugin_path(plugin);
    struct backend *b = plugin_load(path, "vda", err);

    if (!b)
        return NULL;
    if (configure(b, args, err) < 0 || plugin_config_complete(b, err) < 0 ||
        plugin_get_ready(b, err) < 0 || plugin_after_fork(b, err) < 0) {
        b->ops->free(b);
        return NULL;
    }
    return b;
}

struct backend *harness_try(GError **err, const char *plugin, ...)
{
    va_list args;

    va_start(args, plugin);
    struct backend *b = load(err, plugin, args);
    va_end(args);
    return b;
}

struct backend *harness_load(const char *plugin, ...)
{
    g_autoptr(GError) err = NULL;
    va_list args;

    va_start(args, plugin);
    struct backend *b = load(&err, plugin, args);
    va_end(args);
    g_assert_no_error(err);
    return b;
}

void harness_free(struct backend *b)
{
    b->ops->free(b);
}

struct backend_handle *harness_open(struct backend *b)
{
    g_autoptr(GError) err = NULL;
    struct backend_handle *h = NULL;

    b->ops->open(b, false, NULL, &h, &err);
    g_assert_no_error(err);
    return h;
}

void harness_close(struct backend_handle *h)
{
    h->backend->ops->close(h);
}

char *harness_open_error(struct backend *b, bool readonly)
{
    g_autoptr(GError) err = NULL;
    struct backend_handle *h;

    g_assert_cmpint(b->ops->open(b, readonly, NULL, &h, &err), <, 0);
    g_assert_nonnull(err);
    return g_strdup(err->message);
}

void *harness_symbol(struct backend *b, const char *name)
{
    void *symbol = dlsym(plugin_of(b)->dl, name);

    g_assert_nonnull(symbol);
    return symbol;
}

char *harness_probe(struct backend *b)
{
    char *record = harness_symbol(b, "probe_log");
    char *copy = g_strdup(record);

    *record = '\0';
    return copy;
}

void harness_hook(struct backend *b, void (*hook)(const char *callback))
{
    *(void (**)(const char *))harness_symbol(b, "probe_hook") = hook;
}

/* ---- stderr ---- */

/* A clock by which errors come so far apart that the limit on them leaves none out. */
static int64_t slow_clock(void)
{
    static _Atomic int64_t now;
    return now += LOG_LIMIT_USEC;
}

static int real_stderr = -1, captured = -1;

void harness_log_begin(void)
{
    g_autofree char *path = g_build_filename(folder, "log", NULL);

    fflush(stderr);
    real_stderr = dup(STDERR_FILENO);
    captured = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    g_assert_cmpint(captured, >=, 0);
    dup2(captured, STDERR_FILENO);
}

char *harness_log_end(void)
{
    g_autofree char *path = g_build_filename(folder, "log", NULL);
    char *text = NULL;

    fflush(stderr);
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(captured);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

/* ---- files ---- */

const char *harness_dir(void)
{
    return folder;
}

char *harness_file(const char *name, uint64_t size, const void *data, size_t length)
{
    char *path = g_build_filename(folder, name, NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    if (length)
        g_assert_cmpint(pwrite(fd, data, length, 0), ==, length);
    close(fd);
    return path;
}

static void remove_folder(void)
{
    g_autoptr(GDir) d = g_dir_open(folder, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_unlink(path);
    }
    g_rmdir(folder);
    g_clear_pointer(&folder, g_free);
}

int harness_main(int argc, char **argv, void (*add_tests)(void))
{
    g_test_init(&argc, &argv, NULL);
    log_setup(LOG_TO_STDERR, "test", false);
    log_limit_set_clock(slow_clock);
    folder = g_dir_make_tmp("nbdfleece-backend-XXXXXX", NULL);
    g_assert_nonnull(folder);
    const char *top = g_getenv("top_builddir") ? g_getenv("top_builddir") : ".";
    g_autofree char *ours =
        g_strdup_printf("%s/plugins/file/.libs:%s/plugins/qcow2/.libs", top, top);
    g_setenv("NBDFLEECE_PLUGIN_PATH", ours, TRUE);
    add_tests();
    int r = g_test_run();
    remove_folder();
    return r;
}
