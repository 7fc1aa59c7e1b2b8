/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's command line and its key file (--config), plugin KEY=VALUE words, and numbers: sizes
 * and nbdkit_parse_*.
 *
 * Input: a byte that chooses which, then text: words a line each, a key file, or a number.
 */
#include "fuzz/fuzz.h"

#include "common/base/size.h"
#include "common/base/nbdkit-abi.h"
#include "server/start/command-line.h"

#include <errno.h>
#include <math.h>
#include <string.h>

const char fuzz_name[] = "options";

/* ---- words ---- */

static bool is_key(const char *key)
{
    if (!g_ascii_isalpha(key[0]))
        return false;
    return strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
           strlen(key);
}

/* A word of the command line is KEY=VALUE, or has no key. Put together again it is one of `words`.
 * (NULL: words of a key file have quotes, and are not compared.) */
static void check_word(const struct option_word *w, char **words)
{
    g_autofree char *whole = w->key ? g_strdup_printf("%s=%s", w->key, w->value) : NULL;
    const char *equals = strchr(w->value, '=');

    if (words == NULL)
        return;
    CHECK(g_strv_contains((const char *const *)words, whole ? whole : w->value));
    if (w->key != NULL) {
        CHECK(is_key(w->key));
    } else if (equals != NULL) {
        g_autofree char *key = g_strndup(w->value, (gsize)(equals - w->value));
        CHECK(!is_key(key));
    }
}

static void check_disks(const struct options *o, char **words)
{
    for (unsigned i = 0; i < o->disks->len; i++) {
        const struct option_disk *d = g_ptr_array_index(o->disks, i);

        CHECK(*d->name != '\0');
        CHECK(d->plugin != NULL && *d->plugin != '\0');
        for (unsigned k = 0; k < d->words->len; k++)
            check_word(g_ptr_array_index(d->words, k), words);
        for (unsigned k = 0; k < i; k++)
            CHECK(strcmp(((struct option_disk *)g_ptr_array_index(o->disks, k))->name, d->name));
    }
    CHECK(o->disks->len > 0 || o->action != ACTION_SERVE);
    CHECK(!o->bare_form || o->disks->len == 1);
}

static char *no_file(const char *path, GError **err)
{
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT, "%s: gone", path);
    return NULL;
}

static void check_result(struct options *o, const GError *err, char **words)
{
    CHECK((o == NULL) == (err != NULL));
    if (err != NULL) {
        CHECK(*err->message != '\0');
        return;
    }
    check_disks(o, words);
    CHECK(o->handshake_timeout <= INT32_MAX && o->threads > 0 && o->export_name != NULL);
    options_free(o);
}

static void parse_words(char *text)
{
    g_autofree char *line = g_strconcat("nbdfleece\n", text, NULL);
    g_auto(GStrv) words = g_strsplit(line, "\n", 64);
    g_autofree char **argv = g_memdup2(words, (g_strv_length(words) + 1) * sizeof *words);
    g_autoptr(GError) err = NULL;
    struct options *o = command_line_parse((int)g_strv_length(words), argv, no_file, &err);

    check_result(o, err, words);
}

static char *the_file(const char *path, GError **err)
{
    return g_strdup(path);
}

/* The text itself is the name of the file, so that the_file() needs no state. */
static void parse_file(char *text)
{
    char program[] = "nbdfleece", option[] = "--config";
    char *argv[] = {program, option, text, NULL};
    g_autoptr(GError) err = NULL;
    struct options *o = command_line_parse(3, argv, the_file, &err);

    check_result(o, err, NULL);
}

/* ---- numbers ---- */

