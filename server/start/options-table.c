/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/options-table.h"

#include "common/util/delay.h"
#include "common/base/nbd-protocol.h"
#include "common/base/size.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- setters ---- */

static void *field_of(const struct option_def *def, struct options *o)
{
    return (char *)o + def->field;
}

static int set_flag(const struct option_def *def, struct options *o, const char *value,
                    GError **err)
{
    *(bool *)field_of(def, o) = true;
    return 0;
}

static int set_string(const struct option_def *def, struct options *o, const char *value,
                      GError **err)
{
    char **field = field_of(def, o);

    if (*value == '\0')
        return options_usage(err, "option '--%s': its %s is empty", def->name, def->argument);
    g_free(*field);
    *field = g_strdup(value);
    return 0;
}

/* "" is an export's name like any other. */
static int set_export_name(const struct option_def *def, struct options *o, const char *value,
                           GError **err)
{
    if (options_check_name(def->name, def->argument, value, NBD_STRING_MAX, err) < 0)
        return -1;
    g_free(o->export_name);
    o->export_name = g_strdup(value);
    return 0;
}

static int set_number(const struct option_def *def, struct options *o, const char *value,
                      GError **err)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(value, &end, 0);
    if (!g_ascii_isdigit(*value) || *end != '\0' || errno || number < def->min || number > def->max)
        return options_usage(err, "option '--%s': '%s' is not a number from %u to %u", def->name,
                             value, def->min, def->max);
    *(unsigned *)field_of(def, o) = number;
    return 0;
}

/* Fractions count as a whole second: the client is not to be dropped early. */
static int set_handshake_timeout(const struct option_def *def, struct options *o, const char *value,
                                 GError **err)
{
    uint64_t ns;

    if (!delay_parse(value, &ns))
        return options_usage(err,
                             "option '--%s': '%s' is not a time: seconds, or a number with s, "
                             "ms, us or ns",
                             def->name, value);
    o->handshake_timeout = (unsigned)((ns + 999999999) / 1000000000);
    return 0;
}

/* A setter that stores one constant. */
#define SETS(function, member, constant)                                                           \
    static int function(const struct option_def *def, struct options *o, const char *value,        \
                        GError **err)                                                              \
    {                                                                                              \
        o->member = constant;                                                                      \
        return 0;                                                                                  \
    }

SETS(set_ipv4, family, AF_INET)
SETS(set_ipv6, family, AF_INET6)
SETS(set_help, action, ACTION_HELP)
SETS(set_version, action, ACTION_VERSION)
SETS(set_dump_config, action, ACTION_DUMP_CONFIG)
SETS(set_dump_plugin, action, ACTION_DUMP_PLUGIN)
SETS(set_short_options, action, ACTION_SHORT_OPTIONS)
SETS(set_long_options, action, ACTION_LONG_OPTIONS)

static int set_log(const struct option_def *def, struct options *o, const char *value, GError **err)
{
    static const char *const names[] = {
        [LOG_TO_STDERR] = "stderr", [LOG_TO_SYSLOG] = "syslog", [LOG_TO_NULL] = "null"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            o->log = i;
            o->log_chosen = true;
            return 0;
        }
    }
    return options_usage(err, "option '--log': '%s' is none of stderr, syslog, null", value);
}

static int set_scratch_limit(const struct option_def *def, struct options *o, const char *value,
                             GError **err)
{
    int64_t size;

    if (size_parse(value, &size) < 0)
        return options_usage(err, "option '--scratch-limit': '%s' is not a size", value);
    o->scratch_limit = size;
    return 0;
}

static int set_on_cbw_error(const struct option_def *def, struct options *o, const char *value,
                            GError **err)
{
    if (strcmp(value, "break-snapshot") == 0)
        o->on_cbw_error = CBW_BREAK_SNAPSHOT;
    else if (strcmp(value, "break-guest-write") == 0)
        o->on_cbw_error = CBW_BREAK_GUEST_WRITE;
    else
        return options_usage(
            err, "option '--on-cbw-error': '%s' is none of break-snapshot, break-guest-write",
            value);
    return 0;
}

