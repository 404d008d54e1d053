/* The server that forwarded and direct clients reach, and the name server that leads there.
 *
 *     upstream STARTTLS_PORT DIRECT_PORT NAMES_PORT FAR_PORT CHAIN KEY
 *
 * Every TCP connection is taken as far as the first features after TLS; the first port wants
 * STARTTLS, the second direct TLS. The id of the stream that is opened then says what was
 * negotiated, and how many ClientHellos that took, so that a client can compare. On the third
 * port, UDP, any domain below DOMAIN_OF_STARTTLS and DOMAIN_OF_DIRECT, and these themselves, have
 * a server here; FAR_DOMAIN has the first at FAR_PORT, from where a slow link leads to it. */
#define _GNU_SOURCE
#include "common.h"
#include "login.h"
#include "names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define DOMAIN_OF_STARTTLS "starttls.bench.test"
#define DOMAIN_OF_DIRECT "direct.bench.test"
#define FAR_DOMAIN "far." DOMAIN_OF_STARTTLS

#define HEADER                                                                                     \
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' "                                   \
    "xmlns:stream='http://etherx.jabber.org/streams' from='%s' id='%s' version='1.0'>"
#define FEATURES_BEFORE                                                                            \
    "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"    \
    FEATURES_END
#define FEATURES_AFTER                                                                             \
    "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"                       \
    "<mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>"                       \
    "<mechanism>PLAIN</mechanism></mechanisms>" FEATURES_END
#define PROCEED "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
#define FOOTER "</stream:stream>"

enum { EVENTS_AT_ONCE = 64, TEXT_BYTES = 2048, CLIENT_HELLO = 1 };

enum step { HEADER_BEFORE, REQUEST, HANDSHAKE, HEADER_AFTER, OPEN };

struct stream {
    int fd;
    SSL *tls; /* NULL before TLS */
    enum step step;
    int hellos;
    char text[TEXT_BYTES]; /* what has come of the present step */
    size_t length;
};

static int poller;
static SSL_CTX *context;
static uint16_t ports[3], far_port;

static int bound(int type, uint16_t port)
{
    int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        (type == SOCK_STREAM && listen(fd, 4096) != 0))
        fatal("upstream: cannot listen on port %d: %s", port, strerror(errno));
    return fd;
}

static void count_hello(int sent, int version, int kind, const void *bytes, size_t length, SSL *tls,
                        void *argument)
{
    (void)version;
    (void)argument;
    if (!sent && kind == SSL3_RT_HANDSHAKE && length > 0 && *(const char *)bytes == CLIENT_HELLO)
        ((struct stream *)SSL_get_app_data(tls))->hellos++;
}

static int choose_protocol(SSL *tls, const unsigned char **chosen, unsigned char *length,
                           const unsigned char *offered, unsigned offered_length, void *argument)
{
    static const unsigned char ours[] = "\x0bxmpp-client";
    (void)tls;
    (void)argument;
    return SSL_select_next_proto((unsigned char **)chosen, length, ours, sizeof ours - 1, offered,
                                 offered_length) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void prepare_tls(const char *chain, const char *key)
{
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) ||
        SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        fatal("upstream: cannot use %s and %s", chain, key);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_msg_callback(context, count_hello);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
}

static void watch(void *what, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void drop(struct stream *stream)
{
    if (stream->tls != NULL) {
        if (stream->step > HANDSHAKE)
            SSL_shutdown(stream->tls);
        SSL_free(stream->tls);
        ERR_clear_error();
    }
    close(stream->fd);
    free(stream);
}

static void begin_tls(struct stream *stream)
{
    stream->step = HANDSHAKE;
    stream->tls = SSL_new(context);
    SSL_set_fd(stream->tls, stream->fd);
    SSL_set_app_data(stream->tls, stream);
    SSL_set_accept_state(stream->tls);
}

static void accept_all(int listener, bool direct)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct stream *stream = allocate(sizeof *stream);
        stream->fd = fd;
        send_at_once(fd);
        if (direct)
            begin_tls(stream);
        watch(stream, fd);
    }
}

/* Texts are short: one that the socket does not take at once ends the connection. */
static bool say(struct stream *stream, const char *text)
{
    int length = (int)strlen(text);
    stream->length = 0;
    return (stream->tls == NULL ? (int)write(stream->fd, text, (size_t)length)
                                : SSL_write(stream->tls, text, length)) == length;
}

static bool answer_header(struct stream *stream)
{
    char domain[DOMAIN_BYTES], id[128] = "plain", text[TEXT_BYTES];
    const char *to = strstr(stream->text, " to=");
    if (to == NULL || sscanf(to, " to=%*['\"]%127[a-zA-Z0-9.-]", domain) != 1)
        return false;
    SSL *tls = stream->tls;
    if (tls != NULL)
        snprintf(id, sizeof id, "%s/%s/%s/%d", SSL_get_version(tls), SSL_get_cipher(tls),
                 SSL_group_to_name(tls, (int)SSL_get_negotiated_group(tls)), stream->hellos);
    snprintf(text, sizeof text, HEADER "%s", domain, id,
             tls == NULL ? FEATURES_BEFORE : FEATURES_AFTER);
    stream->step++;
    return say(stream, text);
}

