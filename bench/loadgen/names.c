#include "names.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum {
    HEADER_BYTES = 12,
    LABEL_MOST = 63,
    CLASS_IN = 1,
    RECURSION_DESIRED = 0x0100,
    ANSWERED = 0x8580, /* a response, authoritative, recursion desired and available */
    CODE = 0x000f,
    POINTER = 0xc000,
    TO_QUESTION = POINTER | HEADER_BYTES,
};

static unsigned char *put16(unsigned char *out, unsigned value)
{
    *out++ = (unsigned char)(value >> 8);
    *out++ = (unsigned char)value;
    return out;
}

static unsigned char *put32(unsigned char *out, uint32_t value)
{
    return put16(put16(out, value >> 16), value & 0xffff);
}

static unsigned get16(const unsigned char *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static unsigned char *put_name(unsigned char *out, const char *name)
{
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        if (label == 0 || label > LABEL_MOST)
            fatal("%s is not a domain name", name);
        *out++ = (unsigned char)label;
        memcpy(out, name, label);
        out += label;
        name += label + (name[label] == '.');
    }
    *out++ = 0;
    return out;
}

/* Reads a name without pointers; returns where it ends, 0 if it is none. */
static size_t get_name(const unsigned char *message, size_t length, size_t at,
                       char out[NAME_BYTES])
{
    size_t written = 0;
    while (at < length && message[at] != 0) {
        size_t label = message[at++];
        if (label > LABEL_MOST || at + label >= length || written + label + 1 >= NAME_BYTES)
            return 0;
        memcpy(out + written, message + at, label);
        at += label;
        written += label;
        out[written++] = '.';
    }
    out[written > 0 ? written - 1 : 0] = '\0';
    return at < length ? at + 1 : 0;
}

/* Steps over a name that may end in a pointer; returns where it ends, 0 if it does not. */
static size_t skip_name(const unsigned char *message, size_t length, size_t at)
{
    while (at < length && message[at] != 0) {
        if (message[at] > LABEL_MOST)
            return at + 2;
        at += 1u + message[at];
    }
    return at < length ? at + 1 : 0;
}

static unsigned char *put_header(unsigned char *out, unsigned id, unsigned flags,
                                 unsigned answers, unsigned authorities)
{
    out = put16(put16(put16(out, id), flags), 1);
    return put16(put16(put16(out, answers), authorities), 0);
}

size_t question_write(unsigned char out[NAMES_BYTES], uint16_t id, const char *name,
                      enum record_type type)
{
    unsigned char *end = put_name(put_header(out, id, RECURSION_DESIRED, 0, 0), name);
    end = put16(put16(end, type), CLASS_IN);
    return (size_t)(end - out);
}

bool question_read(const unsigned char *message, size_t length, struct question *question)
{
    if (length < HEADER_BYTES || get16(message + 4) != 1)
        return false;
    size_t end = get_name(message, length, HEADER_BYTES, question->name);
    if (end == 0 || end + 4 > length)
        return false;
    question->id = (uint16_t)get16(message);
    question->type = get16(message + end);
    question->end = end + 4;
    return true;
}

/* The answer's start: header, question, and a record's fields as far as its data's length. */
static unsigned char *begin(unsigned char *message, const struct question *question,
                            enum record_type type, bool found)
{
    put_header(message, question->id, ANSWERED, found, !found);
    unsigned char *out = message + question->end;
    return put32(put16(put16(put16(out, TO_QUESTION), type), CLASS_IN), NAMES_TTL) + 2;
}

static size_t finish(unsigned char *message, unsigned char *data, unsigned char *end)
{
    put16(data - 2, (unsigned)(end - data));
    return (size_t)(end - message);
}

size_t answer_server(unsigned char message[NAMES_BYTES], const struct question *question,
                     const char *host, uint16_t port)
{
    unsigned char *data = begin(message, question, RECORD_SRV, true);
    unsigned char *end = put16(put16(put16(data, 0), 0), port); /* priority and weight: 0 */
    return finish(message, data, put_name(end, host));
}

size_t answer_loopback(unsigned char message[NAMES_BYTES], const struct question *question)
{
    unsigned char *data = begin(message, question, RECORD_A, true);
    return finish(message, data, put32(data, INADDR_LOOPBACK));
}

size_t answer_nothing(unsigned char message[NAMES_BYTES], const struct question *question)
{
    unsigned char *data = begin(message, question, RECORD_SOA, false);
    unsigned char *end = put16(put16(data, TO_QUESTION), TO_QUESTION);
    for (int i = 0; i < 5; i++) /* serial number, refresh, retry, expire, minimum */
        end = put32(end, NAMES_TTL);
    return finish(message, data, end);
}

bool record_read(const unsigned char *message, size_t length, enum record_type type,
                 struct record *record)
{
    struct question question;
    if (!question_read(message, length, &question) || (get16(message + 2) & CODE) != 0)
        return false;
    *record = (struct record){.id = question.id, .found = get16(message + 6) > 0};
    if (!record->found)
        return true;
    size_t at = skip_name(message, length, question.end);
    if (at == 0 || at + 10 > length || get16(message + at) != type)
        return false;
    size_t data = at + 10, bytes = get16(message + at + 8);
    if (data + bytes > length)
        return false;
    if (type == RECORD_A && bytes == sizeof record->address) {
        memcpy(&record->address, message + data, bytes);
        return true;
    }
    if (type != RECORD_SRV || bytes < 7)
        return false;
    record->port = (uint16_t)get16(message + data + 4);
    return get_name(message, length, data + 6, record->host) != 0;
}
