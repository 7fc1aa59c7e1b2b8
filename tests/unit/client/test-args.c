/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: options, commands, KEY=VALUE words. */
#include "client/base/error.h"
#include "client/cli/commands.h"
#include "client/cli/help.h"
#include "client/cli/option-values.h"
#include "client/cli/options.h"
#include "client/qmp/qmp-args.h"

#include <string.h>

/* ---- qmp-args.h ---- */

static char *args_json(const char *line, GError **err)
{
    g_auto(GStrv) words = g_strsplit(line, "|", -1);
    JsonObject *object = qmp_args_parse(words, NULL, err);
    g_autoptr(JsonNode) node = NULL;

    if (!object)
        return NULL;
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, object);
    return json_to_string(node, FALSE);
}

static void test_args(void)
{
    static const struct {
        const char *words, *json;
    } cases[] = {
        {"node=vda", "{\"node\":\"vda\"}"},
        {"a=1|b=-2|c=true|d=false", "{\"a\":1,\"b\":-2,\"c\":true,\"d\":false}"},
        {"a=1.5|b=1e3", "{\"a\":1.5,\"b\":1000.0}"},
        {"a=", "{\"a\":\"\"}"},
        {"a=b=c", "{\"a\":\"b=c\"}"},
        {"a=null|b=nul|c=True|d=01|e=1x|f=-|g=+1", "{\"a\":\"null\",\"b\":\"nul\",\"c\":\"True\","
                                                   "\"d\":\"01\",\"e\":\"1x\",\"f\":\"-\","
                                                   "\"g\":\"+1\"}"},
        {"a=99999999999999999999|b=1e999", "{\"a\":\"99999999999999999999\",\"b\":\"1e999\"}"},
        {"port=\"10809\"", "{\"port\":\"10809\"}"},
        {"l=[1, \"a\"]|o={\"x\": {}}", "{\"l\":[1,\"a\"],\"o\":{\"x\":{}}}"},
        {"addr.type=unix|addr.data.path=/run/s",
         "{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"/run/s\"}}}"},
        {"o={\"x\":1}|o.y=2", "{\"o\":{\"x\":1,\"y\":2}}"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *json = args_json(cases[i].words, &error);

        g_assert_no_error(error);
        g_assert_cmpstr(json, ==, cases[i].json);
    }
}

static void test_bad_args(void)
{
    static const char *const cases[] = {
        "word", "=x",    "a=1|a=2", "a=1|a.b=2", "a.b=1|a=2", "a..b=1", ".a=1",   "a.=1",
        "=",    "a={1}", "a=[",     "a=[1] x",   "a={",       "a=\"x",  "\xff=1", "a=\xff",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(args_json(cases[i], &error));
        g_assert_error(error, CLIENT_ERROR, CLIENT_ERROR_USAGE);
    }
}

/* A key may not have more dots than any command has levels. */
static void test_deep_key(void)
{
    g_autoptr(GString) word = g_string_new("a");
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 100000; i++)
        g_string_append(word, ".a");
    g_string_append(word, "=1");
    g_assert_null(args_json(word->str, &error));
    g_assert_error(error, CLIENT_ERROR, CLIENT_ERROR_USAGE);
}

/* ---- options.h ---- */

/* A command line (words with blanks between them), and the result of parsing it. */
typedef struct parsed {
    char program[16], *line, *words[16];
    struct invocation invocation;
    GError *error;
    int result;
} parsed;

