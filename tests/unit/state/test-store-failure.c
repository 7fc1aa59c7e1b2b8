/* SPDX-License-Identifier: BSD-3-Clause */
/* A folder that fails while a server uses it. */
#include "common/state/folder.h"
#include "common/state/note.h"
#include "server/state/store-break.h"
#include "server/state/store-renew.h"
#include "tests/rigs/store-rig.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Syncs of files whose paths have this text in them fail; NULL: none. */
static char failing[64];
static unsigned failing_from, failing_for; /* the first so many work; then so many fail */
static pthread_mutex_t failing_lock = PTHREAD_MUTEX_INITIALIZER;

static void fail_some_syncs(const char *text, unsigned from, unsigned n)
{
    pthread_mutex_lock(&failing_lock);
    g_strlcpy(failing, text ? text : "", sizeof failing);
    failing_from = from;
    failing_for = n;
    pthread_mutex_unlock(&failing_lock);
}

static void fail_syncs(const char *text)
{
    fail_some_syncs(text, 0, UINT_MAX);
}

static void path_of(int fd, char *path, size_t size)
{
    char link[64];
    ssize_t n;

    g_snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, size - 1);
    path[n > 0 ? n : 0] = '\0';
}

static bool must_fail(int fd)
{
    char path[512];
    bool fails;

    path_of(fd, path, sizeof path);
    pthread_mutex_lock(&failing_lock);
    fails = failing[0] && strstr(path, failing);
    if (fails && failing_from > 0) {
        failing_from--;
        fails = false;
    } else if (fails && failing_for != UINT_MAX) {
        fails = failing_for > 0;
        failing_for -= fails;
    }
    pthread_mutex_unlock(&failing_lock);
    return fails;
}

static int sync_or_fail(int fd, long call)
{
    if (!must_fail(fd))
        return (int)syscall(call, fd);
    errno = EIO;
    return -1;
}

/* These take the place of libc's, for SQLite, too. */
int fdatasync(int fd);
int fdatasync(int fd)
{
    return sync_or_fail(fd, SYS_fdatasync);
}

int fsync(int fd);
int fsync(int fd)
{
    return sync_or_fail(fd, SYS_fsync);
}

/* What becomes of reads of bits: those of many pages fail, or the file is cut short after one. */
enum { READS_WORK, READS_FAIL, READS_CUT };
static atomic_int reads;

ssize_t pread(int fd, void *buf, size_t length, off_t offset);
ssize_t pread(int fd, void *buf, size_t length, off_t offset)
{
    char path[512] = "";
    ssize_t n;

    if (reads != READS_WORK)
        path_of(fd, path, sizeof path);
    if (reads == READS_FAIL && strstr(path, "/bits/") && length > 4096) {
        errno = EIO;
        return -1;
    }
    n = syscall(SYS_pread64, fd, buf, length, offset);
    if (reads == READS_CUT && strstr(path, "/bits/") && offset != 0)
        g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    return n;
}

/* Wait until the catalogue has been told, or that has failed. */
static void wait_jobs(struct store_rig *r)
{
    g_assert_true(jobs_wait(r->store->jobs, 60000));
}

static void test_bits_truncated(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL}, *again;
    g_autofree char *file = NULL;
    g_autofree char *said = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    file = rig_memory_bits(r);
    g_assert_cmpint(truncate(file, 0), ==, 0);
    rig_change(d, bits, 0, 1); /* the guest goes on */
    said = rig_wait_broken(d);
    g_assert_nonnull(strstr(said, "one: somebody has cut short the file"));
    again = rig_add(d, "b"); /* a clear */
    bits[0] = again;
    rig_change(d, bits, MIB, 1);
    rig_restart(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

static void test_bits_truncated_and_stopped(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *file = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    file = rig_memory_bits(r);
    g_assert_cmpint(truncate(file, 0), ==, 0);
    rig_change(d, bits, 0, 1);
    g_free(rig_wait_broken(d));
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "somebody has cut short the file");
    rig_free(r);
}

static void hold(void *lock)
{
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
}

