/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stream of JSON values. Each text is fed whole, byte by byte, and cut into two at each place:
 * the results must be the same. The expected results are the answers of qemu-storage-daemon.
 */
#include "common/json/read.h"
#include "common/json/stream.h"
#include "common/json/write.h"

#include <stdbool.h>
#include <string.h>

static const struct json_limits roomy = {.bytes = 1 << 20, .tokens = 10000, .depth = 1024};

static void append_result(GString *results, struct json_stream *j, enum json_stream_result result,
                          const GError *error)
{
    if (result == JSON_STREAM_VALUE)
        g_string_append_printf(results, "%s|", json_stream_text(j)->str);
    else if (result == JSON_STREAM_ERROR)
        g_string_append_printf(results, "<%s>|", error->message);
}

static void feed(struct json_stream *j, const char *data, size_t length, GString *results)
{
    while (length > 0) {
        g_autoptr(GError) error = NULL;
        size_t used = 0;
        enum json_stream_result result = json_stream_feed(j, data, length, &used, &error);

        append_result(results, j, result, error);
        g_assert_true((result == JSON_STREAM_ERROR) == (error != NULL));
        g_assert_cmpuint(used, <=, length);
        if (result == JSON_STREAM_MORE)
            g_assert_cmpuint(used, ==, length);
        data += used;
        length -= used;
    }
}

/* All results of `data` in pieces of `piece` bytes (0: whole). The first piece has `first` bytes
 * (0: as many as the others). */
static char *results_of(const struct json_limits *limits, const char *data, size_t length,
                        size_t first, size_t piece)
{
    struct json_stream *j = json_stream_new(limits);
    GString *results = g_string_new(NULL);

    while (length > 0) {
        size_t n = first ? first : piece ? piece : length;

        n = MIN(n, length);
        feed(j, data, n, results);
        data += n;
        length -= n;
        first = 0;
    }
    json_stream_free(j);
    return g_string_free(results, FALSE);
}

static void check_length(const char *data, size_t length, const char *expected)
{
    g_autofree char *whole = results_of(&roomy, data, length, 0, 0);
    g_autofree char *bytes = results_of(&roomy, data, length, 0, 1);

    g_assert_cmpstr(whole, ==, expected);
    g_assert_cmpstr(bytes, ==, expected);
    for (size_t cut = 1; cut < length; cut++) {
        g_autofree char *two = results_of(&roomy, data, length, cut, 0);

        g_assert_cmpstr(two, ==, expected);
    }
}

static void check(const char *data, const char *expected)
{
    check_length(data, strlen(data), expected);
}

static void test_values(void)
{
    check("{}", "{}|");
    check(" { \"a\" :\t[ 1 , -2.5e+3,true,false , null ] }\r\n",
          "{\"a\":[1,-2.5e+3,true,false,null]}|");
    check("{}[]{}", "{}|[]|{}|");
    check("{\"a\"\n:\n{\n}\n}", "{\"a\":{}}|");
    check("12 ", "12|");
    check("0\n-0\n", "0|-0|");
    check("true null\n", "true|null|");
    check("\"x\"\"y\"", "\"x\"|\"y\"|");
    check("[0,1.5,1E9,1e-9]", "[0,1.5,1E9,1e-9]|");
    check("", "");
    check("  \n\t\r", "");
    check("{\"a\":", "");
}

static void test_strings(void)
{
    check("'a'", "\"a\"|");
    check("'it\\'s \"q\"'", "\"it's \\\"q\\\"\"|");
    check("\"it's \\\"q\\\" \\' \\/\"", "\"it's \\\"q\\\" ' /\"|");
    check("\"\\b\\f\\n\\r\\t\\\\\"", "\"\\u0008\\u000c\\u000a\\u000d\\u0009\\\\\"|");
    check("\"{}[]:,'\"", "\"{}[]:,'\"|");
    check("'\\u0041\\u00e9\\u20AC'", "\"A\303\251\342\202\254\"|");
    check("'\\u0022\\u005c\\u001f'", "\"\\\"\\\\\\u001f\"|");
    check("'\\ud83d\\ude00'", "\"\360\237\230\200\"|");
    check("'\360\237\230\200'", "\"\360\237\230\200\"|");
    check("'\177'", "\"\177\"|");
}

