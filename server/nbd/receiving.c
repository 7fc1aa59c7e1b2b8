/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/receiving.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Bytes asked for in one receive, if nothing more is needed. */
#define RECEIVE_PIECE (256u << 10)
/* When this much of a payload or more is missing, no more than the missing part is received. The
 * next request then begins at the front of the buffer, and nothing has to be moved. */
#define LARGE_REST (64u << 10)

/* Where the buffer is filled from. A payload behind the first header is then aligned to a cache
 * line, so that copying it is quicker (reply-buffer.h). */
static size_t receive_begin(const struct connection *c)
{
    return REPLY_ALIGNMENT - header_size(c);
}

/* Make room for `need` bytes from in.begin on, and for a good receive behind what is there. */
static void make_room(struct connection *c, size_t need)
{
    struct receive_buffer *in = &c->in;
    const size_t begin = receive_begin(c);
    size_t have = in->end - in->begin, behind = RECEIVE_BUFFER - in->end;

    if (have == 0) {
        in->begin = in->end = begin;
    } else if (RECEIVE_BUFFER - in->begin < need || (behind < RECEIVE_PIECE && have < 16384)) {
        memmove(in->bytes + begin, in->bytes + in->begin, have);
        in->begin = begin;
        in->end = begin + have;
    }
}

/* Nothing has come for a while: give memory and workers back. */
static void rest(struct connection *c)
{
    if (received(c) > 0 || !workers_is_idle(&c->workers))
        return;
    workers_rest(&c->workers);
    madvise(c->memory, RECEIVE_BUFFER + SEND_BUFFER, MADV_DONTNEED);
    stream_wait(&c->stream);
}

/* Look what came while this thread carried out a slow request: see offload.h. */
static bool receive_watched(struct connection *c)
{
    c->watch = false;
    make_room(c, header_size(c));
    ssize_t n = stream_receive_now(&c->stream, c->in.bytes + c->in.end,
                                   MIN(RECEIVE_PIECE, RECEIVE_BUFFER - c->in.end));
    offload_watched(&c->offload, n > 0 || received(c) > 0);
    if (n > 0)
        c->in.end += (size_t)n;
    return n > 0;
}

/* Look for input for a moment: see busy-poll.h. Nobody looks while workers are busy: the client
 * waits for them, and they can use the processor. */
static ssize_t receive_polling(struct connection *c, void *to, size_t length, uint64_t begin)
{
    struct poll_budget *budget = &c->server->poll_budget;
    ssize_t n;

    if (!workers_is_idle(&c->workers) || !busy_poll_begin(&c->poll, budget, begin))
        return -EAGAIN;
    do
        n = stream_receive_now(&c->stream, to, length);
    while (n == -EAGAIN && now_ns() - begin < budget->max_ns);
    busy_poll_end(&c->poll, budget, n != -EAGAIN);
    return n;
}

static ssize_t receive_awake(struct connection *c, void *to, size_t length)
{
    uint64_t begin = now_ns();
    ssize_t n = receive_polling(c, to, length, begin);

    if (n != -EAGAIN)
        return n;
    n = stream_receive(&c->stream, to, length);
    busy_poll_waited(&c->poll, &c->server->poll_budget, now_ns() - begin);
    if (n == -EAGAIN)
        rest(c);
    return n;
}

/* When the connection is to end and nothing of it is under way, only what has arrived already is
 * received. A thread that sets `ending` or `leaving` looks at `waiting` afterwards; this thread
 * sets `waiting` and looks at those afterwards. So at least one of the two sees the other. */
ssize_t receive_some(struct connection *c, void *to, size_t length)
{
    ssize_t n;

    atomic_store(&c->waiting, true);
    if (connection_is_ending(c) && workers_is_idle(&c->workers)) {
        n = stream_receive_now(&c->stream, to, length);
        n = n == -EAGAIN ? 0 : n;
    } else {
        n = receive_awake(c, to, length);
    }
    atomic_store(&c->waiting, false);
    return n;
}

enum step receive_more(struct connection *c, size_t need)
{
    if (c->watch && receive_watched(c))
        return STEP_NEXT;
    reply_buffer_flush(&c->replies);
    c->gathered = 0;
    make_room(c, need);
    size_t missing = need - received(c), space = RECEIVE_BUFFER - c->in.end;
    size_t ask = missing >= LARGE_REST ? missing : MIN(RECEIVE_PIECE, space);
    ssize_t n;

    while ((n = receive_some(c, c->in.bytes + c->in.end, ask)) == -EAGAIN)
        ;
    if (n <= 0)
        return STEP_END;
    c->in.end += (size_t)n;
    return STEP_NEXT;
}
