/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers that json-glib would write wrong are written right; the rest is json-glib's own text. */
#include "common/json/write.h"

static JsonNode *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = json_from_string(text, &error);

    g_assert_no_error(error);
    g_assert_nonnull(node);
    return node;
}

static void writes(const char *text, const char *expected)
{
    g_autoptr(JsonNode) node = parse(text);
    g_autofree char *written = json_write(node, false);

    g_assert_cmpstr(written, ==, expected);
    g_autoptr(JsonNode) again = parse(written);
    g_autofree char *second = json_write(again, false);
    g_assert_cmpstr(second, ==, expected);
}

static void test_numbers(void)
{
    writes("1e41", "1e+41");
    writes("[-1e41,1e-9,2.5e300]", "[-1e+41,1e-09,2.5e+300]");
    writes("{\"a\":1e400,\"b\":-1e400}", "{\"a\":1e999,\"b\":-1e999}");
    writes("[0.012375,-0.1,1.7976931348623157e308,0.10000000000000003]",
           "[0.012375,-0.1,1.7976931348623157e+308,0.10000000000000003]");
    writes("[1,-2,0,1.5,1.0,100.0]", "[1,-2,0,1.5,1.0,100.0]");
}

static void test_strings_that_look_like_numbers(void)
{
    writes("[\"1e+41.0\",\"inf\",true,false,null]", "[\"1e+41.0\",\"inf\",true,false,null]");
    writes("{\"1e+41.0\":{\"\\\"1e+41.0\":\"\\\\\"},\"inf\":[]}",
           "{\"1e+41.0\":{\"\\\"1e+41.0\":\"\\\\\"},\"inf\":[]}");
    writes("\"\"", "\"\"");
    writes("[\"\\u001f\\u0001\\\\\",\"\\\\\\\"\"]", "[\"\\u001f\\u0001\\\\\",\"\\\\\\\"\"]");
}

/* Without such numbers the text is json-glib's own. */
static void test_pretty(void)
{
    g_autoptr(JsonNode) node =
        parse("{\"a\":[1,2.5,\"x y\",{}],\"b\":{\"c\":null,\"d\":\"\xc3\xa4\\n\"},\"e\":[]}");
    for (unsigned pretty = 0; pretty < 2; pretty++) {
        g_autofree char *ours = json_write(node, pretty), *theirs = json_to_string(node, pretty);
        g_assert_cmpstr(ours, ==, theirs);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json-write/numbers", test_numbers);
    g_test_add_func("/json-write/strings-that-look-like-numbers",
                    test_strings_that_look_like_numbers);
    g_test_add_func("/json-write/pretty", test_pretty);
    return g_test_run();
}
