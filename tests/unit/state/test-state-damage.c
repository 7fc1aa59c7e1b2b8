/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checking and mending state folders: none that is damaged is taken for good.
 *
 * Each damage is done to a copy of a folder. Afterwards either the damage was found (an error, or a
 * finding), and then no bitmap is good that has fewer bits than before; or all bitmaps are what they
 * were.
 */
#include "common/state/folder.h"
#include "common/state/journal-format.h"
#include "tests/rigs/checked-state.h"

#include <string.h>

static unsigned damaged; /* files, since the last report */

static void report_damaged(unsigned least)
{
    g_test_message("damaged files: %u (at least %u), wrong 0", damaged, least);
    g_assert_cmpuint(damaged, >=, least);
    damaged = 0;
}

static void judge_damage(const folder_image *i, const char *name, const char *what, uint64_t where,
                         bool may_be_unseen)
{
    g_autoptr(checked) r = checked_image(i);
    struct verdict v = checked_judge(r);

    damaged++;
    if (v.wrong == 0 && (v.found || v.good == n_made_bitmaps))
        return;
    if (may_be_unseen && !v.found)
        return;
    checked_print(r);
    g_error("%s: %s at %" G_GUINT64_FORMAT ": found %d, good %u, wide %u, wrong %u, absent %u",
            name, what, where, v.found, v.good, v.wide, v.wrong, v.absent);
}

static void flip(const folder_image *i, const char *name, uint64_t byte, unsigned bit,
                 bool may_be_unseen)
{
    GByteArray *bytes = folder_image_file(i, name);

    bytes->data[byte] ^= (guint8)(1u << bit);
    judge_damage(i, name, "flipped bit", byte * 8 + bit, may_be_unseen);
    bytes->data[byte] ^= (guint8)(1u << bit);
}

static void cut(const folder_image *i, const char *name, unsigned length)
{
    GByteArray *bytes = folder_image_file(i, name);
    g_autofree guint8 *all = g_memdup2(bytes->data, bytes->len);
    guint was = bytes->len;

    g_byte_array_set_size(bytes, length);
    judge_damage(i, name, "cut short", length, false);
    g_byte_array_set_size(bytes, 0);
    g_byte_array_append(bytes, all, was);
}

static bool is_bits(const char *name)
{
    return g_str_has_prefix(name, STATE_BITS "/");
}

/* The files that are needed, from the catalogue to the bits. */
static bool matters(const char *name)
{
    return is_bits(name) || strcmp(name, STATE_CATALOGUE) == 0 || strcmp(name, STATE_INTENT) == 0;
}

static unsigned rounds(unsigned n)
{
    return g_getenv("FLEECE_LONG") ? 50 * n : n;
}

static void flip_some(const folder_image *i, bool in_use)
{
    for (guint f = 0; f < i->names->len; f++) {
        const char *name = i->names->pdata[f];
        guint length = ((GByteArray *)i->bytes->pdata[f])->len;

        /* What is written of the journal is its first sector. */
        if (strcmp(name, STATE_INTENT) == 0)
            length = JOURNAL_SECTOR;
        for (unsigned n = rounds(20); n > 0 && matters(name) && length > 0; n--) {
            uint64_t byte = (uint64_t)g_test_rand_int_range(0, (int)length);

            /* Bits of a bitmap that is in use have no checksum. */
            flip(i, name, byte, (unsigned)g_test_rand_int_range(0, 8),
                 in_use && is_bits(name) && byte >= 4096);
        }
    }
}

static void test_flips(void)
{
    g_autoptr(folder_image) i = checked_make_to_damage(MADE_CLEAN);

    flip_some(i, false);
    report_damaged(rounds(60));
}

static void test_flips_in_use(void)
{
    g_autoptr(folder_image) i = checked_make_to_damage(MADE_POWER);

    flip_some(i, true);
    report_damaged(rounds(60));
}

/* At each 512 bytes. */
static void test_cut(void)
{
    enum made_kind kinds[] = {MADE_CLEAN, MADE_POWER};

    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
        g_autoptr(folder_image) i = checked_make_to_damage(kinds[k]);

        for (guint f = 0; f < i->names->len; f++) {
            guint length = ((GByteArray *)i->bytes->pdata[f])->len;

            /* After a power loss the journal matters, too; its first sectors are in use. */
            if (!matters(i->names->pdata[f]) ||
                (kinds[k] == MADE_POWER && strcmp(i->names->pdata[f], STATE_INTENT) != 0))
                continue;
            for (guint at = 0; at < MIN(length, kinds[k] == MADE_POWER ? 4096 : 1 << 17); at += 512)
                cut(i, i->names->pdata[f], at);
            if (length > 0)
                cut(i, i->names->pdata[f], length - 1);
        }
    }
    report_damaged(100);
}

static void test_swap(void)
{
    g_autoptr(folder_image) i = checked_make_to_damage(MADE_CLEAN);

    for (guint a = 0; a < i->names->len; a++) {
        for (guint b = 0; b < a; b++) {
            gpointer bytes = i->bytes->pdata[a];

            if (!is_bits(i->names->pdata[a]) || !is_bits(i->names->pdata[b]))
                continue;
            i->bytes->pdata[a] = i->bytes->pdata[b];
            i->bytes->pdata[b] = bytes;
            judge_damage(i, i->names->pdata[a], "swapped with number", b, false);
            i->bytes->pdata[b] = i->bytes->pdata[a];
            i->bytes->pdata[a] = bytes;
        }
    }
    report_damaged(3);
}

static void check_missing(enum made_kind kind)
{
    g_autoptr(folder_image) i = checked_make_to_damage(kind);

    for (guint f = 0; f < i->names->len; f++) {
        char *name = i->names->pdata[f];

        if (!matters(name))
            continue;
        i->names->pdata[f] = (char *)"not-there";
        judge_damage(i, name, "renamed", 0, false);
        i->names->pdata[f] = name;
    }
}

static void test_missing(void)
{
    check_missing(MADE_CLEAN);
    check_missing(MADE_POWER);
    report_damaged(6);
}

/* Catalogue and bits of different folders. */
static void test_mixed(void)
{
    g_autoptr(folder_image) i = checked_make_to_damage(MADE_CLEAN),
                            other = checked_make(MADE_CLEAN);
    guint f;

    for (f = 0; strcmp(i->names->pdata[f], STATE_CATALOGUE) != 0; f++)
        continue;
    g_byte_array_unref(i->bytes->pdata[f]);
    i->bytes->pdata[f] = g_byte_array_ref(folder_image_file(other, STATE_CATALOGUE));
    judge_damage(i, STATE_CATALOGUE, "another folder's", 0, false);
}

int main(int argc, char **argv)
{
    int code;

    g_test_init(&argc, &argv, NULL);
    checked_begin();
    g_test_add_func("/state-damage/flips", test_flips);
    g_test_add_func("/state-damage/flips-in-use", test_flips_in_use);
    g_test_add_func("/state-damage/cut", test_cut);
    g_test_add_func("/state-damage/swap", test_swap);
    g_test_add_func("/state-damage/missing", test_missing);
    g_test_add_func("/state-damage/mixed", test_mixed);
    code = g_test_run();
    checked_end();
    return code;
}
