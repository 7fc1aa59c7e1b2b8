/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/made-state.h"
#include "common/state/bit-file.h"
#include "common/state/folder.h"
#include "common/state/journal-format.h"
#include "common/state/live-file.h"
#include "common/state/memory.h"
#include "common/state/note.h"
#include "common/state/recovery.h"

#include <string.h>
#include <time.h>

#define RUN 77u /* of the server */

const struct made_bitmap made_bitmaps[] = {
    {"vda", "a", 65536, true, NULL, {{1 << 20, 131072}, {8 << 20, 1}}},
    {"vda", "b", 65536, true, NULL, {{0, 1}, {MADE_SIZE - 1, 1}}},
    {"vda", "off", 4096, false, NULL, {{4096, 8192}}},
    {"vda", "bad", 65536, true, "it was made so", {{0, 0}}},
    {"vdb", "a", 65536, true, NULL, {{10 << 20, 1}}},
};
const unsigned n_made_bitmaps = G_N_ELEMENTS(made_bitmaps);

static int64_t add_disk(struct catalogue *c, const char *name, uint64_t size, bool in_use)
{
    struct catalogue_disk d = {.name = g_strdup(name),
                               .size = size,
                               .state = in_use ? DISK_OPEN : DISK_CLEAN,
                               .image = g_strdup_printf("file %s", name),
                               .content = g_strdup("size=1 mtime=1 ctime=1")};
    int64_t id;

    catalogue_put_disk(c, &d, NULL);
    id = d.id;
    catalogue_disk_clear(&d);
    g_assert_cmpint(id, >, 0);
    return id;
}

static struct bit_file *make_bits(struct storage *s, const char *uuid, const struct made_bitmap *m,
                                  uint64_t size)
{
    struct bit_file *f = bit_file_create(s, uuid, size, m->granularity, NULL);
    uint64_t *words = bit_file_map(f, NULL, NULL);
    struct bitmap *bits;

    g_assert_nonnull(words);
    bits = bitmap_alloc_over(words, size, m->granularity, NULL, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(m->dirty) && m->dirty[i].length > 0; i++)
        bitmap_set(bits, m->dirty[i].offset, m->dirty[i].length);
    bitmap_unref(bits);
    g_assert_cmpint(bit_file_sync(f, NULL), ==, 0);
    return f;
}

static void add_bitmap(struct storage *s, struct storage *memory, struct catalogue *c,
                       const struct made_bitmap *m, int64_t disk, uint64_t size, bool in_use)
{
    struct catalogue_bitmap b = {.disk = disk,
                                 .name = g_strdup(m->name),
                                 .granularity = m->granularity,
                                 .size = size,
                                 .recording = m->recording,
                                 .inconsistent = g_strdup(m->inconsistent),
                                 .sealed = !in_use && !m->inconsistent};
    g_autofree char *uuid = g_uuid_string_random();
    struct bit_file *f;

    g_strlcpy(b.uuid, uuid, sizeof(b.uuid));
    f = make_bits(s, uuid, m, size);
    g_assert_cmpint(bit_file_crc(f, &b.crc, NULL), ==, 0);
    bit_file_close(f);
    if (memory)
        bit_file_close(make_bits(memory, uuid, m, size));
    g_assert_cmpint(catalogue_put_bitmap(c, &b, NULL), ==, 0);
    catalogue_bitmap_clear(&b);
}

static void add_file(struct storage *s, const char *name, const void *bytes, size_t length,
                     uint64_t size)
{
    struct storage_file *f;

    g_assert_cmpint(s->ops->open(s, name, true, &f), ==, 0);
    g_assert_cmpint(s->ops->reserve(f, size), ==, 0);
    g_assert_cmpint(s->ops->write(f, bytes, length, 0), ==, 0);
    s->ops->close(f);
}

static void add_journal(struct storage *s, const char *uuid, int64_t disk)
{
    struct journal_entry entry = {.disk = disk, .first = MADE_REGION, .count = 1, .open = true};
    struct journal_sector sector = {
        .folder = state_folder_number(uuid), .generation = 1, .snapshot = 1, .n = 1};
    uint8_t bytes[JOURNAL_SECTOR];

    journal_sector_encode(bytes, &sector, &entry);
    add_file(s, STATE_INTENT, bytes, sizeof(bytes), 2 * JOURNAL_HALF);
}

static void add_live(struct storage *s, struct storage *memory, const char *boot_id, int64_t disk)
{
    g_autofree uint8_t *bytes = g_malloc0(LIVE_LINES * sizeof(struct live_line));
    struct live_head head = {.magic = LIVE_MAGIC};
    struct live_line *line = (struct live_line *)bytes + LIVE_FIRST;

    g_strlcpy(head.boot_id, boot_id, sizeof(head.boot_id));
    memcpy(bytes, &head, sizeof(head));
    atomic_store(&line->disk, disk);
    atomic_store(&line->changed, (int64_t)time(NULL) * 1000000000);
    add_file(s, STATE_LIVE, bytes, LIVE_LEASE_LENGTH, LIVE_LEASE_LENGTH);
    if (memory)
        add_file(memory, STATE_LIVE, bytes, LIVE_LINES * sizeof(struct live_line),
                 LIVE_LINES * sizeof(struct live_line));
}

