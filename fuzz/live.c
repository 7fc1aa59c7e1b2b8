/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * live: whole image files, opened by live_open, for reading and then for writing, and a program of
 * reads, writes, zeroes, trims, flushes, resizes and new openings.
 *
 * Whatever the file is: an image that is opened for reading, or refused, does not change. What its
 * entries say twice is the same: live_extent, live_map, live_pread and common/qcow2's reader agree. The file
 * does not grow by more than what is written.
 *
 * If q2_image_check finds no corruption, and all of the disk can be read, then all operations
 * succeed, the disk is what a byte array is to which the same has been done, and after a clean end the check finds
 * no corruption and no leak that was not there before.
 *
 * Input: flags (1 byte), the number of pieces (1 byte), the file (image.h), and the program: for each
 * step a byte that says what, and what that takes.
 */
#include "fuzz/image.h"

#include "common/live/live.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char fuzz_name[] = "live";

enum { WITH_FOLDER = 1, WITH_THREAD = 2, LITTLE_MEMORY = 4 };

#define MAX_STEPS   64
#define MAX_EXTENTS 300
#define MAX_IO      65536
#define MAX_MODEL   (UINT64_C(4) << 20)
#define GROWTH      (UINT64_C(4) << 20)

struct run {
    unsigned flags;
    struct live_image *image;
    uint8_t *model; /* what the disk has to be; NULL: unknown */
    uint64_t size;  /* bytes of the disk */
    uint64_t cluster;
    uint64_t allowed; /* bytes that the file may have */
    uint64_t leaks;   /* clusters that were leaked at first */
};

/* ---- opening ---- */

static struct live_image *open_live(const struct run *r, bool writable, struct q2_error *err)
{
    struct live_options options = LIVE_OPTIONS_INIT;

    options.open.references = r->flags & WITH_FOLDER ? Q2_REFERENCES_FOLDER : Q2_REFERENCES_NONE;
    options.writable = writable;
    options.locking = false;
    options.table_memory = r->flags & LITTLE_MEMORY ? 1 : 0;
    return live_open(fuzz_image_path(), &options, err);
}

static struct q2_image *open_q2(const struct run *r, struct q2_error *err)
{
    return q2_image_open(fuzz_image_path(),
                         r->flags & WITH_FOLDER ? Q2_REFERENCES_FOLDER : Q2_REFERENCES_NONE, err);
}

static GBytes *file_bytes(void)
{
    gchar *text;
    gsize size;

    CHECK(g_file_get_contents(fuzz_image_path(), &text, &size, NULL));
    return g_bytes_new_take(text, size);
}

static uint64_t file_size(void)
{
    struct stat st;

    CHECK(stat(fuzz_image_path(), &st) == 0);
    return (uint64_t)st.st_size;
}

/* ---- as it is ---- */

static bool all_zero(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return false;
    return true;
}

/* A piece of the disk, read by both. False: it cannot be. */
static bool read_by_both(struct live_image *live, struct q2_reader *q2, uint64_t offset,
                         size_t length, bool zero)
{
    g_autofree uint8_t *a = g_malloc(length), *b = g_malloc(length);
    struct q2_error err = {0};
    int error = live_pread(live, a, length, offset);
    bool readable = q2_image_pread(q2, b, length, offset, &err) == 0;

    CHECK(!error == readable);
    CHECK(error <= 0);
    if (error)
        return false;
    CHECK(memcmp(a, b, length) == 0);
    CHECK(!zero || all_zero(a, length));
    return true;
}

/* What live_map says lies somewhere is there. */
static void check_map(struct live_image *live, uint64_t offset, uint64_t length)
{
    struct live_segment s = live_map(live, offset, length, false);
    g_autofree uint8_t *bytes = g_malloc(MIN(length, MAX_IO));

    CHECK(s.length > 0 && s.length <= length);
    if (s.place == LIVE_SLOW)
        return;
    length = MIN(s.length, MAX_IO);
    CHECK(live_pread(live, bytes, length, offset) == 0);
    if (s.place == LIVE_ZERO) {
        CHECK(all_zero(bytes, length));
    } else {
        g_autofree uint8_t *there = g_malloc0(length);

        CHECK(s.fd >= 0 && pread(s.fd, there, length, (off_t)s.host) >= 0);
        CHECK(memcmp(there, bytes, length) == 0);
    }
}

