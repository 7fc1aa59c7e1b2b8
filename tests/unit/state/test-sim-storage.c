/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated storage itself: what survives a death, and what SQLite makes of it. */
#include "tests/rigs/sim-storage.h"
#include "tests/rigs/sim-threads.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include <time.h>

#define SEEDS 64

static struct storage_file *make(struct storage *s, const char *name)
{
    struct storage_file *f = NULL;

    g_assert_cmpint(s->ops->open(s, name, true, &f), ==, 0);
    return f;
}

static void put(struct storage_file *f, char byte, size_t length, uint64_t offset)
{
    g_autofree char *buf = g_malloc(length);

    memset(buf, byte, length);
    g_assert_cmpint(f->storage->ops->write(f, buf, length, offset), ==, 0);
}

/* A byte of a file, '0' for zero; '-' where it ends before, '?' where there is no such file. */
static char byte_of(struct storage *s, const char *name, uint64_t offset)
{
    struct storage_file *f;
    char byte;

    if (s->ops->open(s, name, false, &f) < 0)
        return '?';
    if (s->ops->read(f, &byte, 1, offset) < 0)
        byte = '-';
    s->ops->close(f);
    return byte ? byte : '0';
}

/* Which bytes power loss may leave there. */
static void assert_after_loss(struct storage *s, const char *name, uint64_t offset, const char *all)
{
    bool found[256] = {false};
    unsigned n = 0;

    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        struct storage *after = sim_storage_lose_power(s, seed);
        char byte = byte_of(after, name, offset);

        g_assert_nonnull(strchr(all, byte));
        n += !found[(uint8_t)byte];
        found[(uint8_t)byte] = true;
        after->ops->free(after);
    }
    g_assert_cmpuint(n, ==, strlen(all));
}

static void assert_after_death(struct storage *s, const char *name, uint64_t offset, char byte)
{
    struct storage *after = sim_storage_copy(s);

    g_assert_cmpint(byte_of(after, name, offset), ==, byte);
    after->ops->free(after);
}

static void test_contents(void)
{
    struct storage *s = sim_storage_new();
    struct storage_file *f = make(s, "a");

    put(f, 'a', 8192, 0);
    assert_after_death(s, "a", 0, 'a');
    assert_after_loss(s, "a", 0, "?-0a"); /* its name or its size is lost, or nothing */
    g_assert_cmpint(s->ops->sync_names(s, ""), ==, 0);
    assert_after_loss(s, "a", 0, "-0a");
    g_assert_cmpint(s->ops->sync(f), ==, 0);
    assert_after_loss(s, "a", 0, "a");
    put(f, 'b', 4096, 0);
    put(f, 'c', 512, 0);
    assert_after_loss(s, "a", 0, "abc");
    assert_after_loss(s, "a", 512, "ab");
    assert_after_loss(s, "a", 4096, "a");
    assert_after_death(s, "a", 0, 'c');
    s->ops->close(f);
    s->ops->free(s);
}

/* A file that was cut has its old end, or the new one. What was behind it is never zeroes. */
static void test_cut(void)
{
    struct storage *s = sim_storage_new();
    struct storage_file *f = make(s, "a");

    put(f, 'a', 8192, 0);
    g_assert_cmpint(s->ops->sync(f), ==, 0);
    g_assert_cmpint(s->ops->sync_names(s, ""), ==, 0);
    g_assert_cmpint(sim_file_truncate(f, 4096), ==, 0);
    assert_after_loss(s, "a", 0, "a");
    assert_after_loss(s, "a", 4096, "-a");
    s->ops->close(f);
    s->ops->free(s);
}

static void test_mapping(void)
{
    struct storage *s = sim_storage_new();
    struct storage_file *f = make(s, "a");
    void *mapped;

    g_assert_cmpint(s->ops->reserve(f, 8192), ==, 0);
    put(f, 'h', 512, 0);
    g_assert_cmpint(s->ops->sync(f), ==, 0);
    g_assert_cmpint(s->ops->sync_names(s, ""), ==, 0);
    g_assert_cmpint(s->ops->map(f, 4096, 4096, NULL, &mapped), ==, 0);
    s->ops->close(f);
    *(char *)mapped = 'm';
    assert_after_death(s, "a", 4096, 'm');
    assert_after_death(s, "a", 0, 'h');
    assert_after_loss(s, "a", 4096, "0m");
    s->ops->unmap(s, mapped, 4096);
    s->ops->free(s);
}

