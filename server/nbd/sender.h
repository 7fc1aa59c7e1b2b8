/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sending for one connection: many threads have replies, one stream takes them.
 *
 * A thread that sends owns the stream meanwhile (`busy`). The lock is held only to look and to pass
 * the ownership on, never across the network. A worker that is done posts its reply: if nobody owns
 * the stream, the worker sends it at once, and all that was posted meanwhile; else the owner will
 * send it. So no reply waits for a thread to wake up, and replies that are ready together go out in
 * one sendmsg. How much can be posted is bounded by the workers' budget (workers.h).
 *
 * Once sending has failed the sender is dead: it drops what is posted, and calls `sent` for it.
 */
#ifndef NBD_SENDER_H
#define NBD_SENDER_H

#include "server/nbd/stream.h"

#include <pthread.h>

/* Bytes that are ready to go. */
struct outgoing {
    struct outgoing *next;
    const void *data;
    size_t length;
    void (*sent)(struct outgoing *p); /* gone, or dropped; called without a lock; frees it */
};

struct sender {
    struct stream *stream;
    pthread_mutex_t lock; /* a leaf: nothing is locked inside it */
    pthread_cond_t idle;  /* busy became false */
    struct outgoing *first, **last;
    bool busy;
    int error; /* not 0: dead. Written by the owner, under the lock. */
};

void sender_init(struct sender *s, struct stream *stream);
void sender_destroy(struct sender *s); /* nothing is posted or owned */

/* Send `length` bytes, and with them what is posted; returns when they are sent. 0, or a negative
 * errno: dead. */
int sender_send(struct sender *s, const void *data, size_t length);

/* Have `p` sent, by us or by the owner. */
void sender_post(struct sender *s, struct outgoing *p);

/* Own the stream over several sends, with nothing of others in between; posted replies wait. */
void sender_hold(struct sender *s);
int sender_send_held(struct sender *s, const void *data, size_t length);
/* The number of bytes sent: see stream_send_file. */
size_t sender_send_file_held(struct sender *s, int fd, uint64_t offset, size_t length);
void sender_release(struct sender *s);

bool sender_is_dead(struct sender *s);

/* Break the connection off; has anybody done that? Any thread. */
void sender_cut(struct sender *s);
bool sender_is_cut(const struct sender *s);

#endif