/* Walk over the disk. False: not all of it can be read. */
static bool walk(const struct run *r, struct live_image *live, struct q2_image *q2)
{
    struct q2_reader *reader = q2_reader_new(q2, NULL);
    uint64_t offset = 0;
    bool good = true;

    CHECK(reader);
    for (unsigned i = 0; offset < r->size && i < MAX_EXTENTS; i++) {
        uint64_t run = 0, left = r->size - offset;
        bool hole, zero;

        check_map(live, offset, left);
        if (live_extent(live, left, offset, &run, &hole, &zero) < 0) {
            CHECK(!read_by_both(live, reader, offset, 1, false));
            good = false;
            offset += FUZZ_SECTOR;
            continue;
        }
        CHECK(run > 0 && run <= left);
        check_map(live, offset, run);
        good &= read_by_both(live, reader, offset, MIN(run, MAX_IO), zero);
        offset += run;
    }
    q2_reader_free(reader);
    return good;
}

/* Leaks, of clusters behind the end of the file, too: when it has grown over them, they are seen. */
static uint64_t count_leaks(const struct run *r)
{
    uint64_t leaks, corruptions, size = file_size();
    struct q2_error err = {0};
    struct q2_image *q2;

    CHECK(truncate(fuzz_image_path(), (off_t)r->allowed) == 0);
    q2 = open_q2(r, &err);
    CHECK(q2 && q2_image_check(q2, &leaks, &corruptions, &err) == 0);
    q2_image_close(q2);
    CHECK(truncate(fuzz_image_path(), (off_t)size) == 0);
    return leaks;
}

/* All of the disk as it has to be, if it is small, whole and sound; else NULL. */
static uint8_t *make_model(struct run *r, struct live_image *live, struct q2_image *q2)
{
    uint64_t leaks, corruptions;
    struct q2_error err = {0};
    uint8_t *model;

    CHECK(q2_image_check(q2, &leaks, &corruptions, &err) == 0);
    if (corruptions > 0 || r->size > MAX_MODEL)
        return NULL;
    r->leaks = count_leaks(r);
    model = g_malloc(r->size + 1);
    if (live_pread(live, model, r->size, 0) == 0)
        return model;
    g_free(model);
    return NULL;
}

static bool look(struct run *r)
{
    struct q2_error err = {0}, live_err = {0};
    struct q2_image *q2 = open_q2(r, &err);
    struct live_image *live = open_live(r, false, &live_err);

    CHECK(!q2 == !live);
    if (!live) {
        CHECK(live_err.text[0]);
        return false;
    }
    r->size = live_size(live);
    CHECK(r->size == q2_image_size(q2) && !live_writable(live));
    r->cluster = UINT64_C(1) << q2_image_header(q2)->cluster_bits;
    if (walk(r, live, q2))
        r->model = make_model(r, live, q2);
    CHECK(live_close(live, &live_err) == 0);
    q2_image_close(q2);
    return true;
}

/* ---- changed ---- */

/* A step on a sound image succeeds. */
static void judge(const struct run *r, int error)
{
    CHECK(error <= 0);
    CHECK(!r->model || error == 0);
}

/* `bytes` of the disk are written: so much may the file grow, with tables and counts for them. */
static void allow(struct run *r, uint64_t bytes)
{
    r->allowed += (bytes / r->cluster + 6) * r->cluster;
}

static void step_read(struct run *r, uint64_t offset, size_t length)
{
    g_autofree uint8_t *bytes = g_malloc(length);
    int error = live_pread(r->image, bytes, length, offset);

    judge(r, error);
    CHECK(!r->model || memcmp(bytes, r->model + offset, length) == 0);
}

