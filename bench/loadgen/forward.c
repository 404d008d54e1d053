/* forward: one client at a time, directly to its server and through a forward listener in turn.
 *
 * A direct client looks its domain up, connects, goes to TLS and verifies the server; the time
 * from its first question to the first features after TLS is what a forwarded client's time,
 * from the first byte of its header to the same features, is compared with. */
#define _GNU_SOURCE
#include "names.h"
#include "scenarios.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER                                                                                     \
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' "                                   \
    "xmlns:stream='http://etherx.jabber.org/streams' to='%s' version='1.0'>"
#define FOOTER "</stream:stream>"

/* What Bascule offers as a client, as far as this OpenSSL has it. */
#define SUITES                                                                                     \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"                                   \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
#define CLASSIC_GROUPS "X25519:P-256:P-384"
/* With a key for the first two: OpenSSL has this group and the asterisk since 3.5. */
#define HYBRID_GROUPS "*X25519MLKEM768:*" CLASSIC_GROUPS

enum { PATIENCE_SECONDS = 10, TEXT_BYTES = 4096, PAUSE_NS = 1000000 };

struct client {
    int fd;
    SSL *tls; /* NULL in plaintext */
    char text[TEXT_BYTES];
    size_t length;
};

static SSL_CTX *context;
static int names; /* the socket for questions */
static char agreements[2][128];

static _Noreturn void give_up(const struct client *client, const char *what)
{
    fprintf(stderr, "loadgen: %s (%s)%s%.*s\n", what,
            errno ? strerror(errno) : "no system error",
            client != NULL && client->length ? ", had received: " : "",
            client != NULL ? (int)client->length : 0, client != NULL ? client->text : "");
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int open_socket(int type, uint32_t address, int port)
{
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = address};
    int fd = socket(AF_INET, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (type == SOCK_STREAM)
        send_at_once(fd);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        give_up(NULL, "cannot connect");
    return fd;
}

static void prepare(const struct options *options)
{
    if (options->names_port == 0 || options->roots == NULL)
        fatal("loadgen: forward needs -N and -c");
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) ||
        !SSL_CTX_set_cipher_list(context, SUITES) ||
        (!SSL_CTX_set1_groups_list(context, HYBRID_GROUPS) &&
         !SSL_CTX_set1_groups_list(context, CLASSIC_GROUPS)) ||
        !SSL_CTX_load_verify_locations(context, options->roots, NULL))
        give_up(NULL, "cannot prepare TLS");
    ERR_clear_error();
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    names = open_socket(SOCK_DGRAM, htonl(INADDR_LOOPBACK), options->names_port);
}

static void ask(uint16_t id, const char *service, const char *name, enum record_type type)
{
    unsigned char message[NAMES_BYTES];
    char whole[NAME_BYTES];
    snprintf(whole, sizeof whole, "%s%s", service, name);
    size_t length = question_write(message, id, whole, type);
    if (send(names, message, length, 0) != (ssize_t)length)
        give_up(NULL, "cannot ask the name server");
}

static struct record hear(enum record_type type)
{
    unsigned char message[NAMES_BYTES];
    struct record record;
    ssize_t length = recv(names, message, sizeof message, 0);
    if (length < 0 || !record_read(message, (size_t)length, type, &record))
        give_up(NULL, "no answer of the name server");
    return record;
}

/* Both services at the same time, then the address of the host that one of them names. */
static int reach(const char *domain, bool *direct)
{
    struct record server = {0};
    ask(0, STARTTLS_SERVICE, domain, RECORD_SRV);
    ask(1, DIRECT_SERVICE, domain, RECORD_SRV);
    for (int i = 0; i < 2; i++) {
        struct record record = hear(RECORD_SRV);
        if (record.found)
            server = record;
    }
    if (!server.found)
        give_up(NULL, "the domain has no server");
    *direct = server.id == 1;
    ask(2, "", server.host, RECORD_A);
    struct record address = hear(RECORD_A);
    if (!address.found)
        give_up(NULL, "the server has no address");
    return open_socket(SOCK_STREAM, address.address, server.port);
}

static void say(struct client *client, const char *text)
{
    int length = (int)strlen(text);
    client->length = 0;
    if ((client->tls == NULL ? (int)write(client->fd, text, (size_t)length)
                             : SSL_write(client->tls, text, length)) != length)
        give_up(client, "cannot send");
}

static void await(struct client *client, const char *end)
{
    while (!ends_with(client->text, client->length, end)) {
        size_t room = sizeof client->text - 1 - client->length;
        char *out = client->text + client->length;
        int length = client->tls == NULL ? (int)read(client->fd, out, room)
                                         : SSL_read(client->tls, out, (int)room);
        if (length <= 0)
            give_up(client, "no complete answer");
        client->length += (size_t)length;
    }
    client->text[client->length] = '\0';
}

