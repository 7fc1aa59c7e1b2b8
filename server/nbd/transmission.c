/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The transmission phase of one connection.
 *
 * The thread receives as much as there is (a client with a queue has many requests in one receive),
 * carries out each request where it stands, laying the replies out one behind the other, and sends
 * them all before it blocks in receiving again, or when enough have gathered. So a 4 KiB read that
 * does not block costs one call to the node and its share of a receive and a send: no lock, no
 * allocation, no copy of ours, no other thread.
 *
 * A request that would block is carried out here all the same or goes to the workers: offload.h
 * decides. Replies then go out in whatever order they get ready.
 *
 * A write's payload is not split: the node gets it in one call, so that an instant does not cut a
 * write in two. Payloads up to IN_PLACE_PAYLOAD are executed from the receive buffer; larger ones
 * are received into a mapping of their own, of constant size, whose pages exist as far as bytes
 * have arrived.
 *
 * The phase ends with DISC or the end of the input: what is under way finishes and its replies are
 * sent. After a breach of the protocol that leaves the next request unknown, and after a cut, it
 * ends at once.
 */
#include "server/nbd/transmission.h"

#include "common/util/log-limit.h"

#include "server/disk/node-stats.h"
#include "server/nbd/execute.h"
#include "server/nbd/receiving.h"
#include "server/nbd/reply.h"
#include "server/nbd/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Replies that are sent although more requests are at hand, in bytes or in number: the client, on
 * another processor, begins with them while we go on, instead of each waiting for the other.
 * (4 KiB writes at depth 16: 17 % more a second than with one send for all.) */
#define SEND_EARLY         (32u << 10)
#define SEND_EARLY_REPLIES 8u

/* ---- carrying out ---- */

/* The memory that a request holds while it is a job. */
static size_t job_charge(const struct connection *c, const struct request *r)
{
    switch (r->type) {
    case NBD_CMD_READ:
        return MIN(r->length, READ_PIECE);
    case NBD_CMD_BLOCK_STATUS:
        return status_charge(&c->negotiated) + r->payload;
    default:
        return r->payload;
    }
}

static size_t job_reply_size(const struct request *r)
{
    switch (r->type) {
    case NBD_CMD_READ:
        return MIN(r->length, READ_PIECE) + 512;
    case NBD_CMD_BLOCK_STATUS:
        return 65536;
    default:
        return 512;
    }
}

/* Carry the request out, and note for offload.h how long that took. */
static void execute_timed(struct connection *c, struct reply_buffer *b, struct request *r,
                          const uint8_t *payload)
{
    enum request_class class = request_class(r);
    uint64_t length = r->length, begin = now_ns();
    bool own = b == &c->replies; /* the connection's thread, not a worker */

    /* The time of a longer read includes the network's. */
    bool timed = r->type != NBD_CMD_READ || length <= READ_PIECE;
    if (own)
        atomic_store_explicit(&c->executing, executing_since(begin, r), memory_order_relaxed);
    execute(&c->negotiated, b, r, payload);
    if (own)
        atomic_store_explicit(&c->executing, 0, memory_order_relaxed);
    if (timed)
        offload_note(&c->offload, class, now_ns() - begin, length);
}

/* A worker carries out a job. */
void transmission_run_job(void *opaque, struct worker_job *job)
{
    struct connection *c = opaque;
    bool wants_reply = job->request.type == NBD_CMD_READ ||
                       job->request.type == NBD_CMD_BLOCK_STATUS ||
                       job->request.type == NBD_CMD_CACHE;

    /* A client that has gone needs no reply; but its writes are carried out. */
    if (wants_reply && sender_is_dead(&c->sender))
        return;
    backend_set_thread_client(&c->backend_client);
    execute_timed(c, &job->reply, &job->request, job->payload);
}

/* Make room for a job, if need be by waiting for others to go. The replies that are laid out are
 * sent before that. */
static void admit(struct connection *c, size_t charge)
{
    if (!workers_admit(&c->workers, charge, false)) {
        reply_buffer_flush(&c->replies);
        workers_admit(&c->workers, charge, true);
    }
}

