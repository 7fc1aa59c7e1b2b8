/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nothing here blocks, and nothing grows without bound, whatever the client does:
 *
 *  - Input is taken in by chunks of fixed size; the stream (common/json/stream.h) limits what one
 *    value may keep. One chunk is worked off for each turn of the main loop, so that a client that
 *    never stops sending does not keep others out.
 *  - Requests are run one at a time, in order. While a command is not done, or more than OUT_HIGH
 *    bytes of replies wait to be read, no further request is run and at most one chunk is read: the
 *    rest fills the client's own socket buffer. So `out` holds at most OUT_HIGH and one reply, and
 *    events.
 *  - Events are what a client cannot be made to wait for: they are sent also while a command is not
 *    done. While EVENT_HIGH bytes wait, events are lost to the client, which is logged once.
 *  - A client that closes its end, both ways, while a command is not done has gone: the command
 *    goes on, its answer is dropped, the requests behind it are not run. One that only ends what it
 *    sends is still answered.
 *
 * A monitor is never freed from inside its own functions. When it is finished (end of input and all
 * replies sent, or an error of the socket), an idle callback tells its owner, who frees it.
 */
#include "server/control/monitor.h"
#include "common/util/log.h"
#include "common/util/log-limit.h"
#include "common/json/stream.h"

#include <errno.h>
#include <glib-unix.h>
#include <malloc.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK      16384u
#define OUT_HIGH   65536u
#define EVENT_HIGH 1048576u

/* QEMU's are 64 MiB, 2 Mi tokens and 1024. Ours hold a transaction of some 10,000 actions, and what
 * json-glib makes of them stays below 100 MiB. */
static const struct json_limits limits = {.bytes = 8 << 20, .tokens = 256 << 10, .depth = 1024};

struct monitor {
    int fd;
    char *name;
    struct qmp_client client;
    struct json_stream *stream;
    void (*gone)(struct monitor *m, void *opaque);
    void *opaque;

    char chunk[CHUNK]; /* [at, length) is still to be worked off */
    size_t at, length;
    bool end_of_input;
    bool stopped; /* by its owner, who ends it: it does not finish by itself */

    GString *out; /* [sent, len) is still to be sent; the same as client.out */
    size_t sent;
    bool broken; /* nobody will read what is sent */
    uint64_t lost_events;
    struct log_limit *lost_limit;

    guint in, out_source, hang_up, resume, finish; /* sources of the main context, 0: none */
};

static size_t waiting(const struct monitor *m)
{
    return m->out->len - m->sent;
}

/* ---- the end ---- */

static gboolean tell_gone(gpointer p)
{
    struct monitor *m = p;

    m->finish = 0;
    m->gone(m, m->opaque);
    return G_SOURCE_REMOVE;
}

static void remove_source(guint *source)
{
    if (*source)
        g_source_remove(*source);
    *source = 0;
}

static void finish(struct monitor *m)
{
    remove_source(&m->in);
    remove_source(&m->out_source);
    remove_source(&m->hang_up);
    if (!m->finish)
        m->finish = g_idle_add_full(G_PRIORITY_DEFAULT, tell_gone, m, NULL);
}

/* ---- output ---- */

/* Nobody is there any more. Drop the requests that have not begun, and what was to be sent. */
static void give_up(struct monitor *m)
{
    m->broken = m->end_of_input = true;
    m->at = m->length = 0;
    m->sent = m->out->len;
}

static void send_what_goes(struct monitor *m)
{
    while (waiting(m) > 0) {
        ssize_t n = send(m->fd, m->out->str + m->sent, waiting(m), MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            log_debug("control: %s: send: %m", m->name);
            give_up(m);
            break;
        }
        m->sent += (size_t)n;
    }
    if (m->sent == m->out->len) {
        if (m->out->allocated_len > EVENT_HIGH) {
            g_string_free(m->out, TRUE);
            m->out = m->client.out = g_string_new(NULL);
        }
        g_string_truncate(m->out, 0);
        m->sent = 0;
    } else if (m->sent > OUT_HIGH && m->sent > m->out->len / 2) {
        g_string_erase(m->out, 0, (gssize)m->sent);
        m->sent = 0;
    }
}

/* ---- input ---- */

/* Work off the chunk as far as commands are done and replies are read. */
static void run_requests(struct monitor *m)
{
    while (m->at < m->length && waiting(m) <= OUT_HIGH && !m->client.open && !m->resume) {
        g_autoptr(GError) error = NULL;
        size_t used;

        switch (json_stream_feed(m->stream, m->chunk + m->at, m->length - m->at, &used, &error)) {
        case JSON_STREAM_VALUE:
            qmp_handle(&m->client, json_stream_text(m->stream), json_stream_members(m->stream),
                       json_stream_id(m->stream));
            break;
        case JSON_STREAM_ERROR:
            qmp_error(m->out, error);
            break;
        case JSON_STREAM_MORE:
            break;
        }
        m->at += used;
        if (waiting(m) > OUT_HIGH)
            send_what_goes(m);
    }
}