/* Clients write it with either quotes, and with a space or none at the end. */
static bool is_starttls(const char *text)
{
    return strncmp(text, "<starttls ", strlen("<starttls ")) == 0 &&
           strstr(text, "urn:ietf:params:xml:ns:xmpp-tls") != NULL;
}

/* Takes the bytes of the present step, if they are complete; false if they are not XMPP's. */
static bool answer(struct stream *stream)
{
    stream->text[stream->length] = '\0';
    switch (stream->step) {
    case HEADER_BEFORE:
    case HEADER_AFTER:
        if (strstr(stream->text, "<stream:stream") == NULL ||
            !ends_with(stream->text, stream->length, ">"))
            return true;
        return answer_header(stream);
    case REQUEST:
        if (!ends_with(stream->text, stream->length, "/>"))
            return true;
        if (!is_starttls(stream->text) || !say(stream, PROCEED))
            return false;
        begin_tls(stream);
        return true;
    default:
        if (ends_with(stream->text, stream->length, FOOTER))
            say(stream, FOOTER);
        return false;
    }
}

static bool shake_hands(struct stream *stream)
{
    int result = SSL_do_handshake(stream->tls);
    if (result == 1) {
        stream->step = HEADER_AFTER;
        return true;
    }
    return SSL_get_error(stream->tls, result) == SSL_ERROR_WANT_READ;
}

static bool serve(struct stream *stream)
{
    if (stream->step == HANDSHAKE && !shake_hands(stream))
        return false;
    if (stream->step == HANDSHAKE)
        return true;
    char *out = stream->text + stream->length;
    size_t room = sizeof stream->text - 1 - stream->length;
    int length;
    if (stream->tls == NULL) {
        length = (int)read(stream->fd, out, room);
    } else {
        length = SSL_read(stream->tls, out, (int)room);
        if (length <= 0)
            return SSL_get_error(stream->tls, length) == SSL_ERROR_WANT_READ;
    }
    if (length <= 0)
        return length < 0 && errno == EAGAIN;
    stream->length += (size_t)length;
    return stream->length < sizeof stream->text - 1 && answer(stream);
}

static bool has_server(const char *name, const char *service, const char *domain, char *host)
{
    size_t start = strlen(service);
    if (strncmp(name, service, start) != 0 || !ends_with(name, strlen(name), domain))
        return false;
    snprintf(host, NAME_BYTES, SERVER_LABEL "%s", name + start);
    return true;
}

static size_t look_up(unsigned char *message, const struct question *question)
{
    char host[NAME_BYTES];
    const char *name = question->name;
    if (question->type == RECORD_A && strncmp(name, SERVER_LABEL, strlen(SERVER_LABEL)) == 0)
        return answer_loopback(message, question);
    if (question->type == RECORD_SRV) {
        if (has_server(name, STARTTLS_SERVICE, DOMAIN_OF_STARTTLS, host))
            return answer_server(message, question, host,
                                 strcmp(host, SERVER_LABEL FAR_DOMAIN) == 0 ? far_port : ports[0]);
        if (has_server(name, DIRECT_SERVICE, DOMAIN_OF_DIRECT, host))
            return answer_server(message, question, host, ports[1]);
    }
    return answer_nothing(message, question);
}

static void tell_names(int fd)
{
    unsigned char message[NAMES_BYTES];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t length;
    while ((length = recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&from, &size)) > 0) {
        struct question question;
        if (question_read(message, (size_t)length, &question))
            sendto(fd, message, look_up(message, &question), 0, (struct sockaddr *)&from, size);
        size = sizeof from;
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int fds[3];
    if (argc != 7)
        fatal("usage: upstream STARTTLS_PORT DIRECT_PORT NAMES_PORT FAR_PORT CHAIN KEY");
    prepare_process();
    far_port = (uint16_t)atoi(argv[4]);
    prepare_tls(argv[5], argv[6]);
    poller = epoll_create1(0);
    for (int i = 0; i < 3; i++) {
        ports[i] = (uint16_t)atoi(argv[1 + i]);
        fds[i] = bound(i < 2 ? SOCK_STREAM : SOCK_DGRAM, ports[i]);
        watch(&fds[i], fds[i]);
    }
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < ready; i++) {
            int *place = events[i].data.ptr;
            if (place == &fds[2])
                tell_names(fds[2]);
            else if (place == &fds[0] || place == &fds[1])
                accept_all(*place, place == &fds[1]);
            else if (!serve(events[i].data.ptr))
                drop(events[i].data.ptr);
        }
    }
}