static int fail_syncs(void *opaque, struct storage *s, enum sim_op op, const char *name)
{
    return op == SIM_SYNC && *(bool *)opaque ? -EIO : 0;
}

/* What a failed sync has not written is not written by the next one. */
static void test_failed_sync(void)
{
    struct storage *s = sim_storage_new();
    struct storage_file *f = make(s, "a");
    bool fails = true;

    sim_storage_set_hook(s, fail_syncs, &fails);
    g_assert_cmpint(s->ops->sync_names(s, ""), ==, 0);
    put(f, 'a', 64 * 512, 0);
    g_assert_cmpint(s->ops->sync(f), ==, -EIO);
    fails = false;
    g_assert_cmpint(s->ops->sync(f), ==, 0);
    assert_after_death(s, "a", 63 * 512, 'a');
    {
        struct storage *after = sim_storage_lose_power(s, 1);
        unsigned lost = 0;

        for (unsigned k = 0; k < 64; k++)
            lost += byte_of(after, "a", k * 512) != 'a';
        g_assert_cmpuint(lost, >, 0);
        g_assert_cmpuint(lost, <, 64);
        after->ops->free(after);
    }
    s->ops->close(f);
    s->ops->free(s);
}

static void test_names(void)
{
    struct storage *s = sim_storage_new();
    struct storage_file *f;

    g_assert_cmpint(s->ops->make_folder(s, "bits"), ==, 0);
    g_assert_cmpint(s->ops->sync_names(s, ""), ==, 0);
    f = make(s, "bits/a");
    put(f, 'a', 512, 0);
    g_assert_cmpint(s->ops->sync(f), ==, 0);
    s->ops->close(f);
    assert_after_loss(s, "bits/a", 0, "?a");
    g_assert_cmpint(s->ops->sync_names(s, "bits"), ==, 0);
    assert_after_loss(s, "bits/a", 0, "a");
    f = make(s, "bits/b");
    put(f, 'b', 512, 0);
    g_assert_cmpint(s->ops->sync(f), ==, 0);
    s->ops->close(f);
    g_assert_cmpint(s->ops->rename(s, "bits/b", "bits/a"), ==, 0);
    assert_after_loss(s, "bits/a", 0, "ab");
    assert_after_death(s, "bits/a", 0, 'b');
    g_assert_cmpint(s->ops->unlink(s, "bits/a"), ==, 0);
    assert_after_death(s, "bits/a", 0, '?');
    assert_after_loss(s, "bits/a", 0, "?ab");
    s->ops->free(s);
}

/* ---- SQLite ---- */

static sqlite3 *database(struct storage *s)
{
    g_autofree char *path = g_strconcat(s->path, "/catalogue.db", NULL);
    sqlite3 *db;

    g_assert_cmpint(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, s->vfs),
                    ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db,
                                 "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
                                 "PRAGMA synchronous=FULL;",
                                 NULL, NULL, NULL),
                    ==, SQLITE_OK);
    return db;
}

static int count_rows(void *count, int n, char **values, char **names)
{
    *(int *)count = atoi(values[0]);
    return 0;
}

/* All rows of a transaction are there, or none is; -1: not even the table is. */
static int rows(struct storage *s)
{
    sqlite3 *db = database(s);
    int count = -1;

    sqlite3_exec(db, "SELECT count(*) FROM t", count_rows, &count, NULL);
    g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
    return count;
}

struct crashes {
    unsigned committed, deaths;
    bool in_one; /* a transaction is under way */
};

static int die_here(void *opaque, struct storage *s, enum sim_op op, const char *name)
{
    struct crashes *c = opaque;

    if (op == SIM_READ)
        return 0;
    for (uint32_t seed = 0; seed < 3; seed++, c->deaths++) {
        struct storage *after = seed ? sim_storage_lose_power(s, seed) : sim_storage_copy(s);
        int n = rows(after);

        g_assert_cmpint(n, >=, (int)c->committed * 2);
        g_assert_cmpint(n, <=, (int)(c->committed + c->in_one) * 2);
        after->ops->free(after);
    }
    return 0;
}

