/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/meta.h"

#include "server/nbd/option-reply.h"

#define ALLOCATION "base:allocation"
#define BITMAP     "qemu:dirty-bitmap:"

_Static_assert(META_CONTEXTS_MAX <= 1024, "OPTION_DATA_MAX has room for all their names");

/* What an export offers at the moment, and which of it queries have hit. Context 0 is the
 * allocation, context 1 + i the i-th bitmap. */
struct offer {
    GPtrArray *bitmaps;  /* references */
    GHashTable *by_name; /* bitmap's name -> 1 + i */
    bool *hit;
    bool all_bitmaps; /* a query has hit them all: the next such one is no work */
    unsigned n;
};

static void offer_init(struct offer *o, struct export *e)
{
    o->bitmaps = export_bitmaps(e);
    o->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    o->n = 1 + o->bitmaps->len;
    o->hit = g_new0(bool, o->n);
    o->all_bitmaps = false;
    for (unsigned i = 1; i < o->n; i++) {
        struct dirty_bitmap *db = g_ptr_array_index(o->bitmaps, i - 1);
        g_hash_table_insert(o->by_name, (gpointer)dirty_bitmap_name(db), GUINT_TO_POINTER(i));
    }
}

static void offer_end(struct offer *o)
{
    g_free(o->hit);
    g_hash_table_unref(o->by_name);
    g_ptr_array_unref(o->bitmaps);
}

static void hit_bitmaps(struct offer *o)
{
    for (unsigned i = 1; i < o->n && !o->all_bitmaps; i++)
        o->hit[i] = true;
    o->all_bitmaps = true;
}

/* Note what one query asks for. A leaf left empty stands for all in LIST and for nothing in SET. A
 * context that is not known is passed over. */
static void offer_query(struct offer *o, struct text query, bool wildcards)
{
    if (text_equal(query, ALLOCATION)) {
        o->hit[0] = true;
    } else if (text_equal(query, "base:")) {
        o->hit[0] |= wildcards;
    } else if (text_equal(query, "qemu:") || text_equal(query, BITMAP)) {
        if (wildcards)
            hit_bitmaps(o);
    } else if (text_has_prefix(query, BITMAP)) {
        size_t skip = strlen(BITMAP);
        g_autofree char *name = g_strndup(query.at + skip, query.length - skip);
        unsigned i = GPOINTER_TO_UINT(g_hash_table_lookup(o->by_name, name));
        if (i > 0)
            o->hit[i] = true;
    }
}

static unsigned offer_hits(const struct offer *o)
{
    unsigned hits = 0;
    for (unsigned i = 0; i < o->n; i++)
        hits += o->hit[i];
    return hits;
}

static struct dirty_bitmap *offer_bitmap(const struct offer *o, unsigned i)
{
    return i == 0 ? NULL : g_ptr_array_index(o->bitmaps, i - 1);
}

static void reply_context(GByteArray *out, uint32_t option, uint32_t id,
                          const struct dirty_bitmap *db)
{
    g_autofree char *name = db ? g_strconcat(BITMAP, dirty_bitmap_name(db), NULL) : NULL;
    option_reply_meta_context(out, option, id, name ? name : ALLOCATION);
}

void meta_list(struct export *e, struct option_meta *queries, GByteArray *out)
{
    struct offer o;
    struct text query;

    offer_init(&o, e);
    if (queries->n_queries == 0) {
        o.hit[0] = true;
        hit_bitmaps(&o);
    }
    while (option_meta_next(queries, &query))
        offer_query(&o, query, true);
    for (unsigned i = 0; i < o.n; i++) {
        if (o.hit[i])
            reply_context(out, NBD_OPT_LIST_META_CONTEXT, 0, offer_bitmap(&o, i));
    }
    offer_end(&o);
}

static void select_hits(const struct offer *o, struct meta_contexts *m, GByteArray *out)
{
    for (unsigned i = 0; i < o->n; i++) {
        if (!o->hit[i])
            continue;
        struct dirty_bitmap *db = offer_bitmap(o, i);
        struct meta_context *c = &m->list[m->n++];
        c->id = i == 0 ? 0 : i + 1; /* 1 is QEMU's qemu:allocation-depth, which we do not have */
        c->bitmap = db ? dirty_bitmap_ref(db) : NULL;
        reply_context(out, NBD_OPT_SET_META_CONTEXT, c->id, db);
    }
}

uint32_t meta_set(struct export *e, struct option_meta *queries, struct meta_contexts *m,
                  GByteArray *out, const char **why)
{
    struct offer o;
    struct text query;
    uint32_t error = 0;

    offer_init(&o, e);
    while (option_meta_next(queries, &query))
        offer_query(&o, query, false);
    unsigned hits = offer_hits(&o);
    if (hits > META_CONTEXTS_MAX) {
        *why = "more metadata contexts than one client may select";
        error = NBD_REP_ERR_TOO_BIG;
    } else {
        m->export = export_ref(e);
        m->list = g_new0(struct meta_context, hits);
        select_hits(&o, m, out);
    }
    offer_end(&o);
    return error;
}

void meta_contexts_clear(struct meta_contexts *m)
{
    for (unsigned i = 0; i < m->n; i++) {
        if (m->list[i].bitmap)
            dirty_bitmap_unref(m->list[i].bitmap);
    }
    g_free(m->list);
    if (m->export)
        export_unref(m->export);
    *m = (struct meta_contexts){0};
}