static int set_durability(const struct option_def *def, struct options *o, const char *value,
                          GError **err)
{
    if (strcmp(value, "power") == 0)
        o->durability = DURABILITY_POWER;
    else if (strcmp(value, "process") == 0)
        o->durability = DURABILITY_PROCESS;
    else
        return options_usage(err, "option '--durability': '%s' is none of power, process", value);
    return 0;
}

static int set_on_state_error(const struct option_def *def, struct options *o, const char *value,
                              GError **err)
{
    if (strcmp(value, "keep-guest") == 0)
        o->on_state_error = STATE_KEEP_GUEST;
    else if (strcmp(value, "break-guest-write") == 0)
        o->on_state_error = STATE_BREAK_GUEST_WRITE;
    else
        return options_usage(
            err, "option '--on-state-error': '%s' is none of keep-guest, break-guest-write", value);
    return 0;
}

static int set_tls(const struct option_def *def, struct options *o, const char *value, GError **err)
{
    static const char *const names[] = {
        [TLS_OFF] = "off", [TLS_ON] = "on", [TLS_REQUIRE] = "require"};

    for (unsigned i = TLS_OFF; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            o->tls = i;
            return 0;
        }
    }
    return options_usage(err, "option '--tls': '%s' is none of off, on, require", value);
}

static int add_debug(const struct option_def *def, struct options *o, const char *value,
                     GError **err)
{
    const char *dot = strchr(value, '.');
    const char *equals = dot ? strchr(dot, '=') : NULL;
    struct option_debug *debug;
    char *end;
    long number;

    if (!equals || dot == value || equals == dot + 1)
        return options_usage(err, "option '--debug': '%s' is not PLUGIN.FLAG=NUMBER", value);
    errno = 0;
    number = strtol(equals + 1, &end, 10);
    if (equals[1] == '\0' || *end != '\0' || errno || number < INT32_MIN || number > INT32_MAX)
        return options_usage(err, "option '--debug': '%s' in '%s' is not a number", equals + 1,
                             value);
    debug = g_new0(struct option_debug, 1);
    debug->name = g_strndup(value, dot - value);
    debug->flag = g_strndup(dot + 1, equals - dot - 1);
    debug->value = number;
    g_ptr_array_add(o->debugs, debug);
    return 0;
}

static int set_disk(const struct option_def *def, struct options *o, const char *value,
                    GError **err)
{
    return options_add_disk(o, value, err);
}

static int set_nothing(const struct option_def *def, struct options *o, const char *value,
                       GError **err)
{
    return 0;
}

static int refuse(const struct option_def *def, struct options *o, const char *value, GError **err)
{
    g_set_error(err, OPTIONS_ERROR, OPTIONS_ERROR_REFUSED, "option '--%s': %s", def->name,
                def->why);
    return -1;
}

/* ---- the table ---- */

static const char why_not_filter[] =
    "nbdkit's filters cannot be loaded here; run `nbdkit --filter=...` as a server of its own and "
    "use the plugin `nbd` to reach it";
static const char why_not_oldstyle[] =
    "the oldstyle protocol is not spoken here; connect with a newstyle client, and leave it out";

#define AT(member) .field = offsetof(struct options, member)
#define DOES(n, l, a, setter, text)                                                                \
    {                                                                                              \
        .name = n, .letter = l, .argument = a, .set = setter, .help = text                         \
    }
#define FLAG(n, l, member, text)                                                                   \
    {                                                                                              \
        .name = n, .letter = l, .set = set_flag, AT(member), .help = text                          \
    }
#define TEXT(n, l, a, member, text)                                                                \
    {                                                                                              \
        .name = n, .letter = l, .argument = a, .set = set_string, AT(member), .help = text         \
    }
#define NUMBER(n, l, a, member, least, most, text)                                                 \
    {                                                                                              \
        .name = n, .letter = l, .argument = a, .set = set_number, AT(member), .min = least,        \
        .max = most, .help = text                                                                  \
    }
#define REFUSED(n, l, a, reason)                                                                   \
    {                                                                                              \
        .name = n, .letter = l, .argument = a, .set = refuse, .why = reason                        \
    }
