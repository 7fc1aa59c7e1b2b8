/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-power.h"

#include "common/qcow2/q2-image.h"

#include <string.h>

/* More moments of a step than these, or more uncertain events, are drawn and not enumerated. */
#define PLACES      16
#define ALL_SUBSETS 8
#define SUBSETS     64

static uint64_t next(uint64_t *seed)
{
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = *seed;

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

bool live_power_begin(struct live_power *p, const struct live_kind *kind)
{
    memset(p, 0, sizeof(*p));
    if (!live_images_begin(&p->images, kind))
        return false;
    p->options = (struct live_options)LIVE_OPTIONS_INIT;
    p->options.writable = true;
    p->options.locking = false;
    p->options.table_memory = 1 << 16;
    p->options.ops = &live_storage_ops;
    p->history = g_ptr_array_new_with_free_func(g_free);
    p->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    return true;
}

void live_power_end(struct live_power *p)
{
    g_hash_table_unref(p->seen);
    g_ptr_array_unref(p->history);
    live_images_end(&p->images);
}

/* ---- complaints ---- */

struct state {
    unsigned at, uncertain;
    uint8_t fates[LIVE_UNCERTAIN_MAX];
    uint64_t seed;
};

static char *describe_fates(const struct state *s)
{
    static const char *const names[] = {"lost", "done",       "size only",
                                        "torn", "first half", "second half"};
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < s->uncertain; i++)
        g_string_append_printf(text, " %u %s;", live_crash_uncertain(i), names[s->fates[i]]);
    return g_string_free(text, FALSE);
}

static void G_GNUC_NORETURN complain(const struct live_power *p, const struct state *s,
                                     const char *what, const char *why)
{
    g_autofree char *log = live_storage_describe(0, live_storage_length());
    g_autofree char *fates = s ? describe_fates(s) : g_strdup("");

    g_printerr("image: %s\n", p->images.kind->name);
    for (unsigned i = 0; i < p->history->len; i++)
        g_printerr("step %u: %s\n", i, (char *)g_ptr_array_index(p->history, i));
    g_printerr("log:\n%s", log);
    if (s)
        g_printerr("crash after %u events; not certain:%s\n", s->at, fates);
    g_printerr("%s: %s\n", what, why);
    g_test_fail();
    g_abort();
}

/* ---- one state ---- */

static struct q2_image *open_crashed(const struct live_power *p, const struct state *s,
                                     enum live_folder folder)
{
    struct q2_error err = {0};
    struct q2_image *image =
        q2_image_open(live_images_path(&p->images, folder, 0), Q2_REFERENCES_FOLDER, &err);

    if (!image)
        complain(p, s, "the image is not opened", err.text);
    return image;
}

static void check_structure(const struct live_power *p, const struct state *s,
                            struct q2_image *image, uint64_t *leaks)
{
    struct q2_error err = {0};
    uint64_t corruptions;

    if (q2_image_check(image, leaks, &corruptions, &err) < 0)
        complain(p, s, "the image cannot be checked", err.text);
    if (corruptions)
        complain(p, s, "the image is corrupt", err.text);
}

static uint8_t *read_crashed(const struct live_power *p, const struct state *s,
                             struct q2_image *image)
{
    uint64_t size = q2_image_size(image);
    uint8_t *disk = g_malloc(size);
    struct q2_error err = {0};
    struct q2_reader *reader = q2_reader_new(image, &err);

    if (!reader || q2_image_pread(reader, disk, size, 0, &err) < 0)
        complain(p, s, "the disk cannot be read", err.text);
    q2_reader_free(reader);
    return disk;
}

/* Our own reader of live images says the same. */
static void check_live(const struct live_power *p, const struct state *s, const uint8_t *disk,
                       uint64_t size)
{
    struct live_options options = p->options;
    g_autofree uint8_t *bytes = g_malloc(size);
    struct q2_error err = {0};
    struct live_image *image;

    options.writable = false;
    options.ops = NULL;
    image = live_open(live_images_path(&p->images, LIVE_FOLDER_CRASH, 0), &options, &err);
    if (!image)
        complain(p, s, "live_open", err.text);
    if (live_size(image) != size || live_pread(image, bytes, size, 0) < 0 ||
        memcmp(bytes, disk, size) != 0)
        complain(p, s, "live_pread", "the disk is not what q2_image_pread has");
    if (live_close(image, &err) < 0)
        complain(p, s, "live_close", err.text);
}

