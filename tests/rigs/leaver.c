/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/leaver.h"

static void cancelled(struct export_client *c, bool cut)
{
}

static bool hung_up(struct export_client *client)
{
    struct leaver *l = (struct leaver *)client;

    pthread_mutex_lock(&l->lock);
    l->asked = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return l->is_gone;
}

static void *leave(void *leaver)
{
    struct leaver *l = leaver;

    pthread_mutex_lock(&l->lock);
    while (!l->asked)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
    export_detach(&l->client);
    return NULL;
}

void leaver_begin(struct leaver *l, struct house *h, const char *name, bool is_gone, bool leaves)
{
    *l = (struct leaver){
        .client = {.cancel = cancelled, .hung_up = hung_up}, .is_gone = is_gone, .leaves = leaves};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->export = server_find_export(h->server, EXPORTS_LIVE, name);
    g_assert_nonnull(l->export);
    g_assert_true(export_attach(l->export, &l->client));
    if (leaves)
        g_assert_cmpint(pthread_create(&l->thread, NULL, leave, l), ==, 0);
}

void leaver_end(struct leaver *l)
{
    pthread_mutex_lock(&l->lock);
    g_assert_true(l->asked || !l->leaves); /* else the thread never ends */
    pthread_mutex_unlock(&l->lock);
    if (l->leaves)
        pthread_join(l->thread, NULL);
    else
        export_detach(&l->client);
    export_unref(l->export);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}

void add_export(struct house *h)
{
    succeeds(h, "block-export-add",
             "{'type':'nbd','id':'e','node-name':'vda','name':'e','writable':true}");
}
