/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The queries that show how much room images take, while the file system of one of them hangs.
 */
#include "server/control/actual-size.h"
#include "tests/rigs/control-rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool released;
    unsigned asked;
    GThread *main;
} mount = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, NULL};

/* It stands in for the C library's: a file below /hung hangs until it is released, and takes 4096
 * bytes. */
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

/* Takes over the reply. */
static unsigned count_sizes_in(char *reply)
{
    unsigned n = 0;

    for (const char *at = reply; (at = strstr(at, "\"actual-size\": ")); at++)
        n++;
    g_free(reply);
    return n;
}

static unsigned count_sizes(struct house *h, const char *query)
{
    return count_sizes_in(reply(h, query, "{}"));
}

/* The queries do not hang with the file system of one image, and their threads do not become more.
 * Other monitors go on. When the file system answers again, the size is shown. */
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
    command_begin(&h.client, "query-block", "{}");
    command_begin(&h.other, "view-create", "{'disk':'vda','name':'v'}");
    ends_well(&h.other);
    g_assert_nonnull(h.client.open);
    g_assert_cmpuint(count_sizes_in(command_end(&h.client)), ==, 1); /* vdb's */
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpuint(count_sizes(&h, "query-block"), ==, 1);
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/actual-size/file-system-hangs", test_file_system_hangs);
    return g_test_run();
}