/* A job for the request, with its payload if that is to be copied. NULL: no memory. */
static struct worker_job *make_job(struct connection *c, const struct request *r,
                                   const uint8_t *payload, size_t charge)
{
    struct worker_job *job = worker_job_new(&c->workers, charge, job_reply_size(r));
    if (!job)
        return NULL;
    job->request = *r;
    job->reply.counters = node_io_shared_counters(c->negotiated.io);
    reply_buffer_align(&job->reply, reply_data_header_size(&c->negotiated));
    if (!payload)
        return job;
    job->payload = malloc(r->payload);
    if (!job->payload) {
        free(job);
        return NULL;
    }
    memcpy(job->payload, payload, r->payload);
    return job;
}

/* Give the job to a worker, or carry it out here where no thread can be had. */
static void start_job(struct connection *c, struct worker_job *job)
{
    if (!workers_start(&c->workers, job)) {
        transmission_run_job(c, job);
        worker_job_done(job);
    }
}

/* Give the request to a worker, or carry it out here where there is no memory for a job. */
static void to_worker(struct connection *c, struct request *r, const uint8_t *payload)
{
    size_t charge = job_charge(c, r);

    admit(c, charge);
    struct worker_job *job = make_job(c, r, payload, charge);
    if (job) {
        start_job(c, job);
    } else {
        workers_unadmit(&c->workers, charge);
        execute_timed(c, &c->replies, r, payload);
    }
}

/* Try a READ without blocking, where that is worth while. False: *r is what is left to be done. */
static bool read_now(struct connection *c, struct request *r)
{
    if (!offload_ask(&c->offload))
        return false;
    int error = execute_read_now(&c->negotiated, &c->replies, r);
    offload_asked(&c->offload, error == 0, error == NODE_WOULD_BLOCK);
    return error == 0;
}

/* Carry the request out here, if it does not block or offload.h says so. False: a worker has to. */
static bool execute_here(struct connection *c, struct request *r, const uint8_t *payload,
                         bool last_received)
{
    bool watch;

    if (r->type == NBD_CMD_READ && read_now(c, r))
        return true;
    if (r->type == NBD_CMD_READ && r->length > READ_PIECE)
        return false; /* sending it takes its time, whatever the disk does */
    if (execute_waits(&c->negotiated, r))
        return false;
    bool alone = last_received && workers_is_idle(&c->workers);
    if (!offload_stay(&c->offload, request_class(r), alone, &watch))
        return false;
    execute_timed(c, &c->replies, r, payload);
    c->watch |= watch;
    return true;
}

static enum step reply_refusal(struct connection *c)
{
    const struct refusal *f = &c->refusal;

    reply_error(&c->replies, &c->negotiated, &f->request, f->error, f->why);
    return STEP_NEXT;
}

/* Answer with an error, after the payload has come and was passed over: a client does not expect
 * the answer to a request that it is still sending (libnbd gives up then). in.begin is behind the
 * header. */
static enum step refuse(struct connection *c, const struct request *r, uint32_t error,
                        const char *why)
{
    client_debug(&c->client, "%s of %" PRIu64 " bytes at %" PRIu64 ": refused: %s", request_name(r),
                 r->length, r->offset, why ? why : request_error_text(error));
    c->refusal = (struct refusal){.request = *r, .error = error, .why = why};
    c->skip = r->payload;
    return c->skip > 0 ? STEP_NEXT : reply_refusal(c);
}

/* ---- large writes ---- */

