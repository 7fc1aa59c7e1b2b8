/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole monitors on socket pairs, with a table of commands of the test's own. The test is the
 * client and the main loop at once: it iterates the main context while it waits for a line.
 */
#include "common/util/error.h"
#include "server/control/monitor.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a table ---- */

static const struct arg echo_args[] = {ARG("text", ARG_STRING), ARGS_END};
static const struct arg fill_args[] = {ARG("bytes", ARG_SIZE), ARGS_END};

struct counters {
    unsigned runs;
    GQueue late; /* struct qmp_call, not answered yet */
};

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

/* It ought not to. */
static int cmd_fail_silently(struct qmp_call *call, JsonObject *args, JsonNode **value,
                             GError **err)
{
    return -1;
}

static int cmd_nothing(struct qmp_call *call, JsonObject *args, JsonNode **value, GError **err)
{
    return 0;
}

/* Answered when the test says so: answer_late. */
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

struct client {
    struct monitor *monitor;
    int fd;
    GString *in;
    unsigned gone;
    struct counters counters;
};

static void client_gone(struct monitor *m, void *opaque)
{
    struct client *c = opaque;

    c->gone++;
    monitor_free(m);
    c->monitor = NULL;
}

static struct log_limit lost_events;

/* Of a server whose counters are these. */
static void client_begin_with(struct client *c, struct counters *counters)
{
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    *c = (struct client){.fd = fds[0], .in = g_string_new(NULL)};
    c->monitor = monitor_new(fds[1], "test", commands, counters ? counters : &c->counters,
                             &lost_events, client_gone, c);
}

static void client_begin(struct client *c)
{
    client_begin_with(c, NULL);
}

static void client_end(struct client *c)
{
    monitor_free(c->monitor);
    if (c->fd >= 0)
        close(c->fd);
    g_string_free(c->in, TRUE);
}

/* Take in what has come. false: the end of the stream. */
static bool take(struct client *c)
{
    char buffer[65536];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);

    if (n > 0)
        g_string_append_len(c->in, buffer, n);
    else if (n < 0)
        g_assert_true(errno == EAGAIN || errno == ECONNRESET);
    return n != 0 && !(n < 0 && errno == ECONNRESET);
}

/* The next line without its CRLF, or NULL at the end of the stream. */
static char *next_line(struct client *c)
{
    char *end;

    while ((end = strstr(c->in->str, "\r\n")) == NULL) {
        while (g_main_context_iteration(NULL, FALSE))
            ;
        if (!take(c))
            return NULL;
    }
    char *line = g_strndup(c->in->str, (gsize)(end - c->in->str));
    g_string_erase(c->in, 0, end + 2 - c->in->str);
    return line;
}

static void expect(struct client *c, const char *expected)
{
    g_autofree char *line = next_line(c);

    g_assert_cmpstr(line, ==, expected);
}

/* Send all of it, letting the monitor read meanwhile. */
static void say(struct client *c, const char *text)
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

static void negotiate(struct client *c)
{
    g_autofree char *greeting = next_line(c);

    g_assert_nonnull(greeting);
    say(c, "{\"execute\":\"qmp_capabilities\"}\n");
    expect(c, "{\"return\": {}}");
}

/* ---- tests ---- */

static void test_greeting(void)
{
    struct client c;

    client_begin(&c);
    expect(&c, "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10, \"minor\": 0, \"micro\": 0}, "
               "\"package\": \"" PACKAGE_NAME " " PACKAGE_VERSION "\"}, \"capabilities\": []}}");
    client_end(&c);
}

#define EXPECTING                                                                                  \
    "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": "                                      \
    "\"Expecting capabilities negotiation with 'qmp_capabilities'\"}"
#define GENERIC(text) "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" text "\"}"

static void test_negotiation(void)
{
    struct client c;

    client_begin(&c);
    g_free(next_line(&c));
    say(&c, "{'execute':'echo','arguments':{'text':'x'},'id':1}{'execute':'none'}");
    expect(&c, EXPECTING ", \"id\": 1}");
    expect(&c, EXPECTING "}");
    say(&c, "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}"
            "{'execute':'qmp_capabilities','arguments':{'enable':['x']}}"
            "{'execute':'qmp_capabilities','arguments':{'enable':[1]}}"
            "{'execute':'qmp_capabilities','arguments':{'x':1}}{'execute':'nothing'}");
    expect(&c, GENERIC("Capability oob not available") "}");
    expect(&c, GENERIC("Parameter 'null' does not accept value 'x'") "}");
    expect(&c, GENERIC("Invalid parameter type for 'enable[0]', expected: string") "}");
    expect(&c, GENERIC("Parameter 'x' is unexpected") "}");
    expect(&c, EXPECTING "}");
    say(&c, "{'execute':'qmp_capabilities','arguments':{'enable':[]},'id':'a'}"
            "{'execute':'qmp_capabilities'}{'execute':'none','id':null}");
    expect(&c, "{\"return\": {}, \"id\": \"a\"}");
    expect(&c, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Capabilities negotiation "
               "is already complete, command ignored\"}}");
    expect(&c, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command none has not "
               "been found\"}, \"id\": null}");
    g_assert_cmpuint(c.counters.runs, ==, 0);
    client_end(&c);
}

