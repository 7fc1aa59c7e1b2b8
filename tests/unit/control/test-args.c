/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Schemas of arguments: every type right and wrong, names of nested members, order of the errors.
 */
#include "server/control/args.h"

#include <string.h>

static const char *const colours[] = {"red", "blue", NULL};
static const struct arg point[] = {ARG("x", ARG_INT), ARG_OPT("y", ARG_INT), ARGS_END};
static const struct arg point_element = {.type = ARG_STRUCT, .of = point};
static const struct arg colour_element = {.type = ARG_ENUM, .values = colours};
static const struct arg number_element = {.type = ARG_UINT32};
static const struct arg either = {.type = ARG_ALTERNATE, .of = point, .alternate = "PointOrStr"};
static const struct arg circle[] = {ARG("radius", ARG_SIZE), ARGS_END};

static const struct arg *shape(const char *type)
{
    return strcmp(type, "circle") == 0 ? circle : strcmp(type, "point") == 0 ? point : NULL;
}

static const struct arg shape_members[] = {
    ARG("type", ARG_TAG, .branch = shape),
    ARG("data", ARG_BRANCH, .branch = shape),
    ARGS_END,
};
static const struct arg shape_element = {.type = ARG_STRUCT, .of = shape_members};

static const struct arg table[] = {
    ARG("name", ARG_STRING),
    ARG_OPT("flag", ARG_BOOL),
    ARG_OPT("int", ARG_INT),
    ARG_OPT("u32", ARG_UINT32),
    ARG_OPT("size", ARG_SIZE),
    ARG_OPT("colour", ARG_ENUM, .values = colours),
    ARG_OPT("point", ARG_STRUCT, .of = point),
    ARG_OPT("points", ARG_LIST, .of = &point_element),
    ARG_OPT("colours", ARG_LIST, .of = &colour_element),
    ARG_OPT("numbers", ARG_LIST, .of = &number_element),
    ARG_OPT("either", ARG_LIST, .of = &either),
    ARG_OPT("shapes", ARG_LIST, .of = &shape_element),
    ARGS_END,
};

/* The text of the error, or "" if the arguments are accepted. */
static char *verdict(const struct arg *schema, const char *text)
{
    g_autoptr(JsonNode) node = json_from_string(text, NULL);
    g_autoptr(GError) error = NULL;
    int result;

    g_assert_nonnull(node);
    result = args_check(schema, json_node_get_object(node), &error);
    g_assert_cmpint(result, ==, error ? -1 : 0);
    return g_strdup(error ? error->message : "");
}

static void check(const char *members, const char *expected)
{
    g_autofree char *text = g_strdup_printf("{\"name\":\"n\",%s}", members);
    g_autofree char *got = verdict(table, text);

    g_assert_cmpstr(got, ==, expected);
}