/* The grammar of sizes, written a second time, with 128 bits. -1: not a size; -2: out of range. */
static __int128 size_oracle(const char *text)
{
    static const char suffixes[] = "bkmgtpe";
    unsigned __int128 value = 0, most = (unsigned __int128)1 << 90;

    text += strspn(text, " \t\n\f\r");
    bool negative = *text == '-';
    text += *text == '-' || *text == '+';
    if (!g_ascii_isdigit(*text))
        return -1;
    for (; g_ascii_isdigit(*text); text++)
        value = MIN(value * 10 + (unsigned)(*text - '0'), most);
    if (*text != '\0') {
        char c = g_ascii_tolower(*text);
        const char *at = strchr(suffixes, c);
        if ((at == NULL && c != 's') || text[1] != '\0')
            return -1;
        for (unsigned i = at ? 10 * (unsigned)(at - suffixes) : 9; i > 0; i--)
            value = MIN(value * 2, most);
    }
    if (value > INT64_MAX || (negative && value > 0))
        return -2;
    return (__int128)value;
}

static void check_size(const char *text)
{
    int64_t size = -77, again;
    __int128 expected = size_oracle(text);
    int r = size_parse(text, &size);
    char buf[16];

    CHECK(r == (expected == -1 ? -EINVAL : expected == -2 ? -ERANGE : 0));
    CHECK(size == (r == 0 ? (int64_t)expected : -77));
    CHECK(nbdkit_parse_size(text) == (r == 0 ? size : -1));
    if (r != 0)
        return;
    g_autofree char *plain = g_strdup_printf("%" G_GINT64_FORMAT, size);
    CHECK(size_parse(plain, &again) == 0 && again == size);
    CHECK(strlen(size_format((uint64_t)size, buf)) < sizeof buf);
}

/* All of nbdkit_parse_* agree on what is a number, and on its value where it fits. */
static void check_integers(const char *text)
{
    int64_t wide = 77;
    uint64_t natural = 77;
    int8_t narrow = 7;
    uint8_t byte = 7;
    unsigned number = 7;
    bool is_signed = nbdkit_parse_int64_t("n", text, &wide) == 0;
    bool is_natural = nbdkit_parse_uint64_t("n", text, &natural) == 0;

    CHECK(is_signed || wide == 77);
    CHECK(is_natural || natural == 77);
    CHECK(is_signed || !is_natural || natural > INT64_MAX);
    CHECK(!is_signed || !is_natural || (uint64_t)wide == natural);
    CHECK(!is_signed || is_natural || wide <= 0); /* "-0" is no natural number */
    bool fits = is_signed && wide >= INT8_MIN && wide <= INT8_MAX;
    CHECK((nbdkit_parse_int8_t("n", text, &narrow) == 0) == fits);
    CHECK(narrow == (fits ? wide : 7));
    fits = is_natural && natural <= UINT8_MAX;
    CHECK((nbdkit_parse_uint8_t("n", text, &byte) == 0) == fits);
    CHECK(byte == (fits ? natural : 7));
    fits = is_natural && natural <= UINT32_MAX;
    CHECK((nbdkit_parse_unsigned("n", text, &number) == 0) == fits);
    CHECK(number == (fits ? natural : 7));
}

static void check_others(const char *text)
{
    unsigned sec = 7, nsec = 7;
    double p = 7;

    if (nbdkit_parse_delay("n", text, &sec, &nsec) == 0)
        CHECK(sec <= INT32_MAX && nsec < 1000000000);
    else
        CHECK(sec == 7 && nsec == 7);
    if (nbdkit_parse_probability("n", text, &p) == 0)
        CHECK(isfinite(p) && p >= 0);
    else
        CHECK(p == 7);
    int b = nbdkit_parse_bool(text);
    CHECK(b >= -1 && b <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply s = supply_on(data, size);
    uint8_t which = take_u8(&s) % 3;
    g_autofree char *text = take_rest(&s);

    switch (which) {
    case 0:
        parse_words(text);
        break;
    case 1:
        parse_file(text);
        break;
    default:
        check_size(text);
        check_integers(text);
        check_others(text);
        break;
    }
    return 0;
}
