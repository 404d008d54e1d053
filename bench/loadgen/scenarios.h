/* What can be measured. Each prints one JSON line, or ends the process. */
#ifndef BENCH_SCENARIOS_H
#define BENCH_SCENARIOS_H

#include "common.h"
#include "connection.h"
#include "meter.h"

struct options {
    int connections;
    size_t message_bytes;
    double warm_up, seconds;
    int rate; /* messages a second, of `paced` */
    /* of `s2s` */
    int counts_port; /* where the backend tells how many stanzas have come */
    int at_once;     /* how many stanzas are written with one system call */
    /* of `forward` */
    int names_port;     /* where the name server is */
    const char *roots;  /* a file of certificates, one of which must have issued the server's */
    bool fresh_domains; /* every pair is for a domain that nobody has looked up before */
};

/* Sends a message on READY connection and notes when; false if it failed. */
bool message_send(struct connection *connection, size_t size, uint64_t now);

/* Reads the echo as far as it has come; DONE when it is whole and equal. */
enum outcome message_receive(struct connection *connection, size_t size);

/* Every connection sends its next message as soon as its last one has come back. */
void chat(const struct options *options);

/* Messages leave at a fixed rate, on connections that take turns. */
void paced(const struct options *options);

/* Large stanzas as fast as they go, from the clients or to them. */
void bulk_up(const struct options *options);
void bulk_down(const struct options *options);

/* Stanzas on one stream between servers, each in a TLS record of its own, as fast as they go. */
void s2s(const struct options *options);

/* Clients that connect, do the TLS handshake (and log in), close, and begin again. */
void handshakes(const struct options *options);
void logins(const struct options *options);

/* Sessions that are logged in, and what memory each takes. */
void idle(const struct options *options);

/* One client at a time, directly to its server and through a forward listener in turn. */
void forward(const struct options *options);

#endif
