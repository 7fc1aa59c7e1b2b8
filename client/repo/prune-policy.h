/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which backups of a repository stay: the newest N, and the newest of each of the last N days, weeks,
 * months and years that have one. Pure.
 */
#ifndef CLIENT_REPO_PRUNE_POLICY_H
#define CLIENT_REPO_PRUNE_POLICY_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum prune_rule { PRUNE_LAST, PRUNE_DAILY, PRUNE_WEEKLY, PRUNE_MONTHLY, PRUNE_YEARLY, PRUNE_RULES };

/* "last", "daily"... */
const char *prune_rule_name(enum prune_rule rule);

/* How many each rule keeps; 0: the rule is not there. */
struct prune_policy {
    unsigned keep[PRUNE_RULES];
};

/* Does it keep anything? */
bool prune_policy_keeps(const struct prune_policy *p);

/*
 * `times` are the instants of `n` backups, in the order in which they were made, microseconds since
 * 1970. The rules that keep backup i are added to reasons[i], bit 1 << rule. Each rule goes from the
 * newest backwards, by itself. Days, weeks (from Monday), months and years are those of `zone`.
 */
void prune_policy_apply(const struct prune_policy *p, const int64_t *times, size_t n,
                        GTimeZone *zone, unsigned *reasons);

#endif
