/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/shutdown.h"

#include <glib.h>
#include <pthread.h>

/* LONG_MS is longer than any test takes. SHORT_MS passes at once. */
#define LONG_MS  60000
#define SHORT_MS 1

struct end {
    GString *seen; /* a letter for each call */
    struct shutdown_ticket *tickets[3];
    unsigned n_tickets;
    GMainLoop *loop;
    bool in_order;
};

static void keep(void *opaque, struct shutdown_ticket *ticket)
{
    struct end *e = opaque;

    g_string_append_c(e->seen, 'k');
    e->tickets[e->n_tickets++] = ticket;
}

static void complete_at_once(void *opaque, struct shutdown_ticket *ticket)
{
    struct end *e = opaque;

    g_string_append_c(e->seen, 'a');
    shutdown_complete(ticket);
}

static void *complete(void *ticket)
{
    shutdown_complete(ticket);
    return NULL;
}

static void complete_in_a_thread(void *opaque, struct shutdown_ticket *ticket)
{
    struct end *e = opaque;
    pthread_t thread;

    g_string_append_c(e->seen, 't');
    g_assert_cmpint(pthread_create(&thread, NULL, complete, ticket), ==, 0);
    pthread_detach(thread);
}

static void give_up(void *opaque)
{
    struct end *e = opaque;

    g_string_append_c(e->seen, 'g');
}

static void ended(void *opaque, bool in_order)
{
    struct end *e = opaque;

    g_string_append_c(e->seen, '.');
    e->in_order = in_order;
    g_main_loop_quit(e->loop);
}

static void end_begin(struct end *e)
{
    *e = (struct end){.seen = g_string_new(NULL), .loop = g_main_loop_new(NULL, FALSE)};
}

static void run(struct end *e, const struct shutdown_step *steps, unsigned n)
{
    shutdown_start(steps, n, ended, e);
    g_main_loop_run(e->loop);
}

static void end_end(struct end *e)
{
    g_string_free(e->seen, TRUE);
    g_main_loop_unref(e->loop);
}

static void test_in_order(void)
{
    const struct shutdown_step steps[] = {
        {LONG_MS, complete_at_once, give_up},
        {LONG_MS, complete_in_a_thread, give_up},
        {LONG_MS, complete_at_once, give_up},
    };
    struct end e;

    end_begin(&e);
    run(&e, steps, G_N_ELEMENTS(steps));
    g_assert_cmpstr(e.seen->str, ==, "ata.");
    g_assert_true(e.in_order);
    end_end(&e);
}

/* A step that hangs is given up, and the steps after it run all the same. */
static void test_given_up(void)
{
    const struct shutdown_step steps[] = {
        {LONG_MS, complete_at_once, give_up},
        {SHORT_MS, keep, give_up},
        {LONG_MS, complete_in_a_thread, give_up},
    };
    struct end e;

    end_begin(&e);
    run(&e, steps, G_N_ELEMENTS(steps));
    g_assert_cmpstr(e.seen->str, ==, "akgt.");
    g_assert_false(e.in_order);
    shutdown_complete(e.tickets[0]); /* after the end */
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpstr(e.seen->str, ==, "akgt.");
    end_end(&e);
}

static struct end *late;

static gboolean complete_late_then_own(gpointer unused)
{
    /* The first step's ticket does not count for the second step. */
    shutdown_complete(late->tickets[0]);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpstr(late->seen->str, ==, "kgk");
    shutdown_complete(late->tickets[1]);
    return G_SOURCE_REMOVE;
}

static void keep_and_complete_the_other(void *opaque, struct shutdown_ticket *ticket)
{
    keep(opaque, ticket);
    g_idle_add(complete_late_then_own, NULL);
}

static void test_late(void)
{
    const struct shutdown_step steps[] = {
        {SHORT_MS, keep, give_up},
        {LONG_MS, keep_and_complete_the_other, give_up},
    };
    struct end e;

    late = &e;
    end_begin(&e);
    run(&e, steps, G_N_ELEMENTS(steps));
    g_assert_cmpstr(e.seen->str, ==, "kgk.");
    g_assert_false(e.in_order);
    end_end(&e);
}

/* While a step is under way, the main loop serves others. */
static gboolean let_go(gpointer opaque)
{
    struct end *e = opaque;

    g_string_append_c(e->seen, 'o');
    shutdown_complete(e->tickets[0]);
    return G_SOURCE_REMOVE;
}

static void test_main_loop_runs(void)
{
    const struct shutdown_step steps[] = {{LONG_MS, keep, give_up}};
    struct end e;

    end_begin(&e);
    g_idle_add(let_go, &e);
    run(&e, steps, G_N_ELEMENTS(steps));
    g_assert_cmpstr(e.seen->str, ==, "ko.");
    g_assert_true(e.in_order);
    end_end(&e);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/shutdown/in-order", test_in_order);
    g_test_add_func("/shutdown/given-up", test_given_up);
    g_test_add_func("/shutdown/late", test_late);
    g_test_add_func("/shutdown/main-loop-runs", test_main_loop_runs);
    return g_test_run();
}
