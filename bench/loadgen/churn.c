/* handshakes and logins: connections that come and go. */
#include "scenarios.h"

#include <stdio.h>
#include <stdlib.h>

/* Goes on with one connection; DONE when it has got as far as it is to get. */
static enum outcome proceed(struct connection *connection)
{
    char bytes[256];
    if (connection->phase != AWAITING_END) {
        enum outcome outcome = connection_advance(connection);
        if (outcome != DONE || !target.handshake_only)
            return outcome;
        /* The client's half of a TLS 1.3 handshake ends before the server's does: only the
         * relay's own end shows that it has done its work. */
        connection_end(connection);
    }
    for (;;) {
        int length = connection_read(connection, bytes, sizeof bytes);
        if (length <= 0)
            return length == 0 ? PENDING : DONE;
    }
}

static void run(const char *scenario, const struct options *options)
{
    struct connection *all = allocate((size_t)options->connections * sizeof *all);
    struct durations durations = {0};
    unsigned long completed = 0;
    enum tick tick;

    struct meter meter = meter_new(options->warm_up, options->seconds);
    for (int i = 0; i < options->connections; i++) {
        all[i].number = (uint32_t)i;
        connection_dial(&all[i]);
    }
    while ((tick = meter_tick(&meter)) != OVER && failures == 0) {
        if (tick == BEGINNING)
            completed = 0;
        int events = connections_wait(NS_PER_SECOND / 10);
        for (int i = 0; i < events; i++) {
            struct connection *connection = ready_connection(i);
            if (connection->phase == CLOSED || proceed(connection) != DONE)
                continue;
            completed++;
            if (meter.begun)
                durations_add(&durations, now_ns() - connection->dialled_at);
            connection_close(connection);
            connection_dial(connection);
        }
    }
    durations_sort(&durations);
    report_begin(scenario, options->connections);
    printf(", \"per_second\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f",
           (double)completed / meter.seconds, durations_percentile(&durations, 0.5),
           durations_percentile(&durations, 0.99));
    report_cost(&meter, (double)completed);
    report_end();
}

void handshakes(const struct options *options)
{
    target.handshake_only = true;
    run("handshakes", options);
}

void logins(const struct options *options)
{
    run("logins", options);
}
