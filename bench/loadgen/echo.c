/* chat and paced: messages that come back. */
#include "scenarios.h"
#include "text.h"

#include <string.h>
#include <stdio.h>

enum { WAITING_MESSAGES = 8 }; /* of one connection, when the rate is too much for the relay */

static char due[1 << 16], received[1 << 16];

bool message_send(struct connection *connection, size_t size, uint64_t now)
{
    connection->sequence++;
    connection->sent_at = now;
    connection->echoed = 0;
    message_write(due, size, connection->number, connection->sequence);
    if (!connection_say(connection, due, size))
        return false;
    connection->phase = AWAITING_ECHO;
    return true;
}

enum outcome message_receive(struct connection *connection, size_t size)
{
    message_write(due, size, connection->number, connection->sequence);
    for (;;) {
        int length = connection_read(connection, received, size - connection->echoed);
        if (length == 0)
            return PENDING;
        if (length < 0) {
            connection_fail(connection, "closed by the relay");
            return FAILED;
        }
        if (memcmp(due + connection->echoed, received, (size_t)length) != 0) {
            connection_mismatch(connection);
            return FAILED;
        }
        connection->echoed += (size_t)length;
        if (connection->echoed == size) {
            connection->phase = READY;
            return DONE;
        }
    }
}

static void report(const char *scenario, const struct options *options, const struct meter *meter,
                  struct durations *round_trips, unsigned long messages)
{
    durations_sort(round_trips);
    report_begin(scenario, options->connections);
    printf(", \"bytes\": %zu, \"per_second\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f",
           options->message_bytes, (double)messages / meter->seconds,
           durations_percentile(round_trips, 0.5), durations_percentile(round_trips, 0.99));
    report_cost(meter, (double)messages);
    report_end();
}

void chat(const struct options *options)
{
    const size_t size = options->message_bytes;
    struct connection *all = allocate((size_t)options->connections * sizeof *all);
    struct durations round_trips = {0};
    unsigned long messages = 0;
    enum tick tick;

    connections_open(all, options->connections);
    struct meter meter = meter_new(options->warm_up, options->seconds);
    for (int i = 0; i < options->connections; i++)
        message_send(&all[i], size, now_ns());
    while ((tick = meter_tick(&meter)) != OVER && failures == 0) {
        if (tick == BEGINNING)
            messages = 0;
        int events = connections_wait(NS_PER_SECOND / 10);
        for (int i = 0; i < events; i++) {
            struct connection *connection = ready_connection(i);
            if (connection->phase != AWAITING_ECHO || message_receive(connection, size) != DONE)
                continue;
            const uint64_t now = now_ns();
            messages++;
            if (meter.begun)
                durations_add(&round_trips, now - connection->sent_at);
            message_send(connection, size, now);
        }
    }
    report("chat", options, &meter, &round_trips, messages);
}

/* When the messages of a connection were due that could not leave yet. */
struct waiting {
    uint64_t since[WAITING_MESSAGES];
    int count;
};

/* Sends what is due; returns how long the next message has time. */
static uint64_t send_due(struct connection *all, struct waiting *waiting, uint64_t *next,
                         uint64_t began, const struct options *options)
{
    for (;;) {
        const uint64_t now = now_ns();
        const uint64_t due_at = began + *next * NS_PER_SECOND / (uint64_t)options->rate;
        if (due_at > now)
            return due_at - now;
        /* A multiplicative hash spreads the turns over the connections. */
        uint64_t turn = ((*next)++ * 2654435761u >> 7) % (uint64_t)options->connections;
        if (all[turn].phase == READY)
            message_send(&all[turn], options->message_bytes, now);
        else if (waiting[turn].count < WAITING_MESSAGES)
            waiting[turn].since[waiting[turn].count++] = now;
    }
}

/* Sends the message that has waited longest; its round trip counts from when it was due. */
static void send_waiting(struct connection *connection, struct waiting *waiting, size_t size)
{
    if (waiting->count == 0)
        return;
    uint64_t since = waiting->since[0];
    memmove(waiting->since, waiting->since + 1, (size_t)--waiting->count * sizeof since);
    message_send(connection, size, since);
}

void paced(const struct options *options)
{
    const size_t size = options->message_bytes;
    struct connection *all = allocate((size_t)options->connections * sizeof *all);
    struct waiting *waiting = allocate((size_t)options->connections * sizeof *waiting);
    struct durations round_trips = {0};
    unsigned long messages = 0;
    uint64_t next = 0;
    enum tick tick;

    connections_open(all, options->connections);
    struct meter meter = meter_new(options->warm_up, options->seconds);
    const uint64_t began = now_ns();
    while ((tick = meter_tick(&meter)) != OVER && failures == 0) {
        if (tick == BEGINNING)
            messages = 0;
        int events = connections_wait(send_due(all, waiting, &next, began, options));
        for (int i = 0; i < events; i++) {
            struct connection *connection = ready_connection(i);
            if (connection->phase == READY)
                connection_expect_silence(connection);
            if (connection->phase != AWAITING_ECHO || message_receive(connection, size) != DONE)
                continue;
            messages++;
            if (meter.begun)
                durations_add(&round_trips, now_ns() - connection->sent_at);
            send_waiting(connection, &waiting[connection->number], size);
        }
    }
    report("paced", options, &meter, &round_trips, messages);
}
