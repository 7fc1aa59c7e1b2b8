/* SPDX-License-Identifier: BSD-3-Clause */
/* --config: the command line as a key file. */
#include "tests/rigs/options-harness.h"

static void test_config(void)
{
    struct options *o;

    config_text = "[nbdfleece]\n"
                  "unix = /run/s\n"
                  "readonly = true\n"
                  "swap = false\n"
                  "threads = 3\n"
                  "backup-lease = 60\n"
                  "freeze-hook = /x/hook --fast\n"
                  "freeze-timeout = 7\n"
                  "[disk vda]\n"
                  "plugin = file\n"
                  "arguments = 'a b.raw' x=y\n"
                  "cache = none\n"
                  "[disk vdb]\n"
                  "size = 1G\n"
                  "plugin = memory\n";
    o = parse_good("--threads 9 --config f --disk vdc null");
    g_assert_cmpstr(o->unix_path, ==, "/run/s");
    g_assert_true(o->readonly);
    g_assert_false(o->swap);
    g_assert_cmpuint(o->threads, ==, 3);
    g_assert_cmpuint(o->backup_lease, ==, 60);
    g_assert_cmpstr(o->freeze_hook, ==, "/x/hook --fast");
    g_assert_cmpuint(o->freeze_timeout, ==, 7);
    g_assert_cmpuint(o->disks->len, ==, 3);
    g_assert_cmpstr(disk(o, 0)->plugin, ==, "file");
    assert_words(disk(o, 0), "@a b.raw x=y cache=none");
    g_assert_cmpstr(disk(o, 1)->name, ==, "vdb");
    assert_words(disk(o, 1), "size=1G");
    g_assert_cmpstr(disk(o, 2)->name, ==, "vdc");
    options_free(o);

    o = parse_good("--config f --threads 9");
    g_assert_cmpuint(o->threads, ==, 9);
    options_free(o);

    /* The command line adds disks of its own. It can add no word to a disk of the file. */
    assert_usage("--config f --disk vda null", "disk 'vda' is given twice");
    assert_usage("--disk vdb null --config f", "f: disk 'vdb' is given twice");
    assert_usage(
        "--config f memory 1M",
        "'memory': the disks of --config are complete: further ones, and words for them, come "
        "behind '--disk NAME'");
}

static void test_config_errors(void)
{
    g_autoptr(GError) err = NULL;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[nbdfleece]\nno-such = 1\n", "f: [nbdfleece]: there is no option 'no-such'"},
        {"[nbdfleece]\nthreads = 1025\n",
         "f: [nbdfleece]: option '--threads': '1025' is not a number from 0 to 1024"},
        {"[nbdfleece]\nswap = 7\n", "f: [nbdfleece]: option 'swap' is neither true nor false"},
        {"[nbdfleece]\ndisk = a\n",
         "f: [nbdfleece]: a disk is a group of its own here: [disk NAME]"},
        {"[nbdfleece]\nconfig = g\n", "f: [nbdfleece]: there is no option 'config'"},
        {"[disk a]\nfile = x\n", "f: [disk a]: the key 'plugin' is missing"},
        {"[nbdfleece]\nunix = a\\\n",
         "f: [nbdfleece]: key 'unix': a backslash is to be written \\\\"},
        {"[disk a]\nplugin = m\nsize = 1\\\n",
         "f: [disk a]: key 'size': a backslash is to be written \\\\"},
        {"[disk a]\nplugin = m\\x\n",
         "f: [disk a]: key 'plugin': a backslash is to be written \\\\"},
        {"[disk a]\nplugin = x\narguments = 'y\n",
         "f: [disk a]: arguments: Text ended before matching quote was found for '. (The text was "
         "“'y”)"},
        /* GKeyFile would merge two groups of one name, and take the last of two equal keys. */
        {"[disk a]\nplugin = x\n[disk b]\nplugin = y\n [disk a] \nplugin = z\n",
         "f: [disk a]: disk 'a' is given twice"},
        {"[nbdfleece]\nswap = true\n[disk a]\nplugin = x\n[nbdfleece]\nswap = false\n",
         "f: [nbdfleece]: the group is given twice"},
        {"[nbdfleece]\nswap = true\nreadonly = true\n\tswap=false\n",
         "f: [nbdfleece]: option 'swap' is given twice"},
        {"[nbdfleece]\nreadonly = true\nread-only = false\n",
         "f: [nbdfleece]: option 'read-only' is given twice"},
        {"[disk a]\nplugin = x\nsize = 1\n#size = 2\nsize  = 3\n",
         "f: [disk a]: key 'size' is given twice (to give it to the plugin twice, write it into "
         "'arguments')"},
        {"[disk a]\nplugin = x\nplugin = y\n",
         "f: [disk a]: key 'plugin' is given twice (to give it to the plugin twice, write it into "
         "'arguments')"},
        {"[nbdfleece]\nswap[xx] = true\n", "f: [nbdfleece]: there is no option 'swap[xx]'"},
        {"[other]\nx = 1\n", "f: [other]: a group is [nbdfleece] or [disk NAME]"},
        {"[disk ]\nplugin = x\n", "f: option '--disk': its NAME is empty"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        config_text = cases[i].text;
        g_assert_null(parse("--config f", &error));
        g_assert_nonnull(error);
        if (strstr(cases[i].message, "quote")) /* the rest of it is GLib's, and translated */
            g_assert_true(g_str_has_prefix(error->message, "f: [disk a]: arguments: "));
        else
            g_assert_cmpstr(error->message, ==, cases[i].message);
    }
    config_text = NULL;
    g_assert_null(parse("--config f", &err));
    g_assert_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/options/config", test_config);
    g_test_add_func("/options/config-errors", test_config_errors);
    return g_test_run();
}