/* A sync does not wait until somebody has come to say that the bits are lost. */
static void test_bits_truncated_and_synced(void)
{
    pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *file = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    file = rig_memory_bits(r);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    pthread_mutex_lock(&held);
    jobs_post(r->store->jobs, hold, &held);
    g_assert_cmpint(truncate(file, 0), ==, 0);
    rig_change(d, bits, 0, 1);
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    g_assert_cmpuint(d->broken->len, ==, 1);
    pthread_mutex_unlock(&held);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "somebody has cut short the file");
    rig_free(r);
}

/* The file was looked at, and is cut short before its bits are read. */
static void test_bits_truncated_at_attach(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    rig_open(r);
    reads = READS_CUT;
    rig_attach(d);
    reads = READS_WORK;
    rig_expect_inconsistent(d, "b", "it ends too early");
    g_assert_cmpint(store_start(r->store, NULL), ==, 0);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "it ends too early");
    rig_free(r);
}

/* After a power loss a page of the bits cannot be read. */
static void test_bits_unreadable(void)
{
    struct store_rig *r = rig_new_many(1, 65536 * MIB);
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1;
    reads = READS_FAIL;
    rig_open(r);
    reads = READS_WORK;
    rig_attach(d);
    rig_expect_inconsistent(d, "b", "read: Input/output error");
    g_assert_cmpint(store_start(r->store, NULL), ==, 0);
    rig_free(r);
}

static int disable(struct store_rig *r, GError **err)
{
    struct state_change c = rig_say(&r->disks[0], "b", r->disks[0].bits->pdata[0]);

    c.recording = false;
    return rig_commit(r, &c, 1, err);
}

/* Bits cannot be synced when a bitmap is disabled, which fails, and works when there is a new file. */
static void test_bits_sync(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *old = NULL, *new = NULL;
    g_autoptr(GError) error = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    old = rig_bits_file(r);
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(disable(r, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "its bits could not be written"));
    wait_jobs(r); /* there was no new file either */
    fail_syncs(NULL);
    g_assert_cmpint(disable(r, NULL), <, 0); /* the old file is never synced again */
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    rig_change(d, bits, MIB, 1);
    store_renew(r->store);
    new = rig_bits_file(r);
    g_assert_cmpstr(old, !=, new);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    g_assert_cmpint(disable(r, NULL), ==, 0);
    g_assert_cmpuint(d->broken->len, ==, 0);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 2 * 65536);
    g_assert_cmpstr(d->recovered, ==, "exact");
    rig_free(r);
}

/* A bitmap that has a new file is exact after a crash, too. */
static void test_bits_renewed(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    fail_syncs(NULL);
    wait_jobs(r);
    store_renew(r->store);
    rig_change(d, bits, MIB, 1);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 2 * 65536);
    g_assert_cmpstr(d->recovered, ==, "exact");
    rig_free(r);
}

