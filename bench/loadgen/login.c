#define _GNU_SOURCE
#include "login.h"

#include <string.h>

#define HEADER_START                                                                               \
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
#define SERVERS_HEADER_START                                                                       \
    "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' "                      \
    "xmlns:stream='http://etherx.jabber.org/streams' "

struct exchange {
    const char *request, *request_end;
    const char *answer, *answer_end;
    bool exact;
};

/* %d stands for the domain, %i for the stream's id. */
#define CLIENT_HEADER HEADER_START "to='%d' version='1.0'>"
#define SERVER_HEADER HEADER_START "from='%d' id='bench' version='1.0'>"

static const struct exchange of_clients[] = {
    {
        .request = CLIENT_HEADER,
        .request_end = "version='1.0'>",
        .answer = SERVER_HEADER
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
            "<mechanism>PLAIN</mechanism></mechanisms></stream:features>",
        .answer_end = FEATURES_END,
    },
    {
        .request = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
                   "AHUAc2VjcmV0</auth>",
        .request_end = "</auth>",
        .answer = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        .answer_end = "/>",
        .exact = true,
    },
    {
        .request = CLIENT_HEADER,
        .request_end = "version='1.0'>",
        .answer = SERVER_HEADER
            "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
        .answer_end = FEATURES_END,
    },
    {
        .request = "<iq type='set' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        .request_end = "</iq>",
        .answer = "<iq type='result' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
                  "<jid>u@%d/r</jid></bind></iq>",
        .answer_end = "</iq>",
        .exact = true,
    },
};

/* Dialback is worded as Bascule words it, who writes it anew; a relay that passes bytes on passes
 * these. So both ends compare every byte, whoever stands between. */
#define RESULT_START(from, to)                                                                     \
    "<db:result xmlns:db='jabber:server:dialback' from=\"" from "\" to=\"" to "\""

static const struct exchange of_servers[] = {
    {
        .request = SERVERS_HEADER_START "from='" REMOTE_DOMAIN "' to='%d' version='1.0'>",
        .request_end = "version='1.0'>",
        .answer = SERVERS_HEADER_START "from='%d' to='" REMOTE_DOMAIN "' id='%i' version='1.0'>"
            "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
        .answer_end = FEATURES_END,
    },
    {
        .request = RESULT_START(REMOTE_DOMAIN, "%d") ">"
                   "d8f2c4a6197b3e50a1c9d7e5f3b1082646a8c0e2d4f6b8193a5c7e9f1b3d5f70</db:result>",
        .request_end = "</db:result>",
        .answer = RESULT_START("%d", REMOTE_DOMAIN) " type='valid'/>",
        .answer_end = "/>",
        .exact = true,
    },
};

static const struct {
    const struct exchange *exchanges;
    int steps;
} scripts[STREAM_KINDS] = {
    [C2S] = {of_clients, sizeof of_clients / sizeof *of_clients},
    [S2S] = {of_servers, sizeof of_servers / sizeof *of_servers},
};

static const struct exchange *exchange_of(enum stream_kind kind, int step)
{
    return &scripts[kind].exchanges[step];
}

static size_t fill_in(const char *template, const char *domain, const char *id,
                      char out[LOGIN_TEXT_BYTES])
{
    char *end = out;
    for (const char *gap; (gap = strchr(template, '%')) != NULL; template = gap + 2)
        end = stpcpy(mempcpy(end, template, (size_t)(gap - template)), gap[1] == 'd' ? domain : id);
    return (size_t)(stpcpy(end, template) - out);
}

int login_steps(enum stream_kind kind)
{
    return scripts[kind].steps;
}

size_t login_request(enum stream_kind kind, int step, const char *domain,
                     char out[LOGIN_TEXT_BYTES])
{
    return fill_in(exchange_of(kind, step)->request, domain, "", out);
}

size_t login_answer(enum stream_kind kind, int step, const char *domain, const char *id,
                    char out[LOGIN_TEXT_BYTES])
{
    return fill_in(exchange_of(kind, step)->answer, domain, id, out);
}

const char *login_request_end(enum stream_kind kind, int step)
{
    return exchange_of(kind, step)->request_end;
}

const char *login_answer_end(enum stream_kind kind, int step)
{
    return exchange_of(kind, step)->answer_end;
}

bool login_answer_is_exact(enum stream_kind kind, int step)
{
    return exchange_of(kind, step)->exact;
}

bool login_domain(enum stream_kind kind, const char *header, char out[DOMAIN_BYTES])
{
    const char *before = exchange_of(kind, 0)->request;
    size_t start = strcspn(before, "%");
    if (strncmp(header, before, start) != 0)
        return false;
    const char *domain = header + start;
    size_t length = strcspn(domain, "'");
    if (length == 0 || length >= DOMAIN_BYTES)
        return false;
    memcpy(out, domain, length);
    out[length] = '\0';
    return true;
}

bool login_id(const char *answer, size_t length, char out[STREAM_ID_DIGITS + 1])
{
    static const char before[] = " id='";
    const char *end = answer + length;
    const char *id = memmem(answer, length, before, sizeof before - 1);
    if (id == NULL || end - (id += sizeof before - 1) <= STREAM_ID_DIGITS ||
        id[STREAM_ID_DIGITS] != '\'')
        return false;
    memcpy(out, id, STREAM_ID_DIGITS);
    out[STREAM_ID_DIGITS] = '\0';
    return true;
}
