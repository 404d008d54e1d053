/* What both programs need: the clock, giving up, and room for many sockets. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_SECOND 1000000000ull

enum outcome { FAILED = -1, PENDING = 0, DONE = 1 };

/* Monotonic time in nanoseconds. */
uint64_t now_ns(void);

/* Prints one line and ends the process with status 2. */
_Noreturn void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* malloc that never returns NULL; the memory is zeroed. */
void *allocate(size_t bytes);

/* Raises the soft limit of open files to the hard one and ignores SIGPIPE. */
void prepare_process(void);

/* Turns Nagle's algorithm off: every message is to leave at once. */
void send_at_once(int fd);

/* Whether `text` of `length` bytes ends with the string `end`. */
bool ends_with(const char *text, size_t length, const char *end);

#endif
