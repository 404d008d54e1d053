#define _GNU_SOURCE
#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum {
    EVENTS_AT_ONCE = 512,
    SOURCE_ADDRESSES = 60, /* 127.0.1.1 and up: more than one address's ports are needed */
    OPENING_AT_ONCE = 64,
    OPENING_SECONDS = 180,
    FAILURES_REPORTED = 5,
};

struct target target = {.address = "127.0.0.1"};
unsigned long failures, tickets;
char agreed[128];

static SSL_CTX *context;
static int poller;
static struct epoll_event ready[EVENTS_AT_ONCE];

static int count_ticket(SSL *tls, SSL_SESSION *session)
{
    (void)tls;
    (void)session;
    tickets++;
    return 0;
}

void connections_prepare(void)
{
    static const unsigned char *const alpn[STREAM_KINDS] = {
        [C2S] = (const unsigned char *)"\x0bxmpp-client",
        [S2S] = (const unsigned char *)"\x0bxmpp-server",
    };
    const unsigned char *protocol = alpn[target.kind];
    poller = epoll_create1(0);
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") ||
        !SSL_CTX_set1_groups_list(context, "X25519") ||
        SSL_CTX_set_alpn_protos(context, protocol, 1 + protocol[0]) != 0)
        fatal("loadgen: OpenSSL does not offer TLS 1.3 with AES-256-GCM and X25519");
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, count_ticket);
}

int connections_wait(uint64_t timeout_ns)
{
    struct timespec timeout = {
        .tv_sec = (time_t)(timeout_ns / NS_PER_SECOND),
        .tv_nsec = (long)(timeout_ns % NS_PER_SECOND),
    };
    return epoll_pwait2(poller, ready, EVENTS_AT_ONCE, &timeout, NULL);
}

struct connection *ready_connection(int index)
{
    return ready[index].data.ptr;
}

uint32_t ready_events(int index)
{
    return ready[index].events;
}

void connection_watch(struct connection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (connection->watched == events)
        return;
    connection->watched = events;
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

void connection_dial(struct connection *connection)
{
    static unsigned dialled;
    const uint32_t number = connection->number;
    struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(0x7f000101u + dialled++ % SOURCE_ADDRESSES),
    };
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)target.port)};
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = connection};
    int on = 1;

    *connection = (struct connection){.number = number, .phase = CONNECTING, .watched = EPOLLOUT};
    connection->dialled_at = now_ns();
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connection->fd < 0)
        fatal("loadgen: socket: %s", strerror(errno));
    send_at_once(connection->fd);
    setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    inet_pton(AF_INET, target.address, &to.sin_addr);
    if (bind(connection->fd, (struct sockaddr *)&from, sizeof from) != 0 ||
        (connect(connection->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS))
        fatal("loadgen: connect: %s", strerror(errno));
    epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
}

static int tls_result(struct connection *connection, int result)
{
    if (result > 0)
        return result;
    int error = SSL_get_error(connection->tls, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static int tcp_result(ssize_t result)
{
    if (result > 0)
        return (int)result;
    return result < 0 && errno == EAGAIN ? 0 : -1;
}

int connection_read(struct connection *connection, void *out, size_t size)
{
    errno = 0;
    if (connection->tls == NULL)
        return tcp_result(read(connection->fd, out, size));
    return tls_result(connection, SSL_read(connection->tls, out, (int)size));
}

int connection_write(struct connection *connection, const void *bytes, size_t size)
{
    errno = 0;
    if (connection->tls == NULL)
        return tcp_result(write(connection->fd, bytes, size));
    return tls_result(connection, SSL_write(connection->tls, bytes, (int)size));
}

bool connection_say(struct connection *connection, const char *text, size_t length)
{
    /* Nothing else is under way on this connection, so a short text fits into its socket. */
    if (connection_write(connection, text, length) == (int)length)
        return true;
    connection_fail(connection, "cannot send");
    return false;
}

void connection_close(struct connection *connection)
{
    if (connection->tls != NULL) {
        if (connection->phase >= READY && connection->phase != AWAITING_END)
            SSL_shutdown(connection->tls);
        SSL_free(connection->tls);
        ERR_clear_error();
    }
    close(connection->fd);
    connection->tls = NULL;
    connection->phase = CLOSED;
}

void connection_end(struct connection *connection)
{
    SSL_shutdown(connection->tls);
    shutdown(connection->fd, SHUT_WR);
    connection->phase = AWAITING_END;
}

void connection_fail(struct connection *connection, const char *what)
{
    if (failures++ < FAILURES_REPORTED) {
        fprintf(stderr, "loadgen: connection %u, phase %d, login step %d: %s (%s)%s%.*s\n",
                connection->number, connection->phase, connection->step, what,
                errno ? strerror(errno) : "no system error",
                connection->answered ? ", had received: " : "", (int)connection->answered,
                connection->answer);
        ERR_print_errors_fp(stderr);
    }
    connection_close(connection);
}

void connection_mismatch(struct connection *connection)
{
    connection_fail(connection, "received other bytes than were due");
}

void connection_expect_silence(struct connection *connection)
{
    char byte;
    int length = connection_read(connection, &byte, 1);
    if (length > 0)
        connection_mismatch(connection);
    else if (length < 0)
        connection_fail(connection, "closed by the relay");
}

/* Collects an answer until it ends with `end`. */
static enum outcome collect(struct connection *connection, const char *end)
{
    for (;;) {
        size_t room = sizeof connection->answer - connection->answered;
        int length = room == 0 ? -1
                               : connection_read(connection,
                                                 connection->answer + connection->answered, room);
        if (length < 0) {
            connection_fail(connection, room ? "closed by the relay" : "answer too long");
            return FAILED;
        }
        if (length == 0)
            return PENDING;
        connection->answered += (size_t)length;
        if (ends_with(connection->answer, connection->answered, end))
            return DONE;
    }
}

static bool say_step(struct connection *connection)
{
    char request[LOGIN_TEXT_BYTES];
    size_t length = login_request(target.kind, connection->step, target.domain, request);
    connection->answered = 0;
    return connection_say(connection, request, length);
}

static enum outcome connected(struct connection *connection)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        errno = error;
        connection_fail(connection, "cannot connect");
        return FAILED;
    }
    connection_watch(connection, EPOLLIN);
    connection->phase = target.starttls ? AWAITING_STARTTLS_FEATURE : HANDSHAKING;
    return !target.starttls || say_step(connection) ? DONE : FAILED;
}