static void test_integers(void)
{
    check("[9223372036854775807,-9223372036854775808]",
          "[9223372036854775807,-9223372036854775808]|");
    check("[9223372036854775808,-9223372036854775809,18446744073709551616]",
          "[9223372036854775808.0,-9223372036854775809.0,18446744073709551616.0]|");
}

static void test_grammar_errors(void)
{
    check("hello\n", "<JSON parse error, invalid keyword 'hello'>|");
    check("{\"a\":tru}", "<JSON parse error, invalid keyword 'tru'>|");
    check("{tru:1}", "<JSON parse error, invalid keyword 'tru'>|");
    check("{]", "<JSON parse error, expecting value>|");
    check("[}", "<JSON parse error, expecting value>|");
    check("}", "<JSON parse error, expecting value>|");
    check("]", "<JSON parse error, expecting value>|");
    check(",", "<JSON parse error, expecting value>|");
    check(":", "<JSON parse error, expecting value>|");
    check("{,}", "<JSON parse error, expecting value>|");
    check("{\"a\":}", "<JSON parse error, expecting value>|");
    check("{\"a\":1,}", "<JSON parse error, expecting value>|");
    check("[1,]", "<JSON parse error, expecting value>|");
    check("[,1]", "<JSON parse error, expecting value>|");
    check("{\"a\" 1}", "<JSON parse error, missing : in object pair>|");
    check("{\"a\"}", "<JSON parse error, missing : in object pair>|");
    check("{\"a\",\"b\"}", "<JSON parse error, missing : in object pair>|");
    check("{1:2}", "<JSON parse error, key is not a string in object>|");
    check("{null:2}", "<JSON parse error, key is not a string in object>|");
    check("{{}:2}", "<JSON parse error, key is not a string in object>|");
    check("{\"a\":1 \"b\":2}", "<JSON parse error, expected separator in dict>|");
    check("{\"a\":1]", "<JSON parse error, expected separator in dict>|");
    check("[1 2]", "<JSON parse error, expected separator in list>|");
    check("[1:2]", "<JSON parse error, expected separator in list>|");
    /* the first error counts, and the value ends where its brackets balance */
    check("{\"a\" 1, {[}]: tru} {}", "<JSON parse error, missing : in object pair>|{}|");
    check("[[1,,2],\"]\",{}][]", "<JSON parse error, expecting value>|[]|");
    check("{}}{}", "{}|<JSON parse error, expecting value>|{}|");
    /* json-glib would accept these; they are no JSON */
    check("[1,2,]", "<JSON parse error, expecting value>|");
    check("/* x */ {}", "<JSON parse error, stray '/'>|{}|");
    check("var x = {}\n",
          "<JSON parse error, invalid keyword 'var'>|"
          "<JSON parse error, invalid keyword 'x'>|<JSON parse error, stray '='>|{}|");
}

static void test_string_errors(void)
{
    check("{\"a\":\"\\q\"}", "<JSON parse error, invalid escape sequence in string>|");
    check("'\\ud800'", "<JSON parse error, \\ud800 is not a valid Unicode character>|");
    check("'\\ud800x'", "<JSON parse error, \\ud800 is not a valid Unicode character>|");
    check("'\\ud800\\n'", "<JSON parse error, \\ud800 is not a valid Unicode character>|");
    check("'\\ud800\\u0041'", "<JSON parse error, \\ud800 is not a valid Unicode character>|");
    check("'\\udc00'", "<JSON parse error, \\udc00 is not a valid Unicode character>|");
    check("'\\u0000'", "<JSON parse error, \\u0000 is not a valid Unicode character>|");
    check("['\\u12g4']{}", "<JSON parse error, \\u12 is not a valid Unicode character>|{}|");
    check("['\\u12']{}", "<JSON parse error, \\u12 is not a valid Unicode character>|{}|");
    check("['\\u12\\'']{}", "<JSON parse error, \\u12 is not a valid Unicode character>|{}|");
    check("{\"id\":'\303('}", "<JSON parse error, invalid UTF-8 sequence in string>|");
    check("'\300\200'", "<JSON parse error, invalid UTF-8 sequence in string>|");
    check("'\355\240\200'", "<JSON parse error, invalid UTF-8 sequence in string>|");
}

