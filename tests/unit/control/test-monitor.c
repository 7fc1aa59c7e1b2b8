/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole monitors on socket pairs: what they answer, and clients that are slow, leave, or never
 * read.
 */
#include "tests/rigs/main-loop.h"
#include "tests/rigs/monitor-rig.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
        run_main_loop();
    }
    expect(&c, "{\"return\": {\"text\": \"\\u00e9\"}}");
    client_end(&c);
}

/* Many requests at once are all answered, in order. */
static void test_order(void)
{
    GString *all = g_string_new(NULL);
    struct client c;

    client_begin(&c);
    negotiate(&c);
    for (int i = 0; i < 5000; i++)
        g_string_append_printf(all, "{'execute':'echo','arguments':{'text':'%d'},'id':%d}", i, i);
    /* The client does not read yet, except where it could not send otherwise. */
    for (size_t at = 0; at < all->len;) {
        ssize_t n = send(c.fd, all->str + at, all->len - at, MSG_NOSIGNAL);

        if (n > 0)
            at += (size_t)n;
        else
            g_assert_true(take(&c));
        run_main_loop();
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

/* The monitor does not work for a client that sends and never reads: the requests stay in the
 * socket. */
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
            g_assert_cmpint(n, ==, -1); /* a short request goes as a whole or not at all */
            g_assert_cmpint(errno, ==, EAGAIN);
            if (!g_main_context_iteration(NULL, FALSE))
                break;
        }
    }
    g_assert_cmpuint(c.counters.runs, <, sent);
    g_assert_cmpuint(c.counters.runs, <, 1000);
    /* When it reads after all, it gets everything. */
    for (unsigned i = 0; i < sent; i++) {
        g_autofree char *line = next_line(&c);

        g_assert_cmpuint(strlen(line), ==, 10000 + strlen("{\"return\": \"\"}"));
    }
    g_assert_cmpuint(c.counters.runs, ==, sent);
    client_end(&c);
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

/* A slow reader loses the newest events, always whole ones, and nothing else. Other clients lose
 * nothing. */
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

/* A client that has closed one direction gets all answers, and then the end. */
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

/* A client goes while replies wait for it. */
static void test_hang_up(void)
{
    struct client c;

    client_begin(&c);
    negotiate(&c);
    say(&c, "{'execute':'fill','arguments':{'bytes':5000000}}");
    run_main_loop();
    close(c.fd);
    c.fd = -1;
    while (c.gone == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_null(c.monitor);
    client_end(&c);
}

/* The owner may end a monitor at any time. What fits the socket is still sent. */
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
    return g_test_run();
}
