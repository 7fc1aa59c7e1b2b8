/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-storage.h"

#include "common/base/file-io.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Content is compared in pieces of this size. */
#define PIECE 512

/* What has happened since the last moment of which all is certain. */
struct step {
    unsigned event;
    bool certain;
    bool dropped; /* by a sync that failed: no later one makes it certain */
};

static struct {
    unsigned at;
    GArray *steps;
    unsigned uncertain[LIVE_UNCERTAIN_MAX], n_uncertain; /* of steps */
    struct live_content base[LIVE_STORAGE_FILES], made[LIVE_STORAGE_FILES];
    bool based;
    struct live_content put[LIVE_STORAGE_FILES]; /* what is in the paths of live_crash_put */
} crash;

static struct step *step_at(unsigned i)
{
    return &g_array_index(crash.steps, struct step, i);
}

void live_crash_clear(void)
{
    if (crash.steps)
        g_array_free(crash.steps, TRUE);
    crash.steps = NULL;
    crash.at = 0;
    crash.n_uncertain = 0;
    crash.based = false;
    for (unsigned i = 0; i < LIVE_STORAGE_FILES; i++) {
        live_content_clear(&crash.base[i]);
        live_content_clear(&crash.made[i]);
    }
}

void live_crash_end(void)
{
    live_crash_clear();
    for (unsigned i = 0; i < LIVE_STORAGE_FILES; i++)
        live_content_clear(&crash.put[i]);
}

static void begin(void)
{
    if (crash.based)
        return;
    crash.steps = g_array_new(FALSE, FALSE, sizeof(struct step));
    for (unsigned i = 0; i < LIVE_STORAGE_FILES; i++)
        if (live_storage_base(i))
            live_content_copy(&crash.base[i], live_storage_base(i));
    crash.based = true;
}

/* ---- what is certain ---- */

static void sync_ended(const struct live_event *sync)
{
    for (unsigned i = 0; i < crash.steps->len; i++) {
        struct step *s = step_at(i);

        if (live_storage_event(s->event)->file != sync->file || s->certain)
            continue;
        if (sync->failed)
            s->dropped = true;
        else if (!s->dropped)
            s->certain = true;
    }
}

/* File systems do what changes a file's size in order. */
static void size_is_durable(const struct live_event *e)
{
    for (unsigned i = 0; i < crash.steps->len; i++) {
        const struct live_event *before = live_storage_event(step_at(i)->event);

        if (before->file == e->file && before->what == LIVE_SHORTEN)
            step_at(i)->certain = true;
    }
}

static void add_step(unsigned number)
{
    const struct live_event *e = live_storage_event(number);
    struct step s = {.event = number, .certain = e->durable};

    if (e->what == LIVE_SYNC) {
        sync_ended(e);
        return;
    }
    if (e->durable && (e->grew || e->what == LIVE_EXTEND))
        size_is_durable(e);
    g_array_append_val(crash.steps, s);
}

static void write_sectors(struct live_content *c, const struct live_event *e, size_t from,
                          size_t to)
{
    if (to > from)
        live_content_write(c, e->bytes ? e->bytes + from : NULL, to - from, e->offset + from);
}

static void do_event(struct live_content *c, const struct live_event *e)
{
    if (e->what == LIVE_SHORTEN) {
        live_content_resize(c, e->end);
        return;
    }
    write_sectors(c, e, 0, e->length);
    c->size = MAX(c->size, e->end);
}

/* What is certain, and has nothing uncertain before it, becomes the base. */
static void fold(void)
{
    bool stuck[LIVE_STORAGE_FILES] = {false};
    unsigned kept = 0;

    for (unsigned i = 0; i < crash.steps->len; i++) {
        struct step s = *step_at(i);
        const struct live_event *e = live_storage_event(s.event);

        if (s.certain && !stuck[e->file]) {
            do_event(&crash.base[e->file], e);
            continue;
        }
        stuck[e->file] = true;
        *step_at(kept++) = s;
    }
    g_array_set_size(crash.steps, kept);
}

unsigned live_crash_at(unsigned at)
{
    begin();
    g_assert_cmpuint(at, >=, crash.at);
    while (crash.at < at)
        add_step(crash.at++);
    fold();
    crash.n_uncertain = 0;
    for (unsigned i = 0; i < crash.steps->len; i++)
        if (!step_at(i)->certain) {
            g_assert_cmpuint(crash.n_uncertain, <, LIVE_UNCERTAIN_MAX);
            crash.uncertain[crash.n_uncertain++] = i;
        }
    return crash.n_uncertain;
}

