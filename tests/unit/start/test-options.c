/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/options-harness.h"

#include <string.h>
#include <sys/socket.h>

static void test_defaults(void)
{
    struct options *o = parse_good("memory 1G");

    g_assert_cmpint(o->action, ==, ACTION_SERVE);
    g_assert_cmpuint(o->threads, ==, 16);
    g_assert_cmpuint(o->handshake_timeout, ==, 10);
    g_assert_cmpuint(o->poll_max_ns, ==, 50000);
    g_assert_cmpuint(o->max_connections, ==, 100);
    g_assert_cmpuint(o->mask_handshake, ==, 0xffff);
    g_assert_cmpint(o->on_cbw_error, ==, CBW_BREAK_SNAPSHOT);
    g_assert_cmpuint(o->scratch_limit, ==, 0);
    g_assert_cmpint(o->family, ==, AF_UNSPEC);
    g_assert_cmpstr(o->export_name, ==, "");
    g_assert_false(o->foreground);
    g_assert_false(o->log_chosen);
    g_assert_false(options_name_a_socket(o));
    options_free(o);
}

static void test_one_disk(void)
{
    struct options *o = parse_good("-r file disk.img -f cache=none 2x=3 = -U s x.y_z-1==");

    g_assert_cmpuint(o->disks->len, ==, 1);
    g_assert_cmpstr(disk(o, 0)->name, ==, "disk0");
    g_assert_cmpstr(disk(o, 0)->plugin, ==, "file");
    assert_words(disk(o, 0), "@disk.img cache=none @2x=3 @= x.y_z-1==");
    g_assert_true(o->readonly);
    g_assert_true(o->foreground);
    g_assert_cmpstr(o->unix_path, ==, "s");
    options_free(o);
}

static void test_after_dashes(void)
{
    struct options *o = parse_good("-f -- sh - -f --disk a=b");

    g_assert_cmpstr(disk(o, 0)->plugin, ==, "sh");
    assert_words(disk(o, 0), "@- @-f @--disk a=b");
    options_free(o);
}

static void test_several_disks(void)
{
    struct options *o =
        parse_good("-v --disk vda file a.raw -t 4 --disk=vdb memory size=2G --disk vdc null");

    g_assert_cmpuint(o->disks->len, ==, 3);
    g_assert_cmpstr(disk(o, 0)->name, ==, "vda");
    assert_words(disk(o, 0), "@a.raw");
    g_assert_cmpstr(disk(o, 1)->plugin, ==, "memory");
    assert_words(disk(o, 1), "size=2G");
    assert_words(disk(o, 2), "");
    g_assert_cmpuint(o->threads, ==, 4);
    options_free(o);
}

static void test_disk_errors(void)
{
    assert_usage("", "no PLUGIN is given");
    assert_usage("-f", "no PLUGIN is given");
    assert_usage("--disk a", "disk 'a': no PLUGIN is given for it");
    assert_usage("--disk a --disk b null", "disk 'a': no PLUGIN is given for it");
    assert_usage("--disk a null --disk a null", "disk 'a' is given twice");
    assert_usage("--disk '' null", "option '--disk': its NAME is empty");
    assert_usage("--disk a ''", "disk 'a': its PLUGIN is empty");
    assert_usage("null --disk a null",
                 "PLUGIN 'null' comes before '--disk a': with --disk, each plugin follows the name "
                 "of its disk");
}

/* A name is taken only if a client can ask for it and a message can show it. */
static void test_names(void)
{
    g_autofree char *longest = g_strnfill(255, 'n'), *export = g_strnfill(4096, 'e');
    g_autofree char *good =
        g_strdup_printf("-e %s --disk %s null --disk 'é u/v' null", export, longest);
    g_autofree char *bad_disk = g_strdup_printf("--disk %sn null", longest);
    g_autofree char *bad_export = g_strdup_printf("-e %se null", export);
    struct options *o = parse_good(good);

    g_assert_cmpstr(disk(o, 0)->name, ==, longest);
    g_assert_cmpstr(disk(o, 1)->name, ==, "é u/v");
    g_assert_cmpstr(o->export_name, ==, export);
    options_free(o);
    assert_usage(bad_disk,
                 "option '--disk': its NAME 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...' "
                 "has more than 255 bytes");
    assert_usage(
        bad_export,
        "option '--exportname': its NAME 'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee...' has "
        "more than 4096 bytes");
    assert_usage("--disk vd\xff null",
                 "option '--disk': its NAME 'vd\xef\xbf\xbd' is not UTF-8: no "
                 "client could ask for it");
    assert_usage("-e \xc3 null", "option '--exportname': its NAME '\xef\xbf\xbd' is not UTF-8: no "
                                 "client could ask for it");
    assert_usage("--disk 'a\nb' null",
                 "option '--disk': its NAME 'a\\nb' has a control character in it");
    assert_usage("--disk 'a\xc2\x85' null",
                 "option '--disk': its NAME 'a\\302\\205' has a control character in it");
}

