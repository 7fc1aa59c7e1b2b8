/* SPDX-License-Identifier: BSD-3-Clause */
/* Whole texts, read exactly, as a client reads what a server sends; and members of objects. */
#include "common/json/read.h"
#include "common/json/value.h"
#include "common/util/error.h"

#include <string.h>

static const struct json_limits limits = {
    .bytes = 4 << 20, .tokens = 4 << 20, .depth = 1024, .exact = true};

static void accepts(const char *text)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(json_check(text, strlen(text), &limits, &error), ==, 0);
    g_assert_no_error(error);
}

static void refuses(const char *text, gsize length, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(json_check(text, length, &limits, &error), ==, -1);
    g_assert_error(error, FLEECE_ERROR, FLEECE_ERROR_GENERIC);
    g_assert_nonnull(strstr(error->message, why));
}

static void test_check_accepts(void)
{
    accepts("{}");
    accepts(" [ ] \r\n");
    accepts("{\"a\": [1, -2, 3.5e2, true, null, \"]}\"]}");
    accepts("{'single': 'quo\\'tes'}");
    accepts("\"\\\\\"");
    accepts("[9223372036854775807, -9223372036854775808]");
    accepts("\"\xc3\xa4 \\u00e4 \\ud83d\\ude00\"");
}

static void test_check_refuses(void)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "there is no value"},
        {"  \n", "there is no value"},
        {"{", "does not end"},
        {"[1, 2", "does not end"},
        {"[1}", "expected separator in list"},
        {"]", "expecting value"},
        {"{} {}", "follows"},
        {"1 2", "follows"},
        {"\"abc", "does not end"},
        {"\"abc\\", "does not end"},
        {"\"a\\\"", "does not end"},
        {"\"a\nb\"", "stray"},
        {"\"a\\\x1f\"", "stray"},
        {"\"\\333\"", "invalid escape"},
        {"\"a\\000b\"", "invalid escape"},
        {"\"\\x\"", "invalid escape"},
        {"\"\\u0000\"", "not a valid Unicode character"},
        {"[\"\\ud800\"]", "not a valid Unicode character"},
        {"[\"\\ud800\\u0041\"]", "not a valid Unicode character"},
        {"[\"\\ude00 x\"]", "not a valid Unicode character"},
        {"[\"\\ud800\\ude0", "does not end"},
        {"[\"\\u12", "does not end"},
        {"[\"\\u12g4\"]", "not a valid Unicode character"},
        {"9223372036854775808", "too large"},
        {"[-9223372036854775809]", "too large"},
        {"1e999", "too large"},
        {"[-1.5e999]", "too large"},
        {"\"\xff\"", "stray"},
        {"\"\xc3(\"", "UTF-8"},
        {"1111111111111111111111111111111111111111111111111111111111111111", "too large"},
        {"[1,]", "expecting value"},
        {"{\"a\"}", "missing :"},
        {"{1: 2}", "key is not a string"},
        {"nonsense", "invalid keyword"},
        {"{\"a\" 1}", "missing :"},
        {":", "expecting value"},
        {"// x\n1", "stray"},
        {"@", "stray"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        refuses(cases[i].text, strlen(cases[i].text), cases[i].why);
    refuses("[\0]", 3, "stray");
}

/* `depth` arrays, one in another. */
static char *nested(gsize depth)
{
    char *text = g_malloc(2 * depth + 1);

    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    text[2 * depth] = '\0';
    return text;
}

static void test_depth(void)
{
    g_autofree char *deep = nested(limits.depth);
    g_autofree char *deeper = nested(limits.depth + 1);
    g_autofree char *abyss = nested(1000000);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = json_read(deep, strlen(deep), &limits, &error);

    g_assert_no_error(error);
    g_assert_true(JSON_NODE_HOLDS_ARRAY(node));
    refuses(deeper, strlen(deeper), "nesting depth");
    refuses(abyss, strlen(abyss), "nesting depth");
}

/* What json_check() lets through, json_read() reads, but for this. */
static void test_duplicates(void)
{
    static const char text[] = "{\"a\": 1, \"b\": {}, \"a\": 1}";
    g_autoptr(GError) error = NULL;

    accepts(text);
    g_assert_null(json_read(text, strlen(text), &limits, &error));
    g_assert_error(error, FLEECE_ERROR, FLEECE_ERROR_GENERIC);
    g_assert_nonnull(strstr(error->message, "duplicate key"));
}

