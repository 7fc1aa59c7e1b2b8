/* SPDX-License-Identifier: BSD-3-Clause */
/* Instants that are run step by step, and the disks that they are of. */
#ifndef TESTS_RIGS_INSTANT_RIG_H
#define TESTS_RIGS_INSTANT_RIG_H

#include "tests/rigs/disk-harness.h"

/* How long the disks of named_rig wait for writes, in microseconds. */
#define RUN_LIMIT (60 * G_USEC_PER_SEC)

/* An instant that is run, and what was heard of it. */
struct run {
    struct instant *instant;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned wakes; /* how often run_wake was called; under lock */
    unsigned heard; /* how many of these run_go_on has taken; under lock */
    enum instant_state state;
    GError *error;
    GString *calls; /* a letter for each function of its users that was called */
};

/* A new instant, with no action yet. assert_run_done and assert_run_failed free it. */
struct run *run_new(void);
/* Add a bitmap to the disk. */
void run_add_bitmap(struct run *r, struct rig *rig, const char *name);

/* What the instant calls when there is something to do; from any thread. */
void run_wake(void *run);
/* Start it, and take the first step. */
void run_start(struct run *r);
/* Take a step of one that waits. */
void run_step(struct run *r);
/* Wait for the next wake, and take a step. */
void run_go_on(struct run *r);
unsigned run_wakes(struct run *r);

/* It waits for `what`, and has called none of its users' functions. */
void assert_run_waits(struct run *r, const char *what);
/* Go on until it is over; then it has taken effect, or has failed with this message. */
void assert_run_done(struct run *r);
void assert_run_failed(struct run *r, const char *why);

/* A disk of 1 MiB. */
struct rig *named_rig(const char *name);
/* An instant takes effect on this disk at once. */
void assert_disk_works(struct rig *rig);
/* Another instant has the disk. */
void assert_disk_refuses(struct rig *rig);
/* Let a thread write block 0, and hold it inside the gate until rig_let_go. */
GThread *rig_park_writer(struct rig *rig);
void rig_let_go(struct rig *rig, GThread *writer);

#endif
