/* A slow link: what comes at one port goes on to another, and back, late.
 *
 *     link DELAY_US PORT TO_PORT
 *
 * Bytes arrive DELAY_US after they were sent, each way, with the same time between them as at the
 * start. The kernel's TCP handshake with this program takes no time, so the bytes with which a
 * client begins are held for a round trip more, which is what that handshake would have taken. */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLIGHTS = 32, FLIGHT_BYTES = 4096, SLACK_NS = 1000 };

/* Bytes on their way; none of them: the sender's end. */
struct flight {
    uint64_t due_at;
    size_t length;
    char bytes[FLIGHT_BYTES];
};

struct direction {
    int from, to;
    unsigned first, count; /* the flights under way */
    bool ended;            /* nothing more comes */
    struct flight flights[FLIGHTS];
};

struct connection {
    struct direction up, down;
    bool answered;
};

static uint64_t delay_ns;
static struct sockaddr_in target;

static struct sockaddr_in at_loopback(const char *port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(port)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static void depart(struct direction *way, uint64_t takes_ns)
{
    struct flight *flight = &way->flights[(way->first + way->count) % FLIGHTS];
    ssize_t length = read(way->from, flight->bytes, sizeof flight->bytes);
    flight->length = length > 0 ? (size_t)length : 0;
    flight->due_at = now_ns() + takes_ns;
    if (way->count > 0) { /* nothing overtakes */
        const struct flight *last = &way->flights[(way->first + way->count - 1) % FLIGHTS];
        if (flight->due_at < last->due_at)
            flight->due_at = last->due_at;
    }
    way->count++;
    way->ended = length <= 0;
}

/* Delivers what is due; false if that cannot be done. */
static bool arrive(struct direction *way, uint64_t now)
{
    for (; way->count > 0 && way->flights[way->first].due_at <= now; way->count--) {
        const struct flight *flight = &way->flights[way->first];
        if (flight->length == 0)
            shutdown(way->to, SHUT_WR);
        else if (send(way->to, flight->bytes, flight->length, 0) != (ssize_t)flight->length)
            return false;
        way->first = (way->first + 1) % FLIGHTS;
    }
    return true;
}

static uint64_t next_due(const struct direction *way)
{
    return way->count > 0 ? way->flights[way->first].due_at : UINT64_MAX;
}

static bool is_over(const struct direction *way)
{
    return way->ended && way->count == 0;
}

static struct pollfd waiting(const struct direction *way)
{
    bool reads = !way->ended && way->count < FLIGHTS;
    return (struct pollfd){.fd = reads ? way->from : -1, .events = POLLIN};
}

static void *carry(void *argument)
{
    struct connection *connection = argument;
    struct direction *up = &connection->up, *down = &connection->down;
    while (!is_over(up) || !is_over(down)) {
        struct pollfd ends[] = {waiting(up), waiting(down)};
        uint64_t due = next_due(up) < next_due(down) ? next_due(up) : next_due(down);
        uint64_t now = now_ns(), rest = due > now ? due - now : 0;
        struct timespec timeout = {.tv_sec = (time_t)(rest / NS_PER_SECOND),
                                   .tv_nsec = (long)(rest % NS_PER_SECOND)};
        if (ppoll(ends, 2, due == UINT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            break;
        if (ends[0].revents != 0)
            depart(up, connection->answered ? delay_ns : 3 * delay_ns);
        if (ends[1].revents != 0) {
            connection->answered = true;
            depart(down, delay_ns);
        }
        now = now_ns();
        if (!arrive(up, now) || !arrive(down, now))
            break;
    }
    close(up->from);
    close(up->to);
    free(connection);
    return NULL;
}

static void begin(int client)
{
    struct connection *connection = allocate(sizeof *connection);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    pthread_t thread;
    if (connect(server, (struct sockaddr *)&target, sizeof target) != 0)
        fatal("link: cannot connect: %s", strerror(errno));
    send_at_once(client);
    send_at_once(server);
    connection->up.from = connection->down.to = client;
    connection->up.to = connection->down.from = server;
    if (pthread_create(&thread, NULL, carry, connection) != 0)
        fatal("link: no thread");
    pthread_detach(thread);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        fatal("usage: link DELAY_US PORT TO_PORT");
    prepare_process();
    prctl(PR_SET_TIMERSLACK, SLACK_NS);
    delay_ns = (uint64_t)atoi(argv[1]) * 1000;
    target = at_loopback(argv[3]);
    struct sockaddr_in address = at_loopback(argv[2]);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 64) != 0)
        fatal("link: cannot listen on port %s: %s", argv[2], strerror(errno));
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0)
            begin(client);
    }
}
