/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/log-limit.h"

#include "common/util/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

/* The limits that have left something out. The list is global, as the log is: the timer has to find
 * a limit whose last line was written long ago. */
static struct {
    pthread_mutex_t lock;
    struct log_limit *first;
    bool timer; /* it runs as long as there are any */
    int64_t (*clock)(void);
} pending = {.lock = PTHREAD_MUTEX_INITIALIZER, .clock = g_get_monotonic_time};

void log_limit_set_clock(int64_t (*clock)(void))
{
    pending.clock = clock;
}

/* What is to be written after the lock has been released. */
struct count {
    uint64_t left_out; /* 0: nothing */
    char last[sizeof((struct log_limit *)0)->last];
};

static void write_count(const struct count *c)
{
    if (c->left_out > 0)
        log_error("%" PRIu64 " more like this were left out: %s", c->left_out, c->last);
}

/* Locked. End the limit's period. */
static struct count end_period(struct log_limit *l)
{
    struct count c = {.left_out = l->left_out};

    if (l->left_out > 0) {
        struct log_limit **link = &pending.first;
        while (*link != l)
            link = &(*link)->next;
        *link = l->next;
        memcpy(c.last, l->last, sizeof c.last);
    }
    l->passed = 0;
    l->left_out = 0;
    return c;
}

static bool is_over(const struct log_limit *l, int64_t now)
{
    return now - l->since >= LOG_LIMIT_USEC;
}

static gboolean tick(gpointer unused)
{
    return log_limits_tell(pending.clock());
}

/* Locked. */
static void leave_out(struct log_limit *l)
{
    if (l->left_out++ > 0)
        return;
    l->next = pending.first;
    pending.first = l;
    if (!pending.timer)
        g_timeout_add_seconds(1, tick, NULL);
    pending.timer = true;
}

bool log_limit_pass(struct log_limit *l, int64_t now)
{
    struct count ended = {0};

    pthread_mutex_lock(&pending.lock);
    if (l->passed > 0 && is_over(l, now))
        ended = end_period(l);
    if (l->passed == 0)
        l->since = now;
    bool pass = l->passed < LOG_LIMIT_LINES;
    if (pass)
        l->passed++;
    else
        leave_out(l);
    pthread_mutex_unlock(&pending.lock);
    write_count(&ended);
    return pass;
}

/* Locked. */
static struct log_limit *find_over(int64_t now)
{
    struct log_limit *l = pending.first;

    while (l && !is_over(l, now))
        l = l->next;
    return l;
}

bool log_limits_tell(int64_t now)
{
    for (;;) {
        pthread_mutex_lock(&pending.lock);
        struct log_limit *l = find_over(now);
        struct count ended = l ? end_period(l) : (struct count){0};
        bool others = pending.first != NULL;
        if (!l)
            pending.timer = pending.timer && others;
        pthread_mutex_unlock(&pending.lock);
        write_count(&ended);
        if (!l)
            return others;
    }
}

void log_limits_end(void)
{
    log_limits_tell(G_MAXINT64);
}

void log_limit_end(struct log_limit *l)
{
    pthread_mutex_lock(&pending.lock);
    struct count ended = end_period(l);
    pthread_mutex_unlock(&pending.lock);
    write_count(&ended);
}

static void remember(struct log_limit *l, const char *text)
{
    pthread_mutex_lock(&pending.lock);
    g_strlcpy(l->last, text, sizeof l->last);
    pthread_mutex_unlock(&pending.lock);
}

void log_error_limited(struct log_limit *l, const char *format, ...)
{
    int saved = errno;
    va_list args;

    if (log_limit_pass(l, pending.clock())) {
        errno = saved;
        va_start(args, format);
        g_autofree char *text = g_strdup_vprintf(format, args);
        va_end(args);
        remember(l, text);
        log_error("%s", text);
    }
    errno = saved;
}
