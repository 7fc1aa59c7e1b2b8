/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/monitor-rig.h"

#include "common/util/error.h"
#include "tests/rigs/main-loop.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a table ---- */

static const struct arg echo_args[] = {ARG("text", ARG_STRING), ARGS_END};
static const struct arg fill_args[] = {ARG("bytes", ARG_SIZE), ARGS_END};

static int cmd_echo(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    JsonObject *o = json_object_new();
    struct counters *counters = call->context;

    counters->runs++;
    json_object_set_string_member(o, "text", arg_string(args, "text"));
    *value = qmp_object(o);
    return 0;
}

static int cmd_fill(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    g_autofree char *text = g_strnfill((gsize)arg_int(args, "bytes", 0), 'x');
    struct counters *counters = call->context;

    counters->runs++;
    *value = json_node_init_string(json_node_alloc(), text);
    return 0;
}

static int cmd_fail(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    g_set_error(err, FLEECE_ERROR, FLEECE_ERROR_DEVICE_NOT_ACTIVE, "Block job 'x' not found");
    return -1;
}

/* A handler must not do that; the client gets an error all the same. */
static int cmd_fail_silently(struct qmp_call *call, JsonObject *args, JsonNode **value,
                             GError **err)
{
    return -1;
}

static int cmd_nothing(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    return 0;
}

/* The test answers it. */
static void cmd_late(struct qmp_call *call, JsonObject *args)
{
    struct counters *counters = call->context;

    counters->runs++;
    g_queue_push_tail(&counters->late, call);
}

static void cmd_fail_at_once(struct qmp_call *call, JsonObject *args)
{
    g_autoptr(GError) error = NULL;

    fail(&error, "at once");
    qmp_call_fail(call, error);
}

static const struct qmp_command own_commands[] = {
    {"echo", "", echo_args, .run = cmd_echo},
    {"fill", "", fill_args, .run = cmd_fill},
    {"fail", "", no_args, .run = cmd_fail},
    {"fail-silently", "", no_args, .run = cmd_fail_silently},
    {"nothing", "", no_args, .run = cmd_nothing},
    {"late", "", echo_args, .start = cmd_late},
    {"fail-at-once", "", no_args, .start = cmd_fail_at_once},
    {.name = NULL},
};

static const struct qmp_command *const commands[] = {qmp_negotiation, own_commands, NULL};

/* ---- a client ---- */

static void client_gone(struct monitor *m, void *opaque)
{
    struct client *c = opaque;

    c->gone++;
    monitor_free(m);
    c->monitor = NULL;
}

static struct log_limit lost_events;

void client_begin_with(struct client *c, struct counters *counters)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    *c = (struct client){.fd = fds[0], .in = g_string_new(NULL)};
    c->monitor = monitor_new(fds[1], "test", commands, counters ? counters : &c->counters,
                             &lost_events, client_gone, c);
}

void client_begin(struct client *c)
{
    client_begin_with(c, NULL);
}

void client_end(struct client *c)
{
    monitor_free(c->monitor);
    if (c->fd >= 0)
        close(c->fd);
    g_string_free(c->in, TRUE);
}

bool take(struct client *c)
{
    char buffer[65536];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);

    if (n > 0)
        g_string_append_len(c->in, buffer, n);
    else if (n < 0)
        g_assert_true(errno == EAGAIN || errno == ECONNRESET);
    return n != 0 && !(n < 0 && errno == ECONNRESET);
}

char *next_line(struct client *c)
{
    char *end;

    while ((end = strstr(c->in->str, "\r\n")) == NULL) {
        run_main_loop();
        if (!take(c))
            return NULL;
    }
    char *line = g_strndup(c->in->str, (gsize)(end - c->in->str));
    g_string_erase(c->in, 0, end + 2 - c->in->str);
    return line;
}

void expect(struct client *c, const char *expected)
{
    g_autofree char *line = next_line(c);

    g_assert_cmpstr(line, ==, expected);
}

void say(struct client *c, const char *text)
{
    size_t length = strlen(text);

    while (length > 0) {
        ssize_t n = send(c->fd, text, length, MSG_NOSIGNAL);

        if (n < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            g_main_context_iteration(NULL, TRUE);
            continue;
        }
        text += n;
        length -= (size_t)n;
    }
}

void negotiate(struct client *c)
{
    g_autofree char *greeting = next_line(c);

    g_assert_nonnull(greeting);
    say(c, "{\"execute\":\"qmp_capabilities\"}\n");
    expect(c, "{\"return\": {}}");
}

static GString *event_line(int i)
{
    GString *line = g_string_new(NULL);
    JsonObject *data = json_object_new();

    json_object_set_int_member(data, "i", i);
    qmp_event(line, "TEST", data, 1765431 + i);
    return line;
}

void send_event(struct client *c, int i)
{
    GString *line = event_line(i);

    monitor_event(c->monitor, line);
    g_string_free(line, TRUE);
}