static void open_stream(struct client *client, const char *domain)
{
    char header[512];
    snprintf(header, sizeof header, HEADER, domain);
    say(client, header);
    await(client, FEATURES_END);
}

static void secure(struct client *client, const char *domain, bool direct)
{
    static const unsigned char protocol[] = "\x0bxmpp-client";
    SSL *tls = SSL_new(context);
    SSL_set_fd(tls, client->fd);
    SSL_set_tlsext_host_name(tls, domain);
    SSL_set1_host(tls, domain);
    if (direct)
        SSL_set_alpn_protos(tls, protocol, sizeof protocol - 1);
    if (SSL_connect(tls) != 1 || SSL_get_verify_result(tls) != X509_V_OK)
        give_up(client, "TLS handshake failed");
    client->tls = tls;
}

/* Each ends with the first features after TLS, and returns how long that took. */
static uint64_t go_directly(struct client *client, const char *domain)
{
    const uint64_t began = now_ns();
    bool direct;
    client->fd = reach(domain, &direct);
    if (!direct) {
        open_stream(client, domain);
        say(client, STARTTLS_REQUEST);
        await(client, "/>");
    }
    secure(client, domain, direct);
    open_stream(client, domain);
    return now_ns() - began;
}

static uint64_t go_forwarded(struct client *client, const char *domain)
{
    client->fd = open_socket(SOCK_STREAM, htonl(INADDR_LOOPBACK), target.port);
    const uint64_t began = now_ns();
    open_stream(client, domain);
    return now_ns() - began;
}

/* Notes what the server says was negotiated; it must be the same each time. */
static void note_agreement(const struct client *client, char agreement[128])
{
    char said[128] = "";
    const char *id = strstr(client->text, " id='");
    if (id == NULL || sscanf(id, " id='%127[^']", said) != 1 || strchr(said, '/') == NULL)
        give_up(client, "the server does not say what was negotiated");
    for (char *slash; (slash = strchr(said, '/')) != NULL;)
        *slash = ' ';
    if (agreement[0] == '\0')
        strcpy(agreement, said);
    else if (strcmp(agreement, said) != 0)
        give_up(client, "something else was negotiated than before");
}

static void leave(struct client *client)
{
    char rest[256];
    say(client, FOOTER);
    if (client->tls != NULL) {
        await(client, FOOTER);
        SSL_shutdown(client->tls);
        SSL_free(client->tls);
        ERR_clear_error();
    } else {
        while (read(client->fd, rest, sizeof rest) > 0)
            ;
    }
    close(client->fd);
}

/* What a relay still has to do for the last session must not be in the way of the next. */
static void await_quiet(void)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    double used = -1, before;
    do {
        before = used;
        nanosleep(&pause, NULL);
        used = relay_processor_seconds();
    } while (used > before);
}

static void report_way(const char *name, struct durations *durations, const char *agreement)
{
    durations_sort(durations);
    printf(", \"%sp50_us\": %.1f, \"%sp99_us\": %.1f, \"%sagreed\": \"%s\"", name,
           durations_percentile(durations, 0.5), name, durations_percentile(durations, 0.99), name,
           agreement);
}

void forward(const struct options *options)
{
    static uint64_t (*const go[2])(struct client *, const char *) = {go_directly, go_forwarded};
    struct durations durations[2] = {{0}, {0}};
    char domain[DOMAIN_BYTES];
    enum tick tick;

    prepare(options);
    snprintf(domain, sizeof domain, "%s", target.domain);
    struct meter meter = meter_new(options->warm_up, options->seconds);
    for (unsigned turn = 0; (tick = meter_tick(&meter)) != OVER; turn++) {
        if (options->fresh_domains)
            snprintf(domain, sizeof domain, "n%llx.%s", (unsigned long long)now_ns(),
                     target.domain);
        /* Which of the two comes first changes from pair to pair. */
        for (unsigned i = 0; i < 2; i++) {
            unsigned way = (turn + i) % 2;
            struct client client = {0};
            await_quiet();
            uint64_t took = go[way](&client, domain);
            note_agreement(&client, agreements[way]);
            leave(&client);
            if (meter.begun)
                durations_add(&durations[way], took);
        }
    }
    report_begin("forward", 1);
    report_way("direct_", &durations[0], agreements[0]);
    report_way("", &durations[1], agreements[1]);
    printf(", \"pairs\": %zu", durations[1].count);
    report_cost(&meter, (double)durations[1].count);
    report_end();
}
