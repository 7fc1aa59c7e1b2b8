/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file of a chain: opened, and what it is. Names that an image gives are opened here
 * and nowhere else.
 */
#ifndef COMMON_QCOW2_Q2_FILE_H
#define COMMON_QCOW2_Q2_FILE_H

#include "common/base/qemu-locks.h"
#include "common/qcow2/q2-error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct q2_file {
    int fd;     /* -1: not open */
    char *path; /* as it is shown, and as names in it are relative to: without symbolic links */
    uint64_t size;
    bool device;
    dev_t dev;
    ino_t ino;
};

/* How a file is opened. All zeroes: for reading, wherever it lies. */
struct q2_file_how {
    /* The file must lie in one of these folders or below it, whatever links lead there; ends with
     * NULL. They have no symbolic links. NULL: anywhere. */
    const char *const *folders;
    bool writable; /* for writing, too */
    enum qemu_locks locks;
    /* Called with a sentence where the file system has no locks: the file is opened without. NULL: nobody is told. */
    void (*tell)(void *opaque, const char *sentence);
    void *opaque;
};

/* Open a regular file or a block device, and nothing else: what it is, and where it lies, is known
 * before it is opened, so that a name that leads elsewhere has no effect there. Its path is taken of the descriptor,
 * and has no symbolic links. 0, or -1 and *err, and the file is closed; err->number is EBUSY where
 * somebody has locked it, and EXDEV where it lies in none of the folders. */
int q2_file_open(struct q2_file *f, const char *path, const struct q2_file_how *how,
                 struct q2_error *err);
void q2_file_close(struct q2_file *f);

/* The folder that a file lies in. The caller frees it; NULL: no memory. */
char *q2_file_folder(const struct q2_file *f);

/* The path of what a file names: relative to the folder of that file. Only paths are names: what
 * looks like a URL, or like options of QEMU's ("json:{...}"), is refused. The caller frees it; NULL
 * and *err. */
char *q2_file_named(const struct q2_file *by, const char *name, struct q2_error *err);

bool q2_file_same(const struct q2_file *a, const struct q2_file *b);

/* Read. What lies behind the end of the file reads as zeroes; a file that has become shorter since
 * it was opened is an error. 0, or -1 and *err. Any thread. */
int q2_file_pread(const struct q2_file *f, void *buffer, size_t length, uint64_t offset,
                  struct q2_error *err);

/* Up to where the range that begins at `offset` is a hole, or is none: at most `end`. *hole says
 * which; a file that does not tell has no holes. */
uint64_t q2_file_run(const struct q2_file *f, uint64_t offset, uint64_t end, bool *hole);

#endif