static void test_envelope(void)
{
    static const char *const cases[][2] = {
        {"[]", GENERIC("QMP input must be a JSON object") "}"},
        {"'x'", GENERIC("QMP input must be a JSON object") "}"},
        {"null\n", GENERIC("QMP input must be a JSON object") "}"},
        {"{}", GENERIC("QMP input lacks member 'execute'") "}"},
        {"{'id':5}", GENERIC("QMP input lacks member 'execute'") ", \"id\": 5}"},
        {"{'execute':1,'id':5}",
         GENERIC("QMP input member 'execute' must be a string") ", \"id\": 5}"},
        {"{'exec-oob':'x'}", GENERIC("QMP input member 'exec-oob' is unexpected") "}"},
        {"{'execute':'echo','x':1}", GENERIC("QMP input member 'x' is unexpected") "}"},
        {"{'execute':'echo','arguments':[]}",
         GENERIC("QMP input member 'arguments' must be an object") "}"},
        {"{'execute':'echo'}", GENERIC("Parameter 'text' is missing") "}"},
        {"{'execute':'echo','arguments':{'text':1}}",
         GENERIC("Invalid parameter type for 'text', expected: string") "}"},
        {"{'execute':'echo','arguments':{'text':'','more':1}}",
         GENERIC("Parameter 'more' is unexpected") "}"},
        {"{'execute':'nothing','arguments':{'a':1}}", GENERIC("Parameter 'a' is unexpected") "}"},
        {"{'execute':'fail-silently'}", GENERIC("the command failed, and did not say why") "}"},
        {"{'execute':'fail','id':[]}",
         "{\"error\": {\"class\": \"DeviceNotActive\", \"desc\": \"Block job 'x' not found\"}, "
         "\"id\": []}"},
        {"{'execute':'nothing','execute':'nothing','id':1}",
         GENERIC("JSON parse error, duplicate key") "}"},
        {"{'execute':'nothing',}", GENERIC("JSON parse error, expecting value") "}"},
        {"\001", GENERIC("JSON parse error, stray '\\u0001'") "}"},
    };
    struct client c;

    client_begin(&c);
    negotiate(&c);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        say(&c, cases[i][0]);
        expect(&c, cases[i][1]);
        say(&c, "{'execute':'echo','arguments':{'text':'alive'}}");
        expect(&c, "{\"return\": {\"text\": \"alive\"}}");
    }
    client_end(&c);
}

static void test_ids(void)
{
    static const char *const ids[] = {
        "1",
        "-1",
        "18446744073709551615",
        "1.0",
        "1e999",
        "\"x\"",
        "null",
        "true",
        "[]",
        "{}",
        "{\"a\": [1, 2, {\"b\": null}], \"id\": \"a:b,c\"}",
        "\"\\u00e9\\ud83d\\ude00\"",
        "\"\"",
    };
    struct client c;

    client_begin(&c);
    negotiate(&c);
    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autofree char *request = g_strdup_printf("{\"id\":%s,\"execute\":\"nothing\"}", ids[i]);
        g_autofree char *reply = g_strdup_printf("{\"return\": {}, \"id\": %s}", ids[i]);

        say(&c, request);
        expect(&c, reply);
    }
    client_end(&c);
}

