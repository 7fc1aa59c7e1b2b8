/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz/talk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A server that has something to do is not silent for so long, also on a busy machine. */
#define PATIENCE_MS 20000

void talk_begin(struct talk *t, int fd)
{
    memset(t, 0, sizeof *t);
    t->fd = fd;
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    t->out = g_byte_array_new();
    t->in = g_byte_array_new();
}

void talk_end(struct talk *t)
{
    close(t->fd);
    g_byte_array_unref(t->out);
    g_byte_array_unref(t->in);
    g_free(t->contexts_of);
}

void talk_say(struct talk *t, const void *bytes, size_t length)
{
    if (length > 0)
        g_byte_array_append(t->out, bytes, (guint)length);
}

/* The server has closed. It is a reset if it has not read all of our bytes; that is allowed. */
static void other_end(struct talk *t)
{
    CHECK(errno == ECONNRESET || errno == EPIPE);
    t->sent = t->out->len;
}

static void send_some(struct talk *t)
{
    ssize_t n = send(t->fd, t->out->data + t->sent, t->out->len - t->sent, MSG_NOSIGNAL);

    if (n >= 0)
        t->sent += (size_t)n;
    else if (errno != EAGAIN)
        other_end(t);
}

static void receive_some(struct talk *t)
{
    uint8_t buffer[65536];
    ssize_t n = recv(t->fd, buffer, sizeof buffer, 0);

    if (n > 0) {
        g_byte_array_append(t->in, buffer, (guint)n);
    } else if (n == 0) {
        t->ended = true;
    } else if (errno != EAGAIN) {
        other_end(t);
        t->ended = true;
    }
}

/* Wait until sending or receiving is possible, and do it once. */
static void turn(struct talk *t)
{
    struct pollfd p = {.fd = t->fd, .events = POLLIN};

    if (t->sent < t->out->len)
        p.events |= POLLOUT;
    int n = poll(&p, 1, PATIENCE_MS);
    CHECK(n != 0 && "the server neither answers nor ends");
    CHECK(n > 0 || errno == EINTR);
    if (n > 0 && (p.revents & POLLOUT))
        send_some(t);
    if (n > 0 && (p.revents & ~POLLOUT))
        receive_some(t);
}

const uint8_t *talk_wait(struct talk *t, size_t need)
{
    while (t->in->len - t->taken < need && !t->ended)
        turn(t);
    if (t->in->len - t->taken < need)
        return NULL;
    t->taken += need;
    return t->in->data + t->taken - need;
}

void talk_finish(struct talk *t)
{
    while (t->sent < t->out->len && !t->ended)
        turn(t);
    shutdown(t->fd, SHUT_WR);
    t->half_closed = true;
}
