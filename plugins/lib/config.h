/* SPDX-License-Identifier: BSD-3-Clause */
/* Values of a plugin's configuration. Each function: 0, or -1 after nbdkit_error. */
#ifndef PLUGINS_LIB_CONFIG_H
#define PLUGINS_LIB_CONFIG_H

#include <stdbool.h>

int config_flag(const char *value, bool *flag);

/* One of a few words, each of which stands for a number. */
struct config_word {
    const char *word; /* NULL: the list ends */
    int meaning;
};
int config_word(const char *key, const char *value, const struct config_word *words, int *meaning);

#endif
