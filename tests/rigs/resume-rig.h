/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk over memory with views that survive the process, where there is one process or another: servers
 * come one after the other, over the same image, the same memory folder and the same folder of scratch.
 * The image and what is known of it are in memory that processes may share.
 *
 * A test that only needs what a dead server leaves has no process of its own for it: resume_rig_die.
 */
#ifndef TESTS_RIGS_RESUME_RIG_H
#define TESTS_RIGS_RESUME_RIG_H

#include "server/disk/lasting.h"
#include "server/disk/view-left.h"
#include "server/disk/view-resume.h"
#include "tests/rigs/disk-harness.h"

#define BLOCK  4096u
#define BLOCKS 3000u /* nearly three parts of a map */
#define SIZE   (BLOCKS * BLOCK - 1000)
#define VIEWS  12u

/* What a view had at its instant. */
struct resume_model {
    bool taken, deleting; /* its instant is over; its deletion has begun */
    bool trimmed[BLOCKS]; /* by its client, or about to be */
    char bytes[SIZE];
};

/* What processes share. */
struct resume_shared {
    char bytes[SIZE]; /* the image */
    bool written[SIZE / FAKE_SECTOR + 1];
    _Atomic int left; /* points until the process dies */
    struct resume_model views[VIEWS];
};

struct resume_rig {
    char *shm, *dir; /* of the memory, of scratch */
    int fd;          /* of `shared` */
    int64_t id;      /* of the disk */
    struct storage *memory;
    struct state_lasting lasting;
    struct scratch_pool *pool;
    struct disk *disk;
    struct disk_hooks hooks;
    struct resume_shared *shared;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned broken; /* views that have broken; under `lock` */
};

/* New folders; no disk yet. */
void resume_rig_init(struct resume_rig *f);
/* Those of another process: its folders' names, its descriptor of `shared`. */
void resume_rig_join(struct resume_rig *f, const char *shm, const char *dir, int fd);
/* Checks that nothing is left of any view. */
void resume_rig_clear(struct resume_rig *f);

/* A disk, with `hooks` if they have a function. */
void resume_rig_open(struct resume_rig *f);
void resume_rig_close(struct resume_rig *f);
/* Delete all views, close the disk, clear the rig. */
void resume_rig_end(struct resume_rig *f);
/* As if the process had died, with all threads standing still. */
void resume_rig_die(struct resume_rig *f);
/* The next server is another one. */
void resume_rig_next_run(struct resume_rig *f);
/* It opens the disk, has its views back, and removes what is left. */
void resume_rig_resume(struct resume_rig *f);
/* The last step of that. */
void resume_rig_started(struct resume_rig *f);
/* The same, and returns how many. */
unsigned resume_rig_count(struct resume_rig *f);

/* Each whole block of the image gets a byte of its own: its number modulo 250, plus 1. */
void resume_rig_fill(struct resume_rig *f);
void resume_rig_write(struct resume_rig *f, unsigned block, char byte);
struct node_io *resume_rig_io(struct node *node, bool writable);
struct view *resume_rig_take(struct resume_rig *f, const char *name);
/* NULL: there is none of this name. */
struct view *resume_rig_view(struct resume_rig *f, const char *name);
bool resume_rig_block_is(struct resume_rig *f, const char *view, unsigned block, char byte);
/* Until so many views have broken. */
void resume_rig_wait_broken(struct resume_rig *f, unsigned n);
void resume_rig_delete_all(struct resume_rig *f);

/* ---- what a process has left ---- */

/* Files in a folder; in that of lasting files. */
unsigned count_files(const char *dir);
unsigned resume_rig_count_lasting(const struct resume_rig *f);

/* Views a and b of a disk that is full of data; blocks 0 and 1 were written after b, block 5 between. The
 * process has died. */
void resume_rig_leave_two(struct resume_rig *f);
/* The file of a view, or of the scratch if that is the name; and its head. */
int left_open(struct resume_rig *f, const char *name, struct lasting_head *head);
/* Put a head back, and close it. */
void left_set_head(int fd, const struct lasting_head *head);
/* A block's entry in the map of a view. */
uint32_t left_entry(struct resume_rig *f, const char *name, unsigned block);
void left_set_entry(struct resume_rig *f, const char *name, unsigned block, uint32_t entry);

#endif
