/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/hooks/guest-agent.h"

#include "common/util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Bytes: most of one answer. */
#define ANSWER_MAX 65536

/* The agent begins its answer to guest-sync-delimited with this byte, which is in no text. In a
 * request it makes the agent forget what it has of an earlier one. */
#define DELIMITER '\xff'

struct guest_agent {
    const char *path;
    int fd;
    gint64 deadline;
    bool is_sent; /* the next command is sent already */
    GString *received;
};

/* ---- bytes ---- */

/* Wait until the socket is ready for `events`. */
static int wait_for(struct guest_agent *a, short events, GError **err)
{
    struct pollfd ready = {.fd = a->fd, .events = events};
    gint64 left;

    while ((left = a->deadline - g_get_monotonic_time()) > 0) {
        if (poll(&ready, 1, (int)MIN(left / 1000 + 1, G_MAXINT)) == 1)
            return 0;
    }
    return fail(err, "agent %s: it does not answer", a->path);
}

static int send_all(struct guest_agent *a, const char *text, size_t length, GError **err)
{
    while (length > 0) {
        ssize_t n = send(a->fd, text, length, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            if (wait_for(a, POLLOUT, err) < 0)
                return -1;
        } else if (n < 0 && errno != EINTR) {
            return fail_errno(err, errno, "agent %s", a->path);
        }
        if (n > 0) {
            text += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

/* Append what has come, at least one byte. */
static int receive(struct guest_agent *a, GError **err)
{
    char text[4096];
    ssize_t n;

    if (a->received->len > ANSWER_MAX)
        return fail(err, "agent %s: its answer has no end", a->path);
    do {
        if (wait_for(a, POLLIN, err) < 0)
            return -1;
        n = recv(a->fd, text, sizeof text, 0);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n < 0)
        return fail_errno(err, errno, "agent %s", a->path);
    if (n == 0)
        return fail(err, "agent %s: it has closed the connection", a->path);
    g_string_append_len(a->received, text, n);
    return 0;
}

/* The next line, without its line feed. NULL and *err. */
static char *read_line(struct guest_agent *a, GError **err)
{
    for (;;) {
        const char *end = memchr(a->received->str, '\n', a->received->len);

        if (end) {
            gsize length = (gsize)(end - a->received->str);
            char *line = g_strndup(a->received->str, length);

            g_string_erase(a->received, 0, (gssize)length + 1);
            return line;
        }
        if (receive(a, err) < 0)
            return NULL;
    }
}

/* ---- commands ---- */

/* What the agent says of a failure; NULL: it is none. */
static const char *error_of(JsonObject *answer)
{
    JsonNode *node = json_object_get_member(answer, "error");

    if (!node)
        return NULL;
    return JSON_NODE_HOLDS_OBJECT(node) ? json_object_get_string_member_with_default(
                                              json_node_get_object(node), "desc", "it has failed")
                                        : "it has failed";
}

/* The node of `return`. NULL and *err. */
static JsonNode *parse_answer(struct guest_agent *a, const char *command, const char *line,
                              GError **err)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root;
    JsonObject *answer;
    const char *why;

    root = json_parser_load_from_data(parser, line, -1, NULL) ? json_parser_get_root(parser) : NULL;
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        fail(err, "agent %s: %s: its answer is no JSON object", a->path, command);
        return NULL;
    }
    answer = json_node_get_object(root);
    why = error_of(answer);
    if (why || !json_object_has_member(answer, "return")) {
        fail(err, "agent %s: %s: %s", a->path, command, why ? why : "its answer is none");
        return NULL;
    }
    return json_node_copy(json_object_get_member(answer, "return"));
}

static char *request_of(const char *command)
{
    return g_strdup_printf("{\"execute\": \"%s\"}\n", command);
}

static JsonNode *ask(struct guest_agent *a, const char *command, GError **err)
{
    g_autofree char *request = request_of(command);
    g_autofree char *line = NULL;

    if (!a->is_sent && send_all(a, request, strlen(request), err) < 0)
        return NULL;
    a->is_sent = false;
    line = read_line(a, err);
    return line ? parse_answer(a, command, line, err) : NULL;
}

int guest_agent_number(struct guest_agent *a, const char *command, gint64 *answer, GError **err)
{
    g_autoptr(JsonNode) node = ask(a, command, err);

    if (!node)
        return -1;
    if (json_node_get_value_type(node) != G_TYPE_INT64)
        return fail(err, "agent %s: %s: its answer is no number", a->path, command);
    *answer = json_node_get_int(node);
    return 0;
}

int guest_agent_text(struct guest_agent *a, const char *command, char **answer, GError **err)
{
    g_autoptr(JsonNode) node = ask(a, command, err);

    if (!node)
        return -1;
    if (json_node_get_value_type(node) != G_TYPE_STRING)
        return fail(err, "agent %s: %s: its answer is no text", a->path, command);
    *answer = json_node_dup_string(node);
    return 0;
}

/* ---- the connection ---- */

/* Skip all up to the last delimiter. */
static int skip_to_delimiter(struct guest_agent *a, GError **err)
{
    const char *last;

    while (!(last = memrchr(a->received->str, DELIMITER, a->received->len))) {
        g_string_truncate(a->received, 0);
        if (receive(a, err) < 0)
            return -1;
    }
    g_string_erase(a->received, 0, last + 1 - a->received->str);
    return 0;
}

/* Is this the answer with our number? It may follow one that was cut off behind its delimiter, e.g. by a
 * reset of the guest. */
static bool is_ours(struct guest_agent *a, const char *line, gint64 number)
{
    const char *cut = strrchr(line, DELIMITER);
    g_autoptr(JsonNode) node = parse_answer(a, "guest-sync-delimited", cut ? cut + 1 : line, NULL);

    return node && json_node_get_value_type(node) == G_TYPE_INT64 &&
           json_node_get_int(node) == number;
}

/* An answer with another number is one to somebody before us. */
static int synchronise(struct guest_agent *a, const char *ahead, GError **err)
{
    gint64 number = g_random_int();
    g_autofree char *next = ahead ? request_of(ahead) : g_strdup("");
    g_autofree char *request =
        g_strdup_printf("%c{\"execute\": \"guest-sync-delimited\", \"arguments\": {\"id\": "
                        "%" G_GINT64_FORMAT "}}\n%s",
                        DELIMITER, number, next);

    a->is_sent = ahead;
    if (send_all(a, request, strlen(request), err) < 0)
        return -1;
    for (;;) {
        g_autofree char *line = NULL;

        if (skip_to_delimiter(a, err) < 0)
            return -1;
        line = read_line(a, err);
        if (!line)
            return -1;
        if (is_ours(a, line, number))
            return 0;
    }
}

/* This does not wait: where the queue of the socket is full, it fails with EAGAIN. */
static int connect_to(struct guest_agent *a, bool *absent, GError **err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(a->path) >= sizeof address.sun_path)
        return fail(err, "agent %s: the path is too long", a->path);
    strcpy(address.sun_path, a->path);
    a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->fd < 0 || connect(a->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (absent)
            *absent = errno == ENOENT || errno == ECONNREFUSED;
        return fail_errno(err, errno, "agent %s", a->path);
    }
    return 0;
}

void guest_agent_set_deadline(struct guest_agent *a, gint64 deadline)
{
    a->deadline = deadline;
}

struct guest_agent *guest_agent_open(const char *path, const char *ahead, gint64 deadline,
                                     bool *absent, GError **err)
{
    struct guest_agent *a = g_new0(struct guest_agent, 1);

    *a = (struct guest_agent){.path = path, .fd = -1, .deadline = deadline};
    a->received = g_string_new(NULL);
    if (connect_to(a, absent, err) == 0 && synchronise(a, ahead, err) == 0)
        return a;
    guest_agent_close(a);
    return NULL;
}

void guest_agent_close(struct guest_agent *a)
{
    if (!a)
        return;
    if (a->fd >= 0)
        close(a->fd);
    g_string_free(a->received, TRUE);
    g_free(a);
}