/* A new file gets stuck after `prepare` has synced it, and before there is a row that names it. */
static void test_bits_stuck_before_commit(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    struct state_transaction *t;
    struct state_change c;

    rig_start(r, 1);
    bits[0] = rig_bits(d);
    g_ptr_array_add(d->bits, bits[0]);
    c = rig_say(d, "b", bits[0]);
    g_assert_cmpint(store_ops.prepare(r->store, &c, 1, &t, NULL), ==, 0);
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    fail_syncs(NULL);
    wait_jobs(r); /* there is no row yet */
    g_assert_cmpint(store_ops.commit(r->store, t, NULL), ==, 0);
    store_ops.end(r->store, t, true);
    wait_jobs(r);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    rig_restart(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

/* Whoever finds that a file is stuck cannot know whether the mark for the tick is still there. */
static void test_bits_stuck_again(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    wait_jobs(r);
    r->store->any_stuck = false; /* as store_renew does before it looks */
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    g_assert_true(r->store->any_stuck);
    fail_syncs(NULL);
    rig_free(r);
}

/* Bits cannot be synced at the end: the next start has them all the same. */
static void sync_fails_at_end(bool kill, bool power)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    r->o.power = power;
    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    rig_add(&r->disks[1], "other");
    rig_change(d, bits, 0, 1);
    fail_syncs("/bits/");
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
    rig_change(d, bits, MIB, 1);
    if (kill) {
        wait_jobs(r);
        rig_kill(r);
    } else {
        rig_stop(r);
    }
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    rig_start(r, 2);
    rig_expect(d, "b", 2 * 65536);
    rig_expect(&r->disks[1], "other", 0);
    rig_add(d, "c");
    rig_stop(r);
    g_assert_true(r->in_order);
    rig_free(r);
}

static void test_bits_sync_at_end(void)
{
    for (int k = 0; k < 4; k++)
        sync_fails_at_end(k & 1, k & 2);
}

/* Only the old file fails at the end. */
static void test_bits_sealed_anew(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *old = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    old = rig_bits_file(r);
    rig_change(d, bits, 0, 1);
    fail_syncs(strrchr(old, '/'));
    rig_stop(r);
    g_assert_true(r->in_order);
    fail_syncs(NULL);
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

/* Somebody damages the folder's file while the server runs: the memory has what it had. */
static void test_bits_damaged(void)
{
    for (off_t length = 0; length <= 4096; length += 4096) {
        struct store_rig *r = rig_new();
        struct rig_disk *d = &r->disks[0];
        struct bitmap *bits[] = {NULL, NULL};
        g_autofree char *file = NULL;

        rig_start(r, 1);
        bits[0] = rig_add(d, "b");
        rig_change(d, bits, 0, 1);
        g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
        file = rig_bits_file(r);
        g_assert_cmpint(truncate(file, length), ==, 0);
        if (length)
            g_assert_cmpint(truncate(file, 8192), ==, 0); /* zeroes */
        rig_restart(r, 1);
        g_assert_cmpuint(d->broken->len, ==, 0);
        rig_expect(d, "b", 65536);
        rig_free(r);
    }
}

/* The journal fails, and the catalogue works: the bitmaps are inconsistent, and can be cleared. */
static void test_journal(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *said = NULL;

    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    rig_add(&r->disks[1], "other");
    fail_syncs("/intent");
    rig_change(d, bits, 0, 1); /* goes on */
    said = rig_wait_broken(d);
    g_assert_nonnull(strstr(said, "all: the journal of the state folder failed: "));
    g_free(rig_wait_broken(&r->disks[1]));
    fail_syncs(NULL);
    wait_jobs(r);
    rig_kill(r);
    rig_start(r, 2);
    rig_expect_inconsistent(d, "b", "the journal of the state folder failed");
    rig_expect_inconsistent(&r->disks[1], "other", "the journal of the state folder failed");
    bits[0] = rig_add(d, "b"); /* a clear */
    rig_change(d, bits, 8 * MIB, 1);
    rig_kill(r);
    rig_start(r, 2);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

/* It works again when a bitmap is cleared. */
static void test_journal_revived(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    struct state_change c;
    g_autoptr(GError) error = NULL;
    struct bitmap *new;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    fail_syncs("/intent");
    rig_change(d, bits, 0, 1);
    g_free(rig_wait_broken(d));
    new = rig_bits(d);
    c = rig_say(d, "b", new);
    g_assert_cmpint(rig_commit(r, &c, 1, &error), <, 0); /* not yet */
    fail_syncs(NULL);
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    g_ptr_array_add(d->bits, new);
    bits[0] = new;
    rig_change(d, bits, 8 * MIB, 1);
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1;
    rig_start(r, 1);
    /* The regions of both changes: the first one was made without a journal. */
    rig_expect(d, "b", 8 * MIB);
    rig_free(r);
}

/* Nothing in the folder can be written: after a crash or a power loss, no bitmap is good. */
static void everything_fails(bool power_loss, bool stop)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    fail_syncs(r->path + strlen(r->top)); /* "/0" */
    rig_change(d, bits, 0, 1);
    g_free(rig_wait_broken(d));
    rig_change(d, bits, 12 * MIB, 1); /* no journal knows of this */
    if (stop)
        rig_stop(r);
    else
        rig_kill(r);
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    if (power_loss) {
        g_autofree char *notes = g_strdup_printf("rm -rf %s/nbdfleece-[!f]*", r->top);

        g_assert_cmpint(system(notes), ==, 0);
        rig_reboot(r);
        d->modified = 1;
    }
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "");
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "");
    rig_free(r);
}