static void test_values(void)
{
    struct options *o = parse_good(
        "-p 10 -i ::1 -4 -6 -P pid -u me -g us -e 'my export' -C qmp "
        "--log null --mask-handshake 0x2 --threads=1 --no-sr --no-mc --no-eh --keepalive "
        "--scratch /s --scratch-limit 10M --handshake-timeout 0 --poll-max-ns 7 "
        "--on-cbw-error break-guest-write --max-connections 7 --swap "
        "-D file.zero=3 --debug sh.x=-1 -n null");
    const struct option_debug *debug = o->debugs->pdata[1];

    g_assert_cmpstr(o->port, ==, "10");
    g_assert_cmpstr(o->ip_address, ==, "::1");
    g_assert_cmpint(o->family, ==, AF_INET6);
    g_assert_cmpstr(o->pid_file, ==, "pid");
    g_assert_cmpstr(o->user, ==, "me");
    g_assert_cmpstr(o->group, ==, "us");
    g_assert_cmpstr(o->export_name, ==, "my export");
    g_assert_cmpstr(o->control, ==, "qmp");
    g_assert_cmpint(o->log, ==, LOG_TO_NULL);
    g_assert_true(o->log_chosen);
    g_assert_cmpuint(o->mask_handshake, ==, 2);
    g_assert_cmpuint(o->threads, ==, 1);
    g_assert_true(o->no_structured_replies);
    g_assert_true(o->no_meta_contexts);
    g_assert_true(o->no_extended_headers);
    g_assert_true(o->keepalive);
    g_assert_cmpstr(o->scratch_dir, ==, "/s");
    g_assert_cmpuint(o->scratch_limit, ==, 10 << 20);
    g_assert_cmpuint(o->handshake_timeout, ==, 0);
    g_assert_cmpuint(o->poll_max_ns, ==, 7);
    g_assert_cmpint(o->on_cbw_error, ==, CBW_BREAK_GUEST_WRITE);
    g_assert_cmpuint(o->max_connections, ==, 7);
    g_assert_true(o->swap);
    g_assert_cmpuint(o->debugs->len, ==, 2);
    g_assert_cmpstr(debug->name, ==, "sh");
    g_assert_cmpstr(debug->flag, ==, "x");
    g_assert_cmpint(debug->value, ==, -1);
    options_free(o);
}

static void test_value_errors(void)
{
    assert_usage("-t 1x null", "option '--threads': '1x' is not a number from 0 to 1024");
    assert_usage("-t -1 null", "option '--threads': '-1' is not a number from 0 to 1024");
    assert_usage("-t ' 1' null", "option '--threads': ' 1' is not a number from 0 to 1024");
    assert_usage("-t '' null", "option '--threads': '' is not a number from 0 to 1024");
    assert_usage("-t 99999999999999999999 null",
                 "option '--threads': '99999999999999999999' is not a number from 0 to 1024");
    assert_usage("-U '' null", "option '--unix': its SOCKET is empty");
    assert_usage("--log x null", "option '--log': 'x' is none of stderr, syslog, null");
    assert_usage("--scratch-limit 5x null", "option '--scratch-limit': '5x' is not a size");
    assert_usage("--on-cbw-error x null",
                 "option '--on-cbw-error': 'x' is none of break-snapshot, break-guest-write");
    for (const char *const *bad = (const char *const[]){"a", "a.b", "a=1", ".b=1", "a.=1", NULL};
         *bad; bad++) {
        g_autofree char *words = g_strdup_printf("-D %s null", *bad);
        g_autofree char *message =
            g_strdup_printf("option '--debug': '%s' is not PLUGIN.FLAG=NUMBER", *bad);

        assert_usage(words, message);
    }
    assert_usage("-D a.b=x null", "option '--debug': 'x' in 'a.b=x' is not a number");
    assert_usage("-D a.b= null", "option '--debug': '' in 'a.b=' is not a number");
}

