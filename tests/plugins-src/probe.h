/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What test plugins offer to the test that drives them (it finds these with dlsym): a record of all
 * calls, and a hook inside data calls. Each copy of the object has its own.
 */
#ifndef TESTS_PLUGINS_SRC_PROBE_H
#define TESTS_PLUGINS_SRC_PROBE_H

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Called inside every data callback, from its thread, with the callback's name. */
extern void (*probe_hook)(const char *callback);
__attribute__((visibility("default"))) void (*probe_hook)(const char *callback);

/* One line for each call since the last reset. */
extern char probe_log[1 << 16];
__attribute__((visibility("default"))) char probe_log[1 << 16];

static pthread_mutex_t probe_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((format(printf, 1, 2))) static inline void probe(const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&probe_lock);
    size_t used = strlen(probe_log);
    va_start(args, format);
    vsnprintf(probe_log + used, sizeof probe_log - used, format, args);
    va_end(args);
    pthread_mutex_unlock(&probe_lock);
}

static inline void probe_data(const char *callback)
{
    if (probe_hook)
        probe_hook(callback);
}

#endif