/* A raw data file is a disk that the guest may find, too. */
static void check_raw(const struct live_power *p, const struct state *s, uint64_t size)
{
    g_autofree uint8_t *bytes = g_malloc(size);

    /* What has failed may lie there, and no entry leads to it. */
    if (!p->images.kind->data_file_raw || live_storage_failed())
        return;
    live_content_read(live_crash_content(1), bytes, size, 0);
    g_autofree char *why = live_guest_judge(&p->guest, bytes, size);
    if (why)
        complain(p, s, "the raw data file is not a disk that may be", why);
}

static void copy_crashed(const struct live_power *p)
{
    for (unsigned i = 0; i < p->images.n_files; i++)
        live_content_put(live_crash_content(i), live_images_path(&p->images, LIVE_FOLDER_AFTER, i));
}

/* The guest goes on after the crash: over data, and where there is none. */
static void write_after(const struct live_power *p, const struct state *s, struct live_image *image,
                        uint8_t *disk)
{
    unsigned c = p->images.kind->cluster;

    for (unsigned i = 0; i < LIVE_IMAGE_CLUSTERS; i++) {
        uint64_t at = (uint64_t)i * c + 100;

        memset(disk + at, 0xe0 + (int)i, c / 2);
        if (live_pwrite(image, disk + at, c / 2, at, i % 4 == 3 ? LIVE_FUA : 0) < 0)
            complain(p, s, "after the crash", "a write fails");
    }
    if (live_flush(image) < 0)
        complain(p, s, "after the crash", "a flush fails");
}

static void go_on(struct live_power *p, const struct state *s, uint8_t *disk, uint64_t size)
{
    struct live_options options = p->options;
    struct q2_error err = {0};
    struct live_image *image;
    struct q2_image *read;
    uint64_t leaks;

    p->reopened++;
    copy_crashed(p);
    options.ops = NULL;
    image = live_open(live_images_path(&p->images, LIVE_FOLDER_AFTER, 0), &options, &err);
    if (!image)
        complain(p, s, "live_open for writing, after the crash", err.text);
    write_after(p, s, image, disk);
    if (live_close(image, &err) < 0)
        complain(p, s, "live_close after the crash", err.text);
    read = open_crashed(p, s, LIVE_FOLDER_AFTER);
    check_structure(p, s, read, &leaks);
    g_autofree uint8_t *bytes = read_crashed(p, s, read);
    if (q2_image_size(read) != size || memcmp(bytes, disk, size) != 0)
        complain(p, s, "after the crash", "the disk has not what was written");
    q2_image_close(read);
}

/* What QEMU says. */
static void ask(struct live_power *p, const struct state *s)
{
    g_autofree char *output = qcow2_rig_output(
        &p->images.rig, 0, "cd crash && qemu-img check -f qcow2 i.qcow2 2>&1; echo \"status $?\"");

    p->asked++;
    if (!strstr(output, "status 0\n") && !strstr(output, "status 3\n"))
        complain(p, s, "qemu-img check", output);
}

static bool is_new(struct live_power *p, unsigned at)
{
    uint64_t key = live_crash_hash() * 31 + (at == live_storage_length());

    return g_hash_table_add(p->seen, g_memdup2(&key, sizeof(key)));
}

static bool every(uint64_t n, unsigned m)
{
    return m && n % m == 0;
}

static void judge(struct live_power *p, const struct state *s)
{
    static const char *paths[LIVE_STORAGE_FILES];
    struct q2_image *image;
    uint64_t leaks;

    live_crash_make(s->fates, s->seed);
    if (!is_new(p, s->at))
        return;
    p->states++;
    for (unsigned i = 0; i < p->images.n_files; i++)
        paths[i] = live_images_path(&p->images, LIVE_FOLDER_CRASH, i);
    live_crash_put(paths);
    image = open_crashed(p, s, LIVE_FOLDER_CRASH);
    check_structure(p, s, image, &leaks);
    uint64_t size = q2_image_size(image);
    g_autofree uint8_t *disk = read_crashed(p, s, image);
    q2_image_close(image);
    g_autofree char *why = live_guest_judge(&p->guest, disk, size);
    if (why)
        complain(p, s, "the disk is not what it may be", why);
    check_live(p, s, disk, size);
    check_raw(p, s, size);
    if (every(p->states, p->ask_every))
        ask(p, s);
    if (every(p->states, p->reopen_every))
        go_on(p, s, disk, size);
}

/* ---- all states at a place of the log ---- */

static void all_fates(struct state *s, uint8_t fate)
{
    memset(s->fates, fate, s->uncertain);
}

static void enumerate_subsets(struct live_power *p, struct state *s)
{
    for (unsigned set = 0; set < 1u << s->uncertain; set++) {
        for (unsigned i = 0; i < s->uncertain; i++)
            s->fates[i] = set >> i & 1 ? LIVE_DONE : LIVE_LOST;
        judge(p, s);
    }
}

