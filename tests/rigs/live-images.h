/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small images of each kind for tests of common/live, made by QEMU's tools: a disk of 8 clusters. 0 and 1 are
 * data, 5 is zero, 6 is zero and has a place; 2, 3, 4 and 7 are compressed where the kind says so, else
 * unallocated (there may be a backing file, of 5 1/2 clusters or of 12).
 */
#ifndef TESTS_RIGS_LIVE_IMAGES_H
#define TESTS_RIGS_LIVE_IMAGES_H

#include "tests/rigs/live-storage.h"
#include "tests/rigs/qcow2-rig.h"

#define LIVE_IMAGE_CLUSTERS 8

struct live_kind {
    const char *name;
    unsigned cluster;    /* bytes */
    const char *options; /* of qemu-img create, behind the size of clusters */
    const char *backing; /* "raw" or "qcow2"; NULL: none */
    unsigned backing_half_clusters;
    bool compressed, data_file, data_file_raw, old; /* old: version 2 */
    unsigned long end; /* the file is made so long: bytes; 0: it is as QEMU makes it */
    bool slow;         /* many blocks of counts */
    bool whole;        /* tests are thorough on it by default, too */
};

extern const struct live_kind live_kinds[];
extern const unsigned live_n_kinds;
const struct live_kind *live_kind_named(const char *name);

/* An image that has been made, and three folders, each with its backing file. */
struct live_images {
    struct qcow2_rig rig;
    const struct live_kind *kind;
    unsigned n_files;                              /* the image, and its data file */
    struct live_content files[LIVE_STORAGE_FILES]; /* as they are in the beginning */
    uint8_t *disk;
    uint64_t size;
};

/* Folders: one to be worked in, one for crashes, one for what comes after. */
enum live_folder { LIVE_FOLDER_WORK, LIVE_FOLDER_CRASH, LIVE_FOLDER_AFTER };

/* False, and the test is skipped, where the tools are missing. */
bool live_images_begin(struct live_images *im, const struct live_kind *kind);
void live_images_end(struct live_images *im);

/* The path of a file: 0 the image, 1 its data file. */
const char *live_images_path(const struct live_images *im, enum live_folder folder, unsigned file);
/* Put the image as it was made into the work folder, and log what is done to it (live-storage.h). */
void live_images_restart(const struct live_images *im);

#endif
