/* The few DNS messages that are needed (RFC 1035, 2782): questions, and answers to them. */
#ifndef BENCH_NAMES_H
#define BENCH_NAMES_H

#include "common.h"

#define NAMES_BYTES 512
#define NAME_BYTES 256

enum record_type { RECORD_A = 1, RECORD_SOA = 6, RECORD_SRV = 33 };

/* Seconds for which every answer may be kept, those that there is nothing included. */
#define NAMES_TTL 300

/* The two services of an XMPP domain (RFC 6120, XEP-0368). */
#define STARTTLS_SERVICE "_xmpp-client._tcp."
#define DIRECT_SERVICE "_xmpps-client._tcp."

/* Where a domain's server is: the first label of its host, before the domain. */
#define SERVER_LABEL "xmpp."

struct question {
    uint16_t id;
    enum record_type type;
    char name[NAME_BYTES]; /* without the final dot */
    size_t end;            /* the octets of header and question */
};

/* Writes a question; returns its length. */
size_t question_write(unsigned char out[NAMES_BYTES], uint16_t id, const char *name,
                      enum record_type type);

/* Reads the question that a message has; false if it has not exactly one. */
bool question_read(const unsigned char *message, size_t length, struct question *question);

/* Each turns the message that `question` was read from into an answer, and returns its length:
 * a server's address and port, the loopback address, or that there is no such record. */
size_t answer_server(unsigned char message[NAMES_BYTES], const struct question *question,
                     const char *host, uint16_t port);
size_t answer_loopback(unsigned char message[NAMES_BYTES], const struct question *question);
size_t answer_nothing(unsigned char message[NAMES_BYTES], const struct question *question);

/* What the first record of an answer says. */
struct record {
    uint16_t id;
    bool found;            /* false: there is no such record, and nothing below is set */
    uint16_t port;         /* of SRV */
    char host[NAME_BYTES]; /* of SRV */
    uint32_t address;      /* of A, in network order */
};

/* Reads an answer to a question for `type`; false if it is none. */
bool record_read(const unsigned char *message, size_t length, enum record_type type,
                 struct record *record);

#endif
