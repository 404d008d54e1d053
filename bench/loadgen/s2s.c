/* s2s: small stanzas on one stream between servers, in the one direction that it has.
 *
 * Nothing comes back on such a stream, so the backend, which compares them, is asked on another
 * connection how many have come. */
#include "scenarios.h"
#include "text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATIENCE_SECONDS = 10, ASKING_AGAIN_US = 2000 };

struct stream {
    struct connection connection;
    BIO *records;   /* what OpenSSL has made of the stanzas that are under way */
    size_t written; /* how much of that the socket has taken */
    int at_once;    /* how many stanzas a write has */
    uint64_t stanzas;
    int counts; /* a connection to the backend itself */
};

static int dial_counts(int port)
{
    const struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, target.address, &to.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        fatal("loadgen: cannot ask the backend at port %d: %s", port, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    send_at_once(fd);
    return fd;
}

/* Asks how many stanzas have come, unchanged and in order; false if the backend has no such stream
 * any more, which is how it ends when they have not. */
static bool ask(struct stream *stream, uint64_t *count)
{
    char answer[COUNT_DIGITS + 1] = {0};
    if (stream->connection.phase == READY &&
        write(stream->counts, stream->connection.id, STREAM_ID_DIGITS) == STREAM_ID_DIGITS &&
        recv(stream->counts, answer, COUNT_DIGITS, MSG_WAITALL) == COUNT_DIGITS &&
        sscanf(answer, "%" SCNx64, count) == 1)
        return true;
    if (failures == 0)
        connection_fail(&stream->connection, "not at the backend any more");
    return false;
}

/* Each stanza is a record, however many are then written at once. */
static bool make_records(struct stream *stream)
{
    char stanza[SERVER_MESSAGE_BYTES];
    BIO_reset(stream->records);
    stream->written = 0;
    for (int i = 0; i < stream->at_once; i++) {
        server_message_write(stanza, target.domain, stream->stanzas++);
        if (!connection_say(&stream->connection, stanza, sizeof stanza))
            return false;
    }
    return true;
}

/* Writes what the socket takes; DONE when there is nothing left. */
static enum outcome write_records(struct stream *stream)
{
    char *bytes;
    size_t length = (size_t)BIO_get_mem_data(stream->records, &bytes);
    if (stream->written == length)
        return DONE;
    ssize_t sent = write(stream->connection.fd, bytes + stream->written, length - stream->written);
    if (sent < 0 && errno != EAGAIN) {
        connection_fail(&stream->connection, "cannot send");
        return FAILED;
    }
    stream->written += sent < 0 ? 0 : (size_t)sent;
    return stream->written == length ? DONE : PENDING;
}

/* Waits for the stream and serves it; with `more`, stanzas follow when all are written. */
static enum outcome serve(struct stream *stream, bool more)
{
    if (connections_wait(NS_PER_SECOND / 10) == 0)
        return PENDING;
    if (ready_events(0) & ~(uint32_t)EPOLLOUT)
        connection_expect_silence(&stream->connection);
    if (stream->connection.phase != READY)
        return FAILED;
    enum outcome outcome = write_records(stream);
    return outcome == DONE && more && make_records(stream) ? write_records(stream) : outcome;
}

/* Every stanza that was sent must come; DONE when they have. */
static enum outcome await_rest(struct stream *stream)
{
    const uint64_t ends_at = now_ns() + PATIENCE_SECONDS * NS_PER_SECOND;
    uint64_t count = 0;
    enum outcome outcome = PENDING;
    while (outcome == PENDING && now_ns() < ends_at)
        outcome = serve(stream, false);
    while (outcome == DONE && now_ns() < ends_at) {
        if (!ask(stream, &count))
            return FAILED;
        if (count == stream->stanzas)
            return DONE;
        usleep(ASKING_AGAIN_US);
    }
    if (failures == 0)
        fatal("loadgen: after %d s %" PRIu64 " of %" PRIu64 " stanzas have come", PATIENCE_SECONDS,
              count, stream->stanzas);
    return FAILED;
}

static void open_stream(struct stream *stream, const struct options *options)
{
    connections_open(&stream->connection, 1);
    stream->at_once = options->at_once;
    stream->counts = dial_counts(options->counts_port);
    stream->records = BIO_new(BIO_s_mem());
    if (stream->records == NULL)
        fatal("out of memory");
    SSL_set0_wbio(stream->connection.tls, stream->records);
    connection_watch(&stream->connection, EPOLLIN | EPOLLOUT);
}

void s2s(const struct options *options)
{
    struct stream stream = {0};
    uint64_t before = 0, after = 0;
    enum tick tick;

    if (options->connections != 1 || options->counts_port == 0)
        fatal("loadgen: s2s needs -n 1 and -C");
    open_stream(&stream, options);
    struct meter meter = meter_new(options->warm_up, options->seconds);
    while ((tick = meter_tick(&meter)) != OVER && failures == 0) {
        if (tick == BEGINNING && !ask(&stream, &before))
            break;
        serve(&stream, true);
    }
    if (failures == 0 && ask(&stream, &after))
        await_rest(&stream);
    report_begin("s2s", options->connections);
    const double stanzas = (double)(after - before);
    printf(", \"bytes\": %d, \"per_second\": %.1f", SERVER_MESSAGE_BYTES, stanzas / meter.seconds);
    report_cost(&meter, stanzas);
    report_end();
}