static void test_strays(void)
{
    check("@", "<JSON parse error, stray '@'>|");
    check("%p\n{}", "<JSON parse error, stray '%'>|{}|");
    check("{\"a\": @ }\n{}", "<JSON parse error, stray '@'>|{}|");
    check("{\"a\": @ }{}", "<JSON parse error, stray '@'>|{}|");
    check("[01]\n{}", "<JSON parse error, stray '01'>|{}|");
    check("{\"a\":-}\n{}", "<JSON parse error, stray '-}'>|{}|");
    check("[1.]\n[1e]\n[1e+]\n", "<JSON parse error, stray '1.]'>|<JSON parse error, stray '1e]'>|"
                                 "<JSON parse error, stray '1e+]'>|");
    check("TRUE\n1", "<JSON parse error, stray 'T'>|");
    /* clients reset the parser with these: the next value may follow at once */
    check("{\001[]", "<JSON parse error, stray '\001'>|[]|");
    check("{\377[]", "<JSON parse error, stray '\357\277\275'>|[]|");
    check("{'bad \377[]", "<JSON parse error, stray ''bad \357\277\275'>|[]|");
    check("{'a':'x\n[]", "<JSON parse error, stray ''x\n'>|[]|");
    check("'a\\\n[]", "<JSON parse error, stray ''a\\\n'>|[]|");
    check("'a\\u1\n[]", "<JSON parse error, stray ''a\\u1\n'>|[]|");
    check_length("{\0[]", 4, "<JSON parse error, stray ''>|[]|");
    check("GET / HTTP/1.1\r\nHost: x\r\n\r\n",
          "<JSON parse error, stray 'G'>|<JSON parse error, stray 'H'>|");
}

static void test_id(void)
{
    static const struct {
        const char *text, *id;
    } cases[] = {
        {"{}", ""},
        {"[\"id\",1]", ""},
        {"{\"id\":1}", "1"},
        {"{\"a\":1,'id' : {'x': [1, 18446744073709551615 ,\"y\"]} , \"b\":2}",
         "{\"x\":[1,18446744073709551615,\"y\"]}"},
        {"{\"id\":1.0}", "1.0"},
        {"{\"id\":null}", "null"},
        {"{\"id\":[]}", "[]"},
        {"{\"i\\u0064\":\"\\u0069d\"}", "\"id\""},
        {"{\"a\":{\"id\":1}}", ""},
        {"{\"id\":{\"id\":{\"id\":2}},\"a\":3}", "{\"id\":{\"id\":2}}"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct json_stream *j = json_stream_new(&roomy);
        size_t used;

        g_assert_cmpint(json_stream_feed(j, cases[i].text, strlen(cases[i].text), &used, NULL), ==,
                        JSON_STREAM_VALUE);
        g_assert_cmpstr(json_stream_id(j)->str, ==, cases[i].id);
        json_stream_free(j);
    }
}

/* `count` times `unit`. */
static char *repeat(const char *unit, size_t count)
{
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < count; i++)
        g_string_append(s, unit);
    return g_string_free(s, FALSE);
}

static void check_limited(const struct json_limits *limits, const char *text, const char *expected)
{
    g_autofree char *whole = results_of(limits, text, strlen(text), 0, 0);
    g_autofree char *bytes = results_of(limits, text, strlen(text), 0, 1);

    g_assert_cmpstr(whole, ==, expected);
    g_assert_cmpstr(bytes, ==, expected);
}

