/* The stanzas that are sent once a session is logged in. All are well-formed, and all of
 * their bytes follow from a connection's number, a sequence number or an offset, so that the
 * receiver compares every byte without having kept any. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include "common.h"

#define MESSAGE_BYTES_LEAST 96

/* Of a stanza between servers, whatever the length of the domain's name. */
#define SERVER_MESSAGE_BYTES 200

/* How many bytes can be read from what `bulk_at` returns. */
#define BULK_WINDOW (1u << 18)

/* One acknowledgement of the sink, in bytes. */
#define ACKNOWLEDGEMENT_BYTES 52

/* How many stanzas of a stream have come, as the backend tells who asks: so many digits. */
#define COUNT_DIGITS 16

/* Fills the tables; to be called once before anything else here. */
void text_prepare(void);

/* Writes one <message/> of exactly `size` bytes (at least MESSAGE_BYTES_LEAST). */
void message_write(char *out, size_t size, uint32_t connection, uint64_t sequence);

/* Writes one <message/> of SERVER_MESSAGE_BYTES from REMOTE_DOMAIN to a user of `domain`. */
void server_message_write(char out[SERVER_MESSAGE_BYTES], const char *domain, uint64_t sequence);

/* The endless stream of large stanzas (16 to 64 KiB of body) from `offset` on. */
const char *bulk_at(uint64_t offset);

/* Whether `length` bytes are what the endless stream has at `offset`. */
bool bulk_matches(uint64_t offset, const char *bytes, size_t length);

/* Writes the sink's acknowledgement of `received` bytes. */
void acknowledgement_write(char out[ACKNOWLEDGEMENT_BYTES + 1], uint64_t received);

/* Reads it again; false if it is not one. */
bool acknowledgement_read(const char text[ACKNOWLEDGEMENT_BYTES], uint64_t *received);

#endif
