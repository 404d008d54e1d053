/* The scripted login that precedes every measurement: what the client says and what the
 * server answers, in LOGIN_STEPS exchanges (RFC 6120 sections 4.2, 6 and 7). */
#ifndef BENCH_LOGIN_H
#define BENCH_LOGIN_H

#include "common.h"

#define LOGIN_STEPS 4
#define LOGIN_TEXT_BYTES 1024
#define DOMAIN_BYTES 128

#define STARTTLS_REQUEST "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
#define FEATURES_END "</stream:features>"

/* What makes the source start to send: the client's initial presence. */
#define INITIAL_PRESENCE "<presence/>"

/* Writes what the client sends in `step`, NUL-terminated; returns its length. */
size_t login_request(int step, const char *domain, char out[LOGIN_TEXT_BYTES]);

/* Writes what the server answers in `step`, NUL-terminated; returns its length. */
size_t login_answer(int step, const char *domain, char out[LOGIN_TEXT_BYTES]);

/* What a complete request of `step` ends with. */
const char *login_request_end(int step);

/* What a complete answer to `step` ends with. */
const char *login_answer_end(int step);

/* Whether the answer of `step` must come through unchanged: features may be edited by a relay. */
bool login_answer_is_exact(int step);

/* Copies the domain of a client's stream header; false if the header is not the script's. */
bool login_domain(const char *header, char out[DOMAIN_BYTES]);

#endif