static void test_limits(void)
{
    static const struct json_limits tight = {.bytes = 20, .tokens = 7, .depth = 3};
    g_autofree char *deep = repeat("[", 100000), *deep_line = g_strconcat(deep, "\n{}", NULL);
    g_autofree char *objects = repeat("{\"a\":", 100000);
    g_autofree char *objects_line = g_strconcat(objects, "\n{}", NULL);
    g_autofree char *edge = repeat("[", 1024), *edge_end = repeat("]", 1024);
    g_autofree char *edge_line = g_strconcat(edge, edge_end, NULL);
    g_autofree char *edge_result = g_strconcat(edge_line, "|", NULL);
    g_autofree char *many = repeat("1,", 10000),
                    *many_line = g_strconcat("[", many, "1]\n{}", NULL);
    g_autofree char *spaces = repeat("    \n", 1000), *spaced = g_strconcat(spaces, "{}", NULL);

    check_limited(&tight, "[[[]]]", "[[[]]]|");
    check_limited(&tight, "[[[[]]]]\n{}", "<JSON nesting depth limit exceeded>|{}|");
    check_limited(&tight, "[{\"a\":[]}]", "<JSON token count limit exceeded>|");
    check_limited(&tight, "[1,2,3]", "[1,2,3]|");
    check_limited(&tight, "[1,2,3,4] {}\n[]", "<JSON token count limit exceeded>|[]|");
    check_limited(&tight, "\"123456789012345678\"", "\"123456789012345678\"|");
    check_limited(&tight, "\"1234567890123456789\" {}\n[]", "<JSON token size limit exceeded>|[]|");
    check_limited(&tight, "123456789012345678901\n{}", "<JSON token size limit exceeded>|{}|");
    check_limited(&tight, "aaaaaaaaaaaaaaaaaaaaaaaaa\n{}", "<JSON token size limit exceeded>|{}|");
    /* limits hold also for the rest of a bad value */
    check_limited(&tight, "[,[[[\n{}", "<JSON nesting depth limit exceeded>|{}|");
    check_limited(&tight, "[,'aaaaaaaaaaaaaaaaaaaaaaaaaa\n{}",
                  "<JSON token size limit exceeded>|{}|");
    /* each value has its own limits; spaces cost nothing */
    check_limited(&tight, "[1,2,3][1,2,3][1,2,3]", "[1,2,3]|[1,2,3]|[1,2,3]|");
    check_limited(&tight, spaced, "{}|");

    check_limited(&roomy, deep_line, "<JSON nesting depth limit exceeded>|{}|");
    check_limited(&roomy, objects_line, "<JSON nesting depth limit exceeded>|{}|");
    check_limited(&roomy, edge_line, edge_result);
    check_limited(&roomy, many_line, "<JSON token count limit exceeded>|{}|");
}

/* A value that is refused for its size is not kept. */
static void test_memory(void)
{
    struct json_stream *j = json_stream_new(&roomy);
    g_autofree char *piece = g_strnfill(65536, 'x');
    GString *results = g_string_new(NULL);

    feed(j, "{\"a\":\"", 6, results);
    for (int i = 0; i < 100000000 / 65536; i++) {
        feed(j, piece, 65536, results);
        g_assert_cmpuint(json_stream_text(j)->allocated_len, <=, 4 * roomy.bytes);
    }
    feed(j, "\"}\n{}", 5, results);
    g_assert_cmpstr(results->str, ==, "<JSON token size limit exceeded>|{}|");
    g_string_free(results, TRUE);
    json_stream_free(j);
}

/* ---- trees ---- */

/* Make a tree of a text, and a text of the tree. */
static char *round_trip(const char *text, GError **err)
{
    struct json_stream *j = json_stream_new(&roomy);
    GString *out = g_string_new(NULL);
    g_autoptr(JsonNode) node = NULL;
    size_t used;

    g_assert_cmpint(json_stream_feed(j, text, strlen(text), &used, NULL), ==, JSON_STREAM_VALUE);
    node = json_value_parse(json_stream_text(j), json_stream_members(j), err);
    json_stream_free(j);
    if (node)
        json_value_append(out, node);
    return g_string_free(out, FALSE);
}

