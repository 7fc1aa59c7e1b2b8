/* SPDX-License-Identifier: BSD-3-Clause */
#include "plugins/lib/config.h"

#include "common/base/nbdkit-abi.h"

#include <string.h>

int config_flag(const char *value, bool *flag)
{
    int r = nbdkit_parse_bool(value);

    if (r < 0)
        return -1;
    *flag = r;
    return 0;
}

int config_word(const char *key, const char *value, const struct config_word *words, int *meaning)
{
    char all[80] = "";

    for (const struct config_word *w = words; w->word; w++) {
        if (!strcmp(value, w->word)) {
            *meaning = w->meaning;
            return 0;
        }
        strcat(strcat(all, *all ? ", " : ""), w->word);
    }
    nbdkit_error("%s=%s: not one of %s", key, value, all);
    return -1;
}
