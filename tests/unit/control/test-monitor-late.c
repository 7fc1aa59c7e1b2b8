/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Monitors whose commands are answered later.
 */
#include "common/util/error.h"
#include "tests/rigs/main-loop.h"
#include "tests/rigs/monitor-rig.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Answer a command that waits, the oldest or the newest, with its own argument. */
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

/* Commands are run one after the other, although more have come. Events are sent meanwhile. */
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

/* A client whose command waits holds up no other client, and the later command may be answered
 * first. */
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

/* A client goes while its command is not done. The monitor ends at once, the command goes on, and
 * its answer goes nowhere. The request behind it does not run. */
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

/* The command is answered after the client has gone and before the monitor has ended. */
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

/* A client that has closed one direction is still answered. */
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

/* Requests behind a command that waits stay in the socket, but for one chunk. */
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
    g_test_add_func("/monitor-late/one-by-one", test_late);
    g_test_add_func("/monitor-late/side-by-side", test_late_side_by_side);
    g_test_add_func("/monitor-late/hang-up", test_late_hang_up);
    g_test_add_func("/monitor-late/hang-up-answered", test_late_hang_up_answered);
    g_test_add_func("/monitor-late/half-close", test_late_half_close);
    g_test_add_func("/monitor-late/sends-on", test_late_sends_on);
    g_test_add_func("/monitor-late/freed", test_late_freed);
    return g_test_run();
}
