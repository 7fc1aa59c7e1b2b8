/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What holds a disk's bytes. A backend is one configured image; a handle is that image opened.
 *
 * The rest of the server sees every backend alike: whatever a plugin lacks (zeroing, FUA, caching,
 * limits on request sizes, 32-bit counts, a thread model that allows no parallel calls) is made up
 * for below this line. So every operation here may be called from any thread at any time, also
 * several at once on one handle, and takes ranges of any length inside the image that are multiples
 * of min_block.
 *
 * Data operations return 0 or a negative errno. They may block. Messages in *err name the disk.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "common/base/extents.h"

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct backend;
struct backend_handle;

/* Flags of requests. */
#define BACKEND_FUA      1u /* persistent before the call returns (pwrite, zero, trim) */
#define BACKEND_MAY_TRIM 2u /* zero: a hole is welcome (NBD's NO_HOLE is not set) */
#define BACKEND_FAST     4u /* zero: -ENOTSUP, nothing changed, if it is not faster than writing */
#define BACKEND_REQ_ONE  8u /* extents: one is enough */

/* The client that a handle is opened for, or that a thread works for: nbdkit_is_tls(3),
 * nbdkit_peer_name(3) and the like tell plugins about it. It outlives the handle, and the thread's
 * work for it. */
struct backend_client {
    const char *export_name; /* not nbdkit_export_name(3)'s answer: see plugin-handle.c */
    bool tls;
    const char *tls_dn, *tls_issuer_dn; /* of a certificate that it proved to have; else NULL */
    int socket;                         /* -1: none */
    /* End the client: at once (`force`), or when the requests under way have been answered. Called
     * by a thread that works for it. NULL: it cannot be ended. */
    void (*disconnect)(const struct backend_client *client, bool force);
    void *opaque; /* for whoever made this structure */
};

/* From now on the calling thread works for `client` (NULL: for nobody). Its calls on a handle that
 * clients share are made for that client. */
void backend_set_thread_client(const struct backend_client *client);
const struct backend_client *backend_thread_client(void);

/* What is known of the image behind a backend, in words that can be compared with those of another
 * time. Strings are g_free's. */
struct backend_identity {
    char *image;      /* which it is; not empty, without secrets, printable ASCII */
    char *content;    /* differs when anybody has written to it; "": that cannot be seen */
    int64_t modified; /* when it was last written to, nanoseconds since 1970; 0: not known */
    bool transient;   /* its bytes end with the process */
};

static inline void backend_identity_clear(struct backend_identity *identity)
{
    g_free(identity->image);
    g_free(identity->content);
    *identity = (struct backend_identity){.image = NULL};
}

struct backend_ops {
    /* Open. `client` may be NULL: the server itself. *handle's fields are all set. */
    int (*open)(struct backend *b, bool readonly, const struct backend_client *client,
                struct backend_handle **handle, GError **err);
    void (*close)(struct backend_handle *h);

    int (*pread)(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset);
    int (*pwrite)(struct backend_handle *h, const void *buf, uint32_t length, uint64_t offset,
                  uint32_t flags);
    int (*zero)(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags);
    int (*trim)(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags);
    int (*flush)(struct backend_handle *h);
    int (*cache)(struct backend_handle *h, uint64_t length, uint64_t offset);

    /* Append base:allocation extents that begin at `offset`; at least one, together not longer than
     * `length`, maybe shorter. A backend that knows nothing says "data". */
    int (*extents)(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags,
                   struct extents *extents);

    /* Change the image's size, bytes. NULL where it cannot. No change is under way.
     * Handles that were opened before serve the new size from then on (h->size is the caller's
     * to update). */
    int (*resize)(struct backend_handle *h, uint64_t size, GError **err);

    /* Tell which image it is, as it is now. *identity is set anew; backend_identity_clear() it. -1
     * and *err. NULL where nothing is known of it and its bytes end with the process. */
    int (*identity)(struct backend_handle *h, struct backend_identity *identity, GError **err);

    /* End the backend; no handle is open. */
    void (*free)(struct backend *b);
};

struct backend {
    const struct backend_ops *ops;
    const char *driver; /* plugin's name: QMP's `plugin` */
    /* The plugin has asked who the client is while it opened a handle, or has turned a client away.
     * So it may have meant it when it opens no handle for a client. */
    atomic_bool judges_clients;
    const char *filename; /* what QMP shows as `file`, e.g. the file= key; "" where there is none */
};

/* Where a run of the image's bytes is. */
enum backend_place {
    BACKEND_ANYWHERE, /* only the operations know */
    BACKEND_IN_FILE,
    BACKEND_ZEROES, /* nowhere: it reads as zeroes */
};

struct backend_segment {
    enum backend_place place;
    int fd;        /* BACKEND_IN_FILE */
    uint64_t host; /* BACKEND_IN_FILE: of the first byte, in that file */
    uint64_t
        length; /* bytes, at least 1, a multiple of min_block unless it is all that was asked for */
};

struct backend_handle {
    struct backend *backend;
    uint64_t size;                             /* bytes */
    uint32_t min_block, pref_block, max_block; /* bytes; 1, 4096, 64 MiB where it has no opinion */
    bool has_block_size;                       /* the three above are the plugin's own words */
    bool can_write, can_flush, can_trim, can_zero, can_fast_zero, can_fua, can_cache, can_extents;
    bool can_multi_conn; /* what one handle has acknowledged, all others see; flush covers all */
    bool rotational;
    int fd; /* a descriptor that pread(2)/pwrite(2) may use at the same offsets instead; -1: none */
    /*
     * Where the first bytes of a range are, at most `length` > 0; never blocks. BACKEND_IN_FILE: they may be
     * read there by pread(2) and, if that was asked (`writing`), written there without FUA: for
     * good, until the handle is closed. BACKEND_ZEROES, which is never said for writing, and what
     * a read finds in the file are what the image read as at some moment since this was asked.
     * A transfer that fails there is for the operation to try. NULL: there is no such thing, or there
     * is `fd`.
     */
    void (*map)(struct backend_handle *h, uint64_t offset, uint64_t length, bool writing,
                struct backend_segment *segment);
};

#endif