static void test_everything(void)
{
    everything_fails(false, false);
    everything_fails(false, true);
    everything_fails(true, false);
    everything_fails(true, true);
}

/* The first sync of a transaction is that of its log's head. The second one is that of all of it:
 * if this one fails, the transaction may have happened. */
#define WHOLE_LOG 1

/* A clear of "b", with which a bitmap "new" is made, and "old" is removed. */
static int clear(struct rig_disk *d, GError **err)
{
    struct bitmap *bits = rig_bits(d), *new = rig_bits(d);
    struct state_change c[] = {rig_say(d, "b", bits), rig_say(d, "new", new),
                               rig_say(d, "old", NULL)};
    int result = rig_commit(d->rig, c, G_N_ELEMENTS(c), err);

    g_ptr_array_add(d->bits, bits);
    g_ptr_array_add(d->bits, new);
    return result;
}

static struct store_rig *start_with_bits(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL, NULL};

    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    bits[1] = rig_add(d, "old");
    rig_add(&r->disks[1], "other");
    rig_change(d, bits, 0, 1);
    return r;
}

/* A command's transaction fails, and has not happened: nothing has changed, and others work. */
static void test_catalogue(void)
{
    struct store_rig *r = start_with_bits();
    struct rig_disk *d = &r->disks[0];
    g_autoptr(GError) error = NULL;

    fail_syncs("catalogue.db");
    g_assert_cmpint(clear(d, &error), <, 0);
    g_assert_nonnull(error->message);
    fail_syncs(NULL);
    g_assert_cmpuint(d->broken->len, ==, 0);
    rig_add(d, "later");
    rig_restart(r, 2);
    g_assert_cmpuint(d->found->len, ==, 3);
    rig_expect(d, "b", 65536);
    rig_expect(d, "old", 65536);
    rig_expect(d, "later", 0);
    rig_free(r);
}

/* One sync fails, and then the storage works: the transaction is found to have happened. */
static void test_catalogue_happened(void)
{
    struct store_rig *r = start_with_bits();
    struct rig_disk *d = &r->disks[0];
    g_autoptr(GError) error = NULL;

    fail_some_syncs("catalogue.db", WHOLE_LOG, 1);
    g_assert_cmpint(clear(d, &error), ==, 0);
    g_assert_no_error(error);
    fail_syncs(NULL);
    g_assert_cmpuint(d->broken->len, ==, 0);
    rig_add(d, "later");
    for (unsigned i = 0; i < 2; i++) {
        if (i == 0)
            rig_kill(r);
        else
            rig_stop(r);
        rig_start(r, 2);
        g_assert_cmpuint(d->found->len, ==, 3);
        rig_expect(d, "b", 0);
        rig_expect(d, "new", 0);
        rig_expect(d, "later", 0);
    }
    rig_free(r);
}

/* A start removes bitmaps of no disk: with them, the catalogue could not be opened anew. */
static void test_catalogue_strays(void)
{
    struct store_rig *r = start_with_bits();
    g_autofree char *path = rig_file(r, "catalogue.db");
    g_autoptr(GError) error = NULL;
    sqlite3 *db;

    rig_stop(r);
    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "DELETE FROM disks WHERE name = 'disk1'", NULL, NULL, NULL),
                    ==, SQLITE_OK);
    sqlite3_close(db);
    rig_start(r, 1);
    fail_some_syncs("catalogue.db", WHOLE_LOG, 1);
    g_assert_cmpint(clear(&r->disks[0], &error), ==, 0);
    g_assert_no_error(error);
    fail_syncs(NULL);
    rig_free(r);
}

/* The storage goes on to fail: its outcome is not known. When it works again, commands do, too, and
 * the catalogue has nothing of the one that failed. */