static void draw_fates(struct live_power *p, struct state *s)
{
    uint64_t word = 0;

    for (unsigned i = 0; i < s->uncertain; i++) {
        if (i % 64 == 0)
            word = next(&p->seed);
        s->fates[i] = word >> (i % 64) & 1 ? LIVE_DONE : LIVE_LOST;
    }
}

static void draw_subsets(struct live_power *p, struct state *s)
{
    for (unsigned i = 0; i < SUBSETS; i++) {
        draw_fates(p, s);
        judge(p, s);
    }
    for (unsigned i = 0; i < s->uncertain; i++)
        for (unsigned all = 0; all < 2; all++) {
            all_fates(s, all ? LIVE_DONE : LIVE_LOST);
            s->fates[i] = all ? LIVE_LOST : LIVE_DONE;
            judge(p, s);
        }
    for (unsigned all = 0; all < 2; all++) {
        all_fates(s, all ? LIVE_DONE : LIVE_LOST);
        judge(p, s);
    }
}

static bool can_tear(unsigned event, uint8_t fate)
{
    const struct live_event *e = live_storage_event(event);

    if (e->what == LIVE_SHORTEN)
        return false;
    if (fate == LIVE_SIZE_ONLY)
        return e->grew;
    return e->length > LIVE_STORAGE_SECTOR;
}

/* One event is torn; the others are all there, none of them is, or some. */
static void enumerate_tears(struct live_power *p, struct state *s, unsigned i)
{
    for (uint8_t fate = LIVE_SIZE_ONLY; fate <= LIVE_SECOND_HALF; fate++) {
        if (!can_tear(live_crash_uncertain(i), fate))
            continue;
        for (unsigned others = 0; others < 3; others++) {
            if (others < 2)
                all_fates(s, others ? LIVE_DONE : LIVE_LOST);
            else
                draw_fates(p, s);
            s->fates[i] = fate;
            s->seed = next(&p->seed);
            judge(p, s);
        }
    }
}

static void enumerate(struct live_power *p, unsigned at)
{
    struct state s = {.at = at, .uncertain = live_crash_at(at)};

    if (s.uncertain <= ALL_SUBSETS)
        enumerate_subsets(p, &s);
    else
        draw_subsets(p, &s);
    for (unsigned i = 0; i < s.uncertain; i++)
        enumerate_tears(p, &s, i);
}

/* ---- steps ---- */

void live_power_start(struct live_power *p)
{
    g_ptr_array_set_size(p->history, 0);
    g_hash_table_remove_all(p->seen);
    live_images_restart(&p->images);
    live_guest_begin(&p->guest, live_images_path(&p->images, LIVE_FOLDER_WORK, 0), &p->options,
                     p->images.disk, p->images.size);
}

int live_power_step(struct live_power *p, const struct live_step *step, bool judged)
{
    unsigned from = live_storage_length(), to;
    int r;

    g_ptr_array_add(p->history, live_step_describe(step));
    r = live_guest_do(&p->guest, step);
    to = live_storage_length();
    for (unsigned at = from + 1; judged && at < to; at++)
        if (to - from <= PLACES || next(&p->seed) % (to - from) < PLACES)
            enumerate(p, at);
    live_guest_done(&p->guest, step, r);
    if (judged)
        enumerate(p, to);
    return r;
}

void live_power_lose(struct live_power *p)
{
    enumerate(p, live_storage_length());
}

void live_power_complain(const struct live_power *p, const char *what, const char *why)
{
    complain(p, NULL, what, why);
}

void live_power_stop(struct live_power *p, bool failed)
{
    struct q2_image *image;
    uint64_t leaks = 0;

    if (live_guest_close(&p->guest) < 0 && !failed)
        complain(p, NULL, "live_close", "fails");
    image = open_crashed(p, NULL, LIVE_FOLDER_WORK);
    check_structure(p, NULL, image, &leaks);
    if (leaks && !failed)
        complain(p, NULL, "the image has leaks", "after it was closed");
    g_autofree uint8_t *disk = read_crashed(p, NULL, image);
    uint64_t size = q2_image_size(image);
    g_autofree char *why = live_guest_judge(&p->guest, disk, size);
    if (why)
        complain(p, NULL, "the disk is not what it may be, after it was closed", why);
    if (!failed && (size != p->guest.size || memcmp(disk, p->guest.disk, size) != 0))
        complain(p, NULL, "the disk", "is not what it was before it was closed");
    q2_image_close(image);
    live_guest_end(&p->guest);
}