unsigned live_crash_uncertain(unsigned i)
{
    g_assert_cmpuint(i, <, crash.n_uncertain);
    return step_at(crash.uncertain[i])->event;
}

/* ---- a state ---- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x7fb5d329728ea185);
    x ^= x >> 27;
    x *= UINT64_C(0x81dadef4bc2dd44d);
    return x ^ x >> 33;
}

static void do_torn(struct live_content *c, const struct live_event *e, uint64_t seed)
{
    for (size_t at = 0; at < e->length; at += LIVE_STORAGE_SECTOR)
        if (mix(seed + at) & 1)
            write_sectors(c, e, at, at + LIVE_STORAGE_SECTOR);
}

static void do_fate(struct live_content *c, const struct live_event *e, enum live_fate fate,
                    uint64_t seed)
{
    size_t half = e->length / 2 & ~(size_t)(LIVE_STORAGE_SECTOR - 1);

    if (fate == LIVE_LOST || (fate == LIVE_SIZE_ONLY && !e->grew))
        return;
    if (fate == LIVE_DONE || e->what == LIVE_SHORTEN) {
        do_event(c, e);
        return;
    }
    c->size = MAX(c->size, e->end);
    if (fate == LIVE_TORN)
        do_torn(c, e, seed);
    else if (fate == LIVE_FIRST_HALF)
        write_sectors(c, e, 0, half);
    else if (fate == LIVE_SECOND_HALF)
        write_sectors(c, e, half, e->length);
}

void live_crash_make(const uint8_t *fates, uint64_t seed)
{
    unsigned next = 0;

    for (unsigned i = 0; i < LIVE_STORAGE_FILES; i++)
        live_content_copy(&crash.made[i], &crash.base[i]);
    for (unsigned i = 0; i < crash.steps->len; i++) {
        const struct step *s = step_at(i);
        const struct live_event *e = live_storage_event(s->event);

        if (s->certain)
            do_event(&crash.made[e->file], e);
        else
            do_fate(&crash.made[e->file], e, fates[next++], mix(seed + i));
    }
    /* Sectors of what was written at the very end reach behind it. */
    for (unsigned i = 0; i < LIVE_STORAGE_FILES; i++)
        live_content_resize(&crash.made[i], crash.made[i].size);
}

const struct live_content *live_crash_content(unsigned file)
{
    return &crash.made[file];
}

static uint64_t hash_content(uint64_t h, const struct live_content *c)
{
    size_t i;

    h = mix(h ^ c->size);
    for (i = 0; i + 8 <= c->filled; i += 8) {
        uint64_t word;

        memcpy(&word, c->bytes + i, 8);
        if (word)
            h = (h ^ word ^ i << 40) * UINT64_C(0x9e3779b97f4a7c15) ^ h >> 29;
    }
    for (; i < c->filled; i++)
        h = mix(h ^ c->bytes[i] ^ i << 8);
    return mix(h);
}

uint64_t live_crash_hash(void)
{
    uint64_t h = 1;

    for (unsigned i = 0; live_storage_base(i); i++)
        h = hash_content(h, &crash.made[i]);
    return h;
}

/* ---- files ---- */

static bool same_piece(const struct live_content *a, const struct live_content *b, size_t at)
{
    uint8_t x[PIECE], y[PIECE];

    if (at + PIECE <= a->filled && at + PIECE <= b->filled)
        return memcmp(a->bytes + at, b->bytes + at, PIECE) == 0;
    live_content_read(a, x, PIECE, at);
    live_content_read(b, y, PIECE, at);
    return memcmp(x, y, PIECE) == 0;
}

static void put_differences(int fd, const struct live_content *was, const struct live_content *c)
{
    size_t end = MAX(was->filled, c->filled);

    for (size_t at = 0; at < end; at += PIECE) {
        uint8_t bytes[PIECE];

        if (same_piece(was, c, at) || at >= c->size)
            continue;
        live_content_read(c, bytes, PIECE, at);
        g_assert_cmpint(pwrite_all(fd, bytes, MIN(PIECE, c->size - at), at), ==, 0);
    }
}

static void put(struct live_content *was, const struct live_content *c, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (was->size ? 0 : O_TRUNC), 0600);

    g_assert_cmpint(fd, >=, 0);
    if (was->size != c->size) {
        g_assert_cmpint(ftruncate(fd, (off_t)c->size), ==, 0);
        live_content_resize(was, c->size);
    }
    put_differences(fd, was, c);
    close(fd);
    live_content_copy(was, c);
}

void live_crash_put(const char *const *paths)
{
    for (unsigned i = 0; live_storage_base(i); i++)
        put(&crash.put[i], &crash.made[i], paths[i]);
}