static void parsed_clear(parsed *p)
{
    g_free(p->line);
    invocation_clear(&p->invocation);
    g_clear_error(&p->error);
    memset(p, 0, sizeof *p);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(parsed, parsed_clear)

/* `p` is all zero or holds an earlier line. */
static void parse(parsed *p, const char *line)
{
    int argc = 0;

    parsed_clear(p);
    strcpy(p->program, "fleecectl");
    p->line = g_strdup(line);
    p->words[argc++] = p->program;
    for (char *word = strtok(p->line, " "); word; word = strtok(NULL, " "))
        p->words[argc++] = word;
    p->result = options_parse(argc, p->words, &p->invocation, &p->error);
}

/* The field of an option of the command that was parsed. */
static const void *field(const parsed *p, const char *name)
{
    const struct option *o = p->invocation.command->options;

    while (strcmp(o->name, name) != 0)
        o++;
    return (const char *)p->invocation.options + o->field;
}

static void test_commands(void)
{
    g_auto(parsed) p = {0};

    parse(&p, "-C /s --json status");
    g_assert_no_error(p.error);
    g_assert_cmpint(p.invocation.request, ==, REQUEST_RUN);
    g_assert_cmpstr(p.invocation.command->name, ==, "status");
    g_assert_cmpstr(p.invocation.control, ==, "/s");
    g_assert_true(p.invocation.json);

    parse(&p, "bitmap add vda b0 --granularity 64k --disabled");
    g_assert_no_error(p.error);
    g_assert_cmpstr(p.invocation.command->name, ==, "bitmap add");
    g_assert_cmpstr(p.invocation.args[0], ==, "vda");
    g_assert_cmpstr(p.invocation.args[1], ==, "b0");
    g_assert_null(p.invocation.args[2]);
    g_assert_cmpstr(*(char *const *)field(&p, "granularity"), ==, "64k");
    g_assert_true(*(const gboolean *)field(&p, "disabled"));

    /* Options may stand anywhere, and names may look like them. */
    parse(&p, "bitmap --json remove -- vda -x");
    g_assert_no_error(p.error);
    g_assert_cmpstr(p.invocation.command->name, ==, "bitmap remove");
    g_assert_cmpstr(p.invocation.args[0], ==, "vda");
    g_assert_cmpstr(p.invocation.args[1], ==, "-x");
    g_assert_null(p.invocation.args[2]);

    parse(&p, "bitmap merge vda t a b c");
    g_assert_no_error(p.error);
    g_assert_cmpuint(g_strv_length(p.invocation.args), ==, 5);
    g_assert_null(p.invocation.options);

    /* The last value of an option counts. An option that may be repeated has all its values. */
    parse(&p, "--client a tls --host x init --client b dir");
    g_assert_no_error(p.error);
    g_assert_cmpstr(p.invocation.command->name, ==, "tls init");
    char *const *clients = *(char *const *const *)field(&p, "client");
    g_assert_cmpuint(g_strv_length((char **)clients), ==, 2);
    g_assert_cmpstr(clients[0], ==, "a");
    g_assert_cmpstr(clients[1], ==, "b");
    parse(&p, "map -b a x --bitmap b");
    g_assert_no_error(p.error);
    g_assert_cmpstr(*(char *const *)field(&p, "bitmap"), ==, "b");
    g_assert_null(*(char *const *)field(&p, "context"));
}

static void test_help(void)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_auto(parsed) p = {0};

    parse(&p, "--help");
    g_assert_cmpint(p.invocation.request, ==, REQUEST_HELP);
    help_print(p.invocation.command, p.invocation.family, out);
    for (const struct command *const *c = commands; *c; c++) {
        g_assert_nonnull(strstr(out->str, (*c)->name));
        g_assert_nonnull((*c)->run);
    }

    g_string_truncate(out, 0);
    parse(&p, "bitmap --help");
    g_assert_cmpint(p.invocation.request, ==, REQUEST_HELP);
    help_print(p.invocation.command, p.invocation.family, out);
    g_assert_nonnull(strstr(out->str, "bitmap merge DISK TARGET SOURCE..."));
    g_assert_null(strstr(out->str, "view"));

    g_string_truncate(out, 0);
    parse(&p, "map -h");
    g_assert_no_error(p.error);
    help_print(p.invocation.command, p.invocation.family, out);
    g_assert_nonnull(strstr(out->str, "--html FILE"));
    g_assert_null(strstr(out->str, "--granularity"));

    parse(&p, "--version");
    g_assert_cmpint(p.invocation.request, ==, REQUEST_VERSION);
}

/* Options of one name have one letter and one kind, also in different commands: they are read
 * before the command is known. */
static void test_tables(void)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();

    for (const struct option *o = common_options; o->name; o++)
        g_ptr_array_add(all, (gpointer)o);
    for (const struct command *const *c = commands; *c; c++) {
        g_assert_true(!(*c)->options == !(*c)->options_size);
        for (const struct option *o = (*c)->options; o && o->name; o++) {
            g_assert_cmpuint(o->field, <, (*c)->options_size);
            /* What may be left out may be named, or not. */
            g_assert_true(o->kind == OPTION_OPTIONAL || !o->value == (o->kind == OPTION_FLAG));
            g_ptr_array_add(all, (gpointer)o);
        }
    }
    for (guint i = 0; i < all->len; i++) {
        for (guint k = 0; k < i; k++) {
            const struct option *a = all->pdata[i], *b = all->pdata[k];
            bool same = strcmp(a->name, b->name) == 0;

            g_assert_true(!same || (a->letter == b->letter && a->kind == b->kind));
            g_assert_true(same || a->letter == 0 || a->letter != b->letter);
        }
    }
}