static void test_values_parsed(void)
{
    static const char *const cases[][2] = {
        {"{'a':[],'b':{},'c':[{}]}", "{\"a\": [], \"b\": {}, \"c\": [{}]}"},
        {"[9223372036854775807,-9223372036854775808,0,-1]",
         "[9223372036854775807, -9223372036854775808, 0, -1]"},
        {"['a:b,c','\\\\',':\"']", "[\"a:b,c\", \"\\\\\", \":\\\"\"]"},
        {"['\\u00e9\\ud83d\\ude00\\u001f\\u007f\\n']",
         "[\"\\u00e9\\ud83d\\ude00\\u001f\\u007f\\n\"]"},
        {"{'a':{'a':{'a':1}},'b':{'a':2}}", "{\"a\": {\"a\": {\"a\": 1}}, \"b\": {\"a\": 2}}"},
        {"[true,false,null]", "[true, false, null]"},
        {"{'':''}", "{\"\": \"\"}"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *out = round_trip(cases[i][0], &error);

        g_assert_no_error(error);
        g_assert_cmpstr(out, ==, cases[i][1]);
    }
}

static void test_deep_parsed(void)
{
    g_autofree char *open = repeat("{'a':[", 512), *close = repeat("]}", 512);
    g_autofree char *text = g_strconcat(open, "1", close, NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *out = round_trip(text, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(strlen(out), ==, strlen(text) + 512);
}

static void test_duplicates(void)
{
    static const char *const cases[] = {"{'a':1,'a':2}", "{'a':1,'\\u0061':2}",
                                        "[{'b':{'a':1,'a':1}}]", "{'id':1,'b':2,'id':1}"};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *out = round_trip(cases[i], &error);

        g_assert_nonnull(error);
        g_assert_cmpstr(error->message, ==, "JSON parse error, duplicate key");
        g_assert_cmpstr(out, ==, "");
    }
}

static void test_bad_utf8_out(void)
{
    GString *out = g_string_new(NULL);

    json_value_append_string(out, "file \377\303 name");
    g_assert_cmpstr(out->str, ==, "\"file \\ufffd\\ufffd name\"");
    g_string_free(out, TRUE);
}

/* ---- at random ---- */

/* Pieces of JSON, mostly in the wrong order. */
static GString *random_text(GRand *rand)
{
    static const char *const pieces[] = {
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "{\"id\":",
        "{'a':",
        "\"a\"",
        "'",
        "\"",
        "\\",
        "\\u",
        "\\u00",
        "\\ud83d",
        "\\ud",
        "true",
        "null",
        "tru",
        "0",
        "-",
        "12",
        ".",
        "e",
        "+",
        "1e5",
        "99999999999999999999",
        " ",
        "\n",
        "\t",
        "\001",
        "\377",
        "\303",
        "\251",
        "\360\237\230\200",
        "@",
        "%",
        "/*",
        "id",
        "\177",
        "\"b\":",
        "[[[[",
        "]]]]",
    };
    GString *text = g_string_new(NULL);

    for (int n = g_rand_int_range(rand, 1, 40); n > 0; n--)
        g_string_append(text, pieces[g_rand_int_range(rand, 0, G_N_ELEMENTS(pieces))]);
    if (g_rand_int_range(rand, 0, 8) == 0)
        g_string_insert_c(text, g_rand_int_range(rand, 0, (gint32)text->len), '\0');
    return text;
}

/* json-glib accepts every text that the stream passes, except one that has a key twice. */
static void check_parses(const GString *text)
{
    static const struct json_limits tight = {.bytes = 100, .tokens = 30, .depth = 5};
    struct json_stream *j = json_stream_new(&tight);

    for (size_t at = 0, used; at < text->len; at += used) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonNode) node = NULL;

        if (json_stream_feed(j, text->str + at, text->len - at, &used, NULL) != JSON_STREAM_VALUE)
            continue;
        node = json_value_parse(json_stream_text(j), json_stream_members(j), &error);
        if (!node)
            g_assert_cmpstr(error->message, ==, "JSON parse error, duplicate key");
        if (json_stream_id(j)->len > 0) {
            g_autoptr(JsonNode) id = json_from_string(json_stream_id(j)->str, NULL);

            g_assert_true(node == NULL || id != NULL ||
                          strcmp(json_stream_id(j)->str, "null") == 0);
        }
    }
    json_stream_free(j);
}

static void test_random(void)
{
    static const struct json_limits tight = {.bytes = 100, .tokens = 30, .depth = 5};
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)g_test_rand_int());

    for (int i = 0; i < 20000; i++) {
        GString *text = random_text(rand);
        size_t first = (size_t)g_rand_int_range(rand, 1, (gint32)text->len + 1);
        g_autofree char *whole = results_of(&tight, text->str, text->len, 0, 0);
        g_autofree char *bytes = results_of(&tight, text->str, text->len, 0, 1);
        g_autofree char *cut = results_of(&tight, text->str, text->len, first, 7);

        g_assert_cmpstr(whole, ==, bytes);
        g_assert_cmpstr(whole, ==, cut);
        check_parses(text);
        g_string_free(text, TRUE);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/values", test_values);
    g_test_add_func("/stream/strings", test_strings);
    g_test_add_func("/stream/integers", test_integers);
    g_test_add_func("/stream/grammar-errors", test_grammar_errors);
    g_test_add_func("/stream/string-errors", test_string_errors);
    g_test_add_func("/stream/strays", test_strays);
    g_test_add_func("/stream/id", test_id);
    g_test_add_func("/stream/limits", test_limits);
    g_test_add_func("/stream/memory", test_memory);
    g_test_add_func("/value/parsed", test_values_parsed);
    g_test_add_func("/value/deep", test_deep_parsed);
    g_test_add_func("/value/duplicates", test_duplicates);
    g_test_add_func("/value/bad-utf8-out", test_bad_utf8_out);
    g_test_add_func("/stream/random", test_random);
    return g_test_run();
}
