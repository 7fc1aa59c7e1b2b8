/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-names.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/store-rows.h"

#include <string.h>

/* ---- what is known ---- */

static unsigned count_good(const struct state_disk *d)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->bitmaps->len; i++)
        n += !((const struct catalogue_bitmap *)d->bitmaps->pdata[i])->inconsistent;
    return n;
}

static const char *name_before(const struct state_disk *d)
{
    return d->name_before ? d->name_before : d->row.name;
}

static const char *image_before(const struct state_disk *d)
{
    return d->image_before ? d->image_before : d->row.image;
}

static bool is_image(const char *known, const struct image_identity *identity)
{
    return known && *known && g_strcmp0(known, identity->image) == 0;
}

/* Another disk that has had this image, or NULL. */
static const struct state_disk *other_with(const struct state_disk *d,
                                           const struct image_identity *identity)
{
    const GPtrArray *known = d->store->known;

    for (unsigned i = 0; i < known->len; i++) {
        const struct state_disk *other = known->pdata[i];

        if (other != d && is_image(image_before(other), identity))
            return other;
    }
    return NULL;
}

/* An image that the folder knows as another disk's was written to without these bitmaps. */
static void check_adopted(struct state_disk *d, const struct image_identity *identity)
{
    const struct state_disk *other;

    if (!d->row.adopted || identity->transient || is_image(d->row.image, identity))
        return;
    other = other_with(d, identity);
    if (!other)
        return;
    log_error("disk %s: its image is not adopted: %s knows it as that of disk %s (`fleecectl state "
              "forget` makes a folder forget a disk)",
              d->row.name, d->store->path, name_before(other));
    d->row.adopted = false;
}

/* ---- rows that are set aside ---- */

/* One without good bitmaps. */
static int drop_disk(struct state_disk *d, GError **err)
{
    if (catalogue_remove_disk(d->store->catalogue, d->row.id, err) < 0)
        return -1;
    rows_drop_disk(d);
    return 0;
}

static int rename_disk(struct state_disk *d, const char *name, GError **err)
{
    if (!d->name_before)
        d->name_before = g_steal_pointer(&d->row.name);
    g_free(d->row.name);
    d->row.name = g_strdup(name);
    return catalogue_put_disk(d->store->catalogue, &d->row, err);
}

/* What a disk's rows will be called while they are aside: NAME-replaced, NAME-replaced-replaced, ...,
 * the first that no disk has. */
static char *aside_name(struct store *s, const char *name)
{
    g_autoptr(GString) aside = g_string_new(name);

    do
        g_string_append(aside, IDENTITY_REPLACED);
    while (rows_find_disk(s, aside->str));
    return g_string_free(g_steal_pointer(&aside), FALSE);
}

static bool is_aside_name(const char *aside, const char *name)
{
    const size_t length = strlen(IDENTITY_REPLACED);

    if (!g_str_has_prefix(aside, name))
        return false;
    aside += strlen(name);
    if (*aside == '\0')
        return false;
    while (strncmp(aside, IDENTITY_REPLACED, length) == 0)
        aside += length;
    return *aside == '\0';
}

/* The rows of this image that were set aside, or NULL. Good ones first. */
static struct state_disk *find_aside(struct store *s, const char *name,
                                     const struct image_identity *identity)
{
    struct state_disk *found = NULL;

    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (d->attached || identity->transient || !is_aside_name(d->row.name, name))
            continue;
        if (!is_image(d->row.image, identity))
            continue;
        if (!found || count_good(d) > count_good(found))
            found = d;
    }
    return found;
}

GPtrArray *names_aside(const struct state_disk *d)
{
    GPtrArray *aside = g_ptr_array_new();

    for (unsigned i = 0; i < d->store->known->len; i++) {
        struct state_disk *other = d->store->known->pdata[i];

        if (!other->attached && is_aside_name(other->row.name, d->row.name))
            g_ptr_array_add(aside, other);
    }
    return aside;
}

/* An inconsistent bitmap in the place of each that is aside. It has no file. */
static void add_markers(struct state_disk *d, const struct state_disk *aside, const char *reason)
{
    for (unsigned i = 0; i < aside->bitmaps->len; i++) {
        struct catalogue_bitmap b = row_copy(aside->bitmaps->pdata[i]);
        g_autofree char *uuid = g_uuid_string_random();

        b.id = 0;
        g_strlcpy(b.uuid, uuid, sizeof b.uuid);
        if (!b.inconsistent)
            row_set_inconsistent(&b, reason);
        g_ptr_array_add(d->bitmaps, g_memdup2(&b, sizeof b));
    }
}

static char *replaced_reason(const struct state_disk *d, const struct image_identity *identity,
                             const char *aside)
{
    return g_strdup_printf("the image is another one: it was '%s' and is now '%s'; %s keeps the "
                           "bitmap of the former one as that of disk %s",
                           d->row.image, identity->image, d->store->path, aside);
}

