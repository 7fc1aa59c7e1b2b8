/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Power loss at each moment of what a guest does to an image (live-images.h): the files as they may be then are made
 * (live-storage.h), and each is an image that QEMU's check would not call corrupt, is opened by both of our
 * readers, and has a disk that the guest may find (live-guest.h).
 */
#ifndef TESTS_RIGS_LIVE_POWER_H
#define TESTS_RIGS_LIVE_POWER_H

#include "tests/rigs/live-guest.h"
#include "tests/rigs/live-images.h"

struct live_power {
    struct live_images images;
    struct live_guest guest;
    struct live_options options;
    GPtrArray *history; /* text: the steps since the image was made */
    GHashTable *seen;   /* states that have been judged, with what was promised then */
    uint64_t states;    /* that have been judged, all different within their sequence */
    uint64_t reopened;  /* after which the guest went on */
    uint64_t asked;     /* of QEMU */
    unsigned ask_every; /* how many states come before QEMU is asked about one; 0: never */
    unsigned reopen_every;
    uint64_t seed; /* of what is drawn */
};

/* False, and the test is skipped, where QEMU's tools are missing. */
bool live_power_begin(struct live_power *p, const struct live_kind *kind);
void live_power_end(struct live_power *p);

/* The image is as it was made, and opened by the guest. */
void live_power_start(struct live_power *p);
/* One step. `judge`: power is lost at each moment of it. Returns what the step returned. */
int live_power_step(struct live_power *p, const struct live_step *step, bool judge);
/* Power is lost now. */
void live_power_lose(struct live_power *p);
/* The step that could not fail has. */
void live_power_complain(const struct live_power *p, const char *what,
                         const char *why) G_GNUC_NORETURN;
/* The guest closes the image. It is clean then and has the disk; or, where something has `failed`, what a guest
 * may find after its server was killed. */
void live_power_stop(struct live_power *p, bool failed);

#endif
