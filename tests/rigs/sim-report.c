/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-report.h"

#include <stdio.h>
#include <stdlib.h>

struct sim_counts sim_counts;
static GString *notes;

static const char *const names[] = {"process", "unmounted", "forgot", "moved", "power"};

const char *sim_death_name(enum sim_death death)
{
    return names[death];
}

void sim_counts_end(uint64_t least)
{
    struct sim_counts *c = &sim_counts;
    uint64_t crashes = 0;
    GString *by_death = g_string_new(NULL);

    for (unsigned k = 0; k <= SIM_POWER; k++) {
        crashes += c->crashes[k];
        g_string_append_printf(by_death, "%s %" G_GUINT64_FORMAT ", ", names[k], c->crashes[k]);
    }
    g_test_message("crashes %" G_GUINT64_FORMAT " (at least %" G_GUINT64_FORMAT
                   "), %sin recovery %" G_GUINT64_FORMAT ", bitmaps %" G_GUINT64_FORMAT
                   ", inconsistent %" G_GUINT64_FORMAT ", over-marked %" G_GUINT64_FORMAT
                   "/%" G_GUINT64_FORMAT " KiB, wrong 0",
                   crashes, least, by_death->str, c->again, c->found, c->inconsistent,
                   c->over / 1024, c->marked / 1024);
    g_string_free(by_death, TRUE);
    g_assert_cmpuint(crashes, >=, least);
    *c = (struct sim_counts){0};
}

void sim_note(const char *format, ...)
{
    va_list list;

    if (!notes)
        notes = g_string_new(NULL);
    if (!format) {
        g_string_truncate(notes, 0);
        return;
    }
    va_start(list, format);
    g_string_append(notes, "#   ");
    g_string_append_vprintf(notes, format, list);
    g_string_append_c(notes, '\n');
    va_end(list);
}

size_t sim_notes(void)
{
    return notes ? notes->len : 0;
}

void sim_notes_cut(size_t length)
{
    g_string_truncate(notes, length);
}

void sim_fail(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    printf("# wrong: ");
    vprintf(format, list);
    printf("\n# after:\n%s", notes ? notes->str : "");
    fflush(stdout);
    va_end(list);
    abort();
}