static void test_usage_errors(void)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"", "no command"},
        {"frobnicate", "unknown command 'frobnicate'"},
        {"job list", "job is not there yet"},
        {"serve -o repo --level full", "serve is not there yet"},
        {"-C /s --json serve -o repo", "serve is not there yet"},
        {"-C/s -hV --control /s --control=/s --frobnicate apply repo", "apply is not there yet"},
        {"-C serve frobnicate", "unknown command 'frobnicate'"},
        {"-g serve frobnicate", "unknown command 'frobnicate'"},
        {"--html serve frobnicate", "unknown command 'frobnicate'"},
        {"-y serve", "serve is not there yet"}, /* nobody knows yet what -y will take */
        {"-o serve", "no command"},
        {"bitmap export vda b0 image.qcow2 --force", "bitmap export is not there yet"},
        {"bitmap --json import vda", "bitmap import is not there yet"},
        {"map -x", "-x"},
        {"-C", "-C"},
        {"bitmap", "bitmap what? there is list, add"},
        {"bitmap frob", "unknown command 'bitmap frob': there is list"},
        {"frobnicate --help", "unknown command"},
        {"status now", "unexpected argument 'now'"},
        {"bitmap add vda", "too few arguments"},
        {"bitmap add vda b0 b1", "unexpected argument 'b1'"},
        {"view list --disabled", "view list takes no --disabled"},
        {"status --html x", "status takes no --html"},
        {"--nonsense status", "--nonsense"},
        {"map", "too few"},
        {"map x --html", "--html"},
        {"bitmap add vda \xff", "UTF-8"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(parsed) p = {0};

        parse(&p, cases[i].line);
        g_assert_cmpint(p.result, ==, -1);
        g_assert_error(p.error, CLIENT_ERROR, CLIENT_ERROR_USAGE);
        g_assert_nonnull(strstr(p.error->message, cases[i].why));
    }
}

/* The server's error tells which word has to be sent again, as text. */
static void test_learning(void)
{
    static const struct {
        const char *error, *json; /* NULL: nothing is learnt */
        bool hint;
    } cases[] = {
        {"Invalid parameter type for 'name', expected: string",
         "{\"name\":\"2026\",\"a\":{\"b\":true},\"l\":[{\"x\":1}],\"o\":{\"p\":{\"q\":2}}}", false},
        {"Invalid parameter type for 'a.b', expected: string",
         "{\"name\":2026,\"a\":{\"b\":\"true\"},\"l\":[{\"x\":1}],\"o\":{\"p\":{\"q\":2}}}", false},
        {"Invalid parameter type for 'l', expected: string",
         "{\"name\":2026,\"a\":{\"b\":true},\"l\":\"[{\\\"x\\\":1}]\",\"o\":{\"p\":{\"q\":2}}}",
         false},
        {"Invalid parameter type for 'l[0].x', expected: string", NULL, true},
        {"Invalid parameter type for 'o.p.q', expected: string", NULL, true},
        {"Invalid parameter type for 'a.c', expected: string", NULL, false},
        {"Invalid parameter type for 'nam', expected: string", NULL, false},
        {"Invalid parameter type for 'name2', expected: string", NULL, false},
        {"Invalid parameter type for 'name', expected: integer", NULL, false},
        {"Invalid parameter type for '', expected: string", NULL, false},
        {"Parameter 'name' is unexpected", NULL, false},
        {"", NULL, false},
    };
    char *words[] = {(char *)"name=2026", (char *)"a.b=true", (char *)"l=[{\"x\":1}]",
                     (char *)"o={\"p\":{\"q\":2}}", NULL};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GHashTable) texts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(JsonObject) object = NULL;
        g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
        g_autofree char *json = NULL;
        const char *hint;
        bool learnt = qmp_args_learn(words, cases[i].error, texts, &hint);

        g_assert_cmpint(learnt, ==, cases[i].json != NULL);
        g_assert_cmpint(hint != NULL, ==, cases[i].hint);
        g_assert_cmpuint(g_hash_table_size(texts), ==, learnt);
        if (!learnt)
            continue;
        /* The same error again changes nothing. */
        g_assert_false(qmp_args_learn(words, cases[i].error, texts, &hint));
        object = qmp_args_parse(words, texts, NULL);
        json_node_set_object(node, object);
        json = json_to_string(node, FALSE);
        g_assert_cmpstr(json, ==, cases[i].json);
    }
}

