/* The load generator: clients that log in through a relay, or a server, and what they measure.
 *
 *     loadgen -m SCENARIO -p PORT -t DOMAIN [-P PROCESS,…] [-n CONNECTIONS] [-s BYTES]
 *             [-d SECONDS] [-w WARM_UP_SECONDS] [-r RATE] [-S] [-C COUNTS_PORT] [-b AT_ONCE]
 *             [-N NAMES_PORT] [-c ROOTS] [-f]
 *     loadgen -V
 *
 * The second says which OpenSSL it runs with. One thread; every byte that comes back is compared
 * with what is due. The result is one JSON line on the standard output; the exit status is 1 if any
 * byte differed or any connection failed, and 2 if there is no result. */
#define _GNU_SOURCE
#include "scenarios.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MESSAGE_BYTES_MOST (1u << 14)

static const struct scenario {
    const char *name;
    void (*run)(const struct options *options);
    enum stream_kind kind;
} scenarios[] = {
    {"chat", chat, C2S},
    {"paced", paced, C2S},
    {"bulk_up", bulk_up, C2S},
    {"bulk_down", bulk_down, C2S},
    {"s2s", s2s, S2S},
    {"handshakes", handshakes, C2S},
    {"logins", logins, C2S},
    {"idle", idle, C2S},
    {"forward", forward, C2S},
};

static const struct scenario *find_scenario(const char *name)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    fatal("loadgen: there is no scenario %s", name);
}

static void read_processes(char *list)
{
    for (char *each = strtok(list, ","); each != NULL; each = strtok(NULL, ",")) {
        if (relay_process_count == RELAY_PROCESSES)
            fatal("loadgen: more than %d relay processes", RELAY_PROCESSES);
        relay_processes[relay_process_count++] = atoi(each);
    }
}

int main(int argc, char **argv)
{
    const struct scenario *scenario = NULL;
    struct options options = {
        .connections = 100,
        .message_bytes = 200,
        .warm_up = 0.3,
        .seconds = 1,
        .rate = 2000,
        .at_once = 64,
    };
    int option;
    while ((option = getopt(argc, argv, "m:p:t:P:n:s:d:w:r:SC:b:N:c:fV")) != -1) {
        switch (option) {
        case 'm': scenario = find_scenario(optarg); break;
        case 'p': target.port = atoi(optarg); break;
        case 't': target.domain = optarg; break;
        case 'P': read_processes(optarg); break;
        case 'n': options.connections = atoi(optarg); break;
        case 's': options.message_bytes = (size_t)atoi(optarg); break;
        case 'd': options.seconds = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'r': options.rate = atoi(optarg); break;
        case 'S': target.starttls = true; break;
        case 'C': options.counts_port = atoi(optarg); break;
        case 'b': options.at_once = atoi(optarg); break;
        case 'N': options.names_port = atoi(optarg); break;
        case 'c': options.roots = optarg; break;
        case 'f': options.fresh_domains = true; break;
        case 'V': puts(OpenSSL_version(OPENSSL_VERSION)); return 0;
        default: return 2;
        }
    }
    if (scenario == NULL || target.port == 0 || target.domain == NULL)
        fatal("loadgen: -m, -p and -t are required");
    if (options.connections < 1 || options.rate < 1 || options.at_once < 1 ||
        options.seconds <= 0 || options.message_bytes < MESSAGE_BYTES_LEAST ||
        options.message_bytes > MESSAGE_BYTES_MOST)
        fatal("loadgen: -n, -r, -b and -d must be positive, -s from %d to %d", MESSAGE_BYTES_LEAST,
              MESSAGE_BYTES_MOST);
    target.kind = scenario->kind;
    prepare_process();
    prctl(PR_SET_TIMERSLACK, 1000);
    text_prepare();
    connections_prepare();
    scenario->run(&options);
    return 0;
}
