/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The decision whether a request that might block is carried out in the connection's own thread or
 * handed to a worker.
 *
 * A read is first tried with node_read_now. If the node says that it would block, as a file does
 * whose data is not in the page cache, the request is slow. If the node cannot promise not to block
 * (no other request can be tried at all), often it would not have: a plugin's call that takes a
 * microsecond, a write into the page cache. Offloading costs two wake-ups, some 10 to 20 us of
 * processor time, and would make such disks slower than they are; not offloading makes a slow disk
 * see one request at a time. So:
 *
 *  - While such requests of the same class lately took less than OFFLOAD_QUICK_NS, they are done
 *    here. What copying their bytes takes does not count. A sample counts at most OFFLOAD_CLIP_NS,
 *    so that one hiccup (a preempted thread, a piece of scratch space reserved) changes nothing,
 *    and three slow ones in a row turn the class to slow.
 *  - A slow one is handed to a worker, except when nobody could gain by it: a client that sends the
 *    next request only when it has the reply to the last one. To know that, the thread looks, after
 *    it has done a slow request and before it sends the reply, whether a further request has come
 *    meanwhile. If so, OFFLOAD_DEEP slow requests that come alone are handed to a worker before we
 *    try it again.
 *
 * To try a read has a price too, a system call at least; for data that is not in the page cache it
 * begins to read ahead, which is better done in a worker, many at a time. Where the node has
 * refused the last OFFLOAD_REFUSALS reads, and they turned out quick, or would have blocked, a read
 * is tried only now and then, and the others are taken to be the same.
 *
 * A new connection begins slow and deep: the first requests that may block are handed to a worker.
 * So a disk that hangs never takes the connection's thread with it, unless it has been quick, or
 * read one by one, until that moment; then the thread waits for that one request.
 */
#ifndef NBD_OFFLOAD_H
#define NBD_OFFLOAD_H

#include "server/nbd/request.h"

#include <stdatomic.h>

#define OFFLOAD_QUICK_NS 50000u
#define OFFLOAD_CLIP_NS  (4 * OFFLOAD_QUICK_NS)
#define OFFLOAD_COPY     4u /* bytes that copying does in a nanosecond */
#define OFFLOAD_DEEP     64u
#define OFFLOAD_REFUSALS 16u
#define OFFLOAD_SKIP     64u /* then only one read in this many is tried */

enum request_class { CLASS_READ, CLASS_WRITE, CLASS_SYNC, CLASS_OTHER, CLASS_STATUS, N_CLASSES };

struct offload {
    atomic_uint average_ns[N_CLASSES]; /* of those that might have blocked; any thread */
    /* the connection's thread alone: */
    unsigned deep;
    unsigned refused; /* reads that were tried in vain, in a row */
    bool blocks;      /* what the node said to the last of them: it would block */
};

void offload_init(struct offload *o);

enum request_class request_class(const struct request *r);

/* Is it worth while to try a read without blocking? If so, tell offload_asked whether it was done,
 * and if not, whether it would have blocked. The connection's thread. */
bool offload_ask(struct offload *o);
void offload_asked(struct offload *o, bool done, bool blocks);

/* May a request that was not done without blocking be done here? `alone`: no request is under way
 * or has arrived behind it. Sets *watch if offload_watched is to be called afterwards. Connection's
 * thread. */
bool offload_stay(struct offload *o, enum request_class class, bool alone, bool *watch);
/* Whether further requests had come before the reply to a watched one was sent. */
void offload_watched(struct offload *o, bool further);

/* A request that might have blocked took `ns` for `length` bytes. Any thread. */
void offload_note(struct offload *o, enum request_class class, uint64_t ns, uint64_t length);

#endif
