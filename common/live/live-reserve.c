/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reserve. Its parts: the set of metadata (live-metadata), the table and blocks of counts
 * (live-counts), the steps of a batch (live-batch), what is given up (live-given-up).
 *
 * Two locks. `io` is the reserve's lock of live-private.h: counts, batches and the file's end belong to who
 * holds it, and it is held while files are written. `lock` is a leaf, for what a taker needs; who finds
 * the reserve empty takes `io` before it and makes a batch himself.
 *
 * Clusters are numbers here, places only at the edges.
 */
#include "common/live/live-reserve.h"

#include "common/live/live-batch.h"
#include "common/live/live-given-up.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH_LEAST    (UINT64_C(1) << 20) /* bytes of a batch */
#define BATCH_MOST     (UINT64_C(1) << 30)
#define CLUSTERS_LEAST 16
#define CLUSTERS_MOST  (UINT64_C(1) << 18) /* so that not too many blocks are made at once */

/* Clusters [next, end) may be taken. */
struct part {
    uint64_t next, end;
};

struct live_reserve {
    struct live_image *image;
    struct live_metadata metadata;
    struct live_given_up given_up;
    uint64_t first; /* that was ever to be taken; never changes */

    pthread_mutex_t io;
    /* Under io: */
    struct live_counts counts;
    uint64_t end;           /* behind all that the file has, and all batches */
    uint64_t size;          /* clusters of a batch, the next time */
    uint64_t filled;        /* when the last one was made: ms; 0: none was */
    struct live_batch left; /* one that failed half-way, if `extended` */

    pthread_mutex_t lock;
    /* Under lock: the second part is taken when the first is empty. */
    struct part parts[2];
    uint64_t low; /* clusters: when fewer are left, the thread is woken */
    bool woken;
};

/* ---- opening and closing ---- */

static uint64_t clusters_between(uint64_t n, uint64_t least, uint64_t most)
{
    return n < least ? least : n > most ? most : n;
}

static uint64_t least_batch(const struct live_reserve *r)
{
    return clusters_between(BATCH_LEAST / r->image->top->cluster, CLUSTERS_LEAST, CLUSTERS_MOST);
}

static uint64_t most_batch(const struct live_reserve *r)
{
    return clusters_between(BATCH_MOST / r->image->top->cluster, CLUSTERS_LEAST, CLUSTERS_MOST);
}

/* All metadata lies inside of the file: so its end, and what is counted, say where the used part ends. */
static int init(struct live_reserve *r, struct q2_error *err)
{
    struct live_image *image = r->image;
    uint64_t file = (image->top->file.size - 1) / image->top->cluster + 1;

    if (live_metadata_find(&r->metadata, image, err) < 0 ||
        live_counts_init(&r->counts, image, &r->metadata, err) < 0)
        return -1;
    r->size = least_batch(r);
    if (live_counts_end(&r->counts, image, file, &r->end, err) < 0)
        return -1;
    r->first = r->end;
    return 0;
}

int live_reserve_init(struct live_image *image, struct q2_error *err)
{
    struct live_reserve *r = calloc(1, sizeof(*r));

    if (!r || live_metadata_init(&r->metadata) < 0) {
        free(r);
        return q2_fail_errno(err, ENOMEM, "Cannot open '%s' for writing", image->top->file.path);
    }
    live_given_up_init(&r->given_up);
    pthread_mutex_init(&r->io, NULL);
    pthread_mutex_init(&r->lock, NULL);
    r->image = image;
    image->reserve = r;
    if (init(r, err) == 0)
        return 0;
    live_reserve_clear(image);
    return -1;
}

void live_reserve_clear(struct live_image *image)
{
    struct live_reserve *r = image->reserve;

    image->reserve = NULL;
    if (!r)
        return;
    live_counts_clear(&r->counts);
    live_given_up_clear(&r->given_up);
    live_metadata_clear(&r->metadata);
    pthread_mutex_destroy(&r->io);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

bool live_reserve_is_metadata(const struct live_image *image, uint64_t host)
{
    const struct live_reserve *r = image->reserve;

    return r && live_metadata_has(&r->metadata, host / image->top->cluster);
}

uint64_t live_reserve_first(const struct live_image *image)
{
    return image->reserve->first * image->top->cluster;
}

/* Give `io` back after work that ended with `result`: if it found damage, say so. Returns the result. */
static int end_io(struct live_reserve *r, int result)
{
    struct q2_error damage = r->counts.damage;

    r->counts.damage.text[0] = 0;
    pthread_mutex_unlock(&r->io);
    return damage.text[0]
               ? live_damaged(r->image, "'%s': %s", r->image->top->file.path, damage.text)
               : result;
}

/* ---- batches ---- */

static uint64_t left(struct live_reserve *r)
{
    uint64_t n = 0;

    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < 2; i++)
        n += r->parts[i].end - r->parts[i].next;
    pthread_mutex_unlock(&r->lock);
    return n;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 + 1;
}

