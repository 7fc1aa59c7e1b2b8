/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Comparing a file with its checksums. Threads take piece after piece, in order of offsets. The first that
 * finds a wrong one stops the handing out; those that others have begun before it are still finished, so that
 * what is told is the first wrong piece of the file.
 *
 * What was read is dropped from the page cache: a check of a large repository is not to drive out of it
 * what the machine works with.
 */
#include "client/base/error.h"
#include "client/repo/sums-private.h"
#include "client/repo/sums.h"
#include "common/base/deadline.h"
#include "common/base/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* Bytes of one read. */
#define READ_BYTES (1 << 20)
/* Microseconds between two calls of the watch. */
#define WATCH_USEC (G_USEC_PER_SEC / 10)

struct check {
    const struct sums *sums;
    int fd;
    const char *name;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t ended; /* a thread has */
    guint next;           /* piece to be handed out */
    bool stop;            /* hand out no more */
    unsigned running;
    uint64_t done; /* bytes */
    guint wrong;   /* number of the piece that error is about */
    GError *error;
};

/* The next piece; false: there is none. */
static bool take_piece(struct check *c, guint *piece)
{
    bool some;

    pthread_mutex_lock(&c->lock);
    some = !c->stop && c->next < c->sums->pieces->len;
    if (some)
        *piece = c->next++;
    pthread_mutex_unlock(&c->lock);
    return some;
}

static void add_done(struct check *c, uint64_t bytes)
{
    pthread_mutex_lock(&c->lock);
    c->done += bytes;
    pthread_mutex_unlock(&c->lock);
}

static int hash_piece(struct check *c, gnutls_hash_hd_t hash, void *buffer,
                      const struct sums_piece *p, uint8_t *digest, GError **err)
{
    for (uint64_t done = 0; done < p->length;) {
        size_t n = (size_t)MIN(p->length - done, READ_BYTES);
        int error = pread_all(c->fd, buffer, n, p->offset + done);

        if (error < 0)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "%s: %" PRIu64 " bytes at %" PRIu64 " cannot be read: %s", c->name,
                               (uint64_t)n, p->offset + done, g_strerror(-error));
        gnutls_hash(hash, buffer, n);
        done += n;
        add_done(c, n);
    }
    gnutls_hash_output(hash, digest);
    (void)posix_fadvise(c->fd, (off_t)p->offset, (off_t)p->length, POSIX_FADV_DONTNEED);
    return 0;
}

static int check_piece(struct check *c, gnutls_hash_hd_t hash, void *buffer, guint piece,
                       GError **err)
{
    const struct sums_piece *p = &g_array_index(c->sums->pieces, struct sums_piece, piece);
    uint8_t digest[SUMS_DIGEST];

    if (hash_piece(c, hash, buffer, p, digest, err) < 0)
        return -1;
    if (memcmp(digest, p->digest, SUMS_DIGEST) == 0)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: its bytes %" PRIu64 " to %" PRIu64
                       " have been changed: they do not have the "
                       "checksum that the backup gave them",
                       c->name, p->offset, p->offset + p->length - 1);
}

static void found_wrong(struct check *c, guint piece, GError *error)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    if (c->error && c->wrong < piece) {
        g_error_free(error);
    } else {
        g_clear_error(&c->error);
        c->error = error;
        c->wrong = piece;
    }
    pthread_mutex_unlock(&c->lock);
}

static void *check_pieces(void *opaque)
{
    struct check *c = opaque;
    void *buffer = g_malloc(READ_BYTES);
    gnutls_hash_hd_t hash;
    guint piece;

    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) < 0) {
        found_wrong(c, 0, g_error_new(CLIENT_ERROR, CLIENT_ERROR_FAILED, "GnuTLS has no SHA-256"));
    } else {
        while (take_piece(c, &piece)) {
            GError *error = NULL;

            if (check_piece(c, hash, buffer, piece, &error) < 0)
                found_wrong(c, piece, error);
        }
        gnutls_hash_deinit(hash, NULL);
    }
    g_free(buffer);
    pthread_mutex_lock(&c->lock);
    c->running--;
    pthread_cond_signal(&c->ended);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Wait until all threads have ended; with c->lock. */
static void wait_for_threads(struct check *c, sums_watch watch, void *opaque)
{
    while (c->running > 0) {
        GError *error = NULL;
        uint64_t done = c->done;
        struct timespec until = deadline_timespec(deadline_in(WATCH_USEC));

        pthread_cond_clockwait(&c->ended, &c->lock, CLOCK_MONOTONIC, &until);
        if (!watch || c->stop)
            continue;
        pthread_mutex_unlock(&c->lock);
        if (watch(opaque, done, &error) < 0)
            found_wrong(c, 0, error);
        pthread_mutex_lock(&c->lock);
    }
}

static int run(struct check *c, unsigned threads, sums_watch watch, void *opaque, GError **err)
{
    unsigned wanted = MIN(MAX(threads, 1), MAX(c->sums->pieces->len, 1)), n = 0;
    g_autofree GThread **started = g_new0(GThread *, wanted);
    GError *error = NULL;

    pthread_mutex_lock(&c->lock);
    while (n < wanted) {
        started[n] = g_thread_try_new("sums", check_pieces, c, n == 0 ? &error : NULL);
        if (!started[n])
            break;
        c->running++;
        n++;
    }
    wait_for_threads(c, watch, opaque);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < n; i++)
        g_thread_join(started[i]);
    if (c->error || error) {
        g_propagate_error(err, c->error ? c->error : error);
        return -1;
    }
    return watch ? watch(opaque, c->done, err) : 0;
}

static int check_size(const struct sums *s, int fd, const char *name, GError **err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", name, g_strerror(errno));
    if ((uint64_t)st.st_size == s->bytes)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: it has %" PRIu64 " bytes, and should have %" PRIu64, name,
                       (uint64_t)st.st_size, s->bytes);
}

int sums_check_watched(const struct sums *s, int fd, const char *name, unsigned threads,
                       sums_watch watch, void *opaque, GError **err)
{
    struct check c = {.sums = s, .fd = fd, .name = name};
    int result;

    if (check_size(s, fd, name, err) < 0)
        return -1;
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.ended, NULL);
    result = run(&c, threads, watch, opaque, err);
    pthread_mutex_destroy(&c.lock);
    pthread_cond_destroy(&c.ended);
    return result;
}

int sums_check(const struct sums *s, int fd, const char *name, unsigned threads, GError **err)
{
    return sums_check_watched(s, fd, name, threads, NULL, NULL, err);
}