static void step_write(struct run *r, uint64_t offset, size_t length, uint8_t value, unsigned flags)
{
    g_autofree uint8_t *bytes = g_malloc(length);

    memset(bytes, value, length);
    allow(r, length);
    judge(r, live_pwrite(r->image, bytes, length, offset, flags));
    if (r->model)
        memset(r->model + offset, value, length);
}

static void step_zero(struct run *r, uint64_t offset, uint64_t length, unsigned flags)
{
    int error;

    allow(r, length);
    error = live_zero(r->image, length, offset, flags);
    if (error == -ENOTSUP && flags & LIVE_FAST)
        return;
    judge(r, error);
    if (r->model)
        memset(r->model + offset, 0, length);
}

/* What is trimmed is as it was, or zeroes, byte by byte. */
static void step_trim(struct run *r, uint64_t offset, uint64_t length, unsigned flags)
{
    g_autofree uint8_t *bytes = r->model ? g_malloc(length) : NULL;

    allow(r, length);
    judge(r, live_trim(r->image, length, offset, flags));
    if (!r->model)
        return;
    CHECK(live_pread(r->image, bytes, length, offset) == 0);
    for (uint64_t i = 0; i < length; i++)
        CHECK(!bytes[i] || bytes[i] == r->model[offset + i]);
    memcpy(r->model + offset, bytes, length);
}

static void step_extent(struct run *r, uint64_t offset, uint64_t length)
{
    uint64_t run = 0;
    bool hole, zero;
    int error = live_extent(r->image, length, offset, &run, &hole, &zero);

    judge(r, error);
    if (error)
        return;
    CHECK(run > 0 && run <= length);
    CHECK(!r->model || !zero || all_zero(r->model + offset, run));
}

/* What may be written where it lies is the disk's own from then on. */
static void step_inline(struct run *r, uint64_t offset, uint64_t length, uint8_t value)
{
    struct live_segment s = live_map(r->image, offset, length, true);
    g_autofree uint8_t *bytes = NULL;

    CHECK(s.length > 0 && s.length <= length && s.place != LIVE_ZERO);
    if (s.place != LIVE_DATA)
        return;
    length = MIN(s.length, MAX_IO);
    bytes = g_malloc(length);
    memset(bytes, value, length);
    CHECK(pwrite(s.fd, bytes, length, (off_t)s.host) == (ssize_t)length);
    if (r->model)
        memset(r->model + offset, value, length);
}

static void step_resize(struct run *r, uint64_t size)
{
    int error;

    allow(r, size / 512);
    error = live_resize(r->image, size);
    CHECK(error <= 0 && (error == 0 || live_size(r->image) == r->size));
    if (error)
        return;
    CHECK(size >= r->size && live_size(r->image) == size);
    if (r->model) {
        r->model = g_realloc(r->model, size + 1);
        memset(r->model + r->size, 0, size - r->size);
    }
    r->size = size;
}

/* Ranges at every place, most of them at the beginning; `long_one`: longer than one request's. */
static bool take_range(struct run *r, struct supply *s, bool far, bool long_one, uint64_t *offset,
                       uint64_t *length)
{
    uint64_t place = far ? take_u64(s) : take_u16(s) * (uint64_t)128;

    *length = long_one ? take_u16(s) * r->cluster / 16 + 1 : take_u16(s) + 1U;
    *length = MIN(*length, long_one ? (uint64_t)16 << 20 : MAX_IO);
    if (r->size == 0)
        return false;
    *offset = place % r->size;
    *length = MIN(*length, r->size - *offset);
    return true;
}

static void end_writing(struct run *r);
static bool begin_writing(struct run *r);

