/* SPDX-License-Identifier: BSD-3-Clause */
/* A state folder with a catalogue. What cannot fail in a test is asserted. */
#ifndef TESTS_RIGS_CATALOGUE_RIG_H
#define TESTS_RIGS_CATALOGUE_RIG_H

#include "common/state/catalogue.h"

struct catalogue_rig {
    char *folder;
    struct storage *s;
    struct catalogue *c;
};

/* A new folder; its catalogue is open. */
void catalogue_rig_begin(struct catalogue_rig *p);
void catalogue_rig_end(struct catalogue_rig *p);

void catalogue_rig_open(struct catalogue_rig *p);
void catalogue_rig_close(struct catalogue_rig *p);
/* Opening fails with this text (its %s is the folder). */
void catalogue_rig_assert_refused(struct catalogue_rig *p, const char *format);

void catalogue_rig_transaction(struct catalogue_rig *p); /* begin one */
void catalogue_rig_commit(struct catalogue_rig *p);
/* The new row's id. */
int64_t catalogue_rig_put_disk(struct catalogue_rig *p, const char *name);
int64_t catalogue_rig_put_bitmap(struct catalogue_rig *p, int64_t disk, const char *name);
int64_t catalogue_rig_put_record(struct catalogue_rig *p, const char *kind, const char *name,
                                 const char *text);
/* A row to be put. */
struct catalogue_bitmap catalogue_rig_bitmap(int64_t disk, const char *name);

GArray *catalogue_rig_disks(struct catalogue_rig *p, GPtrArray *damaged);
GArray *catalogue_rig_bitmaps(struct catalogue_rig *p, GPtrArray *damaged);
GArray *catalogue_rig_records(struct catalogue_rig *p, GPtrArray *damaged);
/* "KIND/NAME=TEXT " of all records, in their order; none is damaged. */
void catalogue_rig_assert_records(struct catalogue_rig *p, const char *expected);
/* The names of all bitmaps, in their order, with a space after each; nothing is damaged. */
void catalogue_rig_assert_bitmaps(struct catalogue_rig *p, const char *expected);

/* Files of the folder, by name. */
char *catalogue_rig_path(struct catalogue_rig *p, const char *name); /* g_free */
void catalogue_rig_write_file(struct catalogue_rig *p, const char *name, const char *bytes,
                              size_t length);
/* Run SQL on the closed database. */
void catalogue_rig_run_sql(struct catalogue_rig *p, const char *sql);

static inline GPtrArray *sentences_new(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

static inline struct catalogue_bitmap *bitmap_at(GArray *rows, unsigned i)
{
    g_assert_cmpuint(i, <, rows->len);
    return &g_array_index(rows, struct catalogue_bitmap, i);
}

static inline struct catalogue_record *record_at(GArray *rows, unsigned i)
{
    g_assert_cmpuint(i, <, rows->len);
    return &g_array_index(rows, struct catalogue_record, i);
}

static inline struct catalogue_disk *disk_at(GArray *rows, unsigned i)
{
    g_assert_cmpuint(i, <, rows->len);
    return &g_array_index(rows, struct catalogue_disk, i);
}

#endif