/* Receive the payload whose beginning is in the buffer. */
static bool receive_payload(struct connection *c, uint8_t *to, size_t length)
{
    size_t got = MIN(received(c), length);

    memcpy(to, c->in.bytes + c->in.begin, got);
    c->in.begin += got;
    reply_buffer_flush(&c->replies);
    while (got < length) {
        ssize_t n = receive_some(c, to + got, length - got);
        if (n == -EAGAIN)
            continue;
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

/* A job with a mapping for the largest payload there is; what is not received takes no memory. */
static struct worker_job *make_large_job(struct connection *c, const struct request *r)
{
    void *payload = mmap(NULL, NBD_MAX_PAYLOAD, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (payload == MAP_FAILED)
        return NULL;
    struct worker_job *job = make_job(c, r, NULL, r->length);
    if (!job) {
        munmap(payload, NBD_MAX_PAYLOAD);
        return NULL;
    }
    job->payload = payload;
    job->payload_mapped = NBD_MAX_PAYLOAD;
    return job;
}

/* A write that is larger than the receive buffer; in.begin is behind its header. */
static enum step large_write(struct connection *c, struct request *r)
{
    admit(c, r->length);
    struct worker_job *job = make_large_job(c, r);
    if (!job) {
        workers_unadmit(&c->workers, r->length);
        log_error_limited(&c->server->log.memory,
                          "export %s: no memory for a write of %" PRIu64 " bytes at %" PRIu64,
                          export_info(c->export)->name, r->length, r->offset);
        return refuse(c, r, NBD_ENOMEM, NULL);
    }
    if (!receive_payload(c, job->payload, r->length)) {
        worker_job_done(job); /* nothing is laid out: the job is just freed */
        return STEP_END;
    }
    if (execute_here(c, r, job->payload, received(c) < header_size(c)))
        worker_job_done(job);
    else
        start_job(c, job);
    return STEP_NEXT;
}

/* ---- requests ---- */

static enum step skip_payload(struct connection *c)
{
    size_t n = MIN(c->skip, received(c));

    c->in.begin += n;
    c->skip -= n;
    return c->skip == 0 ? reply_refusal(c) : receive_more(c, 1);
}

/* What is wrong with the request, if anything. */
static uint32_t check(struct connection *c, const struct request *r, const char **why)
{
    if (connection_is_ending(c)) {
        *why = atomic_load(&c->leaving)     ? "the export is being removed"
               : atomic_load(&c->dismissed) ? "the disk's plugin ends this connection"
                                            : NULL;
        return NBD_ESHUTDOWN;
    }
    return request_check(r, &c->negotiated.rules, why);
}

static void send_early(struct connection *c)
{
    if (++c->gathered < SEND_EARLY_REPLIES && c->replies.used < SEND_EARLY)
        return;
    reply_buffer_flush(&c->replies);
    c->gathered = 0;
}

static enum step one_request(struct connection *c)
{
    const size_t header = header_size(c);
    struct request r;
    const char *why = NULL;

    if (c->skip > 0)
        return skip_payload(c);
    if (received(c) < header)
        return receive_more(c, header);
    if (!request_parse(c->in.bytes + c->in.begin, &c->negotiated.rules, &r)) {
        client_debug(&c->client, "a request with a wrong magic number");
        return STEP_CUT;
    }
    if (r.type == NBD_CMD_DISC)
        return STEP_END;

    if (r.payload > NBD_MAX_PAYLOAD) {
        client_debug(&c->client, "a payload of %" PRIu64 " bytes is more than anybody may send",
                     r.payload);
        return STEP_CUT;
    }
    uint32_t error = check(c, &r, &why);
    if (error != 0) {
        c->in.begin += header;
        return refuse(c, &r, error, why);
    }
    if (r.payload > IN_PLACE_PAYLOAD) {
        c->in.begin += header;
        return large_write(c, &r);
    }
    if (received(c) < header + r.payload)
        return receive_more(c, header + r.payload);

    const uint8_t *data = r.payload > 0 ? c->in.bytes + c->in.begin + header : NULL;
    c->in.begin += header;
    if (data && r.type == NBD_CMD_BLOCK_STATUS) {
        error = status_filter(&c->negotiated, &r, data, &why);
        if (error != 0)
            return refuse(c, &r, error, why);
    }
    c->in.begin += r.payload;
    const uint64_t whole = r.length;
    if (!execute_here(c, &r, data, received(c) < header)) {
        if (r.length < whole) /* chunks of its reply are laid out: a worker's come after them */
            reply_buffer_flush(&c->replies);
        to_worker(c, &r, data);
    }
    send_early(c);
    return STEP_NEXT;
}

void transmission(struct connection *c)
{
    enum step step;

    backend_set_thread_client(&c->backend_client);
    reply_buffer_align(&c->replies, reply_data_header_size(&c->negotiated));
    do
        step = one_request(c);
    while (step == STEP_NEXT && !atomic_load_explicit(&c->client.cut, memory_order_relaxed));

    if (step == STEP_CUT) {
        reply_buffer_flush(&c->replies);
        stream_cut(&c->stream);
    }
    reply_buffer_flush(&c->replies);
    workers_finish(&c->workers);
    stream_finish(&c->stream);
    backend_set_thread_client(NULL);
}