static enum outcome starttls_offered(struct connection *connection)
{
    enum outcome outcome = collect(connection, FEATURES_END);
    if (outcome != DONE)
        return outcome;
    connection->answered = 0;
    connection->phase = AWAITING_PROCEED;
    return connection_say(connection, STARTTLS_REQUEST, strlen(STARTTLS_REQUEST)) ? DONE : FAILED;
}

static enum outcome proceeding(struct connection *connection)
{
    enum outcome outcome = collect(connection, "/>");
    if (outcome != DONE)
        return outcome;
    if (strncmp(connection->answer, "<proceed", strlen("<proceed")) != 0) {
        connection_mismatch(connection);
        return FAILED;
    }
    connection->phase = HANDSHAKING;
    return DONE;
}

static enum outcome handshaking(struct connection *connection)
{
    if (connection->tls == NULL) {
        connection->tls = SSL_new(context);
        SSL_set_fd(connection->tls, connection->fd);
        SSL_set_tlsext_host_name(connection->tls, target.domain);
        SSL_set_connect_state(connection->tls);
    }
    int result = SSL_do_handshake(connection->tls);
    if (result != 1) {
        int error = SSL_get_error(connection->tls, result);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
            connection_fail(connection, "TLS handshake failed");
            return FAILED;
        }
        connection_watch(connection, error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
        return PENDING;
    }
    if (agreed[0] == '\0')
        snprintf(agreed, sizeof agreed, "%s %s %s", SSL_get_version(connection->tls),
                 SSL_get_cipher(connection->tls),
                 SSL_group_to_name(connection->tls,
                                   (int)SSL_get_negotiated_group(connection->tls)));
    connection_watch(connection, EPOLLIN);
    connection->phase = target.handshake_only ? READY : LOGGING_IN;
    return target.handshake_only || say_step(connection) ? DONE : FAILED;
}

static enum outcome logging_in(struct connection *connection)
{
    char due[LOGIN_TEXT_BYTES];
    const int step = connection->step;
    enum outcome outcome = collect(connection, login_answer_end(target.kind, step));
    if (outcome != DONE)
        return outcome;
    size_t length = login_answer(target.kind, step, target.domain, "", due);
    if (login_answer_is_exact(target.kind, step) &&
        (connection->answered != length || memcmp(connection->answer, due, length) != 0)) {
        connection_mismatch(connection);
        return FAILED;
    }
    if (target.kind == S2S && step == 0 &&
        !login_id(connection->answer, connection->answered, connection->id)) {
        connection_mismatch(connection);
        return FAILED;
    }
    if (++connection->step < login_steps(target.kind))
        return say_step(connection) ? DONE : FAILED;
    connection->answered = 0;
    connection->phase = READY;
    return DONE;
}

enum outcome connection_advance(struct connection *connection)
{
    static enum outcome (*const advance[])(struct connection *) = {
        [CONNECTING] = connected,
        [AWAITING_STARTTLS_FEATURE] = starttls_offered,
        [AWAITING_PROCEED] = proceeding,
        [HANDSHAKING] = handshaking,
        [LOGGING_IN] = logging_in,
    };
    enum outcome outcome = DONE;
    while (outcome == DONE && connection->phase < READY)
        outcome = advance[connection->phase](connection);
    return outcome;
}

double connections_open(struct connection *connections, int count)
{
    const uint64_t began = now_ns();
    int dialled = 0, opened = 0;
    while (opened < count) {
        for (; dialled < count && dialled - opened < OPENING_AT_ONCE; dialled++) {
            connections[dialled].number = (uint32_t)dialled;
            connection_dial(&connections[dialled]);
        }
        int events = connections_wait(NS_PER_SECOND);
        for (int i = 0; i < events; i++) {
            struct connection *connection = ready_connection(i);
            if (connection->phase >= READY)
                connection_expect_silence(connection);
            else if (connection_advance(connection) == DONE)
                opened++;
        }
        if (failures > 0)
            fatal("loadgen: %d of %d connections were opened", opened, count);
        if (now_ns() - began > OPENING_SECONDS * NS_PER_SECOND)
            fatal("loadgen: after %d s only %d of %d connections are open", OPENING_SECONDS,
                  opened, count);
    }
    return (double)(now_ns() - began) / NS_PER_SECOND;
}
