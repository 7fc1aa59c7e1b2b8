/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/sender.h"

#include <errno.h>

#define BATCH 64

void sender_init(struct sender *s, struct stream *stream)
{
    *s = (struct sender){.stream = stream};
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->idle, NULL);
}

void sender_destroy(struct sender *s)
{
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
}

bool sender_is_dead(struct sender *s)
{
    pthread_mutex_lock(&s->lock);
    bool dead = s->error != 0;
    pthread_mutex_unlock(&s->lock);
    return dead;
}

/* Locked: take up to `max` replies off the queue, as a list. */
static struct outgoing *take(struct sender *s, unsigned max)
{
    struct outgoing *list = s->first, **end = &list;

    for (unsigned n = 0; n < max && *end; n++)
        end = &(*end)->next;
    s->first = *end;
    if (!s->first)
        s->last = &s->first;
    *end = NULL;
    return list;
}

/* Owned, not locked: send the bytes (if any) and then the replies, and let them go. */
static int transmit(struct sender *s, const void *data, size_t length, struct outgoing *list)
{
    struct iovec iov[1 + BATCH];
    unsigned n = 0;
    int r = s->error; /* only the owner writes it */

    if (length > 0)
        iov[n++] = (struct iovec){(void *)data, length};
    for (struct outgoing *p = list; p; p = p->next)
        iov[n++] = (struct iovec){(void *)p->data, p->length};
    if (r == 0)
        r = stream_send(s->stream, iov, n);
    for (struct outgoing *p = list, *next; p; p = next) {
        next = p->next;
        p->sent(p);
    }
    return r;
}

/* Locked, and owned: note a failure, and break the connection off, for nothing can be answered any
 * more. */
static void note(struct sender *s, int r)
{
    if (r != 0 && s->error == 0) {
        s->error = r;
        stream_cut(s->stream);
    }
}

/* Locked, and owned: send what is posted until there is nothing, then give the ownership up. */
static void drain(struct sender *s)
{
    while (s->first) {
        struct outgoing *list = take(s, BATCH);
        pthread_mutex_unlock(&s->lock);
        int r = transmit(s, NULL, 0, list);
        pthread_mutex_lock(&s->lock);
        note(s, r);
    }
    s->busy = false;
    pthread_cond_signal(&s->idle);
}

static void own(struct sender *s)
{
    while (s->busy)
        pthread_cond_wait(&s->idle, &s->lock);
    s->busy = true;
}

int sender_send(struct sender *s, const void *data, size_t length)
{
    pthread_mutex_lock(&s->lock);
    own(s);
    struct outgoing *list = take(s, BATCH);
    pthread_mutex_unlock(&s->lock);
    int r = transmit(s, data, length, list);
    pthread_mutex_lock(&s->lock);
    note(s, r);
    drain(s);
    pthread_mutex_unlock(&s->lock);
    return r;
}

void sender_post(struct sender *s, struct outgoing *p)
{
    p->next = NULL;
    pthread_mutex_lock(&s->lock);
    *s->last = p;
    s->last = &p->next;
    if (!s->busy) {
        s->busy = true;
        drain(s);
    }
    pthread_mutex_unlock(&s->lock);
}

void sender_hold(struct sender *s)
{
    pthread_mutex_lock(&s->lock);
    own(s);
    pthread_mutex_unlock(&s->lock);
}

int sender_send_held(struct sender *s, const void *data, size_t length)
{
    int r = transmit(s, data, length, NULL);
    if (r != 0) {
        pthread_mutex_lock(&s->lock);
        note(s, r);
        pthread_mutex_unlock(&s->lock);
    }
    return r;
}

size_t sender_send_file_held(struct sender *s, int fd, uint64_t offset, size_t length)
{
    if (s->error != 0)
        return 0;
    ssize_t n = stream_send_file(s->stream, fd, offset, length);
    if (n >= 0)
        return (size_t)n;
    pthread_mutex_lock(&s->lock);
    note(s, (int)n);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

void sender_release(struct sender *s)
{
    pthread_mutex_lock(&s->lock);
    drain(s);
    pthread_mutex_unlock(&s->lock);
}

void sender_cut(struct sender *s)
{
    stream_cut(s->stream);
}

bool sender_is_cut(const struct sender *s)
{
    return stream_is_cut(s->stream);
}
