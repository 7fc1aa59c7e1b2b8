/* SPDX-License-Identifier: BSD-3-Clause */
/* make-state DIR clean|killed|power|failed|noted|forget: a state folder, without a server. */
#include "tests/rigs/made-state.h"

#include <string.h>

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"clean", "killed", "power", "failed", "noted"};

    if (argc != 3)
        return 2;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(argv[2], kinds[i]) == 0) {
            made_state(argv[1], (enum made_kind)i);
            return 0;
        }
    }
    made_state_forget(argv[1]);
    return 0;
}
