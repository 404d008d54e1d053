#include "meter.h"

#include "connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

int relay_processes[RELAY_PROCESSES], relay_process_count;

/* The clock of another process's processor time, as clock_getcpuclockid() makes it. */
static double processor_seconds(int process)
{
    struct timespec used;
    clockid_t clock;
    if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

double relay_processor_seconds(void)
{
    double total = 0;
    for (int i = 0; i < relay_process_count; i++)
        total += processor_seconds(relay_processes[i]);
    return total;
}

double relay_memory_kib(const char *figure)
{
    const size_t name = strlen(figure);
    double total = 0;
    for (int i = 0; i < relay_process_count; i++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", relay_processes[i]);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            fatal("loadgen: cannot read %s", path);
        while (fgets(line, sizeof line, file) != NULL)
            if (strncmp(line, figure, name) == 0 && line[name] == ':')
                total += atof(line + name + 1);
        fclose(file);
    }
    return total;
}

static double own_processor_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

struct meter meter_new(double warm_up, double seconds)
{
    return (struct meter){
        .begins_at = now_ns() + (uint64_t)(warm_up * 1e9),
        .length = (uint64_t)(seconds * 1e9),
    };
}

enum tick meter_tick(struct meter *meter)
{
    const uint64_t now = now_ns();
    if (now < meter->begins_at)
        return WARMING_UP;
    if (!meter->begun) {
        meter->begun = true;
        meter->begins_at = now;
        meter->ends_at = now + meter->length;
        meter->relay_seconds = relay_processor_seconds();
        meter->generator_seconds = own_processor_seconds();
        return BEGINNING;
    }
    if (now < meter->ends_at)
        return MEASURING;
    meter->seconds = (double)(now - meter->begins_at) / 1e9;
    meter->relay_seconds = relay_processor_seconds() - meter->relay_seconds;
    meter->generator_seconds = own_processor_seconds() - meter->generator_seconds;
    return OVER;
}

void durations_add(struct durations *durations, uint64_t ns)
{
    if (durations->count == durations->room) {
        durations->room = durations->room ? durations->room * 2 : 1 << 16;
        durations->ns = realloc(durations->ns, durations->room * sizeof *durations->ns);
        if (durations->ns == NULL)
            fatal("out of memory");
    }
    durations->ns[durations->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int compare(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

void durations_sort(struct durations *durations)
{
    if (durations->count > 0)
        qsort(durations->ns, durations->count, sizeof *durations->ns, compare);
}

double durations_percentile(const struct durations *durations, double share)
{
    if (durations->count == 0)
        return 0;
    size_t index = (size_t)(share * (double)durations->count);
    return durations->ns[index < durations->count ? index : durations->count - 1] / 1000.0;
}

void report_begin(const char *scenario, int connections)
{
    if (failures > 0)
        exit(1);
    printf("{\"scenario\": \"%s\", \"connections\": %d, \"tls\": \"%s\"", scenario, connections,
           agreed);
}

void report_cost(const struct meter *meter, double operations)
{
    printf(", \"seconds\": %.3f, \"relay_processor\": %.3f, \"generator_processor\": %.3f",
           meter->seconds, meter->relay_seconds / meter->seconds,
           meter->generator_seconds / meter->seconds);
    if (operations > 0)
        printf(", \"relay_us_each\": %.2f, \"per_processor_second\": %.1f",
               meter->relay_seconds * 1e6 / operations, operations / meter->relay_seconds);
}

void report_end(void)
{
    printf(", \"tickets\": %lu}\n", tickets);
}