/* A writer of one byte at a time is served like any other. */
static void test_bytes(void)
{
    static const char text[] = "{\"execute\": 'echo',\r\n \"arguments\": {\"text\": \"\303\251\"}}";
    struct client c;

    client_begin(&c);
    negotiate(&c);
    for (const char *p = text; *p; p++) {
        char one[2] = {*p, '\0'};

        say(&c, one);
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    expect(&c, "{\"return\": {\"text\": \"\\u00e9\"}}");
    client_end(&c);
}

/* Many requests at once: all answered, in order. */
static void test_order(void)
{
    GString *all = g_string_new(NULL);
    struct client c;

    client_begin(&c);
    negotiate(&c);
    for (int i = 0; i < 5000; i++)
        g_string_append_printf(all, "{'execute':'echo','arguments':{'text':'%d'},'id':%d}", i, i);
    /* Nobody reads yet: send only what goes without it. */
    for (size_t at = 0; at < all->len;) {
        ssize_t n = send(c.fd, all->str + at, all->len - at, MSG_NOSIGNAL);

        if (n > 0)
            at += (size_t)n;
        else
            g_assert_true(take(&c));
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    for (int i = 0; i < 5000; i++) {
        g_autofree char *reply =
            g_strdup_printf("{\"return\": {\"text\": \"%d\"}, \"id\": %d}", i, i);

        expect(&c, reply);
    }
    g_assert_cmpuint(c.counters.runs, ==, 5000);
    g_string_free(all, TRUE);
    client_end(&c);
}

/* One that sends and never reads is not worked for: its requests stay where they are. */
static void test_never_reads(void)
{
    static const char request[] = "{'execute':'fill','arguments':{'bytes':10000}}";
    unsigned sent = 0;
    struct client c;

    client_begin(&c);
    negotiate(&c);
    for (;;) {
        ssize_t n = send(c.fd, request, strlen(request), MSG_NOSIGNAL);

        if (n == (ssize_t)strlen(request)) {
            sent++;
        } else {
            g_assert_cmpint(n, ==, -1); /* a datagram's worth goes in one piece or not at all */
            g_assert_cmpint(errno, ==, EAGAIN);
            if (!g_main_context_iteration(NULL, FALSE))
                break;
        }
    }
    g_assert_cmpuint(c.counters.runs, <, sent);
    g_assert_cmpuint(c.counters.runs, <, 1000);
    /* And when it reads after all, it gets everything. */
    for (unsigned i = 0; i < sent; i++) {
        g_autofree char *line = next_line(&c);

        g_assert_cmpuint(strlen(line), ==, 10000 + strlen("{\"return\": \"\"}"));
    }
    g_assert_cmpuint(c.counters.runs, ==, sent);
    client_end(&c);
}

static GString *event_line(int i)
{
    GString *line = g_string_new(NULL);
    JsonObject *data = json_object_new();

    json_object_set_int_member(data, "i", i);
    qmp_event(line, "TEST", data, 1765431 + i);
    return line;
}

static void send_event(struct client *c, int i)
{
    GString *line = event_line(i);

    monitor_event(c->monitor, line);
    g_string_free(line, TRUE);
}

static void test_events(void)
{
    GString *line = g_string_new(NULL);
    struct client c;

    client_begin(&c);
    send_event(&c, 0); /* nobody has negotiated: not sent */
    negotiate(&c);
    send_event(&c, 1);
    expect(&c, "{\"event\": \"TEST\", \"data\": {\"i\": 1}, "
               "\"timestamp\": {\"seconds\": 1, \"microseconds\": 765432}}");
    qmp_event(line, "EMPTY", NULL, 5);
    monitor_event(c.monitor, line);
    expect(&c, "{\"event\": \"EMPTY\", \"timestamp\": {\"seconds\": 0, \"microseconds\": 5}}");
    g_string_free(line, TRUE);
    client_end(&c);
}

/* A slow reader loses events, whole ones, the newest; nothing else is hurt. */
static void test_slow_reader(void)
{
    struct client c, other;
    int last = -1, count = 0;

    client_begin(&c);
    client_begin(&other);
    negotiate(&c);
    negotiate(&other);
    for (int i = 0; i < 100000; i++) {
        send_event(&c, i);
        if (i % 10000 == 0) {
            send_event(&other, i);
            g_free(next_line(&other));
        }
    }
    say(&c, "{'execute':'echo','arguments':{'text':'after'}}");
    for (;;) {
        g_autofree char *line = next_line(&c);
        g_autoptr(JsonNode) node = json_from_string(line, NULL);
        JsonObject *o;

        g_assert_nonnull(node);
        o = json_node_get_object(node);
        if (json_object_has_member(o, "return"))
            break;
        o = json_object_get_object_member(o, "data");
        g_assert_cmpint(json_object_get_int_member(o, "i"), ==, last + 1);
        last++;
        count++;
    }
    g_assert_cmpint(count, >, 10000);
    g_assert_cmpint(count, <, 100000);
    send_event(&c, 7);
    g_free(next_line(&c));
    client_end(&c);
    client_end(&other);
}

/* Half-closed: what was asked for is still answered, then it is the end. */
static void test_half_close(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, "{'execute':'fill','arguments':{'bytes':1000000}}{'execute':'echo','arguments':"
            "{'text':'bye'}}{'execute':");
    g_assert_cmpint(shutdown(c.fd, SHUT_WR), ==, 0);
    g_free(next_line(&c));
    expect(&c, "{\"return\": {\"text\": \"bye\"}}");
    g_assert_null(next_line(&c));
    g_assert_cmpuint(c.gone, ==, 1);
    client_end(&c);
}

/* Gone without a word, with replies waiting for it. */
static void test_hang_up(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, "{'execute':'fill','arguments':{'bytes':5000000}}");
    while (g_main_context_iteration(NULL, FALSE))
        ;
    close(c.fd);
    c.fd = -1;
    while (c.gone == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_null(c.monitor);
    client_end(&c);
}

/* The owner may end it at any time; what fits the socket is still sent. */
static void test_freed(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    send_event(&c, 1);
    monitor_free(c.monitor);
    c.monitor = NULL;
    g_free(next_line(&c));
    g_assert_null(next_line(&c));
    g_assert_cmpuint(c.gone, ==, 0);
    client_end(&c);
}

/* ---- commands that are answered later ---- */

static void run_main_loop(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

/* Tell one that is waiting, the oldest or the newest, its own argument. */
static void answer_late(struct client *c, bool newest)
{
    struct qmp_call *call =
        newest ? g_queue_pop_tail(&c->counters.late) : g_queue_pop_head(&c->counters.late);
    JsonNode *value = json_node_init_string(json_node_alloc(), arg_string(call->args, "text"));

    qmp_call_return(call, value);
}

static void expect_silence(struct client *c)
{
    run_main_loop();
    take(c);
    g_assert_cmpstr(c->in->str, ==, "");
}

#define LATE(text) "{'execute':'late','arguments':{'text':'" text "'},'id':'" text "'}"

/* One after the other, although more has come; events are sent meanwhile. */
static void test_late(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, LATE("a") "{'execute':'echo','arguments':{'text':'b'}}" LATE("c") "{'execute':'fail'}");
    expect_silence(&c);
    g_assert_cmpuint(c.counters.runs, ==, 1);
    send_event(&c, 1);
    g_free(next_line(&c));
    answer_late(&c, false);
    g_assert_cmpuint(c.counters.runs, ==, 1); /* the next one does not run inside the answer */
    expect(&c, "{\"return\": \"a\", \"id\": \"a\"}");
    expect(&c, "{\"return\": {\"text\": \"b\"}}");
    expect_silence(&c);
    g_autoptr(GError) error = NULL;
    g_set_error(&error, FLEECE_ERROR, FLEECE_ERROR_DEVICE_NOT_FOUND, "no c");
    qmp_call_fail(g_queue_pop_head(&c.counters.late), error);
    expect(&c, "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no c\"}, \"id\": \"c\"}");
    expect(&c, "{\"error\": {\"class\": \"DeviceNotActive\", \"desc\": "
               "\"Block job 'x' not found\"}}");
    say(&c, "{'execute':'fail-at-once'}" LATE("d"));
    expect(&c, GENERIC("at once") "}");
    expect_silence(&c);
    qmp_call_fail(g_queue_pop_head(&c.counters.late), NULL);
    expect(&c, GENERIC("the command failed, and did not say why") ", \"id\": \"d\"}");
    client_end(&c);
}

/* A client whose command waits holds up no other; answers come in any order between clients. */
static void test_late_side_by_side(void)
{
    struct client one, two;

    client_begin(&one);
    client_begin_with(&two, &one.counters);
    negotiate(&one);
    negotiate(&two);
    say(&one, LATE("a"));
    run_main_loop();
    say(&two, "{'execute':'echo','arguments':{'text':'b'}}" LATE("c"));
    expect(&two, "{\"return\": {\"text\": \"b\"}}");
    expect_silence(&two);
    g_assert_cmpuint(one.counters.late.length, ==, 2);
    answer_late(&one, true);
    expect(&two, "{\"return\": \"c\", \"id\": \"c\"}");
    expect_silence(&one);
    answer_late(&one, false);
    expect(&one, "{\"return\": \"a\", \"id\": \"a\"}");
    client_end(&one);
    client_end(&two);
}

/* A client that goes while its command is not done is let go at once; the command goes on, what is
 * behind it does not run, and the answer goes nowhere. */
static void test_late_hang_up(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, LATE("a") "{'execute':'nothing'}" LATE("b"));
    expect_silence(&c);
    close(c.fd);
    c.fd = -1;
    while (c.gone == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_null(c.monitor);
    g_assert_cmpuint(c.counters.late.length, ==, 1);
    answer_late(&c, false);
    run_main_loop();
    g_assert_cmpuint(c.counters.runs, ==, 1);
    client_end(&c);
}

/* It is answered between the client's going and the monitor's end. */
static void test_late_hang_up_answered(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, LATE("a") LATE("b"));
    expect_silence(&c);
    close(c.fd);
    c.fd = -1;
    answer_late(&c, false);
    while (c.gone == 0)
        g_main_context_iteration(NULL, TRUE);
    while (c.counters.late.length > 0)
        answer_late(&c, false);
    client_end(&c);
}