static bool step(struct run *r, struct supply *s)
{
    unsigned what = take_u8(s), flags = what >> 4 & 7;
    bool far = what & 128;
    uint64_t offset, length;

    switch (what & 15) {
    case 0:
        judge(r, live_flush(r->image));
        return true;
    case 1:
        end_writing(r);
        return begin_writing(r);
    case 2:
        step_resize(r, r->size + take_u8(s) * (uint64_t)(r->model ? 512 : 1 << 20));
        return true;
    case 3:
    case 4:
        if (take_range(r, s, far, true, &offset, &length))
            step_zero(r, offset, length, flags);
        return true;
    case 5:
    case 6:
        if (take_range(r, s, far, true, &offset, &length))
            step_trim(r, offset, length, flags & LIVE_FUA);
        return true;
    case 7:
    case 8:
        if (take_range(r, s, far, true, &offset, &length))
            step_extent(r, offset, length);
        return true;
    case 9:
        if (take_range(r, s, far, true, &offset, &length))
            judge(r, live_cache(r->image, length, offset));
        return true;
    case 10:
        if (take_range(r, s, far, false, &offset, &length))
            step_inline(r, offset, length, take_u8(s));
        return true;
    case 11:
        if (take_range(r, s, far, false, &offset, &length))
            step_read(r, offset, length);
        return true;
    default:
        if (take_range(r, s, far, false, &offset, &length))
            step_write(r, offset, length, take_u8(s), flags & LIVE_FUA);
        return true;
    }
}

/* ---- the ends ---- */

static bool begin_writing(struct run *r)
{
    g_autoptr(GBytes) before = r->model ? NULL : file_bytes();
    struct q2_error err = {0};

    r->image = open_live(r, true, &err);
    if (!r->image) {
        g_autoptr(GBytes) after = before ? file_bytes() : NULL;

        CHECK(err.text[0]);
        CHECK(!before || g_bytes_equal(before, after));
        return false;
    }
    CHECK(live_size(r->image) == r->size && live_writable(r->image));
    CHECK(!(r->flags & WITH_THREAD) || live_start(r->image, &err) == 0);
    return true;
}

/* Close, and look at the file as a reader does. */
static void end_writing(struct run *r)
{
    struct q2_error err = {0};
    int error = live_close(r->image, &err);
    uint64_t leaks, corruptions;
    struct q2_image *q2;

    r->image = NULL;
    CHECK(error == 0 || (!r->model && err.text[0]));
    CHECK(file_size() <= r->allowed);
    if (!r->model)
        return;
    q2 = open_q2(r, &err);
    CHECK(q2);
    CHECK(q2_image_check(q2, &leaks, &corruptions, &err) == 0);
    if (corruptions > 0 || leaks > r->leaks)
        g_printerr("%s\n", err.text);
    CHECK(corruptions == 0);
    CHECK(leaks <= r->leaks);
    q2_image_close(q2);
}

/* A reader sees what was written. */
static void read_back(struct run *r)
{
    struct q2_error err = {0};
    struct q2_image *q2 = open_q2(r, &err);
    struct q2_reader *reader = q2 ? q2_reader_new(q2, &err) : NULL;
    g_autofree uint8_t *bytes = g_malloc(r->size + 1);

    CHECK(reader && q2_image_size(q2) == r->size);
    CHECK(r->size == 0 || q2_image_pread(reader, bytes, r->size, 0, &err) == 0);
    CHECK(memcmp(bytes, r->model, r->size) == 0);
    q2_reader_free(reader);
    q2_image_close(q2);
}

static void change(struct run *r, struct supply *s)
{
    bool open = begin_writing(r);

    for (unsigned i = 0; open && i < MAX_STEPS && supply_left(s) > 0; i++)
        open = step(r, s);
    if (!open)
        return;
    end_writing(r);
    if (r->model)
        read_back(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply s = supply_on(data, size);
    struct run r = {.flags = take_u8(&s)};
    g_autoptr(GBytes) before = NULL, after = NULL;

    fuzz_image_make(&s, take_u8(&s));
    before = file_bytes();
    r.allowed = file_size() * 4 + GROWTH;
    if (look(&r)) {
        after = file_bytes();
        CHECK(g_bytes_equal(before, after));
        change(&r, &s);
    }
    g_free(r.model);
    return 0;
}
