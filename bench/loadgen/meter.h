/* The measured part of a run: when it begins and ends, and what it cost the relay. */
#ifndef BENCH_METER_H
#define BENCH_METER_H

#include "common.h"

enum { RELAY_PROCESSES = 64 };

/* The relay's processes. */
extern int relay_processes[RELAY_PROCESSES], relay_process_count;

enum tick { WARMING_UP, BEGINNING, MEASURING, OVER };

struct meter {
    uint64_t begins_at, ends_at;
    uint64_t length;
    bool begun;
    double seconds;                        /* measured; valid when OVER, as the rest */
    double relay_seconds, generator_seconds; /* processor time */
};

/* A meter that begins after `warm_up` seconds and runs for `seconds`. */
struct meter meter_new(double warm_up, double seconds);

/* To be asked in every turn: BEGINNING exactly once, when counters are to be set to zero. */
enum tick meter_tick(struct meter *meter);

/* Processor time of the relay so far, in seconds. */
double relay_processor_seconds(void);

/* The relay's memory in KiB: "Pss" shares out what several processes have mapped, "Rss" does not. */
double relay_memory_kib(const char *figure);

/* A growing list of durations. */
struct durations {
    uint32_t *ns;
    size_t count, room;
};

void durations_add(struct durations *durations, uint64_t ns);
void durations_sort(struct durations *durations);

/* A percentile (0 to 1) of sorted durations in microseconds; 0 if there are none. */
double durations_percentile(const struct durations *durations, double share);

/* Opens the JSON line of a scenario; ends the process with status 1 if anything has failed, since
 * there is nothing to report then. */
void report_begin(const char *scenario, int connections);

/* Appends what the measured part cost, in all and for each of `operations`. */
void report_cost(const struct meter *meter, double operations);

/* Closes the line. */
void report_end(void);

#endif