/* One that has said all it wants to say is still answered. */
static void test_late_half_close(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, LATE("a") LATE("b"));
    g_assert_cmpint(shutdown(c.fd, SHUT_WR), ==, 0);
    expect_silence(&c);
    answer_late(&c, false);
    expect(&c, "{\"return\": \"a\", \"id\": \"a\"}");
    expect_silence(&c);
    g_assert_cmpuint(c.gone, ==, 0);
    answer_late(&c, false);
    expect(&c, "{\"return\": \"b\", \"id\": \"b\"}");
    g_assert_null(next_line(&c));
    g_assert_cmpuint(c.gone, ==, 1);
    client_end(&c);
}

/* What is sent behind a command that waits stays in the socket, but for one chunk. */
static void test_late_sends_on(void)
{
    static const char request[] = "{'execute':'nothing'}";
    unsigned sent = 0;
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, LATE("a"));
    expect_silence(&c);
    for (int full = 0; full < 2;) {
        ssize_t n = send(c.fd, request, strlen(request), MSG_NOSIGNAL);

        g_assert_cmpint(n, ==, n < 0 ? -1 : (ssize_t)strlen(request));
        sent += n > 0;
        full += n < 0;
        if (n < 0)
            run_main_loop();
    }
    g_assert_cmpuint(sent, <, 1000000);
    answer_late(&c, false);
    expect(&c, "{\"return\": \"a\", \"id\": \"a\"}");
    for (unsigned i = 0; i < sent; i++)
        expect(&c, "{\"return\": {}}");
    client_end(&c);
}

