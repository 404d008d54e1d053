/* One connection of the load generator: TCP, TLS (directly or by STARTTLS) and the login. */
#ifndef BENCH_CONNECTION_H
#define BENCH_CONNECTION_H

#include "common.h"
#include "login.h"

#include <openssl/ssl.h>

enum phase {
    CONNECTING,
    AWAITING_STARTTLS_FEATURE,
    AWAITING_PROCEED,
    HANDSHAKING,
    LOGGING_IN,
    READY,
    AWAITING_ECHO,
    AWAITING_END, /* has said that it ends and waits for the relay to do so */
    CLOSED,
};

struct connection {
    uint32_t number;
    int fd;
    SSL *tls; /* NULL before TLS */
    enum phase phase;
    uint32_t watched; /* the events that the poller watches */
    int step;         /* of the login */
    char id[STREAM_ID_DIGITS + 1]; /* of a stream between servers */
    char answer[LOGIN_TEXT_BYTES];
    size_t answered;
    uint64_t dialled_at;
    /* messages */
    uint64_t sequence, sent_at;
    size_t echoed;
    /* bulk */
    uint64_t offset, acknowledged;
};

struct target {
    const char *address;
    int port;
    enum stream_kind kind;
    const char *domain; /* for SNI and the stream's `to` */
    bool starttls;      /* instead of direct TLS */
    bool handshake_only;
};

extern struct target target;

/* How many connections have failed, or received other bytes than were due. */
extern unsigned long failures;

/* The TLS version, cipher suite and group of the first handshake. */
extern char agreed[128];

/* Session tickets received. */
extern unsigned long tickets;

/* To be called once `target` says whose streams they are, and before anything else here. */
void connections_prepare(void);

/* Waits for events of any connection for at most `timeout_ns`; returns how many there are. */
int connections_wait(uint64_t timeout_ns);

/* The connection of an event of the last wait, and what happened to it. */
struct connection *ready_connection(int index);
uint32_t ready_events(int index);

/* Starts a connection under its number. */
void connection_dial(struct connection *connection);

/* Goes on with connecting, TLS and login; DONE when READY (or after the handshake). */
enum outcome connection_advance(struct connection *connection);

/* Bytes read or written, 0 if it would block, -1 at the end or on an error. */
int connection_read(struct connection *connection, void *out, size_t size);
int connection_write(struct connection *connection, const void *bytes, size_t size);

/* Writes a short text as a whole; false, and the connection failed, if that cannot be done. */
bool connection_say(struct connection *connection, const char *text, size_t length);

void connection_watch(struct connection *connection, uint32_t events);

/* Says close_notify and ends the sending side; the relay's end is still to come. */
void connection_end(struct connection *connection);

/* Closes for good. */
void connection_close(struct connection *connection);

/* Closes, counts and reports a failure. */
void connection_fail(struct connection *connection, const char *what);

/* Fails because of bytes that are not those that were due. */
void connection_mismatch(struct connection *connection);

/* A READY connection has nothing to read but TLS's own records: anything else is a failure. */
void connection_expect_silence(struct connection *connection);

/* Opens `count` connections, a few at a time; returns the seconds that took. */
double connections_open(struct connection *connections, int count);

#endif
