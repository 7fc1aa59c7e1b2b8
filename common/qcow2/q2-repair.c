/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Design
 *
 * A check finds how often each cluster is used, and what is wrong. Only what follows from the uses is
 * mended: counts, and the flag COPIED, which says that a count is 1. An image in which anything else
 * is wrong (tables that cannot be followed, entries that break a rule, two things at one place) is
 * refused before anything is written, because clusters that seem to be leaked may be somebody's.
 *
 * What is written, each step durable before the next one:
 *
 * 1. Feature bits of the group "autoclear" that are not known are cleared.
 * 2. The flag is cleared where the cluster is not used exactly once. Without the flag a writer
 *    copies the cluster, and never writes in place.
 * 3. Counts. Those that are too high are lowered in place. If any is too low, or the blocks of counts
 *    are damaged, new ones are written behind the end of the file, with a size that follows from
 *    what is used; then one write into the header's first sector makes them the image's.
 * 4. The flag is set where the cluster is used exactly once.
 * 5. All is checked once more. Then the header's bits "dirty" and "corrupt" are cleared.
 *
 * A crash in between leaves the old counts or the new ones, and flags that are missing at worst, which
 * does no harm; what the disk reads as never changes. A later repair does the rest.
 */
#include "common/qcow2/q2-repair.h"

#include "common/base/cursor.h"
#include "common/qcow2/q2-repair-private.h"

#include <string.h>

#define BITS_OF_DAMAGE ((uint64_t)(Q2_INCOMPATIBLE_DIRTY | Q2_INCOMPATIBLE_CORRUPT))
#define AUTOCLEAR      ((uint64_t)(Q2_AUTOCLEAR_BITMAPS | Q2_AUTOCLEAR_RAW_DATA_FILE))

/* ---- what is wrong ---- */

/* What a check has found, and the check, whose counts are used on. */
struct findings {
    struct q2_check check;
    uint64_t own_overlaps; /* of the table of counts and its blocks */
};

static int examine(struct q2_repair *r, struct findings *f)
{
    struct q2_check *c = &f->check;

    *c = (struct q2_check){.image = r->image, .err = r->err};
    if (q2_check_init(c) < 0 || q2_check_references(c) < 0)
        return -1;
    f->own_overlaps = c->overlaps;
    if (q2_check_ref_blocks(c) < 0 || q2_check_compare(c) < 0)
        return -1;
    f->own_overlaps = c->overlaps - f->own_overlaps;
    r->done->leaks = c->leaks;
    r->done->corruptions = c->corruptions;
    r->done->first = c->first;
    return 0;
}

static int refuse(const struct q2_repair *r, const struct q2_error *why)
{
    return q2_fail(r->err, "It cannot be repaired, and nothing was changed. %s", why->text);
}

/* Whether this can be mended, as it is asked for. */
static int judge(const struct q2_repair *r, const struct findings *f, enum q2_repair_what what)
{
    const struct q2_check *c = &f->check;
    uint64_t mendable = c->mendable[Q2_WRONG_COUNTS] + c->mendable[Q2_WRONG_FLAGS];

    if (r->image->file.device)
        return q2_fail(r->err, "'%s' is a block device: only images in files are repaired",
                       r->image->file.path);
    if (c->corruptions > mendable)
        return refuse(r, &c->fatal);
    if (c->overlaps > f->own_overlaps)
        return refuse(r, &c->overlap);
    if (what == Q2_REPAIR_ALL)
        return 0;
    if (c->corruptions > 0)
        return q2_fail(r->err,
                       "Leaks cannot be repaired while something else is wrong, and nothing was "
                       "changed. %s",
                       c->first.text);
    return f->own_overlaps ? refuse(r, &c->overlap) : 0;
}

/* ---- the header ---- */

/* Write one of the words of feature bits, durably. */
static int put_features(struct q2_repair *r, uint64_t offset, uint64_t bits)
{
    uint8_t word[8];

    store_be64(word, bits);
    if (q2_repair_write(r, word, sizeof(word), offset) < 0)
        return -1;
    return q2_repair_sync(r);
}

/* Who does not know what a bit stands for says, by clearing it, that it may be wrong from now on. */
static int clear_unknown(struct q2_repair *r)
{
    struct q2_header *h = &r->image->header;

    if (!(h->autoclear & ~AUTOCLEAR))
        return 0;
    h->autoclear &= AUTOCLEAR;
    return put_features(r, 88, h->autoclear);
}

static int clear_damage(struct q2_repair *r)
{
    struct q2_header *h = &r->image->header;

    if (!(h->incompatible & BITS_OF_DAMAGE))
        return 0;
    h->incompatible &= ~BITS_OF_DAMAGE;
    return put_features(r, 72, h->incompatible);
}

/* ---- mending ---- */

static int flags_and_sync(struct q2_repair *r, bool set)
{
    return q2_repair_flags(r, set) < 0 ? -1 : q2_repair_sync(r);
}

/* With counts in their place. */
static int mend_in_place(struct q2_repair *r, const struct findings *f)
{
    r->used = &f->check.counts;
    if (flags_and_sync(r, false) < 0 || q2_repair_lower(r) < 0 || q2_repair_sync(r) < 0)
        return -1;
    return flags_and_sync(r, true);
}

/* With counts that are new, so that the old ones are not among what is used. */
static int mend_anew(struct q2_repair *r)
{
    struct q2_check c = {.image = r->image, .err = r->err};
    int result;

    result = q2_check_init(&c) < 0 || q2_check_references(&c) < 0 ? -1 : 0;
    r->used = &c.counts;
    if (result == 0)
        result = flags_and_sync(r, false) < 0 || q2_repair_rebuild(r) < 0 ? -1 : 0;
    if (result == 0)
        result = flags_and_sync(r, true);
    q2_check_clear(&c);
    return result;
}

/* The proof: a check as anybody would make it. */
static int check_again(struct q2_repair *r)
{
    uint64_t leaks, corruptions;
    struct q2_error why;

    if (q2_image_check(r->image, &leaks, &corruptions, &why) < 0)
        return q2_fail(r->err, "%s", why.text);
    if (leaks == 0 && corruptions == 0)
        return 0;
    return q2_fail(r->err, "'%s' was repaired, and is not in order: leaks: %llu, corruptions: %llu",
                   r->image->file.path, (unsigned long long)leaks, (unsigned long long)corruptions);
}

static int mend(struct q2_repair *r, const struct findings *f, enum q2_repair_what what)
{
    bool anew = f->check.mendable[Q2_WRONG_COUNTS] > 0 || f->own_overlaps > 0;

    if (f->check.leaks > 0 || f->check.corruptions > 0 || anew) {
        if (clear_unknown(r) < 0 || (anew ? mend_anew(r) : mend_in_place(r, f)) < 0 ||
            check_again(r) < 0)
            return -1;
    }
    return what == Q2_REPAIR_ALL ? clear_damage(r) : 0;
}

int q2_image_repair(struct q2_image *image, enum q2_repair_what what, struct q2_repaired *done,
                    struct q2_error *err)
{
    struct q2_error why;
    struct q2_repair r = {.image = image, .done = done, .err = err ? err : &why};
    struct findings f;
    int result;

    memset(done, 0, sizeof(*done));
    if (image->raw)
        return q2_fail(err, "'%s' is no qcow2 image", image->file.path);
    result = examine(&r, &f) < 0 || judge(&r, &f, what) < 0 || mend(&r, &f, what) < 0 ? -1 : 0;
    q2_check_clear(&f.check);
    return result;
}
