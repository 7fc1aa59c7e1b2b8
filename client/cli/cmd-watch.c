/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl watch: the server's events, until interrupted. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "common/json/value.h"
#include "common/json/write.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* A plain word without quotes, anything else as JSON. */
static char *value_text(JsonNode *value)
{
    const char *text =
        JSON_NODE_HOLDS_VALUE(value) && json_node_get_value_type(value) == G_TYPE_STRING
            ? json_node_get_string(value)
            : NULL;

    if (text && *text != '\0' && !strpbrk(text, " \t\"'={}[]"))
        return g_strdup(text);
    return json_write(value, false);
}

/* "2026-11-20 17:01:02.123456" in local time, or "-". */
static char *time_text(JsonObject *event)
{
    JsonObject *timestamp = json_member_object(event, "timestamp");
    g_autoptr(GDateTime) when = NULL;
    g_autofree char *seconds = NULL;

    if (timestamp)
        when = g_date_time_new_from_unix_local((gint64)json_member_size(timestamp, "seconds"));
    if (!when)
        return g_strdup("-");
    seconds = g_date_time_format(when, "%Y-%m-%d %H:%M:%S");
    return g_strdup_printf("%s.%06" PRIu64, seconds,
                           json_member_size(timestamp, "microseconds") % 1000000);
}

static void print_event(struct client *c, JsonObject *event)
{
    g_autofree char *time = time_text(event);
    g_autoptr(GString) line = g_string_new(NULL);
    JsonObject *data = json_member_object(event, "data");
    g_autofree char *clean = NULL;

    g_string_append_printf(line, "%s  %s", time, json_member_string(event, "event"));
    if (data) {
        g_autoptr(GList) names = json_object_get_members(data);

        for (GList *name = names; name; name = name->next) {
            g_autofree char *text = value_text(json_object_get_member(data, name->data));

            g_string_append_printf(line, "  %s=%s", (const char *)name->data, text);
        }
    }
    clean = text_clean(line->str, !c->terminal.utf8);
    g_string_append_printf(c->out, "%s\n", clean);
}

static void print_event_json(struct client *c, JsonObject *event)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), event);

    client_print_json(c, node, false);
}

/* Print all events that have come whole. *shutdown is set if one says that the server ends. */
static int print_events(struct client *c, bool *shutdown, GError **err)
{
    for (;;) {
        g_autoptr(JsonObject) message = NULL;
        int n = qmp_take_message(c->qmp, &message, err);

        if (n <= 0)
            return n;
        if (!json_member_string(message, "event"))
            continue;
        if (strcmp(json_member_string(message, "event"), "SHUTDOWN") == 0)
            *shutdown = true;
        if (c->json)
            print_event_json(c, message);
        else
            print_event(c, message);
        if (client_flush(c, err) < 0)
            return -1;
    }
}

/* Print events until a signal comes, the reader of our output goes away, or the server ends. */
static int watch(struct client *c, int signals, GError **err)
{
    struct pollfd p[] = {{.fd = signals, .events = POLLIN},
                         {.fd = STDOUT_FILENO}, /* POLLERR: nobody reads what we print */
                         {.fd = qmp_fd(c->qmp), .events = POLLIN}};
    bool shutdown = false;

    for (;;) {
        GError *error = NULL;

        if (print_events(c, &shutdown, err) < 0)
            return -1;
        if (poll(p, G_N_ELEMENTS(p), -1) < 0) {
            if (errno == EINTR)
                continue;
            return client_fail(err, CLIENT_ERROR_FAILED, "poll: %s", g_strerror(errno));
        }
        if (p[0].revents != 0 || (p[1].revents & POLLERR))
            return 0;
        if (p[2].revents != 0 && qmp_receive(c->qmp, &error) < 0) {
            if (shutdown) {
                g_error_free(error);
                return 0; /* it had said that it would end */
            }
            g_propagate_error(err, error);
            return -1;
        }
    }
}

static int run_watch(struct client *c, const void *options, char **args, GError **err)
{
    sigset_t set;
    int signals, result;

    if (!client_qmp(c, err))
        return -1;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (signals < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "signalfd: %s", g_strerror(errno));
    fprintf(stderr, "fleecectl: watching %s, until interrupted\n", c->control);
    result = watch(c, signals, err);
    close(signals);
    return result;
}

const struct command cmd_watch = {
    .name = "watch",
    .synopsis = "",
    .summary = "print the server's events as they come, until interrupted",
    .run = run_watch,
};
