/* SPDX-License-Identifier: BSD-3-Clause */
/* What plugins say: nbdkit_error(3), nbdkit_debug(3) and their kin. All keep errno. */
#include "server/backend/plugin-private.h"

#include "common/util/log.h"
#include "common/util/log-limit.h"

#include <errno.h>

/* For what a thread says that a plugin has started: it cannot be told which disk it belongs to. */
static struct log_limit of_no_call;

void nbdkit_verror(const char *format, va_list args)
{
    int saved = errno; /* for the plugin, and for %m below */
    struct plugin_call *c = plugin_call_current();
    g_autofree char *text = g_strdup_vprintf(format, args);

    g_strchomp(text);
    if (c && c->said) {
        if (c->said->len)
            g_string_append(c->said, "; ");
        g_string_append(c->said, text);
    } else if (c) {
        log_error_limited(&c->plugin->said, "disk %s: %s: %s", c->plugin->disk, c->plugin->api.name,
                          text);
    } else {
        log_error_limited(&of_no_call, "plugin: %s", text);
    }
    errno = saved;
}

void nbdkit_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    nbdkit_verror(format, args);
    va_end(args);
}

static void debug_text(const char *text)
{
    struct plugin_call *c = plugin_call_current();

    if (c)
        log_debug("disk %s: %s: %s", c->plugin->disk, c->plugin->api.name, text);
    else
        log_debug("plugin: %s", text);
}

void nbdkit_vdebug(const char *format, va_list args)
{
    int saved = errno;

    if (log_is_verbose()) {
        errno = saved;
        g_autofree char *text = g_strdup_vprintf(format, args);
        debug_text(text);
    }
    errno = saved;
}

void nbdkit_debug(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    nbdkit_vdebug(format, args);
    va_end(args);
}

/* One line of `n` bytes, of which the first is at column `skip` of 16. */
static void hexdump_line(const char *prefix, uint64_t at, unsigned skip, const unsigned char *bytes,
                         unsigned n)
{
    g_autoptr(GString) line = g_string_new(prefix);
    char text[17] = "                ";

    g_string_append_printf(line, "%08" G_GINT64_MODIFIER "x:", at);
    for (unsigned i = 0; i < 16; i++) {
        g_string_append(line, i == 8 ? "  " : " ");
        if (i < skip || i >= skip + n) {
            g_string_append(line, "  ");
            continue;
        }
        unsigned char c = bytes[i - skip];
        g_string_append_printf(line, "%02x", c);
        text[i] = g_ascii_isprint(c) ? (char)c : '.';
    }
    g_string_append_printf(line, "  |%s|", text);
    debug_text(line->str);
}

/* Lines begin at multiples of 16, so the first and the last may be partly blank. */
void nbdkit_debug_hexdump(const void *buf, size_t length, const char *prefix, uint64_t start)
{
    int saved = errno;

    for (size_t done = 0; log_is_verbose() && done < length;) {
        unsigned skip = (start + done) % 16;
        unsigned n = (unsigned)MIN(16 - skip, length - done);
        hexdump_line(prefix, start + done - skip, skip, (const unsigned char *)buf + done, n);
        done += n;
    }
    errno = saved;
}

void nbdkit_set_error(int error)
{
    struct plugin_call *c = plugin_call_current();

    if (c)
        c->error = error;
}
