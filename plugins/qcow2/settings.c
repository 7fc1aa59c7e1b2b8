/* SPDX-License-Identifier: BSD-3-Clause */
#include "plugins/qcow2/settings.h"

#include "common/base/nbdkit-abi.h"
#include "plugins/lib/config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Fewer bytes of tables than this would be read again and again. */
#define L2_CACHE_MIN (1u << 20)

static const struct config_word references[] = {
    {"folder", Q2_REFERENCES_FOLDER},
    {"any", Q2_REFERENCES_ANY},
    {"none", Q2_REFERENCES_NONE},
    {NULL, 0},
};

static const struct config_word formats[] = {{"raw", 0}, {"qcow2", 0}, {NULL, 0}};

/* A key that may be given once. The server may go to another folder, so paths become absolute. */
static int take(const char *key, const char *value, bool is_path, char **field, const char **option)
{
    if (*field) {
        nbdkit_error("%s=%s: %s is given already", key, value, key);
        return -1;
    }
    *field = is_path ? nbdkit_absolute_path(value) : strdup(value);
    if (!*field) {
        nbdkit_error("%s=%s: %m", key, value);
        return -1;
    }
    if (option)
        *option = *field;
    return 0;
}

static int take_allow(struct settings *s, const char *value)
{
    char **longer = realloc(s->allow, (s->n_allow + 2) * sizeof *longer);

    if (longer)
        s->allow = longer;
    if (!longer || !(longer[s->n_allow] = nbdkit_absolute_path(value))) {
        nbdkit_error("allow=%s: %m", value);
        return -1;
    }
    longer[++s->n_allow] = NULL;
    s->live.open.allow = (const char *const *)longer;
    return 0;
}

static int take_cache(struct settings *s, const char *value)
{
    int64_t bytes = nbdkit_parse_size(value);

    if (bytes < 0)
        return -1;
    if (bytes < L2_CACHE_MIN || (uint64_t)bytes > SIZE_MAX / 2) {
        nbdkit_error("l2-cache=%s: must be at least 1M", value);
        return -1;
    }
    s->live.table_memory = (size_t)bytes;
    return 0;
}

int settings_config(struct settings *s, const char *key, const char *value)
{
    int word, r;

    if (!strcmp(key, "file"))
        return take(key, value, true, &s->path, NULL);
    if (!strcmp(key, "locking"))
        return config_flag(value, &s->live.locking);
    if (!strcmp(key, "l2-cache"))
        return take_cache(s, value);
    if (!strcmp(key, "references")) {
        r = config_word(key, value, references, &word);
        if (r == 0)
            s->live.open.references = (enum q2_references)word;
        return r;
    }
    if (!strcmp(key, "allow"))
        return take_allow(s, value);
    if (!strcmp(key, "backing"))
        return take(key, value, true, &s->backing, &s->live.open.backing);
    if (!strcmp(key, "backing-format"))
        return config_word(key, value, formats, &word) < 0
                   ? -1
                   : take(key, value, false, &s->backing_format, &s->live.open.backing_format);
    if (!strcmp(key, "data-file"))
        return take(key, value, true, &s->data_file, &s->live.open.data_file);
    if (!strcmp(key, "snapshot"))
        return take(key, value, false, &s->snapshot, &s->live.open.snapshot);
    nbdkit_error("unknown key '%s'", key);
    return -1;
}

int settings_check(const struct settings *s)
{
    if (!s->path) {
        nbdkit_error("file=FILE is missing: which image?");
        return -1;
    }
    if (s->n_allow > 0 && s->live.open.references != Q2_REFERENCES_FOLDER) {
        nbdkit_error("allow=%s: goes with references=folder only", s->allow[0]);
        return -1;
    }
    return 0;
}

void settings_free(struct settings *s)
{
    free(s->path);
    for (unsigned i = 0; i < s->n_allow; i++)
        free(s->allow[i]);
    free(s->allow);
    free(s->backing);
    free(s->backing_format);
    free(s->data_file);
    free(s->snapshot);
    *s = (struct settings)SETTINGS_INIT;
}