/* getaddrinfo(3) would take 99999 as 34463, 65536 as any port, -1 as 65535, and it takes blanks. */
static void test_ports(void)
{
    static const char *const good[] = {"0", "1", "65535", "0065535", "nbd", "http-alt", "0x50"};
    static const char *const bad[] = {"65536",  "99999", "4294967297", "18446744073709551617",
                                      "165535", "-1",    "+80",        "' 80'",
                                      "'80 '",  "80-81", "."};

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *words = g_strdup_printf("-p %s null", good[i]);
        struct options *o = parse_good(words);

        g_assert_cmpstr(o->port, ==, good[i]);
        options_free(o);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *words = g_strdup_printf("-p %s null", bad[i]);
        g_auto(GStrv) port = NULL;
        g_autofree char *message = NULL;

        g_assert_true(g_shell_parse_argv(bad[i], NULL, &port, NULL));
        message = g_strdup_printf("option '--port': '%s' is neither a number from 0 to 65535 nor "
                                  "the name of a service",
                                  port[0]);
        assert_usage(words, message);
    }
    options_free(parse_good("--vsock -p 99999 null")); /* AF_VSOCK has larger ports */
}

static void test_option_errors(void)
{
    assert_usage("--no-such null", "there is no option '--no-such'");
    assert_usage("--no-such=5 null", "there is no option '--no-such'");
    assert_usage("-Z null", "there is no option '-Z'");
    assert_usage("-fZ null", "there is no option '-Z'");
    assert_usage("null -t", "option '-t' needs an argument");
    assert_usage("null --threads", "option '--threads' needs an argument");
    assert_usage("--foreground=1 null", "option '--foreground' takes no argument");
    assert_usage("--dump null", "option '--dump' could mean several options");
}

static void test_spelling(void)
{
    struct options *o = parse_good("-fvr -U- --read --thread 3 null");

    g_assert_true(o->foreground && o->verbose && o->readonly);
    g_assert_cmpstr(o->unix_path, ==, "-");
    g_assert_cmpuint(o->threads, ==, 3);
    options_free(o);
}

static void test_aliases(void)
{
    struct options *o = parse_good("--read-only --no-fork --pid-file p --ip-addr 1.2.3.4 "
                                   "--export-name e --new-style null");

    g_assert_true(o->readonly && o->foreground);
    g_assert_cmpstr(o->pid_file, ==, "p");
    g_assert_cmpstr(o->ip_address, ==, "1.2.3.4");
    g_assert_cmpstr(o->export_name, ==, "e");
    options_free(o);
}

/* The names and values that nbdkit has, up to 1.48. */
static void test_nbdkits_names(void)
{
    struct options *o = parse_good("--no-meta-contexts --no-structured-replies --keep-alive "
                                   "--show-url --time-out 7 --mask-handshake 0xfffffffe -t 0 null");

    g_assert_true(o->no_meta_contexts && o->no_structured_replies && o->keepalive && o->print_uri);
    g_assert_false(o->no_extended_headers);
    g_assert_cmpuint(o->handshake_timeout, ==, 7);
    g_assert_cmpuint(o->mask_handshake, ==, 0xfffffffe);
    g_assert_cmpuint(o->threads, ==, 16);
    options_free(o);

    o = parse_good("--show-uri --timeout=1 --print-url null");
    g_assert_true(o->print_uri);
    g_assert_cmpuint(o->handshake_timeout, ==, 1);
    options_free(o);
}

/* A time is rounded up to whole seconds, so that it never ends early. */
static void test_times(void)
{
    static const struct {
        const char *text;
        unsigned seconds;
    } cases[] = {{"0", 0},    {"3", 3},   {"0.2", 1},    {"1.5", 2},      {"2.0s", 2},
                 {"20ms", 1}, {"1ns", 1}, {"2000ms", 2}, {"86401", 86401}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *line = g_strdup_printf("--timeout %s null", cases[i].text);
        struct options *o = parse_good(line);

        g_assert_cmpuint(o->handshake_timeout, ==, cases[i].seconds);
        options_free(o);
    }
    for (const char *const *bad =
             (const char *const[]){"-1", "x", "1m", "0x1", "inf", "1 ", "2147483647", NULL};
         *bad; bad++) {
        g_autofree char *line = g_strdup_printf("--timeout '%s' null", *bad);
        g_autofree char *message =
            g_strdup_printf("option '--handshake-timeout': '%s' is not a time: seconds, or a "
                            "number with s, ms, us or ns",
                            *bad);

        assert_usage(line, message);
    }
}

