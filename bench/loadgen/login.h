/* The scripted login that precedes every measurement: what the initiating entity says and what
 * the server answers, in so many exchanges. A client's are RFC 6120's (sections 4.2, 6 and 7), a
 * server's are those of server dialback (XEP-0220), which this server believes at once. */
#ifndef BENCH_LOGIN_H
#define BENCH_LOGIN_H

#include "common.h"

#define LOGIN_TEXT_BYTES 1024
#define DOMAIN_BYTES 128

/* Digits of the id of a stream between servers; each has its own. */
#define STREAM_ID_DIGITS 16

/* Whose the streams between servers are. */
#define REMOTE_DOMAIN "remote.bench.test"

#define STARTTLS_REQUEST "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
#define FEATURES_END "</stream:features>"

/* What makes the source start to send: the client's initial presence. */
#define INITIAL_PRESENCE "<presence/>"

enum stream_kind { C2S, S2S, STREAM_KINDS };

/* How many exchanges the script has. */
int login_steps(enum stream_kind kind);

/* Writes what the initiating entity sends in `step`, NUL-terminated; returns its length. */
size_t login_request(enum stream_kind kind, int step, const char *domain,
                     char out[LOGIN_TEXT_BYTES]);

/* Writes what the server answers in `step`, NUL-terminated; returns its length. The stream's `id`
 * is in the answer to a header alone. */
size_t login_answer(enum stream_kind kind, int step, const char *domain, const char *id,
                    char out[LOGIN_TEXT_BYTES]);

/* What a complete request of `step` ends with. */
const char *login_request_end(enum stream_kind kind, int step);

/* What a complete answer to `step` ends with. */
const char *login_answer_end(enum stream_kind kind, int step);

/* Whether the answer of `step` must come through unchanged: features may be edited by a relay. */
bool login_answer_is_exact(enum stream_kind kind, int step);

/* Copies the domain that a stream header is for; false if the header is not the script's. */
bool login_domain(enum stream_kind kind, const char *header, char out[DOMAIN_BYTES]);

/* Copies the id out of a server's answer to a header; false if it has none of STREAM_ID_DIGITS. */
bool login_id(const char *answer, size_t length, char out[STREAM_ID_DIGITS + 1]);

#endif