/* An option whose value may be missing never takes the next word. */
static void test_optional_values(void)
{
    static const struct {
        const char *line, *compress, *output; /* NULL: not given */
    } cases[] = {
        {"pull URI -o T", NULL, "T"},
        {"pull --compress URI -o T", "", "T"},
        {"--compress pull URI -o T", "", "T"},
        {"pull --compress=zlib:9 URI -o T", "zlib:9", "T"},
        {"pull --compress=zlib --compress URI", "", NULL},
        {"pull -o --compress URI", NULL, "--compress"},
        {"pull URI --output --compress", NULL, "--compress"},
        {"pull -- --compress", NULL, NULL},
    };
    g_auto(parsed) p = {0};

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        parse(&p, cases[i].line);
        g_assert_no_error(p.error);
        g_assert_cmpstr(*(char *const *)field(&p, "compress"), ==, cases[i].compress);
        g_assert_cmpstr(*(char *const *)field(&p, "output"), ==, cases[i].output);
        g_assert_cmpuint(g_strv_length(p.invocation.args), ==, 1);
    }
}

static void test_values(void)
{
    static const struct {
        const char *text;
        enum q2_compression compression;
        int level; /* -1: it is refused */
    } cases[] = {
        {"", Q2_ZSTD, 0},
        {"zstd", Q2_ZSTD, 0},
        {"zlib", Q2_ZLIB, 0},
        {"7", Q2_ZSTD, 7},
        {"zstd:19", Q2_ZSTD, 19},
        {"zlib:1", Q2_ZLIB, 1},
        {"zstd:20", 0, -1},
        {"zlib:10", 0, -1},
        {"0", 0, -1},
        {"zlib:", 0, -1},
        {"zstd:zlib", 0, -1},
        {"zlibx", 0, -1},
        {"lz4:1", 0, -1},
        {"-1", 0, -1},
        {" ", 0, -1},
    };
    enum destination_format format = DESTINATION_DEFAULT;
    uint64_t rate = 1;

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        enum q2_compression compression = Q2_ZSTD;
        bool compress = false;
        int level = 0;
        int result = option_compress(cases[i].text, &compress, &compression, &level, NULL);

        g_assert_cmpint(result, ==, cases[i].level < 0 ? -1 : 0);
        if (result == 0) {
            g_assert_true(compress);
            g_assert_cmpint(compression, ==, cases[i].compression);
            g_assert_cmpint(level, ==, cases[i].level);
        }
    }
    g_assert_cmpint(option_format("format", "qcow2", &format, NULL), ==, 0);
    g_assert_cmpint(format, ==, DESTINATION_QCOW2);
    g_assert_cmpint(option_format("format", "QCOW2", &format, NULL), ==, -1);
    g_assert_cmpint(option_rate("rate-limit", NULL, &rate, NULL), ==, 0);
    g_assert_cmpuint(rate, ==, 1);
    g_assert_cmpint(option_rate("rate-limit", "10M", &rate, NULL), ==, 0);
    g_assert_cmpuint(rate, ==, 10 << 20);
    g_assert_cmpint(option_rate("rate-limit", "0", &rate, NULL), ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/qmp-args/values", test_args);
    g_test_add_func("/client/qmp-args/learning", test_learning);
    g_test_add_func("/client/qmp-args/bad", test_bad_args);
    g_test_add_func("/client/qmp-args/deep-key", test_deep_key);
    g_test_add_func("/client/options/commands", test_commands);
    g_test_add_func("/client/options/help", test_help);
    g_test_add_func("/client/options/tables", test_tables);
    g_test_add_func("/client/options/usage-errors", test_usage_errors);
    g_test_add_func("/client/options/optional-values", test_optional_values);
    g_test_add_func("/client/options/values", test_values);
    return g_test_run();
}