#define ALIAS(n, of)                                                                               \
    {                                                                                              \
        .name = n, .alias = of                                                                     \
    }

const struct option_def options_table[] = {
    /* Disks. */
    DOES("disk", 0, "NAME", set_disk, "a disk: its NAME, then PLUGIN [KEY=VALUE]..."),
    DOES("config", 0, "FILE", NULL, "options and disks from a key file"),
    FLAG("readonly", 'r', readonly, "no disk can be written"),
    ALIAS("read-only", "readonly"),
    DOES("debug", 'D', "PLUGIN.FLAG=N", add_debug, "set a plugin's debug flag"),

    /* Sockets. */
    TEXT("unix", 'U', "SOCKET", unix_path, "listen on this Unix socket; -: on a private one"),
    TEXT("port", 'p', "PORT", port, "listen on this TCP port (10809)"),
    TEXT("ipaddr", 'i', "ADDRESS", ip_address, "listen on this address (all)"),
    ALIAS("ip-addr", "ipaddr"),
    DOES("ipv4-only", '4', NULL, set_ipv4, "no IPv6"),
    DOES("ipv6-only", '6', NULL, set_ipv6, "no IPv4"),
    FLAG("vsock", 0, vsock, "listen on AF_VSOCK instead of TCP"),
    FLAG("single", 's', single, "serve one client, on standard input and output"),
    ALIAS("stdin", "single"),
    TEXT("selinux-label", 0, "LABEL", selinux_label, "SELinux label of the Unix socket"),
    NUMBER("max-connections", 0, "N", max_connections, 0, 1000000,
           "most clients of an export on a socket (100; 0: any number)"),
    /* nbdkit's name of it is --timeout. */
    DOES("handshake-timeout", 0, "SECONDS", set_handshake_timeout,
         "drop who negotiates longer (10; 0: never); also --timeout"),
    ALIAS("timeout", "handshake-timeout"),
    ALIAS("time-out", "handshake-timeout"),
    FLAG("keepalive", 0, keepalive, "find out by TCP's keepalive that a client is gone"),
    ALIAS("keep-alive", "keepalive"),
    NUMBER("threads", 't', "THREADS", threads, 0, 1024, "most requests of one client at once (16)"),
    NUMBER("poll-max-ns", 0, "NANOSECONDS", poll_max_ns, 0, 1000000,
           "look so long for a request before sleeping (50000; 0: never)"),
    NUMBER("mask-handshake", 0, "MASK", mask_handshake, 0, UINT32_MAX,
           "clear handshake flags, for tests of clients"),
    FLAG("no-sr", 0, no_structured_replies, "no structured replies, for tests of clients"),
    ALIAS("no-structured-replies", "no-sr"),
    FLAG("no-mc", 0, no_meta_contexts, "no metadata contexts, for tests of clients"),
    ALIAS("no-meta-contexts", "no-mc"),
    FLAG("no-eh", 0, no_extended_headers, "no extended headers, for tests of clients"),
    ALIAS("no-extended-headers", "no-eh"),
    DOES("newstyle", 'n', NULL, set_nothing, "does nothing"),
    ALIAS("new-style", "newstyle"),

    /* TLS. */
    DOES("tls", 0, "off|on|require", set_tls, "no TLS, for who wants it, or for all (off)"),
    TEXT("tls-certificates", 0, "DIR", tls_certificates,
         "the server's certificate and its CA's (/etc/pki/nbdkit)"),
    FLAG("tls-verify-peer", 0, tls_verify_peer, "clients must show a certificate of the CA"),
    TEXT("tls-psk", 0, "FILE", tls_psk, "pre-shared keys instead of certificates"),

    /* Control and views. */
    TEXT("control", 'C', "SOCKET", control, "listen for QMP on this Unix socket"),
    TEXT("scratch", 0, "DIR", scratch_dir,
         "where views keep old data (--state, $TMPDIR, or /var/tmp)"),
    DOES("scratch-limit", 0, "SIZE", set_scratch_limit, "most bytes that all views may keep"),
    DOES("on-cbw-error", 0, "break-snapshot|break-guest-write", set_on_cbw_error,
         "who loses when old data cannot be kept (break-snapshot)"),

    /* The state folder. */
    TEXT("state", 0, "DIR", state_dir, "keep dirty bitmaps in this folder"),
    DOES("durability", 0, "power|process", set_durability,
         "bitmaps survive a power loss, or only a kill -9 (power)"),
    DOES("on-state-error", 0, "keep-guest|break-guest-write", set_on_state_error,
         "a folder that fails breaks bitmaps, or writes (keep-guest)"),

    /* Backup sessions. */
    NUMBER("backup-lease", 0, "SECONDS", backup_lease, 0, OPTIONS_LEASE_MAX,
           "abort a session that nobody has used so long (3600; 0: never)"),
    TEXT("freeze-hook", 0, "PROGRAM", freeze_hook,
         "runs as PROGRAM freeze|thaw DISK... around an instant"),
    NUMBER("freeze-timeout", 0, "SECONDS", freeze_timeout, 1, 3600,
           "end a freeze hook that takes longer (10)"),

    /* The process. */
    FLAG("foreground", 'f', foreground, "do not go to the background"),
    ALIAS("no-fork", "foreground"),
    TEXT("pidfile", 'P', "FILE", pid_file, "write the process id when clients can connect"),
    ALIAS("pid-file", "pidfile"),
    TEXT("user", 'u', "USER", user, "become this user"),
    TEXT("group", 'g', "GROUP", group, "become this group"),
    TEXT("run", 0, "COMMAND", run, "run a shell command with $uri set, and end with it"),
    DOES("exportname", 'e', "NAME", set_export_name,
         "the export named by --run's and --print-uri's URI"),
    ALIAS("export-name", "exportname"),
    ALIAS("export", "exportname"),
    FLAG("print-uri", 0, print_uri, "print the URI when clients can connect"),
    ALIAS("print-url", "print-uri"),
    ALIAS("show-uri", "print-uri"),
    ALIAS("show-url", "print-uri"),
    NUMBER("stop-timeout", 0, "SECONDS", stop_timeout, 1, 86400,
           "when told to end, leave what hangs after this time (30)"),
    FLAG("exit-with-parent", 0, exit_with_parent, "end when the parent process ends"),
    DOES("log", 0, "stderr|syslog|null", set_log, "where messages go"),
    FLAG("verbose", 'v', verbose, "write debug messages"),
    FLAG("swap", 0, swap, "a disk is swap of this machine: stay in memory"),

    /* Information. */
    DOES("help", 0, NULL, set_help, "show this, and a PLUGIN's own help"),
    DOES("version", 'V', NULL, set_version, "show the version, and a PLUGIN's own"),
    DOES("dump-config", 0, NULL, set_dump_config, "show how this program was built"),
    DOES("dump-plugin", 0, NULL, set_dump_plugin, "show what a PLUGIN can do"),
    DOES("short-options", 0, NULL, set_short_options, "list all one-letter options"),
    DOES("long-options", 0, NULL, set_long_options, "list all long options"),

    /* Known, and refused with a reason. */
    REFUSED("filter", 0, "FILTER", why_not_filter),
    REFUSED("oldstyle", 'o', NULL, why_not_oldstyle),
    ALIAS("old-style", "oldstyle"),
};
const unsigned options_table_length = G_N_ELEMENTS(options_table);

const struct option_def *options_find(const char *name)
{
    for (unsigned i = 0; i < options_table_length; i++) {
        const struct option_def *def = &options_table[i];

        if (strcmp(def->name, name) == 0)
            return def->alias ? options_find(def->alias) : def;
    }
    return NULL;
}

const struct option_def *options_find_letter(char letter)
{
    for (unsigned i = 0; i < options_table_length; i++) {
        if (letter && options_table[i].letter == letter)
            return &options_table[i];
    }
    return NULL;
}

int options_takes_argument(const char *name)
{
    const struct option_def *def = options_find(name);

    return def ? def->argument != NULL : -1;
}

int options_set(struct options *o, const char *name, const char *value, GError **err)
{
    const struct option_def *def = options_find(name);

    if (!def || !def->set)
        return options_usage(err, "there is no option '%s'", name);
    return def->set(def, o, value, err);
}
