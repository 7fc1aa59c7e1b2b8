/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/util/text.h"

#include <glib.h>

static void test_numbers(void)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    struct cursor c = cursor_on(bytes, sizeof bytes);
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    g_assert_true(cursor_u16(&c, &u16));
    g_assert_cmphex(u16, ==, 0x0102);
    g_assert_true(cursor_u32(&c, &u32));
    g_assert_cmphex(u32, ==, 0x03040506);
    g_assert_true(cursor_u64(&c, &u64));
    g_assert_cmphex(u64, ==, 0x0708090a0b0c0d0eull);
    g_assert_cmpuint(cursor_left(&c), ==, 0);
}

/* An item that the buffer is too short for gives false, and the cursor does not move. */
static void test_too_short(void)
{
    for (size_t length = 0; length < 8; length++) {
        g_autofree uint8_t *bytes = g_malloc0(length); /* exact, so that ASan sees a read past it */
        struct cursor c = cursor_on(bytes, length);
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
        const uint8_t *p;
        g_assert_false(cursor_u64(&c, &u64));
        g_assert_cmpuint(cursor_left(&c), ==, length);
        g_assert_cmpint(length >= 4, ==, cursor_u32(&c, &u32));
        g_assert_cmpuint(cursor_left(&c), ==, length >= 4 ? length - 4 : length);
        c = cursor_on(bytes, length);
        g_assert_cmpint(length >= 2, ==, cursor_u16(&c, &u16));
        g_assert_cmpuint(cursor_left(&c), ==, length >= 2 ? length - 2 : length);
        c = cursor_on(bytes, length);
        g_assert_false(cursor_bytes(&c, length + 1, &p));
        g_assert_false(cursor_bytes(&c, SIZE_MAX, &p));
        g_assert_cmpuint(cursor_left(&c), ==, length);
        g_assert_true(cursor_bytes(&c, length, &p));
        g_assert_cmpuint(cursor_left(&c), ==, 0);
        g_assert_true(cursor_bytes(&c, 0, &p));
    }
    struct cursor none = cursor_on(NULL, 0);
    uint16_t u16;
    g_assert_false(cursor_u16(&none, &u16));
}

static void test_stores(void)
{
    uint8_t bytes[14];

    store_be16(bytes, 0x0102);
    store_be32(bytes + 2, 0x03040506);
    store_be64(bytes + 6, 0x0708090a0b0c0d0eull);
    for (unsigned i = 0; i < sizeof bytes; i++)
        g_assert_cmpuint(bytes[i], ==, i + 1);
    g_assert_cmphex(load_be16(bytes + 1), ==, 0x0203);
    g_assert_cmphex(load_be32(bytes + 1), ==, 0x02030405);
    g_assert_cmphex(load_be64(bytes + 1), ==, 0x0203040506070809ull);
}

static void test_text(void)
{
    struct text t = {"qemu:x", 6};

    g_assert_true(text_equal(t, "qemu:x"));
    g_assert_false(text_equal(t, "qemu:"));
    g_assert_false(text_equal(t, "qemu:xy"));
    g_assert_true(text_has_prefix(t, "qemu:"));
    g_assert_true(text_has_prefix(t, ""));
    g_assert_false(text_has_prefix(t, "qemu:xy"));
    g_assert_true(text_equal((struct text){NULL, 0}, ""));
    g_assert_true(text_is_valid("", 0));
    g_assert_true(text_is_valid("\xc3\xa4", 2));
    g_assert_false(text_is_valid("\xc3\xa4", 1));
    g_assert_false(text_is_valid("a\0b", 3));
    g_assert_false(text_is_valid("\xff", 1));
    g_assert_false(text_is_valid("\xed\xa0\x80", 3)); /* a surrogate */
}

static void test_display(void)
{
    static const struct {
        const char *in, *out;
        size_t max;
    } cases[] = {
        {"plain", "plain", 10},
        {"", "", 10},
        {"a\nb\x1b[31m", "a\\x0ab\\x1b[31m", 20},
        {"back\\slash", "back\\x5cslash", 20},
        {"abcdef", "abc...", 3},
        {"ab\xc3\xa4", "ab...", 3}, /* not half a character */
        {"ab\xc3\xa4", "ab\xc3\xa4", 4},
        {"\xe2\x82\xac", "...", 2},
        {"\xc2\x9bK", "\\xc2\\x9bK", 20},          /* CSI: ESC [ in one character */
        {"\xe2\x80\xaex", "\\xe2\\x80\\xaex", 20}, /* from right to left */
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct text t = {cases[i].in, strlen(cases[i].in)};
        g_autofree char *shown = text_for_display(t, cases[i].max);
        g_assert_cmpstr(shown, ==, cases[i].out);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cursor/numbers", test_numbers);
    g_test_add_func("/cursor/too-short", test_too_short);
    g_test_add_func("/cursor/stores", test_stores);
    g_test_add_func("/cursor/text", test_text);
    g_test_add_func("/cursor/display", test_display);
    return g_test_run();
}
