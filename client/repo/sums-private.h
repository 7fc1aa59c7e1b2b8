/* SPDX-License-Identifier: BSD-3-Clause */
/* What checksums are, for sums*.c. */
#ifndef CLIENT_REPO_SUMS_PRIVATE_H
#define CLIENT_REPO_SUMS_PRIVATE_H

#include <glib.h>
#include <pthread.h>
#include <stdint.h>

#define SUMS_DIGEST 32 /* bytes of a SHA-256 */

struct sums_piece {
    uint64_t offset, length; /* bytes; length is not 0 */
    uint8_t digest[SUMS_DIGEST];
};

struct sums {
    pthread_mutex_t lock; /* of pieces, while sums_add is called */
    GArray *pieces; /* struct sums_piece; in order of offsets once they were written or read */
    uint64_t bytes; /* of the file that they cover, once they were written or read */
};

#endif
