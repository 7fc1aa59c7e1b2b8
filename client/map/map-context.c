/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/map-context.h"
#include "common/base/extents.h"

#include <glib.h>
#include <inttypes.h>
#include <string.h>

enum map_kind map_kind(const char *context)
{
    if (strcmp(context, "base:allocation") == 0)
        return MAP_ALLOCATION;
    if (g_str_has_prefix(context, "qemu:dirty-bitmap:"))
        return MAP_DIRTY;
    if (strcmp(context, MAP_CONTEXT_CHANGED) == 0)
        return MAP_CHANGED;
    return strcmp(context, "qemu:allocation-depth") == 0 ? MAP_DEPTH : MAP_OTHER;
}

enum map_role map_role(enum map_kind kind, uint32_t flags)
{
    switch (kind) {
    case MAP_ALLOCATION:
        if (flags & EXTENT_HOLE)
            return MAP_CLEAR;
        return flags & EXTENT_ZERO ? MAP_ZERO : MAP_SET;
    case MAP_DIRTY:
        return flags & EXTENT_DIRTY ? MAP_SET : MAP_CLEAR;
    case MAP_DEPTH:
    case MAP_CHANGED:
    case MAP_OTHER:
        break;
    }
    return flags != 0 ? MAP_SET : MAP_CLEAR;
}

const char *map_word(enum map_kind kind, uint32_t flags)
{
    static const char *const allocation[] = {"data", "hole", "zero", "hole,zero"};
    static const char *const dirty[] = {"clean", "dirty"};
    static const char *const depth[] = {"unallocated", "local"};
    static const char *const changed[] = {"unchanged", "changed"};

    switch (kind) {
    case MAP_ALLOCATION:
        return flags < G_N_ELEMENTS(allocation) ? allocation[flags] : NULL;
    case MAP_DIRTY:
        return flags < G_N_ELEMENTS(dirty) ? dirty[flags] : NULL;
    case MAP_DEPTH:
        return flags < G_N_ELEMENTS(depth) ? depth[flags] : "backing";
    case MAP_CHANGED:
        return flags < G_N_ELEMENTS(changed) ? changed[flags] : NULL;
    case MAP_OTHER:
        break;
    }
    return NULL;
}

char *map_state_text(enum map_kind kind, uint32_t flags)
{
    static const char *const allocation[] = {"data", "hole, not zero", "zeroes", "hole"};
    const char *word = map_word(kind, flags);

    if (kind == MAP_ALLOCATION && flags < G_N_ELEMENTS(allocation))
        return g_strdup(allocation[flags]);
    if (kind == MAP_DEPTH && flags > 1)
        return g_strdup_printf("backing %" PRIu32, flags - 1);
    return word ? g_strdup(word) : g_strdup_printf("flags %#" PRIx32, flags);
}

const char *map_legend(enum map_kind kind, enum map_role role)
{
    static const char *const words[][MAP_ROLES] = {
        [MAP_ALLOCATION] = {"data", "zeroes", "hole"},
        [MAP_DIRTY] = {"dirty", "zeroes", "clean"},
        [MAP_DEPTH] = {"allocated", "zeroes", "unallocated"},
        [MAP_CHANGED] = {"changed", "zeroes", "unchanged"},
        [MAP_OTHER] = {"set", "zeroes", "clear"},
    };

    return words[kind][role];
}
