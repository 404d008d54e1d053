#include "login.h"

#include <stdio.h>
#include <string.h>

#define HEADER_START                                                                               \
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "

struct exchange {
    const char *request, *request_end;
    const char *answer, *answer_end;
    bool exact;
};

/* %s stands for the domain. */
#define CLIENT_HEADER HEADER_START "to='%s' version='1.0'>"
#define SERVER_HEADER HEADER_START "from='%s' id='bench' version='1.0'>"

static const struct exchange script[LOGIN_STEPS] = {
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
                  "<jid>u@%s/r</jid></bind></iq>",
        .answer_end = "</iq>",
        .exact = true,
    },
};

static size_t fill_in(const char *template, const char *domain, char out[LOGIN_TEXT_BYTES])
{
    const char *gap = strstr(template, "%s");
    if (gap == NULL)
        return (size_t)snprintf(out, LOGIN_TEXT_BYTES, "%s", template);
    return (size_t)snprintf(out, LOGIN_TEXT_BYTES, "%.*s%s%s", (int)(gap - template), template,
                            domain, gap + 2);
}

size_t login_request(int step, const char *domain, char out[LOGIN_TEXT_BYTES])
{
    return fill_in(script[step].request, domain, out);
}

size_t login_answer(int step, const char *domain, char out[LOGIN_TEXT_BYTES])
{
    return fill_in(script[step].answer, domain, out);
}

const char *login_request_end(int step)
{
    return script[step].request_end;
}

const char *login_answer_end(int step)
{
    return script[step].answer_end;
}

bool login_answer_is_exact(int step)
{
    return script[step].exact;
}

bool login_domain(const char *header, char out[DOMAIN_BYTES])
{
    static const char before[] = HEADER_START "to='";
    if (strncmp(header, before, sizeof before - 1) != 0)
        return false;
    const char *domain = header + sizeof before - 1;
    size_t length = strcspn(domain, "'");
    if (length == 0 || length >= DOMAIN_BYTES)
        return false;
    memcpy(out, domain, length);
    out[length] = '\0';
    return true;
}
