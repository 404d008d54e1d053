/* The plaintext server behind the relays.
 *
 *     backend ECHO_PORT SINK_PORT SOURCE_PORT S2S_PORT COUNTS_PORT
 *
 * Every connection to the first four first goes through the scripted login, whose requests must
 * come byte for byte. After that a connection to the first port gets everything back, one to the
 * second has its bytes compared with the endless stream and each MiB acknowledged, one to the
 * third is sent the endless stream from its initial presence on, and one to the fourth, a stream
 * between servers, has its stanzas compared and counted. Who connects to the last port names such
 * a stream by its id and is told how many have come; with a stream that is not there (any more)
 * the connection ends. */
#define _GNU_SOURCE
#include "common.h"
#include "login.h"
#include "text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum purpose { ECHO, SINK, SOURCE, SERVERS, COUNTS, PURPOSES };
enum { EVENTS_AT_ONCE = 512, READ_BYTES = 1 << 18, ACKNOWLEDGED_BYTES = 1 << 20 };

struct peer {
    int fd;
    enum purpose purpose;
    int step;                      /* of the login */
    char request[LOGIN_TEXT_BYTES]; /* what has come of the present step */
    size_t requested;
    char domain[DOMAIN_BYTES];
    char *unsent; /* of an echo that the socket did not take at once */
    size_t unsent_from, unsent_bytes;
    uint64_t offset; /* in the endless stream, or that of a server's stanzas */
    bool streaming;  /* a source that has had its presence */
    char id[STREAM_ID_DIGITS + 1]; /* of a stream between servers */
    struct peer *next;             /* such stream */
};

static int poller;
static struct peer *servers; /* all streams between servers */
static char received[READ_BYTES];

static int listen_on(const char *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(port)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        fatal("backend: cannot listen on port %s: %s", port, strerror(errno));
    return fd;
}

static void watch(int operation, struct peer *peer, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = peer};
    epoll_ctl(poller, operation, peer->fd, &event);
}

static enum stream_kind kind_of(const struct peer *peer)
{
    return peer->purpose == SERVERS ? S2S : C2S;
}

static bool is_logged_in(const struct peer *peer)
{
    return peer->purpose == COUNTS || peer->step == login_steps(kind_of(peer));
}

static void enlist(struct peer *peer)
{
    /* Later than that of the stream before: that takes more than a nanosecond. */
    snprintf(peer->id, sizeof peer->id, "%0*" PRIx64, STREAM_ID_DIGITS, now_ns());
    peer->next = servers;
    servers = peer;
}

static void strike_out(const struct peer *peer)
{
    for (struct peer **each = &servers; *each != NULL; each = &(*each)->next)
        if (*each == peer) {
            *each = peer->next;
            return;
        }
}

static void drop(struct peer *peer)
{
    strike_out(peer);
    close(peer->fd);
    free(peer->unsent);
    free(peer);
}

static void accept_all(const struct peer *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct peer *peer = allocate(sizeof *peer);
        peer->fd = fd;
        peer->purpose = listener->purpose;
        send_at_once(fd);
        if (peer->purpose == SERVERS)
            enlist(peer);
        watch(EPOLL_CTL_ADD, peer, EPOLLIN);
    }
}

static bool say(struct peer *peer, const char *text, size_t length)
{
    return write(peer->fd, text, length) == (ssize_t)length;
}

static bool unexpected(const struct peer *peer)
{
    fprintf(stderr, "backend: not the script's request in step %d: %s\n", peer->step,
            peer->request);
    return false;
}

/* Takes what has come of a login; false if the connection is to be dropped. */
static bool log_in(struct peer *peer, const char *bytes, size_t length)
{
    const enum stream_kind kind = kind_of(peer);
    char text[LOGIN_TEXT_BYTES];
    if (peer->requested + length >= sizeof peer->request)
        return unexpected(peer);
    memcpy(peer->request + peer->requested, bytes, length);
    peer->requested += length;
    peer->request[peer->requested] = '\0';
    if (!ends_with(peer->request, peer->requested, login_request_end(kind, peer->step)))
        return true;
    if (peer->step == 0 && !login_domain(kind, peer->request, peer->domain))
        return unexpected(peer);
    login_request(kind, peer->step, peer->domain, text);
    if (strcmp(peer->request, text) != 0)
        return unexpected(peer);
    size_t answer = login_answer(kind, peer->step, peer->domain, peer->id, text);
    peer->step++;
    peer->requested = 0;
    return say(peer, text, answer);
}

static bool echo(struct peer *peer, const char *bytes, size_t length)
{
    ssize_t sent = write(peer->fd, bytes, length);
    if (sent < 0 && errno != EAGAIN)
        return false;
    size_t done = sent < 0 ? 0 : (size_t)sent;
    if (done == length)
        return true;
    peer->unsent_bytes = length - done;
    peer->unsent_from = 0;
    peer->unsent = allocate(peer->unsent_bytes);
    memcpy(peer->unsent, bytes + done, peer->unsent_bytes);
    watch(EPOLL_CTL_MOD, peer, EPOLLOUT);
    return true;
}