static struct state_disk *replace(struct state_disk *d, uint64_t size,
                                  const struct image_identity *identity, char **reason,
                                  GError **err)
{
    struct store *s = d->store;
    g_autofree char *aside = aside_name(s, d->row.name), *name = g_strdup(d->row.name);
    struct state_disk *new;

    if (!catalogue_is_name(aside))
        return d;
    log_error(
        "disk %s: its image is another one: the bitmaps of the former one are kept as those "
        "of disk %s, and come back with it. An image that is moved has to be adopted before it "
        "is served (nbdfleece-state(5))",
        name, aside);
    *reason = replaced_reason(d, identity, aside);
    if (rename_disk(d, aside, err) < 0)
        return NULL;
    new = rows_add_disk(s, name, size);
    new->is_new = false;
    add_markers(new, d, *reason);
    return new;
}

/* The former image is back. The rows in its place go aside, also without a good bitmap: the folder
 * goes on to know that it has written to their image. */
static struct state_disk *bring_back(struct state_disk *d, struct state_disk *back, GError **err)
{
    g_autofree char *name = g_strdup(d->row.name), *aside = g_strdup(back->row.name);

    log_info(
        "disk %s: a former image is back, and its bitmaps, which were kept as those of disk %s",
        name, aside);
    if (rename_disk(d, aside, err) < 0 || rename_disk(back, name, err) < 0)
        return NULL;
    return back;
}

/* Is this image taken as it is? One that cannot be what was meant does not use the adoption up for
 * good: the rows go aside as if nobody had adopted them, and `state adopt` can be told again. */
static bool is_adopted(struct state_disk *d, uint64_t size, const struct image_identity *identity)
{
    if (!d->row.adopted)
        return false;
    if (identity_size_fits(&d->row, size) && !identity->transient)
        return true;
    log_error("disk %s: its image is not adopted: it %s", d->row.name,
              identity->transient ? "ends with the server" : "has another size");
    d->row.adopted = false;
    return false;
}

struct state_disk *names_choose(struct state_disk *d, uint64_t size,
                                const struct image_identity *identity, char **reason, GError **err)
{
    struct state_disk *back;

    check_adopted(d, identity);
    if (is_image(d->row.image, identity) || is_adopted(d, size, identity))
        return d;
    back = find_aside(d->store, d->row.name, identity);
    if (back && (count_good(back) > 0 || count_good(d) == 0))
        return bring_back(d, back, err);
    /* The new rows will know the image. */
    if (back && drop_disk(back, err) < 0)
        return NULL;
    return count_good(d) > 0 ? replace(d, size, identity, reason, err) : d;
}

int names_return(struct store *s, const char *name, const struct image_identity *identity,
                 struct state_disk **found, GError **err)
{
    struct state_disk *back = find_aside(s, name, identity);
    g_autofree char *aside = NULL;

    *found = NULL;
    if (!back || count_good(back) == 0)
        return 0;
    aside = g_strdup(back->row.name);
    if (rename_disk(back, name, err) < 0)
        return -1;
    log_info("disk %s: it has the bitmaps again that were kept as those of disk %s", name, aside);
    *found = back;
    return 0;
}

/* ---- all disks ---- */

/* Has `now` the image of `then`, whose bitmaps would not see what is written to it? */
static bool is_renamed(const struct state_disk *now, const struct state_disk *then)
{
    if (!now->attached || then->attached || now->transient || count_good(then) == 0)
        return false;
    return *now->row.image != '\0' && g_str_equal(now->row.image, then->row.image);
}

int names_check(struct store *s, GError **err)
{
    for (unsigned i = 0; i < s->known->len; i++)
        for (unsigned k = 0; k < s->known->len; k++) {
            const struct state_disk *new = s->known->pdata[i], *old = s->known->pdata[k];

            if (is_renamed(new, old))
                return fail(err,
                            "disk %s: its image is that of disk %s, whose bitmaps %s keeps; "
                            "`fleecectl state adopt %s %s %s` takes them over",
                            new->row.name, name_before(old), s->path, s->path, name_before(old),
                            new->row.name);
        }
    return 0;
}

/* Disks that the folder did not know, ", new to the folder: a, b", or "". */
static char *new_names(const struct store *s)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < s->known->len; i++) {
        const struct state_disk *d = s->known->pdata[i];

        if (d->attached && d->is_new)
            g_string_append_printf(text, "%s%s",
                                   text->len ? ", " : "; new to the folder: ", d->row.name);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

void names_tell(struct store *s)
{
    g_autofree char *new = new_names(s);

    for (unsigned i = 0; i < s->known->len; i++) {
        const struct state_disk *d = s->known->pdata[i];

        if (!d->attached && count_good(d) > 0)
            log_info(
                "state: %s: keeps %u bitmap%s of disk %s, which is not served: `fleecectl "
                "state adopt %s %s NEW` gives them to a disk that was renamed or moved, before "
                "it is served%s",
                s->path, d->bitmaps->len, d->bitmaps->len == 1 ? "" : "s", d->row.name, s->path,
                d->row.name, new);
    }
}