/* The owner ends a monitor, or lets it take no more, while a command is not done. */
static void test_late_freed(void)
{
    struct client c;

    for (int stop = 0; stop < 2; stop++) {
        client_begin(&c);
        negotiate(&c);
        say(&c, LATE("a") LATE("b"));
        expect_silence(&c);
        if (stop) {
            monitor_stop(c.monitor);
            answer_late(&c, false);
            expect(&c, "{\"return\": \"a\", \"id\": \"a\"}");
            expect_silence(&c);
            g_assert_cmpuint(c.counters.runs, ==, 1);
        }
        monitor_free(c.monitor);
        c.monitor = NULL;
        if (!stop)
            answer_late(&c, false);
        run_main_loop();
        g_assert_cmpuint(c.counters.late.length, ==, 0);
        g_assert_null(next_line(&c));
        client_end(&c);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/monitor/greeting", test_greeting);
    g_test_add_func("/monitor/negotiation", test_negotiation);
    g_test_add_func("/monitor/envelope", test_envelope);
    g_test_add_func("/monitor/ids", test_ids);
    g_test_add_func("/monitor/bytes", test_bytes);
    g_test_add_func("/monitor/order", test_order);
    g_test_add_func("/monitor/never-reads", test_never_reads);
    g_test_add_func("/monitor/events", test_events);
    g_test_add_func("/monitor/slow-reader", test_slow_reader);
    g_test_add_func("/monitor/half-close", test_half_close);
    g_test_add_func("/monitor/hang-up", test_hang_up);
    g_test_add_func("/monitor/freed", test_freed);
    g_test_add_func("/monitor/late", test_late);
    g_test_add_func("/monitor/late/side-by-side", test_late_side_by_side);
    g_test_add_func("/monitor/late/hang-up", test_late_hang_up);
    g_test_add_func("/monitor/late/hang-up-answered", test_late_hang_up_answered);
    g_test_add_func("/monitor/late/half-close", test_late_half_close);
    g_test_add_func("/monitor/late/sends-on", test_late_sends_on);
    g_test_add_func("/monitor/late/freed", test_late_freed);
    return g_test_run();
}