static bool echo_rest(struct peer *peer)
{
    ssize_t sent = write(peer->fd, peer->unsent + peer->unsent_from, peer->unsent_bytes);
    if (sent < 0)
        return errno == EAGAIN;
    peer->unsent_from += (size_t)sent;
    peer->unsent_bytes -= (size_t)sent;
    if (peer->unsent_bytes == 0) {
        free(peer->unsent);
        peer->unsent = NULL;
        watch(EPOLL_CTL_MOD, peer, EPOLLIN);
    }
    return true;
}

static bool swallow(struct peer *peer, const char *bytes, size_t length)
{
    char acknowledgement[ACKNOWLEDGEMENT_BYTES + 1];
    uint64_t before = peer->offset / ACKNOWLEDGED_BYTES;
    if (!bulk_matches(peer->offset, bytes, length)) {
        fprintf(stderr, "backend: bytes have changed on the way, near %llu\n",
                (unsigned long long)peer->offset);
        return false;
    }
    peer->offset += length;
    if (peer->offset / ACKNOWLEDGED_BYTES == before)
        return true;
    acknowledgement_write(acknowledgement, peer->offset);
    return say(peer, acknowledgement, ACKNOWLEDGEMENT_BYTES);
}

static bool start_streaming(struct peer *peer, const char *bytes, size_t length)
{
    if (peer->streaming || !ends_with(bytes, length, INITIAL_PRESENCE))
        return false;
    peer->streaming = true;
    watch(EPOLL_CTL_MOD, peer, EPOLLIN | EPOLLOUT);
    return true;
}

static bool stream(struct peer *peer)
{
    ssize_t sent = write(peer->fd, bulk_at(peer->offset), BULK_WINDOW);
    if (sent < 0)
        return errno == EAGAIN;
    peer->offset += (uint64_t)sent;
    return true;
}

/* Compares stanzas between servers; they are counted by their bytes. */
static bool compare(struct peer *peer, const char *bytes, size_t length)
{
    char due[SERVER_MESSAGE_BYTES];
    while (length > 0) {
        const uint64_t sequence = peer->offset / sizeof due;
        const size_t begun = peer->offset % sizeof due;
        const size_t part = length < sizeof due - begun ? length : sizeof due - begun;
        server_message_write(due, peer->domain, sequence);
        if (memcmp(due + begun, bytes, part) != 0) {
            fprintf(stderr, "backend: stanza %" PRIu64 " of a server has changed on the way\n",
                    sequence);
            return false;
        }
        peer->offset += part;
        bytes += part;
        length -= part;
    }
    return true;
}

/* Questions are short, and the next follows the answer: each comes as a whole. */
static bool tell_count(struct peer *peer, const char *id, size_t length)
{
    char count[COUNT_DIGITS + 1];
    for (const struct peer *each = servers; each != NULL; each = each->next)
        if (length == STREAM_ID_DIGITS && memcmp(each->id, id, length) == 0) {
            snprintf(count, sizeof count, "%0*" PRIx64, COUNT_DIGITS,
                     each->offset / SERVER_MESSAGE_BYTES);
            return say(peer, count, COUNT_DIGITS);
        }
    return false;
}

static bool take(struct peer *peer)
{
    ssize_t length = read(peer->fd, received, sizeof received);
    if (length <= 0)
        return length < 0 && errno == EAGAIN;
    if (!is_logged_in(peer))
        return log_in(peer, received, (size_t)length);
    switch (peer->purpose) {
    case ECHO:
        return echo(peer, received, (size_t)length);
    case SINK:
        return swallow(peer, received, (size_t)length);
    case SERVERS:
        return compare(peer, received, (size_t)length);
    case COUNTS:
        return tell_count(peer, received, (size_t)length);
    default:
        return start_streaming(peer, received, (size_t)length);
    }
}

static bool serve(struct peer *peer, uint32_t events)
{
    if (peer->unsent != NULL)
        return echo_rest(peer);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !take(peer))
        return false;
    return !(events & EPOLLOUT && peer->streaming) || stream(peer);
}

int main(int argc, char **argv)
{
    struct peer listeners[PURPOSES];
    struct epoll_event events[EVENTS_AT_ONCE];
    if (argc != 1 + PURPOSES)
        fatal("usage: backend ECHO_PORT SINK_PORT SOURCE_PORT S2S_PORT COUNTS_PORT");
    prepare_process();
    text_prepare();
    poller = epoll_create1(0);
    for (int i = 0; i < PURPOSES; i++) {
        listeners[i] = (struct peer){.fd = listen_on(argv[1 + i]), .purpose = (enum purpose)i};
        watch(EPOLL_CTL_ADD, &listeners[i], EPOLLIN);
    }
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer >= listeners && peer < listeners + PURPOSES)
                accept_all(peer);
            else if (!serve(peer, events[i].events))
                drop(peer);
        }
    }
}
