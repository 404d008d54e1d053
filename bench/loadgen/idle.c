/* idle: the memory of sessions that are logged in and quiet. */
#define _GNU_SOURCE
#include "scenarios.h"

#include <stdio.h>
#include <unistd.h>

enum { AT_ONCE = 64, ECHO_SECONDS = 10 };

/* One message there and back on every connection. */
static void exchange_messages(struct connection *all, const struct options *options)
{
    for (int first = 0; first < options->connections; first += AT_ONCE) {
        const uint64_t began = now_ns();
        int outstanding = 0;
        for (int i = first; i < options->connections && i < first + AT_ONCE; i++)
            outstanding += message_send(&all[i], options->message_bytes, now_ns());
        while (outstanding > 0 && failures == 0) {
            int events = connections_wait(NS_PER_SECOND);
            for (int i = 0; i < events; i++) {
                struct connection *connection = ready_connection(i);
                if (connection->phase == READY)
                    connection_expect_silence(connection);
                else if (message_receive(connection, options->message_bytes) == DONE)
                    outstanding--;
            }
            if (now_ns() - began > ECHO_SECONDS * NS_PER_SECOND)
                fatal("loadgen: %d echoes have not come in %d s", outstanding, ECHO_SECONDS);
        }
    }
}

static void settle(double seconds)
{
    usleep((useconds_t)(seconds * 1e6));
}

void idle(const struct options *options)
{
    const double count = options->connections;
    struct connection *all = allocate((size_t)options->connections * sizeof *all);

    const double empty = relay_memory_kib("Rss");
    const double before = relay_memory_kib("Pss");
    const double opening = connections_open(all, options->connections);
    settle(options->warm_up);
    const double logged_in = relay_memory_kib("Pss");
    exchange_messages(all, options);
    settle(options->warm_up);
    const double after_traffic = relay_memory_kib("Pss");
    const double full = relay_memory_kib("Rss");
    const double processor = relay_processor_seconds();
    settle(options->seconds);
    const double processor_idle = relay_processor_seconds() - processor;

    report_begin("idle", options->connections);
    printf(", \"empty_kib\": %.0f, \"full_mib\": %.1f, \"kib_each_after_login\": %.2f, \"kib_each\": %.2f"
           ", \"opened_per_second\": %.1f, \"relay_processor\": %.4f",
           empty, full / 1024, (logged_in - before) / count, (after_traffic - before) / count,
           count / opening, processor_idle / options->seconds);
    report_end();
}
