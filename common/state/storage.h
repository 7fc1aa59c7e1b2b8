/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files of a state folder, as all that reads and writes them sees them. storage_dir is a real
 * folder. Tests have one in memory, which forgets and tears what was not synced (tests/rigs), so
 * nothing of a state folder is read or written by any other way. The catalogue's database is opened
 * by SQLite, by the same storage: `vfs` names a VFS that leads there.
 *
 * Names are relative to the folder, "bits/UUID" e.g. Functions return 0 or a negative errno. Any
 * thread; calls on one file may be concurrent.
 */
#ifndef COMMON_STATE_STORAGE_H
#define COMMON_STATE_STORAGE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct storage;
struct storage_file;

struct storage_ops {
    /* For reading and writing. create: it is made, and -EEXIST if it is there. */
    int (*open)(struct storage *s, const char *name, bool create, struct storage_file **file);
    void (*close)(struct storage_file *f); /* mappings stay */
    int (*size)(struct storage_file *f, uint64_t *bytes);
    /* All of it, or -errno; -ENODATA: the file ends before. */
    int (*read)(struct storage_file *f, void *buf, size_t length, uint64_t offset);
    int (*write)(struct storage_file *f, const void *buf, size_t length, uint64_t offset);
    /* Make the file `size` bytes long, zeroes where it was not written, with blocks of its own
     * everywhere, so that neither a write nor a change of a mapping finds the disk full later. */
    int (*reserve)(struct storage_file *f, uint64_t size);
    /* All that was written or changed by a mapping before survives a power loss; so does the size.
     * Not the name: sync_names. After an error nothing is known, and a second call proves nothing
     * (the kernel forgets the error): the caller gives the file up. */
    int (*sync)(struct storage_file *f);
    /* Map the range, shared, to be read and changed; multiples of 4096. at: replace what is mapped
     * there (MAP_FIXED); NULL: anywhere. */
    int (*map)(struct storage_file *f, uint64_t offset, size_t length, void *at, void **mapped);
    void (*unmap)(struct storage *s, void *mapped, size_t length);

    int (*unlink)(struct storage *s, const char *name);
    int (*rename)(struct storage *s, const char *from, const char *to); /* replaces `to` */
    /* Make names that were made, renamed or unlinked in a folder ("" or "bits") survive a power
     * loss. */
    int (*sync_names)(struct storage *s, const char *folder);
    /* Append the names of a folder's regular files, without the folder: owned strings. None where
     * there is no such folder. */
    int (*list)(struct storage *s, const char *folder, GPtrArray *names);
    int (*make_folder)(struct storage *s, const char *folder); /* mode 0700; 0 if it is there */
    void (*free)(struct storage *s);
};

struct storage {
    const struct storage_ops *ops;
    char *path;      /* of the folder, for messages and for SQLite */
    const char *vfs; /* SQLite's VFS for files in it; NULL: SQLite's default one */
};

struct storage_file {
    struct storage *storage;
    char *name; /* for messages */
};

/* A real folder; takes over the descriptor of it. */
struct storage *storage_dir_new(const char *path, int fd);

/* `state: DIR/NAME: DOING: why`; returns -1. `error` is negative, as the operations return it. */
int storage_fail(struct storage *s, const char *name, const char *doing, int error, GError **err);

#endif