/* Without `exact`, numbers that do not fit are read all the same. */
static void test_inexact(void)
{
    static const char text[] = "[18446744073709551616, -1e999]";
    static const struct json_limits inexact = {.bytes = 100, .tokens = 10, .depth = 2};
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = json_read(text, strlen(text), &inexact, &error);

    g_assert_no_error(error);
    g_assert_cmpfloat(json_array_get_double_element(json_node_get_array(node), 0), ==, 0x1p64);
    g_assert_cmpfloat(json_array_get_double_element(json_node_get_array(node), 1), <, -1e308);
}

/* Whatever is changed in a reply: it is read or refused, and what was read can be printed. */
static void test_mutations(void)
{
    static const char seed_text[] =
        "{\"return\": [{\"name\": \"v\\u00e4\\ud83d\\ude00\", \"size\": 1073741824, \"x\": -1.5e3},"
        " {\"a\": {\"b\": [true, false, null, []]}}], \"id\": 'q'}";
    static const char bytes[] = "{}[]\"'\\,:u0dD8e-.x \n\xff";
    guint32 seed = g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    unsigned accepted = 0;

    g_test_message("seed %u", seed);
    for (unsigned i = 0; i < 20000; i++) {
        g_autoptr(GString) text = g_string_new(seed_text);
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonNode) node = NULL;

        for (gint32 n = g_rand_int_range(rand, 1, 5); n > 0; n--) {
            gint32 at = g_rand_int_range(rand, 0, (gint32)text->len);
            char byte = bytes[g_rand_int_range(rand, 0, sizeof bytes)];

            switch (g_rand_int_range(rand, 0, 3)) {
            case 0:
                text->str[at] = byte;
                break;
            case 1:
                g_string_insert_c(text, at, byte);
                break;
            default:
                g_string_erase(text, at, g_rand_int_range(rand, 1, 4) % (gint)(text->len - at) + 1);
            }
        }
        node = json_read(text->str, text->len, &limits, &error);
        g_assert_true((node == NULL) == (error != NULL));
        if (node) {
            g_autofree char *printed = json_to_string(node, FALSE);

            g_assert_true(g_utf8_validate(printed, -1, NULL));
            accepted++;
        }
    }
    g_assert_cmpuint(accepted, >, 100);
}

static void test_members(void)
{
    static const char text[] = "{\"s\": \"x\", \"i\": 5, \"n\": -5, \"b\": true, \"o\": {},"
                               " \"a\": [], \"z\": null, \"f\": 1.5}";
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = json_read(text, strlen(text), &limits, &error);
    JsonObject *o;

    g_assert_no_error(error);
    o = json_node_get_object(node);
    g_assert_cmpstr(json_member_string(o, "s"), ==, "x");
    g_assert_null(json_member_string(o, "i"));
    g_assert_null(json_member_string(o, "z"));
    g_assert_null(json_member_string(o, "nothing"));
    g_assert_cmpuint(json_member_size(o, "i"), ==, 5);
    g_assert_cmpuint(json_member_size(o, "n"), ==, 0);
    g_assert_cmpuint(json_member_size(o, "f"), ==, 0);
    g_assert_cmpuint(json_member_size(o, "s"), ==, 0);
    g_assert_true(json_member_bool(o, "b"));
    g_assert_false(json_member_bool(o, "i"));
    g_assert_nonnull(json_member_object(o, "o"));
    g_assert_null(json_member_object(o, "a"));
    g_assert_nonnull(json_member_array(o, "a"));
    g_assert_null(json_member_array(o, "o"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json-read/check-accepts", test_check_accepts);
    g_test_add_func("/json-read/check-refuses", test_check_refuses);
    g_test_add_func("/json-read/depth", test_depth);
    g_test_add_func("/json-read/duplicates", test_duplicates);
    g_test_add_func("/json-read/inexact", test_inexact);
    g_test_add_func("/json-read/mutations", test_mutations);
    g_test_add_func("/json-read/members", test_members);
    return g_test_run();
}