static void assert_unix(const char *line, const char *path)
{
    struct options *o = parse_good(line);

    g_assert_cmpstr(o->unix_path, ==, path);
    options_free(o);
}

/* Unless told otherwise, --run listens on a private Unix socket, as nbdkit does since 1.36: to a
 * port of all addresses somebody else could connect. */
static void test_run_is_private(void)
{
    assert_unix("--run true null", "-");
    assert_unix("--run true -4 null", "-");
    assert_unix("--run true --selinux-label x null", "-");
    assert_unix("--run true -U s null", "s");
    assert_unix("--run true -p 0 null", NULL);
    assert_unix("--run true -i localhost null", NULL);
    assert_unix("--run true --vsock null", NULL);
    assert_unix("-f null", NULL);
}

static void test_implied_foreground(void)
{
    static const char *const lines[] = {"-s null", "--run true null", "--exit-with-parent null"};

    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        struct options *o = parse_good(lines[i]);

        g_assert_true(o->foreground);
        options_free(o);
    }
}

static void test_conflicts(void)
{
    static const char with_single[] =
        "option '--single' cannot be used with --unix, --ipaddr, --port, --vsock or --run";

    assert_usage("-s -U x null", with_single);
    assert_usage("-s -p 1 null", with_single);
    assert_usage("-s -i 1 null", with_single);
    assert_usage("-s --vsock null", with_single);
    assert_usage("-s --run true null", with_single);
    assert_usage("-s --print-uri null", "option '--print-uri' cannot be used with --single");
    assert_usage("--vsock -4 null", "option '--vsock' cannot be used with --ipaddr, -4 or -6");
    assert_usage("--selinux-label x null", "option '--selinux-label' needs --unix");
}

static enum options_tls tls_of(const char *line)
{
    g_autoptr(GError) err = NULL;
    struct options *o = parse(line, &err);

    g_assert_no_error(err);
    enum options_tls tls = o->tls;
    options_free(o);
    return tls;
}

static void test_tls(void)
{
    g_assert_cmpint(tls_of("null"), ==, TLS_OFF);
    g_assert_cmpint(tls_of("--tls=off null"), ==, TLS_OFF);
    g_assert_cmpint(tls_of("--tls=on null"), ==, TLS_ON);
    g_assert_cmpint(tls_of("--tls=require --tls-psk f null"), ==, TLS_REQUIRE);
    g_assert_cmpint(tls_of("--tls-psk f null"), ==, TLS_ON);
    g_assert_cmpint(tls_of("--tls-certificates d null"), ==, TLS_ON);
    g_assert_cmpint(tls_of("--tls-verify-peer null"), ==, TLS_ON);
    g_assert_cmpint(tls_of("--tls-verify-peer --tls off null"), ==, TLS_OFF);
    assert_usage("--tls=maybe null", "option '--tls': 'maybe' is none of off, on, require");
    g_assert_cmpint(tls_of("--tls-psk f --tls-certificates d --tls-verify-peer null"), ==, TLS_ON);
}

static void test_refused(void)
{
    static const char *const lines[] = {
        "--filter=cow null",
        "-o null",
        "--oldstyle null",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(GError) err = NULL;

        g_assert_null(parse(lines[i], &err));
        g_assert_error(err, OPTIONS_ERROR, OPTIONS_ERROR_REFUSED);
    }
}

static void test_state(void)
{
    struct options *o = parse_good("null");

    g_assert_null(o->state_dir);
    options_free(o);
    o = parse_good("--state d null");
    g_assert_cmpstr(o->state_dir, ==, "d");
    g_assert_cmpint(o->durability, ==, DURABILITY_POWER);
    g_assert_cmpint(o->on_state_error, ==, STATE_KEEP_GUEST);
    options_free(o);
    o = parse_good("null --durability process --on-state-error break-guest-write --state=/s");
    g_assert_cmpint(o->durability, ==, DURABILITY_PROCESS);
    g_assert_cmpint(o->on_state_error, ==, STATE_BREAK_GUEST_WRITE);
    options_free(o);
    o = parse_good("--state d --durability power --on-state-error keep-guest null");
    g_assert_cmpint(o->durability, ==, DURABILITY_POWER);
    g_assert_cmpint(o->on_state_error, ==, STATE_KEEP_GUEST);
    options_free(o);
    assert_usage("--state= null", "option '--state': its DIR is empty");
    assert_usage("--durability disk --state d null",
                 "option '--durability': 'disk' is none of power, process");
    assert_usage("--on-state-error stop --state d null",
                 "option '--on-state-error': 'stop' is none of keep-guest, break-guest-write");
    assert_usage("--durability power null", "option '--durability' needs --state");
    assert_usage("--on-state-error keep-guest null", "option '--on-state-error' needs --state");
    assert_usage("--state d --swap null",
                 "option '--state' cannot be used with --swap: swap must not wait for a file "
                 "system");
}

