/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 file that q2_stream writes, and a raw file of what has to be in it; qemu-img compares.
 * What the stream tells of its writes is kept, too. Functions fail the test, but for those that
 * return something. Lanes may be used by threads.
 */
#ifndef TESTS_RIGS_STREAM_RIG_H
#define TESTS_RIGS_STREAM_RIG_H

#include "common/qcow2/q2-stream.h"

#include <glib.h>
#include <pthread.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

struct stream_rig {
    char *folder;
    char *path, *model_path;
    int fd, model; /* of the model: what the disk has to have */
    struct q2_stream_options o;
    struct q2_stream *stream;
    bool unread; /* set by a test whose file is too long: what was told is not read again */
    pthread_mutex_t lock;
    GArray *told; /* lock; struct told */
};

/* What the data of a cluster looks like. */
enum stream_data {
    DATA_RANDOM, /* cannot be compressed */
    DATA_TEXT,   /* can */
    DATA_ZERO,
    DATA_MIXED, /* of all, cluster by cluster */
};

/* False, and the test is skipped: qemu-img is not there. */
bool stream_can_check(void);

/* Begin. Size and kind are those of `o`, whose `wrote` and lanes (0: 1) are the rig's. */
void stream_rig_new(struct stream_rig *r, const struct q2_stream_options *o);
void stream_rig_free(struct stream_rig *r);

/* A base file of `size` bytes, which has random data at its begin, its end, and at 3 MiB; its name
 * is o.backing ("base.raw"). Before anything is written. */
void stream_rig_base(struct stream_rig *r, uint64_t size);

/* Bytes of the disk at `offset`, for this seed: the caller frees them. */
uint8_t *stream_data(enum stream_data kind, uint64_t offset, size_t length);

/* Write one piece, into the model, too. */
void stream_rig_write(struct stream_rig *r, unsigned lane, enum stream_data kind, uint64_t offset,
                      size_t length);
void stream_rig_zero(struct stream_rig *r, unsigned lane, uint64_t offset, uint64_t length);
void stream_rig_below(struct stream_rig *r, uint64_t offset);
void stream_rig_finish(struct stream_rig *r);

/* The file is clean, and is what the model is. */
void stream_rig_compare(struct stream_rig *r);
/* The same, and it was told as it is: after the end. */
void stream_rig_check(struct stream_rig *r);
void stream_rig_check_told(struct stream_rig *r); /* the last part of it alone */
/* No program takes the file for an image. */
void stream_rig_no_image(struct stream_rig *r);

/* The output of a command, which has to end well; the caller frees it. */
char *stream_run(const char *folder, const char *const *argv);

#endif
