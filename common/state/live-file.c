/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/live-file.h"

#include "common/state/folder.h"

#include <string.h>

#define LINE 64u

/* The file's first lines; g_free. NULL: it is not there, or shorter. */
static struct live_line *read_lines(struct storage *s, size_t n)
{
    size_t length = n * LINE;
    struct storage_file *f;
    struct live_line *lines = NULL;
    uint64_t size = 0;

    if (s->ops->open(s, STATE_LIVE, false, &f) < 0)
        return NULL;
    if (s->ops->size(f, &size) == 0 && size >= length) {
        lines = g_malloc(length);
        if (s->ops->read(f, lines, length, 0) < 0)
            g_clear_pointer(&lines, g_free);
    }
    s->ops->close(f);
    return lines;
}

static void add_line(struct live_last *last, struct live_line *line)
{
    last->changed = MAX(last->changed, atomic_load(&line->changed));
    if (atomic_load(&line->inside[0]) || atomic_load(&line->inside[1]))
        last->under_way = true;
}

bool live_file_last(struct storage *memory, const char *boot_id, int64_t disk,
                    struct live_last *last)
{
    g_autofree struct live_line *lines = read_lines(memory, LIVE_LINES);
    struct live_head head;
    bool found = false;

    *last = (struct live_last){0};
    if (!lines)
        return false;
    memcpy(&head, lines, sizeof head);
    if (head.magic != LIVE_MAGIC || !*boot_id ||
        strncmp(head.boot_id, boot_id, sizeof head.boot_id) != 0)
        return false;
    last->alive = atomic_load(&head.alive);
    for (unsigned i = LIVE_FIRST; i < LIVE_LINES; i++)
        if (atomic_load(&lines[i].disk) == disk) {
            add_line(last, &lines[i]);
            found = true;
        }
    return found;
}

int64_t live_file_lease(struct storage *s)
{
    g_autofree struct live_line *lines = read_lines(s, LIVE_LEASE + 1);
    struct live_head head;
    struct live_lease lease;

    if (!lines)
        return 0;
    memcpy(&head, &lines[0], sizeof head);
    memcpy(&lease, &lines[LIVE_LEASE], sizeof lease);
    return head.magic == LIVE_MAGIC && lease.until == ~lease.check && lease.until > 0 ? lease.until
                                                                                      : 0;
}