/* A batch that was used up within a second was too small. */
static void adapt(struct live_reserve *r, uint64_t now)
{
    if (r->filled && now - r->filled < 1000)
        r->size *= 4;
    else
        r->size /= 4;
    r->size = clusters_between(r->size, least_batch(r), most_batch(r));
}

static void add_part(struct live_reserve *r, const struct live_batch *b)
{
    struct part new = {live_batch_head(b), b->first + b->clusters};

    pthread_mutex_lock(&r->lock);
    if (r->parts[0].next == r->parts[0].end)
        r->parts[0] = new;
    else if (r->parts[0].end == new.next)
        r->parts[0].end = new.end;
    else
        r->parts[1] = new;
    r->low = (new.end - new.next) / 2;
    r->woken = false;
    pthread_mutex_unlock(&r->lock);
}

static bool is_full(int error)
{
    return error == -ENOSPC || error == -EFBIG || error == -EDQUOT;
}

/* One that is smaller may find room, as long as nothing has happened. */
static int make_batch(struct live_reserve *r, struct live_batch *b)
{
    uint64_t n = r->size;

    for (;; n = n / 4) {
        int e = live_batch_plan(b, &r->counts, r->end, n);

        if (e == 0)
            e = live_batch_make(b, r->image, &r->counts, &r->metadata);
        if (e == 0 || b->extended || !is_full(e) || n < 4)
            return e;
    }
}

/* Under io, with room for another part. A batch that failed half-way is made again as it is: its places may
 * hold something. */
static int fill(struct live_reserve *r)
{
    uint64_t now = now_ms();
    struct live_batch b = r->left;
    int e;

    if (b.extended) {
        e = live_batch_make(&b, r->image, &r->counts, &r->metadata);
    } else {
        adapt(r, now);
        e = make_batch(r, &b);
    }
    if (e < 0) {
        r->left = b;
        return e;
    }
    r->left.extended = false;
    r->filled = now;
    r->end = b.first + b.clusters;
    add_part(r, &b);
    return 0;
}

static bool has_room(struct live_reserve *r)
{
    bool room;

    pthread_mutex_lock(&r->lock);
    room = r->parts[1].next == r->parts[1].end;
    pthread_mutex_unlock(&r->lock);
    return room;
}

/* Make a batch if at most `least` clusters are left. */
static int fill_if(struct live_reserve *r, uint64_t least)
{
    int e = atomic_load(&r->image->broken);

    if (e < 0)
        return e;
    pthread_mutex_lock(&r->io);
    if (left(r) <= least && has_room(r))
        e = fill(r);
    return end_io(r, e);
}

int live_reserve_fill(struct live_image *image)
{
    struct live_reserve *r = image->reserve;
    uint64_t low;

    pthread_mutex_lock(&r->lock);
    low = r->low;
    pthread_mutex_unlock(&r->lock);
    return fill_if(r, low);
}

/* ---- taking ---- */

/* How many there were; *wake: the thread is to be woken. */
static unsigned grab(struct live_reserve *r, unsigned n, uint64_t *cluster, bool *wake)
{
    struct part *p = &r->parts[0];
    uint64_t there;

    pthread_mutex_lock(&r->lock);
    if (p->next == p->end) {
        r->parts[0] = r->parts[1];
        r->parts[1] = (struct part){0};
    }
    there = p->end - p->next;
    if (there < n)
        n = (unsigned)there;
    *cluster = p->next;
    p->next += n;
    there += r->parts[1].end - r->parts[1].next - n;
    *wake = n > 0 && there < r->low && !r->woken;
    if (*wake)
        r->woken = true;
    pthread_mutex_unlock(&r->lock);
    return n;
}

int live_reserve_take(struct live_image *image, unsigned n, uint64_t *host)
{
    struct live_reserve *r = image->reserve;
    uint64_t cluster;

    for (;;) {
        int e = atomic_load(&image->broken);
        bool wake;
        unsigned got;

        if (e < 0)
            return e;
        got = grab(r, n, &cluster, &wake);
        if (wake && image->wake)
            image->wake(image);
        if (got > 0) {
            *host = cluster * image->top->cluster;
            return (int)got;
        }
        e = fill_if(r, 0);
        if (e < 0)
            return e;
    }
}

int live_reserve_take_table(struct live_image *image, uint64_t *host)
{
    int n = live_reserve_take(image, 1, host), e;

    if (n < 0)
        return n;
    e = live_metadata_add(&image->reserve->metadata, *host / image->top->cluster);
    if (e < 0)
        live_reserve_drop(image, *host, 1);
    return e;
}

/* ---- giving up ---- */

