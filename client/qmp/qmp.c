/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/qmp/qmp.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "common/json/read.h"
#include "common/json/value.h"
#include "common/json/write.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How long a server may take to greet and negotiate, and to take in a request. */
#define PATIENCE_SECONDS 10
/* How long it may take to answer when a signal has come: most do, and so the command can end in order. */
#define GRACE_SECONDS 5

const struct json_limits qmp_limits = {
    .bytes = 64u << 20, .tokens = 16u << 20, .depth = 1024, .exact = true};

struct qmp {
    char *path;
    int fd;
    GByteArray *in;  /* has been received, and not been taken yet */
    gsize scanned;   /* bytes at the start of `in` that hold no newline */
    gint64 deadline; /* g_get_monotonic_time() at which waiting ends; 0: never */
    gint64 grace;    /* the same, because a signal has come; 0: none has */
    bool out_of_step;
    JsonObject *greeting, *version;
};

static int unreachable(const struct qmp *q, GError **err, const char *why)
{
    return client_fail(err, CLIENT_ERROR_UNREACHABLE, "%s: %s", q->path, why);
}

/* ---- messages ---- */

int qmp_fd(const struct qmp *q)
{
    return q->fd;
}

static int fail_interrupted(struct qmp *q, GError **err)
{
    q->out_of_step = true;
    return client_fail(err, CLIENT_ERROR_INTERRUPTED,
                       "interrupted by SIG%s, and %s does not answer",
                       sigabbrev_np(interrupt_see()), q->path);
}

/* When waiting ends; 0: never. */
static gint64 end_of_wait(struct qmp *q)
{
    if (q->grace == 0 && interrupt_see() != 0)
        q->grace = g_get_monotonic_time() + GRACE_SECONDS * G_USEC_PER_SEC;
    if (q->grace == 0 || q->deadline == 0)
        return MAX(q->grace, q->deadline);
    return MIN(q->grace, q->deadline);
}

/* Wait until the socket is readable, or its time is over. */
static int wait_readable(struct qmp *q, GError **err)
{
    for (;;) {
        struct pollfd p[] = {{.fd = q->fd, .events = POLLIN},
                             {.fd = interrupt_descriptor(), .events = POLLIN}};
        gint64 end = end_of_wait(q), left = end - g_get_monotonic_time();
        int timeout = end == 0 ? -1 : left <= 0 ? 0 : (int)(left / 1000 + 1);

        if (q->grace != 0)
            p[1].fd = -1;
        if (poll(p, G_N_ELEMENTS(p), timeout) < 0 && errno != EINTR)
            return unreachable(q, err, g_strerror(errno));
        if (p[0].revents != 0)
            return 0;
        if (end != 0 && left <= 0)
            return end == q->grace ? fail_interrupted(q, err)
                                   : unreachable(q, err, "no answer from the server");
    }
}

int qmp_receive(struct qmp *q, GError **err)
{
    guint8 piece[65536];
    ssize_t n;

    if (wait_readable(q, err) < 0)
        return -1;
    do {
        n = recv(q->fd, piece, sizeof piece, 0);
    } while (n < 0 && errno == EINTR);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return unreachable(q, err, "the server closed the connection");
    if (n < 0)
        return unreachable(q, err, g_strerror(errno));
    g_byte_array_append(q->in, piece, (guint)n);
    return 0;
}

/* The length of the first line in q->in, without its newline, or -1 if none has come whole. */
static gssize find_line(struct qmp *q)
{
    const guint8 *newline = NULL;

    if (q->in->len > q->scanned)
        newline = memchr(q->in->data + q->scanned, '\n', q->in->len - q->scanned);
    if (!newline) {
        q->scanned = q->in->len;
        return -1;
    }
    return newline - q->in->data;
}

static bool is_blank(const guint8 *text, gsize length)
{
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isspace((char)text[i]))
            return false;
    }
    return true;
}

int qmp_take_message(struct qmp *q, JsonObject **message, GError **err)
{
    g_autoptr(JsonNode) node = NULL;
    g_autoptr(GError) error = NULL;
    gssize length;

    while ((length = find_line(q)) >= 0 && is_blank(q->in->data, (gsize)length)) {
        g_byte_array_remove_range(q->in, 0, (guint)length + 1);
        q->scanned = 0;
    }
    if (length < 0) {
        if (q->in->len > qmp_limits.bytes)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "%s: the server's answer is longer than %zu MiB", q->path,
                               qmp_limits.bytes >> 20);
        return 0;
    }
    node = json_read((const char *)q->in->data, (gsize)length, &qmp_limits, &error);
    g_byte_array_remove_range(q->in, 0, (guint)length + 1);
    q->scanned = 0;
    if (!node)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: the server's answer is not QMP: %s",
                           q->path, error->message);
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: the server's answer is not QMP: not an object", q->path);
    *message = json_node_dup_object(node);
    return 1;
}

static JsonObject *next_message(struct qmp *q, GError **err)
{
    JsonObject *message = NULL;

    for (;;) {
        switch (qmp_take_message(q, &message, err)) {
        case 1:
            return message;
        case -1:
            return NULL;
        default:
            if (qmp_receive(q, err) < 0)
                return NULL;
        }
    }
}

static int send_text(struct qmp *q, const char *text, gsize length, GError **err)
{
    while (length > 0) {
        ssize_t n = send(q->fd, text, length, MSG_NOSIGNAL);

        if (n >= 0) {
            text += n;
            length -= (gsize)n;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return unreachable(q, err, "the server closed the connection");
        } else if (errno == EAGAIN) {
            return unreachable(q, err, "the server does not read");
        } else if (errno != EINTR) {
            return unreachable(q, err, g_strerror(errno));
        }
    }
    return 0;
}