static void test_sqlite(void)
{
    struct storage *s = sim_storage_new();
    struct crashes c = {0};
    sqlite3 *db = database(s);

    g_assert_cmpint(sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL), ==, SQLITE_OK);
    sim_storage_set_hook(s, die_here, &c);
    for (unsigned k = 0; k < 20; k++) {
        c.in_one = true;
        g_assert_cmpint(sqlite3_exec(db,
                                     "BEGIN; INSERT INTO t VALUES(zeroblob(3000));"
                                     "INSERT INTO t VALUES(zeroblob(9000)); COMMIT",
                                     NULL, NULL, NULL),
                        ==, SQLITE_OK);
        c.in_one = false;
        c.committed++;
        if (k == 10)
            g_assert_cmpint(sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL),
                            ==, SQLITE_OK);
    }
    g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
    g_test_message("%u deaths", c.deaths);
    s->ops->free(s);
}

/* ---- threads ---- */

struct turns {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    GString *log;
    bool go;
};

static void *count_up(void *opaque)
{
    struct turns *t = opaque;

    for (unsigned k = 0; k < 4; k++) {
        g_string_append_c(t->log, 't');
        sim_threads_yield();
    }
    pthread_mutex_lock(&t->lock);
    t->go = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static char *take_turns(uint32_t seed)
{
    struct turns t = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, g_string_new(NULL),
                      false};
    GThread *thread;

    sim_threads_chance(seed, seed ? 0.5 : 0);
    thread = g_thread_new("counts", count_up, &t);
    for (unsigned k = 0; k < 4; k++) {
        g_string_append_c(t.log, 'm');
        sim_threads_yield();
    }
    pthread_mutex_lock(&t.lock);
    while (!t.go)
        pthread_cond_wait(&t.changed, &t.lock);
    pthread_mutex_unlock(&t.lock);
    g_thread_join(thread);
    sim_threads_chance(0, 0);
    return g_string_free(t.log, FALSE);
}

static void test_turns(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *plain = take_turns(0);

    g_assert_cmpstr(plain, ==, "mmmmtttt");
    for (uint32_t seed = 1; seed < 20; seed++) {
        g_autofree char *again = take_turns(seed);
        char *once = take_turns(seed);

        g_assert_cmpstr(once, ==, again);
        g_hash_table_add(seen, once);
    }
    g_assert_cmpuint(g_hash_table_size(seen), >, 3);
}

static void *sleep_long(void *slept)
{
    sim_threads_sleep(INT64_C(3600000000000));
    *(bool *)slept = true;
    return NULL;
}

/* The clock moves only when all wait; a world inside does not move that outside. */
static void test_clock(void)
{
    int64_t begin = sim_clock();
    bool slept = false;
    GThread *t = g_thread_new("sleeps", sleep_long, &slept);
    struct timespec now;

    sim_threads_settle();
    g_assert_cmpint(sim_clock(), ==, begin);
    sim_world_enter();
    sim_threads_sleep(INT64_C(7200000000000));
    g_assert_false(slept);
    sim_world_leave();
    g_assert_cmpint(sim_clock(), ==, begin);
    g_thread_join(t);
    g_assert_true(slept);
    clock_gettime(CLOCK_REALTIME, &now);
    g_assert_cmpint(now.tv_sec, ==, begin / 1000000000 + 3600);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    sim_threads_begin();
    g_test_add_func("/sim/storage/contents", test_contents);
    g_test_add_func("/sim/storage/cut", test_cut);
    g_test_add_func("/sim/storage/mapping", test_mapping);
    g_test_add_func("/sim/storage/failed-sync", test_failed_sync);
    g_test_add_func("/sim/storage/names", test_names);
    g_test_add_func("/sim/storage/sqlite", test_sqlite);
    g_test_add_func("/sim/threads/turns", test_turns);
    g_test_add_func("/sim/threads/clock", test_clock);
    return g_test_run();
}
