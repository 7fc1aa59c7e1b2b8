/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/closer.h"

#include <glib.h>
#include <pthread.h>
#include <string.h>

/* LONG_MS is longer than any test takes. SHORT_MS passes soon. SOON_MS also passes in a test, but a
 * thread that is ready to run has run before. */
#define LONG_MS  60000
#define SHORT_MS 20
#define SOON_MS  2000

struct close {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    GString *done; /* letters of the jobs that are done, in order */
    bool released; /* the jobs that hang go on */
    unsigned given_up;
    GString *left;
    pthread_t caller;
    unsigned elsewhere; /* jobs done by other threads than the caller */
};

struct job {
    struct close *close;
    const char *letter;
    bool hangs, fails;
};

static bool run(void *opaque)
{
    struct job *j = opaque;
    struct close *c = j->close;

    pthread_mutex_lock(&c->lock);
    while (j->hangs && !c->released)
        pthread_cond_wait(&c->changed, &c->lock);
    g_string_append(c->done, j->letter);
    c->elsewhere += !pthread_equal(pthread_self(), c->caller);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return !j->fails;
}

static void is_left(void *opaque, const struct closer_job *job, int64_t since_ms)
{
    struct close *c = opaque;

    g_string_append_printf(c->left, "%s%s", job->what, since_ms < 0 ? "-" : "+");
}

static void release(struct close *c)
{
    pthread_mutex_lock(&c->lock);
    c->released = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void give_up(void *opaque)
{
    struct close *c = opaque;

    c->given_up++;
    release(c);
}

/* Letters are jobs, A B C ...; those in `hangs` hang, those in `fails` fail. */
static bool close_all(struct close *c, unsigned n, const char *hangs, const char *fails,
                      unsigned patience_ms, unsigned limit_ms)
{
    static const char *const letters[] = {"A", "B", "C", "D"};
    const struct closer_options options = {patience_ms, limit_ms, is_left, give_up, c};
    struct job jobs[4];
    struct closer_job closer_jobs[4];

    *c = (struct close){.lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER,
                        .done = g_string_new(NULL),
                        .left = g_string_new(NULL),
                        .caller = pthread_self()};
    for (unsigned i = 0; i < n; i++) {
        jobs[i] = (struct job){c, letters[i], strchr(hangs, letters[i][0]) != NULL,
                               strchr(fails, letters[i][0]) != NULL};
        closer_jobs[i] = (struct closer_job){letters[i], run, &jobs[i]};
    }
    return closer_run(closer_jobs, n, &options);
}

static void close_end(struct close *c)
{
    g_string_free(c->done, TRUE);
    g_string_free(c->left, TRUE);
}

static void test_in_order(void)
{
    struct close c;

    g_assert_true(close_all(&c, 4, "", "", LONG_MS, LONG_MS));
    g_assert_cmpstr(c.done->str, ==, "ABCD");
    g_assert_cmpuint(c.elsewhere, ==, 0);
    g_assert_cmpuint(c.given_up, ==, 0);
    close_end(&c);
    g_assert_true(close_all(&c, 0, "", "", LONG_MS, LONG_MS));
    close_end(&c);
}

static void test_failure(void)
{
    struct close c;

    g_assert_false(close_all(&c, 3, "", "B", LONG_MS, LONG_MS));
    g_assert_cmpstr(c.done->str, ==, "ABC");
    close_end(&c);
}

/* Two jobs hang: other threads do the rest, and then the report names the two. */
static void test_some_hang(void)
{
    struct close c;

    g_assert_true(close_all(&c, 4, "AC", "", SHORT_MS, SOON_MS));
    g_assert_cmpuint(c.given_up, ==, 1);
    g_assert_cmpstr(c.left->str, ==, "A+C+");
    g_assert_true(g_str_has_prefix(c.done->str, "BD"));
    g_assert_cmpuint(strlen(c.done->str), ==, 4);
    g_assert_cmpuint(c.elsewhere, ==, 3);
    close_end(&c);
}

/* The time is over before all jobs have begun: the report tells these from the one that hangs. */
static void test_not_begun(void)
{
    struct close c;

    g_assert_true(close_all(&c, 3, "A", "", LONG_MS, SOON_MS));
    g_assert_cmpuint(c.given_up, ==, 1);
    g_assert_cmpstr(c.left->str, ==, "A+B-C-");
    g_assert_cmpstr(c.done->str, ==, "ABC"); /* after A had come back */
    close_end(&c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/closer/in-order", test_in_order);
    g_test_add_func("/closer/failure", test_failure);
    g_test_add_func("/closer/some-hang", test_some_hang);
    g_test_add_func("/closer/not-begun", test_not_begun);
    return g_test_run();
}