static void receive(struct monitor *m)
{
    ssize_t n;

    do
        n = recv(m->fd, m->chunk, sizeof m->chunk, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (n < 0)
        log_debug("control: %s: receive: %m", m->name);
    m->at = 0;
    m->length = n > 0 ? (size_t)n : 0;
    m->end_of_input = n <= 0;
}

static gboolean readable(gint fd, GIOCondition condition, gpointer m);
static gboolean writable(gint fd, GIOCondition condition, gpointer m);
static gboolean hung_up(gint fd, GIOCondition condition, gpointer m);

static guint watch(struct monitor *m, GIOCondition condition, GUnixFDSourceFunc function)
{
    return g_unix_fd_add_full(MONITOR_PRIORITY, m->fd, condition | G_IO_HUP | G_IO_ERR, function, m,
                              NULL);
}

static bool is_finished(const struct monitor *m)
{
    if (m->stopped)
        return false;
    return m->broken ||
           (m->end_of_input && m->at == m->length && !m->client.open && waiting(m) == 0);
}

static void watch_while(struct monitor *m, guint *source, bool wanted, GIOCondition condition,
                        GUnixFDSourceFunc function)
{
    if (wanted && !*source)
        *source = watch(m, condition, function);
    else if (!wanted)
        remove_source(source);
}

/* Do what can be done now, then wait for what cannot. */
static void advance(struct monitor *m)
{
    if (m->finish)
        return;
    run_requests(m);
    send_what_goes(m);
    if (is_finished(m)) {
        finish(m);
        return;
    }
    watch_while(m, &m->in, !m->end_of_input && m->at == m->length && waiting(m) <= OUT_HIGH,
                G_IO_IN, readable);
    watch_while(m, &m->out_source, waiting(m) > 0, G_IO_OUT, writable);
    watch_while(m, &m->hang_up, m->client.open && !m->stopped, 0, hung_up);
}

static gboolean readable(gint fd, GIOCondition condition, gpointer p)
{
    struct monitor *m = p;

    receive(m);
    advance(m);
    return G_SOURCE_CONTINUE;
}

static gboolean writable(gint fd, GIOCondition condition, gpointer p)
{
    struct monitor *m = p;

    send_what_goes(m);
    advance(m);
    return G_SOURCE_CONTINUE;
}

/* The client has closed its end, both ways, while a command of it is not done. */
static gboolean hung_up(gint fd, GIOCondition condition, gpointer p)
{
    struct monitor *m = p;

    m->hang_up = 0;
    give_up(m);
    advance(m);
    return G_SOURCE_REMOVE;
}

static gboolean resume(gpointer p)
{
    struct monitor *m = p;

    m->resume = 0;
    advance(m);
    return G_SOURCE_REMOVE;
}

/* The call is answered from inside of what a command has set in motion, so the next command is
 * begun later. */
static void call_answered(void *opaque)
{
    struct monitor *m = opaque;

    if (!m->resume)
        m->resume = g_idle_add_full(MONITOR_PRIORITY, resume, m, NULL);
}

/* ---- from outside ---- */

struct monitor *monitor_new(int fd, const char *name, const struct qmp_command *const *commands,
                            void *context, struct log_limit *lost_events,
                            void (*gone)(struct monitor *m, void *opaque), void *opaque)
{
    struct monitor *m = g_new0(struct monitor, 1);

    m->fd = fd;
    m->name = g_strdup(name);
    m->stream = json_stream_new(&limits);
    m->out = g_string_new(NULL);
    m->client = (struct qmp_client){.commands = commands,
                                    .context = context,
                                    .out = m->out,
                                    .answered = call_answered,
                                    .opaque = m};
    m->lost_limit = lost_events;
    m->gone = gone;
    m->opaque = opaque;
    qmp_greeting(m->out);
    advance(m);
    return m;
}

void monitor_stop(struct monitor *m)
{
    m->end_of_input = m->stopped = true;
    m->at = m->length = 0;
    remove_source(&m->in);
}

void monitor_free(struct monitor *m)
{
    if (!m)
        return;
    qmp_client_leave(&m->client);
    send_what_goes(m);
    remove_source(&m->in);
    remove_source(&m->out_source);
    remove_source(&m->hang_up);
    remove_source(&m->resume);
    remove_source(&m->finish);
    close(m->fd);
    json_stream_free(m->stream);
    g_string_free(m->out, TRUE);
    g_free(m->name);
    g_free(m);
    /* A command may have taken some 20 MiB, which the heap would keep for the next one. */
    malloc_trim(0);
}

void monitor_event(struct monitor *m, const GString *line)
{
    if (!m->client.negotiated || m->finish)
        return;
    if (waiting(m) + line->len > EVENT_HIGH) {
        if (m->lost_events++ == 0)
            log_error_limited(m->lost_limit, "control: %s reads too slowly: it loses events",
                              m->name);
        return;
    }
    g_string_append_len(m->out, line->str, (gssize)line->len);
    advance(m);
}