static void test_catalogue_unsure(void)
{
    for (unsigned killed = 0; killed < 2; killed++) {
        struct store_rig *r = start_with_bits();
        struct rig_disk *d = &r->disks[0];
        g_autoptr(GError) error = NULL;
        g_autofree char *said = NULL;

        fail_some_syncs("catalogue.db", WHOLE_LOG, UINT_MAX);
        g_assert_cmpint(clear(d, &error), <, 0);
        g_assert_nonnull(error->message);
        said = rig_wait_broken(d);
        g_assert_nonnull(strstr(said, "the catalogue failed in the middle of a change of it"));
        g_assert_cmpint(clear(d, NULL), <, 0); /* as long as it fails */
        wait_jobs(r);
        fail_syncs(NULL);
        rig_add(d, "b"); /* a clear */
        wait_jobs(r);
        if (killed)
            rig_kill(r);
        else
            rig_stop(r);
        rig_start(r, 2);
        g_assert_cmpstr(d->recovered, ==, "exact");
        g_assert_cmpuint(d->found->len, ==, 2);
        rig_expect(d, "b", 0);
        rig_expect_inconsistent(d, "old", "the catalogue failed in the middle of a change of it");
        rig_expect(&r->disks[1], "other", 0);
        rig_free(r);
    }
}

/* The same of a transaction that breaks nothing: it has no old bits. */
static void unsure_add(bool killed)
{
    pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits;
    struct state_change c;

    rig_start(r, 1);
    pthread_mutex_lock(&held);
    jobs_post(r->store->jobs, hold, &held);
    bits = rig_bits(d);
    c = rig_say(d, "new", bits);
    fail_some_syncs("catalogue.db", WHOLE_LOG, UINT_MAX);
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), <, 0);
    g_ptr_array_add(d->bits, bits);                        /* nobody records in it any more */
    g_assert_cmpint(store_sync_bits(d->state.disk), <, 0); /* no region is closed */
    if (killed) {
        pthread_mutex_unlock(&held);
        wait_jobs(r);
        g_assert_cmpint(store_sync_bits(d->state.disk), <, 0);
        fail_syncs(NULL);
        rig_kill(r);
        rig_start(r, 1);
        g_assert_cmpuint(d->found->len, <=, 1);
        if (d->found->len > 0)
            rig_expect_inconsistent(d, "new", "");
    } else {
        fail_syncs(NULL);
        pthread_mutex_unlock(&held);
        wait_jobs(r); /* no other command is needed */
        g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
        rig_kill(r);
        rig_start(r, 1);
        g_assert_cmpuint(d->found->len, ==, 0);
    }
    rig_free(r);
}

static void test_catalogue_unsure_add(void)
{
    unsure_add(false);
    unsure_add(true);
}

/* A stop cannot be committed, and its outcome is not known: memory has the bits. */
static void test_catalogue_unsure_stop(void)
{
    struct store_rig *r = start_with_bits();

    fail_some_syncs("catalogue.db", WHOLE_LOG, UINT_MAX);
    rig_stop(r);
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    rig_start(r, 2);
    g_assert_cmpstr(r->disks[0].recovered, ==, "exact");
    rig_expect(&r->disks[0], "b", 65536);
    rig_expect(&r->disks[1], "other", 0);
    rig_free(r);
}

/* An image was cut off, and that could not be committed: the new bits are not in the catalogue. */
static void cut_off(bool stop)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL}, *again;
    struct state_change c[2];
    struct state_transaction *t;

    rig_start(r, 1);
    rig_add(d, "a");
    g_assert_cmpint(store_ops.resize_begin(d->state.disk, 32 * MIB, NULL), ==, 0);
    d->size = 32 * MIB;
    bits[0] = rig_bits(d);
    g_ptr_array_add(d->bits, bits[0]);
    c[0] = rig_say(d, "a", bits[0]);
    g_assert_cmpint(store_ops.prepare(r->store, c, 1, &t, NULL), ==, 0);
    store_ops.broken(d->state.disk, "it was not committed");
    store_ops.end(r->store, t, false);
    rig_change(d, bits, 0, 1);
    again = rig_bits(d); /* the disk goes on to work */
    g_ptr_array_add(d->bits, again);
    c[0].inconsistent = "it was not committed";
    c[1] = rig_say(d, "b", again);
    if (!stop) {
        wait_jobs(r); /* rig_kill's copy takes long: they must not write meanwhile */
        rig_kill(r);
        rig_start(r, 1);
        rig_expect_inconsistent(d, "a", "");
        rig_free(r);
        return;
    }
    g_assert_cmpint(rig_commit(r, c, 2, NULL), ==, 0);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "a", "it was not committed");
    rig_expect(d, "b", 0);
    rig_free(r);
}