static void give_up(struct live_image *image, uint64_t host, uint64_t bytes)
{
    bool tell;

    live_given_up_add(&image->reserve->given_up, host, bytes, &tell);
    /* What was changed before may have been written back by now, and the thread be asleep. */
    if (image->wake)
        image->wake(image);
    if (tell)
        live_tell(image,
                  "'%s': too much was given up at once: some clusters stay counted (a leak) until "
                  "`fleecectl image check --repair leaks` or `qemu-img check -r leaks`",
                  image->top->file.path);
}

void live_reserve_drop(struct live_image *image, uint64_t host, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        live_metadata_remove(&image->reserve->metadata, host / image->top->cluster + i);
    give_up(image, host, n * image->top->cluster);
}

/* An entry of a damaged image may have led to where the reserve is, which others have taken. */
void live_reserve_give_up(struct live_image *image, uint64_t host, uint64_t bytes)
{
    if (host + bytes > live_reserve_first(image))
        live_damaged(image, "'%s': an entry led to %llu, which is behind the end of the file",
                     image->top->file.path, (unsigned long long)host);
    else
        give_up(image, host, bytes);
}

uint64_t live_reserve_given_up(struct live_image *image)
{
    return live_given_up_ever(&image->reserve->given_up);
}

/* An entry of a damaged image may have led to a table. */
static int check_no_metadata(struct live_reserve *r, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++)
        if (live_metadata_has(&r->metadata, i)) {
            q2_fail(&r->counts.damage, "an entry led to the cluster at %llu, which has a table",
                    (unsigned long long)(i * r->image->top->cluster));
            return -EIO;
        }
    return 0;
}

static int count_down(struct live_reserve *r, uint64_t first, uint64_t n)
{
    int e = check_no_metadata(r, first, n);

    return e < 0 ? e : live_counts_change(&r->counts, first, n, LIVE_COUNTS_DOWN, false);
}

/* Ranges are sorted. Those that follow each other are counted down at once; a cluster that two of them touch is
 * counted down for each. */
static int count_ranges_down(struct live_reserve *r, const struct live_range *ranges, size_t n)
{
    uint64_t cluster = r->image->top->cluster, first = 0, end = 0;
    int e = 0;

    for (size_t i = 0; i < n && e == 0; i++) {
        uint64_t from = ranges[i].host / cluster;
        uint64_t to = (ranges[i].host + ranges[i].bytes - 1) / cluster + 1;

        if (from != end) {
            e = first < end ? count_down(r, first, end - first) : 0;
            first = from;
        }
        end = to;
    }
    return e == 0 && first < end ? count_down(r, first, end - first) : e;
}

int live_reserve_count_down(struct live_image *image, uint64_t n)
{
    struct live_reserve *r = image->reserve;
    struct live_range *ranges;
    size_t taken;
    int e = atomic_load(&image->broken);

    if (e < 0)
        return e;
    ranges = live_given_up_take(&r->given_up, n, &taken);
    if (!ranges)
        return 0;
    pthread_mutex_lock(&r->io);
    e = count_ranges_down(r, ranges, taken);
    free(ranges);
    return end_io(r, e);
}

/* ---- the end ---- */

/* Behind this cluster there is nothing but what was not taken. */
static uint64_t used_end(const struct live_reserve *r)
{
    const struct part *first = &r->parts[0], *second = &r->parts[1];
    uint64_t end = r->end;

    if (second->next < second->end && second->end == end)
        end = second->next;
    if (first->next < first->end && first->end == end)
        end = first->next;
    return end;
}

static int return_parts(struct live_reserve *r)
{
    int e = 0;

    for (int i = 0; i < 2 && e == 0; i++) {
        struct part *p = &r->parts[i];

        if (p->next < p->end)
            e = live_counts_change(&r->counts, p->next, p->end - p->next, LIVE_COUNTS_RETURN,
                                   false);
    }
    return e == 0 ? live_counts_sync(&r->counts) : e;
}

/* A batch that failed half-way cannot be taken back, but made whole, and then given back. Behind the end of
 * all batches may be what a batch that failed had grown the file by. */
static int give_back(struct live_reserve *r)
{
    struct live_file *file = &r->image->top->file;
    uint64_t end;
    int e;

    if (r->left.extended && has_room(r))
        fill(r);
    end = used_end(r);
    e = return_parts(r);
    memset(r->parts, 0, sizeof(r->parts));
    if (e < 0 || r->left.extended)
        return e;
    r->end = end;
    end *= r->image->top->cluster;
    return file->size > end ? live_file_shorten(file, end) : 0;
}

int live_reserve_return(struct live_image *image)
{
    struct live_reserve *r = image->reserve;
    int e = atomic_load(&image->broken);

    if (e < 0)
        return e;
    pthread_mutex_lock(&r->io);
    e = give_back(r);
    return end_io(r, e);
}