static void test_backup(void)
{
    struct options *o = parse_good("null");

    g_assert_cmpuint(o->backup_lease, ==, 3600);
    g_assert_null(o->freeze_hook);
    g_assert_cmpuint(o->freeze_timeout, ==, 10);
    options_free(o);
    o = parse_good("--backup-lease 0 --freeze-hook 'hook -x' --freeze-timeout 3600 null");
    g_assert_cmpuint(o->backup_lease, ==, 0);
    g_assert_cmpstr(o->freeze_hook, ==, "hook -x");
    g_assert_cmpuint(o->freeze_timeout, ==, 3600);
    options_free(o);
    assert_usage("--backup-lease 1h null",
                 "option '--backup-lease': '1h' is not a number from 0 to 315360000");
    assert_usage("--freeze-timeout 0 null",
                 "option '--freeze-timeout': '0' is not a number from 1 to 3600");
    assert_usage("--freeze-hook= null", "option '--freeze-hook': its PROGRAM is empty");
}

static void test_actions(void)
{
    static const struct {
        const char *line;
        enum options_action action;
    } cases[] = {
        {"--help", ACTION_HELP},
        {"--help memory", ACTION_HELP},
        {"-V", ACTION_VERSION},
        {"--exit-with-parent --version", ACTION_VERSION},
        {"--dump-config", ACTION_DUMP_CONFIG},
        {"memory --dump-plugin", ACTION_DUMP_PLUGIN},
        {"--short-options", ACTION_SHORT_OPTIONS},
        {"--long-options", ACTION_LONG_OPTIONS},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct options *o = parse_good(cases[i].line);

        g_assert_cmpint(o->action, ==, cases[i].action);
        options_free(o);
    }
    assert_usage("--dump-plugin", "option '--dump-plugin' needs a PLUGIN");
}

/* Any words give options or an error, and no crash. */
static void test_random_words(void)
{
    static const char *const pool[] = {
        "-f", "--disk",   "vda",    "memory",     "1G",      "a=b",   "--",
        "-",  "-U",       "-t",     "4",          "--run",   "--log", "-D",
        "-4", "--config", "--help", "--thr=\xff", "--dis=q", "",
    };

    config_text = "[disk c]\nplugin = x\n";
    for (unsigned round = 0; round < 20000; round++) {
        g_autoptr(GError) err = NULL;
        char *argv[10] = {(char *)"nbdfleece"};
        int argc = 1 + g_test_rand_int_range(0, 8);
        struct options *o;

        for (int i = 1; i < argc; i++)
            argv[i] = (char *)pool[g_test_rand_int_range(0, G_N_ELEMENTS(pool))];
        o = command_line_parse(argc, argv, fake_reader, &err);
        g_assert_true((o == NULL) == (err != NULL));
        options_free(o);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/options/defaults", test_defaults);
    g_test_add_func("/options/one-disk", test_one_disk);
    g_test_add_func("/options/after-dashes", test_after_dashes);
    g_test_add_func("/options/several-disks", test_several_disks);
    g_test_add_func("/options/disk-errors", test_disk_errors);
    g_test_add_func("/options/names", test_names);
    g_test_add_func("/options/values", test_values);
    g_test_add_func("/options/value-errors", test_value_errors);
    g_test_add_func("/options/ports", test_ports);
    g_test_add_func("/options/option-errors", test_option_errors);
    g_test_add_func("/options/spelling", test_spelling);
    g_test_add_func("/options/aliases", test_aliases);
    g_test_add_func("/options/nbdkits-names", test_nbdkits_names);
    g_test_add_func("/options/times", test_times);
    g_test_add_func("/options/run-is-private", test_run_is_private);
    g_test_add_func("/options/implied-foreground", test_implied_foreground);
    g_test_add_func("/options/conflicts", test_conflicts);
    g_test_add_func("/options/refused", test_refused);
    g_test_add_func("/options/state", test_state);
    g_test_add_func("/options/backup", test_backup);
    g_test_add_func("/options/tls", test_tls);
    g_test_add_func("/options/actions", test_actions);
    g_test_add_func("/options/random-words", test_random_words);
    return g_test_run();
}
