/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * On a terminal the rows that go on are the last lines, drawn anew in place. A row that is closed
 * is printed once more above them, and then stays.
 */
#include "client/base/progress.h"
#include "client/base/progress-text.h"
#include "client/base/terminal.h"

#include <errno.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Microseconds between two pictures: on a terminal, and in JSON. */
#define TERMINAL_PERIOD (G_USEC_PER_SEC / 5)
#define JSON_PERIOD     G_USEC_PER_SEC
/* The rate is that of about so many microseconds. */
#define SAMPLE_PERIOD G_USEC_PER_SEC
#define SAMPLES       5u

enum kind { NOTHING, TERMINAL, JSON };

struct sample {
    gint64 time;
    uint64_t done, moved;
};

struct row {
    char *name, *word;
    uint64_t done, total, moved;
    struct sample samples[SAMPLES]; /* a ring: the oldest is at `next` once it is full */
    unsigned next, n_samples;
    bool printed; /* closed, and shown for the last time */
};

struct progress {
    enum kind kind;
    bool utf8;
    GArray *rows;
    unsigned lines; /* drawn, above which the cursor has to go */
    gint64 due;     /* when to draw again */
};

static void row_clear(void *row)
{
    struct row *r = row;

    g_free(r->name);
    g_free(r->word);
}

static bool is_drawable(void)
{
    const char *term = getenv("TERM");

    return isatty(STDERR_FILENO) == 1 && term && strcmp(term, "dumb") != 0;
}

struct progress *progress_new(bool json)
{
    struct progress *p = g_new0(struct progress, 1);

    p->kind = json ? JSON : is_drawable() ? TERMINAL : NOTHING;
    p->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    p->rows = g_array_new(FALSE, TRUE, sizeof(struct row));
    g_array_set_clear_func(p->rows, row_clear);
    return p;
}

/* ---- figures ---- */

static struct row *get_row(struct progress *p, unsigned row)
{
    return &g_array_index(p->rows, struct row, row);
}

static void take_sample(struct row *r, gint64 now)
{
    const struct sample *last = &r->samples[(r->next + SAMPLES - 1) % SAMPLES];

    if (r->n_samples > 0 && now - last->time < SAMPLE_PERIOD)
        return;
    r->samples[r->next] = (struct sample){now, r->done, r->moved};
    r->next = (r->next + 1) % SAMPLES;
    r->n_samples = MIN(r->n_samples + 1, SAMPLES);
}

/* The rate since the oldest sample, and how long it goes on so. */
static void measure(const struct row *r, gint64 now, struct progress_row *out)
{
    const struct sample *oldest = &r->samples[r->n_samples < SAMPLES ? 0 : r->next];
    double seconds = (double)(now - oldest->time) / G_USEC_PER_SEC;

    out->rate = out->left = -1;
    if (r->n_samples == 0 || seconds < 0.5)
        return;
    out->rate = (double)(r->moved - MIN(oldest->moved, r->moved)) / seconds;
    if (r->total > r->done && r->done > oldest->done)
        out->left = (double)(r->total - r->done) / (double)(r->done - oldest->done) * seconds;
}

static struct progress_row shown_row(const struct row *r, const char *name, gint64 now)
{
    struct progress_row out = {
        .name = name, .done = r->done, .total = r->total, .moved = r->moved, .word = r->word};

    measure(r, now, &out);
    if (r->word)
        out.left = -1;
    return out;
}

/* ---- drawing ---- */

/* Nobody is told where it cannot be shown: the work is what counts. */
static void put(int fd, const GString *text)
{
    for (gsize done = 0; done < text->len;) {
        ssize_t n = write(fd, text->str + done, text->len - done);

        if (n < 0 && errno != EINTR)
            return;
        done += n > 0 ? (gsize)n : 0;
    }
}

static unsigned terminal_width(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void draw_row(const struct progress *p, const struct row *r, unsigned name_width, gint64 now,
                     GString *out)
{
    g_autofree char *name = text_clean(r->name, !p->utf8);
    struct progress_row shown = shown_row(r, name, now);

    /* A character in the last column would make some terminals go to the next line. */
    progress_text(out, &shown, name_width, terminal_width() - 1, p->utf8);
    g_string_append(out, "\033[K\n");
}

static unsigned widest_name(const struct progress *p)
{
    unsigned widest = 0;

    for (guint i = 0; i < p->rows->len; i++) {
        g_autofree char *name = text_clean(g_array_index(p->rows, struct row, i).name, !p->utf8);

        widest = MAX(widest, text_width(name));
    }
    return widest;
}

/* Rows that have ended since the last time come first, and stay. */
static void draw_terminal(struct progress *p, gint64 now)
{
    g_autoptr(GString) out = g_string_new(NULL);
    unsigned name_width = widest_name(p);

    if (p->lines > 0)
        g_string_append_printf(out, "\033[%uA\r", p->lines);
    p->lines = 0;
    for (guint i = 0; i < p->rows->len; i++) {
        struct row *r = get_row(p, i);

        if (r->word && !r->printed) {
            draw_row(p, r, name_width, now, out);
            r->printed = true;
        }
    }
    for (guint i = 0; i < p->rows->len; i++) {
        struct row *r = get_row(p, i);

        if (!r->word) {
            draw_row(p, r, name_width, now, out);
            p->lines++;
        }
    }
    g_string_append(out, "\033[J");
    put(STDERR_FILENO, out);
}

static void draw_json(struct progress *p, gint64 now)
{
    g_autoptr(GString) out = g_string_new(NULL);

    for (guint i = 0; i < p->rows->len; i++) {
        struct row *r = get_row(p, i);
        struct progress_row shown = shown_row(r, r->name, now);

        if (!r->printed)
            progress_json(out, &shown);
        r->printed = r->word != NULL;
    }
    put(STDOUT_FILENO, out);
}

static void draw(struct progress *p, gint64 now)
{
    if (p->kind == TERMINAL)
        draw_terminal(p, now);
    else if (p->kind == JSON)
        draw_json(p, now);
}

int progress_draw(struct progress *p)
{
    gint64 now = g_get_monotonic_time();

    if (p->kind == NOTHING)
        return 1000;
    if (now >= p->due) {
        for (guint i = 0; i < p->rows->len; i++)
            take_sample(get_row(p, i), now);
        draw(p, now);
        p->due = now + (p->kind == JSON ? JSON_PERIOD : TERMINAL_PERIOD);
    }
    return (int)((p->due - now + 999) / 1000);
}

/* ---- rows ---- */

unsigned progress_add(struct progress *p, const char *name, uint64_t total)
{
    struct row r = {.name = g_utf8_make_valid(name, -1), .total = total};

    g_array_append_val(p->rows, r);
    return p->rows->len - 1;
}

void progress_update(struct progress *p, unsigned row, uint64_t done, uint64_t total,
                     uint64_t moved)
{
    struct row *r = get_row(p, row);

    r->done = done;
    r->total = total;
    r->moved = moved;
}

void progress_close(struct progress *p, unsigned row, const char *word)
{
    struct row *r = get_row(p, row);

    g_free(r->word);
    r->word = g_strdup(word);
    p->due = 0;
}

void progress_free(struct progress *p)
{
    if (!p)
        return;
    draw(p, g_get_monotonic_time());
    g_array_free(p->rows, TRUE);
    g_free(p);
}