static void add_records(struct catalogue *c)
{
    static const struct {
        const char *kind, *name, *text;
    } records[] = {
        {"checkpoint", "a",
         "{\"time-usec\": 1700000000000000, \"disks\": [\"vda\", \"vdb\"], \"disk-ids\": [1, 2]}"},
        {"checkpoint", "next",
         "{\"time-usec\": 1700000001000000, \"disks\": [\"vda\"], \"session\": \"s1\"}"},
        {"checkpoint", "odd", "{]"},
        {"checkpoint", "lost", "{\"time-usec\": 1700000002000000, \"disks\": [\"vdc\"]}"},
        {"session", "s0",
         "{\"state\": \"committed\", \"time-usec\": 1700000000000000, \"disks\": "
         "[{\"disk\": \"vda\"}, {\"disk\": \"vdb\"}]}"},
        {"session", "s1",
         "{\"state\": \"aborted\", \"time-usec\": 1700000001000000, \"disks\": "
         "[{\"disk\": \"vda\"}], \"reason\": \"it was made so\"}"},
        {"session", "s2",
         "{\"state\": \"active\", \"time-usec\": 1700000002000000, \"disks\": "
         "[{\"disk\": \"vda\"}, {\"disk\": \"vdb\"}]}"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(records); i++) {
        struct catalogue_record r = {.kind = (char *)records[i].kind,
                                     .name = (char *)records[i].name,
                                     .text = (char *)records[i].text};

        g_assert_cmpint(catalogue_put_record(c, &r, NULL), ==, 0);
    }
}

/* The folder's row, and the files of a server that runs. */
static void leave(struct storage *s, struct storage *memory, struct catalogue *c,
                  enum made_kind kind, int64_t disk)
{
    g_autofree char *boot = state_boot_id(), *machine = state_machine_id();
    struct catalogue_folder f;

    g_assert_cmpint(catalogue_folder(c, &f, NULL), ==, 0);
    if (kind == MADE_POWER)
        boot[0] = boot[0] == '0' ? '1' : '0';
    g_strlcpy(f.boot_id, boot, sizeof(f.boot_id));
    g_strlcpy(f.machine_id, machine, sizeof(f.machine_id));
    f.run = RUN;
    f.journal = true;
    f.open = kind != MADE_CLEAN;
    f.failed = kind == MADE_FAILED;
    g_assert_cmpint(catalogue_put_folder(c, &f, NULL), ==, 0);
    if (kind == MADE_CLEAN)
        return;
    add_journal(s, f.uuid, disk);
    add_live(s, memory, boot, disk);
    if (kind == MADE_NOTED)
        g_assert_cmpint(lasting_note_make(f.uuid, s->path, "it was made so", NULL), ==, 0);
}

/* NULL: a folder of that kind has none. */
static struct memory *make_memory(struct catalogue *c, enum made_kind kind)
{
    struct catalogue_folder f;
    struct memory *m;

    if (kind == MADE_CLEAN || kind == MADE_POWER)
        return NULL;
    g_assert_cmpint(catalogue_folder(c, &f, NULL), ==, 0);
    m = memory_new(f.uuid, RUN, NULL);
    g_assert_nonnull(m);
    return m;
}

void made_state(const char *path, enum made_kind kind)
{
    struct storage *s = state_folder_open(path, true, NULL);
    struct catalogue *c = s ? catalogue_open(s, NULL) : NULL;
    bool in_use = kind != MADE_CLEAN;
    uint64_t sizes[] = {MADE_SIZE, (10 << 20) + 1};
    struct memory *m = c ? make_memory(c, kind) : NULL;
    struct storage *memory = m ? memory_storage(m) : NULL;
    int64_t vda, vdb;

    g_assert_nonnull(c);
    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    vda = add_disk(c, "vda", sizes[0], in_use);
    vdb = add_disk(c, "vdb", sizes[1], in_use);
    for (unsigned i = 0; i < n_made_bitmaps; i++) {
        bool second = strcmp(made_bitmaps[i].disk, "vdb") == 0;

        add_bitmap(s, memory, c, &made_bitmaps[i], second ? vdb : vda, sizes[second], in_use);
    }
    add_records(c);
    leave(s, memory, c, kind, vda);
    g_assert_cmpint(catalogue_commit(c, NULL, NULL), ==, 0);
    catalogue_close(c);
    s->ops->free(s);
    memory_free(m);
}

void made_state_forget(const char *path)
{
    struct storage *s = state_folder_open(path, false, NULL);
    struct catalogue *c = s ? catalogue_open(s, NULL) : NULL;
    struct catalogue_folder f;
    struct memory *m;

    if (c && catalogue_folder(c, &f, NULL) == 0) {
        m = memory_new(f.uuid, RUN, NULL);
        memory_remove(m);
        memory_free(m);
        lasting_note_remove(f.uuid);
    }
    if (c)
        catalogue_close(c);
    if (s)
        s->ops->free(s);
}
