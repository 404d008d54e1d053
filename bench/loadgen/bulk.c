/* bulk_up and bulk_down: large stanzas in one direction. */
#include "scenarios.h"
#include "text.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    RECORD_BYTES = 16 << 10, /* the most that one TLS record carries */
    RECORDS_IN_TURN = 8,
};

static uint64_t moved; /* bytes that have arrived and were compared */

static void report(const char *scenario, const struct options *options, const struct meter *meter)
{
    const double megabytes = (double)moved / 1e6;
    report_begin(scenario, options->connections);
    printf(", \"mb_per_second\": %.2f", megabytes / meter->seconds);
    report_cost(meter, megabytes);
    report_end();
}

static void take_acknowledgements(struct connection *connection)
{
    for (;;) {
        uint64_t received;
        int length = connection_read(connection, connection->answer + connection->answered,
                                     ACKNOWLEDGEMENT_BYTES - connection->answered);
        if (length == 0)
            return;
        if (length < 0) {
            connection_fail(connection, "closed by the relay or the sink");
            return;
        }
        connection->answered += (size_t)length;
        if (connection->answered < ACKNOWLEDGEMENT_BYTES)
            continue;
        connection->answered = 0;
        if (!acknowledgement_read(connection->answer, &received)) {
            connection_mismatch(connection);
            return;
        }
        moved += received - connection->acknowledged;
        connection->acknowledged = received;
    }
}

static void push(struct connection *connection)
{
    int length = connection_write(connection, bulk_at(connection->offset), RECORD_BYTES);
    if (length < 0)
        connection_fail(connection, "cannot send");
    else
        connection->offset += (uint64_t)length;
}

static void pull(struct connection *connection)
{
    static char received[RECORD_BYTES];
    /* The source never pauses, so what stays in OpenSSL's buffer is read in the next turn. */
    for (int i = 0; i < RECORDS_IN_TURN; i++) {
        int length = connection_read(connection, received, sizeof received);
        if (length == 0)
            return;
        if (length < 0) {
            connection_fail(connection, "closed by the relay");
            return;
        }
        if (!bulk_matches(connection->offset, received, (size_t)length)) {
            connection_mismatch(connection);
            return;
        }
        connection->offset += (uint64_t)length;
        moved += (uint64_t)length;
    }
}

static void run(const char *scenario, const struct options *options, bool up)
{
    struct connection *all = allocate((size_t)options->connections * sizeof *all);
    enum tick tick;

    connections_open(all, options->connections);
    struct meter meter = meter_new(options->warm_up, options->seconds);
    for (int i = 0; i < options->connections; i++) {
        if (up)
            connection_watch(&all[i], EPOLLIN | EPOLLOUT);
        else
            connection_say(&all[i], INITIAL_PRESENCE, strlen(INITIAL_PRESENCE));
    }
    while ((tick = meter_tick(&meter)) != OVER && failures == 0) {
        if (tick == BEGINNING)
            moved = 0;
        int events = connections_wait(NS_PER_SECOND / 10);
        for (int i = 0; i < events; i++) {
            struct connection *connection = ready_connection(i);
            if (!up) {
                pull(connection);
                continue;
            }
            if (ready_events(i) & ~(uint32_t)EPOLLOUT)
                take_acknowledgements(connection);
            if (connection->phase == READY && ready_events(i) & EPOLLOUT)
                push(connection);
        }
    }
    report(scenario, options, &meter);
}

void bulk_up(const struct options *options)
{
    run("bulk_up", options, true);
}

void bulk_down(const struct options *options)
{
    run("bulk_down", options, false);
}
