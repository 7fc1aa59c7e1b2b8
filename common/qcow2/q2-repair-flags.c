/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/qcow2/q2-repair-private.h"

#include <errno.h>
#include <stdlib.h>

/* A walk over the tables of the disk. */
struct walk {
    struct q2_repair *r;
    bool set;    /* flags are set, else cleared */
    uint8_t *l2; /* a table */
};

static uint64_t cluster_bytes(const struct walk *w)
{
    return UINT64_C(1) << w->r->image->geometry.cluster_bits;
}

/* Whether the flag of the entry for the cluster at `host` changes; *at is changed then. */
static bool mend(const struct walk *w, uint8_t *at, uint64_t host)
{
    uint64_t word = load_be64(at);
    bool once = q2_counts_get(w->r->used, host >> w->r->image->geometry.cluster_bits) == 1;

    if (once != w->set || !(word & Q2_ENTRY_COPIED) != w->set)
        return false;
    store_be64(at, word ^ Q2_ENTRY_COPIED);
    return true;
}

/* Whether the entry has a cluster whose flag counts: not a compressed one, and none of a data file, where
 * nothing is counted. */
static bool has_cluster(const struct walk *w, const uint8_t *at, uint64_t *host)
{
    const struct q2_geometry *g = &w->r->image->geometry;
    struct q2_entry e = q2_entry_l2(g, load_be64(at), g->extended ? load_be64(at + 8) : 0, 0);

    *host = e.host;
    return e.kind != Q2_COMPRESSED && e.kind != Q2_INVALID && e.host;
}

static int mend_l2(struct walk *w, uint64_t table)
{
    unsigned size = q2_entry_size(&w->r->image->geometry);
    bool changed = false;
    uint64_t host;

    if (w->r->image->geometry.data_file)
        return 0;
    if (q2_file_pread(&w->r->image->file, w->l2, cluster_bytes(w), table, w->r->err) < 0)
        return -1;
    for (uint64_t at = 0; at < cluster_bytes(w); at += size)
        if (has_cluster(w, w->l2 + at, &host))
            changed |= mend(w, w->l2 + at, host);
    return changed ? q2_repair_write(w->r, w->l2, cluster_bytes(w), table) : 0;
}

static int mend_l1_entry(struct walk *w, uint64_t place)
{
    uint8_t word[8];
    struct q2_entry table;

    if (q2_file_pread(&w->r->image->file, word, sizeof(word), place, w->r->err) < 0)
        return -1;
    table = q2_entry_l1(&w->r->image->geometry, load_be64(word));
    if (table.kind != Q2_DATA)
        return 0;
    if (mend(w, word, table.host) && q2_repair_write(w->r, word, sizeof(word), place) < 0)
        return -1;
    return mend_l2(w, table.host);
}

int q2_repair_flags(struct q2_repair *r, bool set)
{
    const struct q2_header *h = &r->image->header;
    struct walk w = {r, set, malloc((size_t)1 << h->cluster_bits)};
    int result = 0;

    if (!w.l2)
        return q2_fail_errno(r->err, ENOMEM, "Cannot repair '%s'", r->image->file.path);
    for (uint64_t i = 0; i < h->l1_size && result == 0; i++)
        result = mend_l1_entry(&w, h->l1_offset + i * 8);
    free(w.l2);
    return result;
}
