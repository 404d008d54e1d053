#include "text.h"

#include "login.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_START "<message to='u@bench.test/r' id='"
#define SERVER_MESSAGE_START "<message from='a@" REMOTE_DOMAIN "/x' to='b@"
#define SERVER_MESSAGE_ID "' type='chat' id='"
#define BODY_START "'><body>"
#define MESSAGE_END "</body></message>"
#define ID_DIGITS 24

#define BULK_STANZAS 29
#define BODY_LEAST (16u << 10)
#define BODY_MOST (64u << 10)

/* A prime, so that messages never line up with the filling. */
#define FILLING_PERIOD 100003u

static char filling[FILLING_PERIOD + BODY_MOST];
static char *bulk;
static size_t bulk_period;

static void filling_prepare(void)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t state = 0x9E3779B97F4A7C15ull;
    for (size_t i = 0; i < FILLING_PERIOD; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        filling[i] = letters[(state >> 24) & 63];
    }
    memcpy(filling + FILLING_PERIOD, filling, BODY_MOST);
}

static char *append(char *out, const char *text)
{
    size_t length = strlen(text);
    memcpy(out, text, length);
    return out + length;
}

static char *append_hexadecimal(char *out, uint64_t value, int digits)
{
    static const char figures[] = "0123456789abcdef";
    for (int i = digits; i-- > 0; value >>= 4)
        out[i] = figures[value & 15];
    return out + digits;
}

/* Writes what follows `id='`, up to `end`. */
static void finish_message(char *out, char *end, uint32_t connection, uint64_t sequence)
{
    end -= strlen(MESSAGE_END);
    out = append_hexadecimal(out, connection, ID_DIGITS - 16);
    out = append_hexadecimal(out, sequence, 16);
    out = append(out, BODY_START);
    size_t body = (size_t)(end - out);
    memcpy(out, filling + (sequence * 7919 + connection * 104729ull) % FILLING_PERIOD, body);
    append(out + body, MESSAGE_END);
}

void message_write(char *out, size_t size, uint32_t connection, uint64_t sequence)
{
    finish_message(append(out, MESSAGE_START), out + size, connection, sequence);
}

void server_message_write(char out[SERVER_MESSAGE_BYTES], const char *domain, uint64_t sequence)
{
    char *id = append(append(append(out, SERVER_MESSAGE_START), domain), SERVER_MESSAGE_ID);
    finish_message(id, out + SERVER_MESSAGE_BYTES, 0, sequence);
}

static void bulk_prepare(void)
{
    const size_t overhead =
        strlen(MESSAGE_START) + ID_DIGITS + strlen(BODY_START) + strlen(MESSAGE_END);
    size_t sizes[BULK_STANZAS];
    for (size_t i = 0; i < BULK_STANZAS; i++) {
        sizes[i] = overhead + BODY_LEAST + i * 7919 * 5 % (BODY_MOST - BODY_LEAST);
        bulk_period += sizes[i];
    }
    bulk = allocate(bulk_period + BULK_WINDOW);
    char *out = bulk;
    for (size_t i = 0; i < BULK_STANZAS; out += sizes[i++])
        message_write(out, sizes[i], UINT32_MAX, i);
    memcpy(bulk + bulk_period, bulk, BULK_WINDOW);
}

void text_prepare(void)
{
    filling_prepare();
    bulk_prepare();
}

const char *bulk_at(uint64_t offset)
{
    return bulk + offset % bulk_period;
}

bool bulk_matches(uint64_t offset, const char *bytes, size_t length)
{
    while (length > 0) {
        size_t part = length < BULK_WINDOW ? length : BULK_WINDOW;
        if (memcmp(bulk_at(offset), bytes, part) != 0)
            return false;
        offset += part;
        bytes += part;
        length -= part;
    }
    return true;
}

void acknowledgement_write(char out[ACKNOWLEDGEMENT_BYTES + 1], uint64_t received)
{
    snprintf(out, ACKNOWLEDGEMENT_BYTES + 1, MESSAGE_START "%016" PRIx64 "'/>", received);
}

bool acknowledgement_read(const char text[ACKNOWLEDGEMENT_BYTES], uint64_t *received)
{
    char whole[ACKNOWLEDGEMENT_BYTES + 1] = {0};
    char again[ACKNOWLEDGEMENT_BYTES + 1];
    memcpy(whole, text, ACKNOWLEDGEMENT_BYTES);
    if (sscanf(whole, MESSAGE_START "%16" SCNx64, received) != 1)
        return false;
    acknowledgement_write(again, *received);
    return memcmp(again, text, ACKNOWLEDGEMENT_BYTES) == 0;
}