static void test_cut_off(void)
{
    cut_off(false);
    cut_off(true);
}

/* A note of a failure that the folder knows of: it is no reason for later ones. */
static void test_old_note(void)
{
    struct store_rig *r = rig_new();
    g_autofree char *uuid = NULL;

    rig_start(r, 1);
    uuid = g_strdup(r->store->folder.uuid);
    rig_stop(r);
    g_assert_cmpint(lasting_note_make(uuid, r->path, "it burnt", NULL), ==, 0);
    rig_start(r, 1);
    g_assert_false(lasting_note_there(uuid));
    rig_free(r);
}

/* The start may be in the catalogue or not: what the next one would ask for stays. */
static void test_start(void)
{
    struct store_rig *r = rig_new();
    g_autofree char *intent = NULL;
    g_autoptr(GError) error = NULL;

    rig_start(r, 1);
    rig_add(&r->disks[0], "b");
    rig_stop(r);
    rig_open(r);
    rig_attach(&r->disks[0]);
    fail_syncs("catalogue.db");
    g_assert_cmpint(store_start(r->store, &error), <, 0);
    g_assert_nonnull(error->message);
    rig_stop(r);
    g_assert_false(r->in_order);
    fail_syncs(NULL);
    intent = rig_file(r, "intent");
    g_assert_true(g_file_test(intent, G_FILE_TEST_EXISTS));
    rig_start(r, 1);
    rig_expect(&r->disks[0], "b", 0);
    rig_stop(r);
    g_assert_true(r->in_order);
    rig_free(r);
}

/* A folder that cannot be used is an error of the start, and loses nothing. */
static void test_recovery(void)
{
    static const char *const files[] = {"catalogue.db", "/live", "/intent"};
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autoptr(GError) error = NULL;

        fail_syncs(files[i]);
        r->o.path = r->path;
        r->store = store_open(&r->o, &error);
        g_assert_null(r->store);
        g_assert_nonnull(error->message);
    }
    fail_syncs(NULL);
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-failure/bits/truncated", test_bits_truncated);
    g_test_add_func("/store-failure/bits/stopped", test_bits_truncated_and_stopped);
    g_test_add_func("/store-failure/bits/truncated-and-synced", test_bits_truncated_and_synced);
    g_test_add_func("/store-failure/bits/truncated-at-attach", test_bits_truncated_at_attach);
    g_test_add_func("/store-failure/bits/unreadable", test_bits_unreadable);
    g_test_add_func("/store-failure/bits/sync", test_bits_sync);
    g_test_add_func("/store-failure/bits/renewed", test_bits_renewed);
    g_test_add_func("/store-failure/bits/stuck-before-commit", test_bits_stuck_before_commit);
    g_test_add_func("/store-failure/bits/stuck-again", test_bits_stuck_again);
    g_test_add_func("/store-failure/bits/sync-at-end", test_bits_sync_at_end);
    g_test_add_func("/store-failure/bits/sealed-anew", test_bits_sealed_anew);
    g_test_add_func("/store-failure/bits/damaged", test_bits_damaged);
    g_test_add_func("/store-failure/journal/settled", test_journal);
    g_test_add_func("/store-failure/journal/revived", test_journal_revived);
    g_test_add_func("/store-failure/everything", test_everything);
    g_test_add_func("/store-failure/catalogue/as-before", test_catalogue);
    g_test_add_func("/store-failure/catalogue/happened", test_catalogue_happened);
    g_test_add_func("/store-failure/catalogue/strays", test_catalogue_strays);
    g_test_add_func("/store-failure/catalogue/unsure", test_catalogue_unsure);
    g_test_add_func("/store-failure/catalogue/unsure-add", test_catalogue_unsure_add);
    g_test_add_func("/store-failure/catalogue/unsure-stop", test_catalogue_unsure_stop);
    g_test_add_func("/store-failure/cut-off", test_cut_off);
    g_test_add_func("/store-failure/old-note", test_old_note);
    g_test_add_func("/store-failure/start", test_start);
    g_test_add_func("/store-failure/recovery", test_recovery);
    return g_test_run();
}