static void test_types(void)
{
    static const struct {
        const char *member, *good[4], *bad[8], *error;
    } cases[] = {
        {"name",
         {"\"\"", "\"x\""},
         {"1", "null", "true", "[]", "{}"},
         "Invalid parameter type for 'name', expected: string"},
        {"flag",
         {"true", "false"},
         {"1", "null", "\"true\"", "[]", "{}", "1.0"},
         "Invalid parameter type for 'flag', expected: boolean"},
        {"int",
         {"0", "-9223372036854775808", "9223372036854775807"},
         {"\"1\"", "null", "1.0", "true", "9223372036854775808.0"},
         "Invalid parameter type for 'int', expected: integer"},
        {"u32",
         {"0", "4294967295"},
         {"-1", "4294967296", "9223372036854775807"},
         "Parameter 'u32' expects uint32_t"},
        {"u32", {"1"}, {"\"1\"", "null", "1.0", "true", "{}"}, "Parameter 'u32' expects uint64"},
        {"size",
         {"0", "9223372036854775807"},
         {"-1", "\"1\"", "1.5", "null"},
         "Parameter 'size' expects uint64"},
        {"colour",
         {"\"red\"", "\"blue\""},
         {"\"green\""},
         "Parameter 'colour' does not accept value 'green'"},
        {"colour",
         {"\"red\""},
         {"1", "null", "[]"},
         "Invalid parameter type for 'colour', expected: string"},
        {"point",
         {"{\"x\":1}", "{\"y\":2,\"x\":1}"},
         {"1", "null", "[]", "\"x\""},
         "Invalid parameter type for 'point', expected: object"},
        {"points",
         {"[]", "[{\"x\":1}]"},
         {"1", "null", "{}", "\"x\""},
         "Invalid parameter type for 'points', expected: array"},
        {"either",
         {"[\"a\",{\"x\":1}]"},
         {"[1]", "[null]", "[[]]", "[true]"},
         "Invalid parameter type for 'null', expected: PointOrStr"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *rest = strcmp(cases[i].member, "name") == 0 ? "" : ",\"name\":\"n\"";

        for (size_t k = 0; k < G_N_ELEMENTS(cases[i].good) && cases[i].good[k]; k++) {
            g_autofree char *text =
                g_strdup_printf("{\"%s\":%s%s}", cases[i].member, cases[i].good[k], rest);
            g_autofree char *got = verdict(table, text);

            g_assert_cmpstr(got, ==, "");
        }
        for (size_t k = 0; k < G_N_ELEMENTS(cases[i].bad) && cases[i].bad[k]; k++) {
            g_autofree char *text =
                g_strdup_printf("{\"%s\":%s%s}", cases[i].member, cases[i].bad[k], rest);
            g_autofree char *got = verdict(table, text);

            g_assert_cmpstr(got, ==, cases[i].error);
        }
    }
}

static void test_names(void)
{
    check("\"point\":{}", "Parameter 'point.x' is missing");
    check("\"point\":{\"x\":1,\"z\":1}", "Parameter 'point.z' is unexpected");
    check("\"points\":[{\"x\":1},{\"x\":\"1\"}]",
          "Invalid parameter type for 'points[1].x', expected: integer");
    check("\"points\":[1]", "Invalid parameter type for 'points[0]', expected: object");
    check("\"colours\":[\"red\",\"green\"]", "Parameter 'null' does not accept value 'green'");
    check("\"colours\":[1]", "Invalid parameter type for 'colours[0]', expected: string");
    check("\"numbers\":[1,-1]", "Parameter 'null' expects uint32_t");
    check("\"either\":[\"a\",{}]", "Parameter 'either[1].x' is missing");
    check("\"shapes\":[{}]", "Parameter 'shapes[0].type' is missing");
    check("\"shapes\":[{\"type\":\"cube\",\"data\":{}}]",
          "Parameter 'type' does not accept value 'cube'");
    check("\"shapes\":[{\"type\":\"circle\"}]", "Parameter 'shapes[0].data' is missing");
    check("\"shapes\":[{\"type\":\"circle\",\"data\":{}}]",
          "Parameter 'shapes[0].data.radius' is missing");
    check("\"shapes\":[{\"data\":{\"x\":1},\"type\":\"point\"}]", "");
    check("\"shapes\":[{\"type\":\"circle\",\"data\":{\"x\":1,\"radius\":1}}]",
          "Parameter 'shapes[0].data.x' is unexpected");
    check("\"shapes\":[{\"type\":\"circle\",\"data\":{\"radius\":1},\"more\":1}]",
          "Parameter 'shapes[0].more' is unexpected");
}

static void test_order(void)
{
    static const char *const cases[][2] = {
        {"{}", "Parameter 'name' is missing"},
        {"{\"bogus\":1}", "Parameter 'name' is missing"},
        {"{\"bogus\":1,\"name\":\"n\"}", "Parameter 'bogus' is unexpected"},
        {"{\"bogus\":1,\"name\":\"n\",\"flag\":1}",
         "Invalid parameter type for 'flag', expected: boolean"},
        {"{\"int\":\"\",\"name\":\"n\",\"flag\":1}",
         "Invalid parameter type for 'flag', expected: boolean"},
    };
    g_autofree char *none = verdict(no_args, "{}"), *some = verdict(no_args, "{\"a\":1}");

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = verdict(table, cases[i][0]);

        g_assert_cmpstr(got, ==, cases[i][1]);
    }
    g_assert_cmpstr(none, ==, "");
    g_assert_cmpstr(some, ==, "Parameter 'a' is unexpected");
}

static void test_values(void)
{
    g_autoptr(JsonNode) node = json_from_string(
        "{\"s\":\"x\",\"t\":true,\"f\":false,\"i\":-5,\"o\":{\"a\":1},\"l\":[1,2]}", NULL);
    JsonObject *o = json_node_get_object(node);

    g_assert_cmpstr(arg_string(o, "s"), ==, "x");
    g_assert_null(arg_string(o, "none"));
    g_assert_true(arg_bool(o, "t", false));
    g_assert_false(arg_bool(o, "f", true));
    g_assert_true(arg_bool(o, "none", true));
    g_assert_false(arg_bool(o, "none", false));
    g_assert_cmpint(arg_int(o, "i", 7), ==, -5);
    g_assert_cmpint(arg_int(o, "none", 7), ==, 7);
    g_assert_cmpint(arg_int(arg_object(o, "o"), "a", 7), ==, 1);
    g_assert_null(arg_object(o, "none"));
    g_assert_cmpuint(json_array_get_length(arg_list(o, "l")), ==, 2);
    g_assert_null(arg_list(o, "none"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/args/types", test_types);
    g_test_add_func("/args/names", test_names);
    g_test_add_func("/args/order", test_order);
    g_test_add_func("/args/values", test_values);
    return g_test_run();
}