/* ---- commands ---- */

static int error_reply(const struct qmp *q, JsonObject *error, GError **err)
{
    const char *class = json_member_string(error, "class");
    const char *desc = json_member_string(error, "desc");
    bool not_found = g_strcmp0(class, "CommandNotFound") == 0;

    if (!desc)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: the server sent an error without a text",
                           q->path);
    return client_fail(err, not_found ? CLIENT_ERROR_COMMAND_NOT_FOUND : CLIENT_ERROR_FAILED, "%s",
                       desc);
}

int qmp_read_reply(const struct qmp *q, JsonObject *message, JsonNode **value, GError **err)
{
    JsonObject *error = json_member_object(message, "error");
    JsonNode *result = json_object_get_member(message, "return");

    if (json_member_string(message, "event"))
        return 0;
    if (error)
        return error_reply(q, error, err);
    if (!result)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: the server's answer is not QMP: neither reply nor event", q->path);
    *value = json_node_copy(result);
    return 1;
}

int qmp_send(struct qmp *q, const char *text, GError **err)
{
    g_autofree char *line = g_strconcat(text, "\n", NULL);

    return send_text(q, line, strlen(line), err);
}

/* Wait for the reply to what has been sent. */
static JsonNode *wait_reply(struct qmp *q, GError **err)
{
    q->grace = 0;
    for (;;) {
        g_autoptr(JsonObject) message = next_message(q, err);
        JsonNode *value = NULL;

        if (!message)
            return NULL;
        switch (qmp_read_reply(q, message, &value, err)) {
        case 1:
            q->out_of_step = false;
            return value;
        case -1:
            q->out_of_step = !json_member_object(message, "error");
            return NULL;
        }
    }
}

bool qmp_in_step(const struct qmp *q)
{
    return !q->out_of_step;
}

JsonNode *qmp_request(struct qmp *q, const char *text, GError **err)
{
    if (q->out_of_step) {
        unreachable(q, err, "a command before had no answer");
        return NULL;
    }
    q->out_of_step = true;
    return qmp_send(q, text, err) < 0 ? NULL : wait_reply(q, err);
}

char *qmp_request_text(const char *name, JsonObject *arguments)
{
    g_autoptr(JsonObject) request = json_object_new();
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_string_member(request, "execute", name);
    if (arguments)
        json_object_set_object_member(request, "arguments", arguments);
    json_node_set_object(node, request);
    return json_write(node, false);
}

JsonNode *qmp_command(struct qmp *q, const char *name, JsonObject *arguments, GError **err)
{
    g_autofree char *text = qmp_request_text(name, arguments);
    GError *error = NULL;
    JsonNode *value = qmp_request(q, text, &error);

    if (!value) {
        if (!qmp_in_step(q))
            g_prefix_error(&error, "%s: ", name);
        g_propagate_error(err, error);
    }
    return value;
}

/* ---- the connection ---- */

JsonObject *qmp_version(const struct qmp *q)
{
    return q->version;
}

static int connect_socket(struct qmp *q, GError **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};

    if (strlen(q->path) >= sizeof address.sun_path)
        return unreachable(q, err, "the path is too long for a socket");
    strcpy(address.sun_path, q->path);
    q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* The time limit is for connect(), where the server's backlog is full, and for send(). */
    if (q->fd < 0 || setsockopt(q->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
        return unreachable(q, err, g_strerror(errno));
    if (connect(q->fd, (struct sockaddr *)&address, sizeof address) < 0)
        return unreachable(q, err,
                           errno == EAGAIN ? "the server does not answer" : g_strerror(errno));
    return 0;
}

/* Read the greeting and leave capabilities negotiation. */
static int negotiate(struct qmp *q, GError **err)
{
    g_autoptr(JsonNode) value = NULL;
    JsonObject *qmp;

    q->greeting = next_message(q, err);
    if (!q->greeting)
        return -1;
    qmp = json_member_object(q->greeting, "QMP");
    q->version = qmp ? json_member_object(qmp, "version") : NULL;
    if (!q->version)
        return client_fail(err, CLIENT_ERROR_UNREACHABLE, "no QMP greeting");
    value = qmp_command(q, "qmp_capabilities", NULL, err);
    return value ? 0 : -1;
}

struct qmp *qmp_connect(const char *path, GError **err)
{
    struct qmp *q = g_new0(struct qmp, 1);
    GError *error = NULL;

    q->path = g_strdup(path);
    q->fd = -1;
    q->in = g_byte_array_new();
    q->deadline = g_get_monotonic_time() + PATIENCE_SECONDS * G_USEC_PER_SEC;
    if (connect_socket(q, err) < 0) {
        qmp_close(q);
        return NULL;
    }
    if (negotiate(q, &error) < 0) {
        /* Whatever the error is, no server that we can use listens there. */
        client_fail(err, CLIENT_ERROR_UNREACHABLE, "%s is not a control socket that answers: %s",
                    path, error->message);
        g_error_free(error);
        qmp_close(q);
        return NULL;
    }
    q->deadline = 0;
    return q;
}

void qmp_close(struct qmp *q)
{
    if (!q)
        return;
    if (q->fd >= 0)
        close(q->fd);
    g_clear_pointer(&q->greeting, json_object_unref);
    g_byte_array_unref(q->in);
    g_free(q->path);
    g_free(q);
}
