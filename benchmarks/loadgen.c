/* loadgen - load generator for SockJS servers (Linux, epoll, one thread).
 *
 * Build:  cc -O2 -o loadgen loadgen.c      (make bench does)
 * Usage:  loadgen --port N [options]     (loadgen --help lists them)
 *
 * Every message carries a sequence number, so a lost, doubled, reordered or
 * altered message is noticed and counted as an error.  One JSON object with
 * the result is printed to stdout; the first few errors go to stderr.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------- options -- */

enum scenario { ECHO, BROADCAST, IDLE, CONNECT };
enum transport { WS, RAW, XHR_STREAMING, XHR, EVENTSOURCE };

static const char *scenario_names[] = {"echo", "broadcast", "idle", "connect", NULL};
static const char *transport_names[] = {"ws", "raw", "xhr_streaming", "xhr", "eventsource", NULL};
static const char *text_names[] = {"ascii", "unicode", "json", NULL};

static struct {
    const char *host, *path, *probe;
    int port, scenario, transport, text;
    int connections, window, size, batch, ramp, sources;
    long messages;              /* broadcast: stop after this many (0: by time) */
    double seconds, warmup, drain, rate;
    pid_t pid, others[7];       /* the server, and what works for it */
    int n_others;
} opt = {
    .host = "127.0.0.1", .connections = 1, .window = 1, .size = 32, .batch = 1,
    .ramp = 64, .sources = 16, .seconds = 3, .warmup = 0.5,
    .drain = 5,
};

static const char help[] =
    "loadgen --port N [options]\n"
    "  --host ADDR         server's IPv4 address (127.0.0.1)\n"
    "  --scenario NAME     echo | broadcast | idle | connect (echo)\n"
    "  --transport NAME    ws | raw | xhr_streaming | xhr | eventsource (ws)\n"
    "  --path PATH         SockJS prefix (/echo, or /broadcast)\n"
    "  --raw PATH          plain WebSocket at PATH, without SockJS framing\n"
    "  --connections N     sessions (1)\n"
    "  --window N          messages in flight: per session, or of the broadcast (1)\n"
    "  --size BYTES        UTF-8 bytes of one message, at least 8 (32)\n"
    "  --text KIND         ascii | unicode | json: what the messages contain (ascii)\n"
    "  --batch N           messages in one client frame or xhr_send (1)\n"
    "  --rate N            broadcast: messages per second (0: limited by --window)\n"
    "  --messages N        broadcast: stop after N messages\n"
    "  --probe PATH        broadcast: prefix of an echo that one more session plays ping-pong\n"
    "                      with meanwhile; its longest round trip is the server's longest stall\n"
    "  --seconds S         measured time (3)\n"
    "  --warmup S          time before it that is not counted (0.5)\n"
    "  --drain S           time after it to wait for what is in flight (5)\n"
    "  --ramp N            sessions being opened at once (64)\n"
    "  --sources N         number of 127.0.0.x addresses to connect from (16)\n"
    "  --pid PID           server process: adds its CPU time and memory; more of them\n"
    "                      add their CPU time\n";

/* --------------------------------------------------------------- errors -- */

enum error { LOST_CONNECTION, LOST_MESSAGE, MISMATCH, BAD_REPLY, CONFLICT, NOT_OPENED, STALLED,
             N_ERRORS };
static const char *error_names[] = {
    "lost_connection", "lost_message", "mismatch", "bad_reply", "conflict", "not_opened",
    "stalled"};
static long errors[N_ERRORS];

static void error(enum error kind, const char *detail, size_t length)
{
    static int shown;
    errors[kind]++;
    if (shown++ < 5)
        fprintf(stderr, "loadgen: %s: %.*s\n", error_names[kind],
                (int)(length > 200 ? 200 : length), detail);
}

/* -------------------------------------------------- clock and latencies -- */

static uint64_t now;            /* nanoseconds; refreshed for every event */

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Histogram with 64 buckets per power of two: values are exact to 1.6 %. */
typedef struct { uint64_t count[64 * 64], total, max; } Histogram;

static void histogram_add(Histogram *h, uint64_t ns)
{
    int shift = ns < 128 ? 0 : 57 - __builtin_clzll(ns);
    h->count[shift * 64 + (ns >> shift)]++;
    h->total++;
    if (ns > h->max)
        h->max = ns;
}

static double percentile_ms(const Histogram *h, double percent)
{
    uint64_t rank = h->total * percent / 100, seen = 0;
    for (int i = 0; i < 64 * 64; i++) {
        seen += h->count[i];
        if (seen > rank) {
            int shift = i < 128 ? 0 : i / 64 - 1;
            return ((uint64_t)(i - shift * 64) << shift) / 1e6;
        }
    }
    return h->max / 1e6;
}

static Histogram latency;       /* echo: round trip; broadcast: to the last
                                   receiver; connect: until the session is open */
static Histogram delivery;      /* broadcast: to every single receiver */
static Histogram probed;        /* broadcast: round trips of the probe */

/* --------------------------------------------------------------- buffers -- */

typedef struct { char *data; size_t start, end, cap; } Buffer;

static char *buffer_reserve(Buffer *b, size_t n)
{
    if (b->cap - b->end < n) {
        size_t used = b->end - b->start;
        if (used)
            memmove(b->data, b->data + b->start, used);
        b->start = 0;
        b->end = used;
        if (b->cap - used < n) {
            while (b->cap - used < n)
                b->cap = b->cap ? b->cap * 2 : 512;
            if (!(b->data = realloc(b->data, b->cap)))
                abort();
        }
    }
    return b->data + b->end;
}

static void buffer_add(Buffer *b, const void *data, size_t n)
{
    memcpy(buffer_reserve(b, n), data, n);
    b->end += n;
}

static void buffer_skip(Buffer *b, size_t n)
{
    b->start += n;
    if (b->start == b->end)
        b->start = b->end = 0;
}

static size_t buffer_size(const Buffer *b) { return b->end - b->start; }

/* ----------------------------------------------- sessions and connections -- */

enum http_state { HEADERS, BODY_LENGTH, CHUNK_SIZE, CHUNK, TRAILER, BODY_EOF, UPGRADED };

typedef struct Session Session;

typedef struct {
    Session *session;
    int fd;                     /* -1: not connected */
    bool connecting, want_write, busy, keep_alive;
    enum http_state http;
    int status;
    size_t remaining;           /* of the body or of the chunk */
    Buffer in, out, lines;
} Conn;

struct Session {
    Conn receiver, sender;      /* WebSocket uses only `receiver` */
    uint32_t index, sent, received;
    char id[24];
    bool open, closing;
    uint64_t started;
    uint64_t *sent_at;          /* by sequence number modulo window */
    Histogram *latency;         /* echo: of this session alone */
};

enum phase { OPENING, WARMUP, MEASURE, DRAIN };

static int epoll_fd;
static enum phase phase;
static Session *sessions, *probe;       /* the probe comes behind the sessions */
static int started, opened, alive;      /* sessions */
static long session_number;             /* for unique ids */
static long messages, heartbeats, pings, bytes_in, bytes_out;
static Session **restart;               /* sessions to start anew (connect) */
static int restarts;

static bool is_websocket(void) { return opt.transport == WS || opt.transport == RAW; }
static bool is_sending(void) { return phase == WARMUP || phase == MEASURE; }

static void conn_close(Conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->busy = c->connecting = false;
    c->in.start = c->in.end = c->out.start = c->out.end = 0;
    c->lines.start = c->lines.end = 0;
}

static void session_lost(Session *s, const char *why)
{
    if (phase != DRAIN || s->sent != s->received)
        error(LOST_CONNECTION, why, strlen(why));
    conn_close(&s->receiver);
    conn_close(&s->sender);
    if (s->open && s != probe)
        alive--;
    s->open = false;
    if (opt.scenario == CONNECT)
        restart[restarts++] = s;
}

static void conn_watch(Conn *c, int operation, bool write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    c->want_write = write;
    epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void conn_open(Conn *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("loadgen: socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    inet_pton(AF_INET, opt.host, &address.sin_addr);
    if (ntohl(address.sin_addr.s_addr) >> 24 == 127 && opt.sources > 1) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(0x7f000001 + c->session->index % opt.sources);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        bind(c->fd, (struct sockaddr *)&source, sizeof source);
    }
    address.sin_port = htons(opt.port);
    c->connecting = true;
    c->http = HEADERS;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        perror("loadgen: connect");
        exit(1);
    }
    conn_watch(c, EPOLL_CTL_ADD, true);
}

static void conn_flush(Conn *c)
{
    if (c->fd < 0 || c->connecting)
        return;
    while (buffer_size(&c->out)) {
        ssize_t n = send(c->fd, c->out.data + c->out.start, buffer_size(&c->out), MSG_NOSIGNAL);
        if (n < 0) {            /* a broken connection is noticed by recv() */
            if (errno != EAGAIN)
                c->out.start = c->out.end = 0;
            break;
        }
        bytes_out += n;
        buffer_skip(&c->out, n);
    }
    bool pending = buffer_size(&c->out);
    if (pending != c->want_write)
        conn_watch(c, EPOLL_CTL_MOD, pending);
}

/* -------------------------------------------------------------- messages -- */

static char *filler, *filler_json;      /* a message after its number; as JSON */
static size_t filler_size, filler_json_size;

static void make_filler(void)
{
    static const char *texts[] = {
        "The quick brown fox jumps over the lazy dog. ",
        "Grüße, Привет, 世界, \xf0\x9f\x8e\x89! ",
        "{\"id\": 12, \"name\": \"item\", \"tags\": [\"a\", \"b\"]}, ",
    };
    const char *text = texts[opt.text];
    size_t length = strlen(text);

    filler_size = opt.size - 8;
    filler = malloc(filler_size + 1);
    filler_json = malloc(2 * filler_size + 1);
    for (size_t i = 0; i < filler_size; i++)
        filler[i] = text[i % length];
    /* do not cut the last character in two */
    size_t cut = filler_size;
    while (cut && (text[cut % length] & 0xC0) == 0x80)
        cut--;
    memset(filler + cut, 'x', filler_size - cut);
    for (size_t i = 0; i < filler_size; i++) {
        if (filler[i] == '"' || filler[i] == '\\')
            filler_json[filler_json_size++] = '\\';
        filler_json[filler_json_size++] = filler[i];
    }
}

/* The eight hexadecimal digits in front of a message. */
static void put_number(char *out, uint32_t index, uint32_t sequence)
{
    uint32_t number = index * 2654435761u + sequence;
    for (int i = 0; i < 8; i++)
        out[i] = "0123456789abcdef"[number >> (28 - 4 * i) & 15];
}

static void add_message(Buffer *b, uint32_t index, uint32_t sequence)
{
    char number[8];
    put_number(number, index, sequence);
    if (opt.transport == RAW) {
        buffer_add(b, number, 8);
        buffer_add(b, filler, filler_size);
    } else {
        buffer_add(b, "\"", 1);
        buffer_add(b, number, 8);
        buffer_add(b, filler_json, filler_json_size);
        buffer_add(b, "\"", 1);
    }
}

static void check_message(uint32_t index, uint32_t sequence, const char *data, size_t size)
{
    char number[8];
    put_number(number, index, sequence);
    if (size != (size_t)opt.size || memcmp(data, number, 8)
            || memcmp(data + 8, filler, filler_size))
        error(MISMATCH, data, size);
}

/* ------------------------------------------------------- sending messages -- */

static void websocket_send(Conn *c, int opcode, const char *data, size_t size)
{
    static const uint8_t mask[4] = {0x5a, 0x3c, 0x96, 0xe1};
    uint8_t head[14] = {0x80 | opcode};
    int n = 2;

    if (size < 126) {
        head[1] = size;
    } else if (size < 65536) {
        head[1] = 126;
        head[n++] = size >> 8;
        head[n++] = size;
    } else {
        head[1] = 127;
        for (int i = 56; i >= 0; i -= 8)
            head[n++] = (uint64_t)size >> i;
    }
    head[1] |= 0x80;
    memcpy(head + n, mask, 4);
    buffer_add(&c->out, head, n + 4);
    char *out = buffer_reserve(&c->out, size);
    for (size_t i = 0; i < size; i++)
        out[i] = data[i] ^ mask[i & 3];
    c->out.end += size;
}

static void http_request(Conn *c, const char *name, const Buffer *body)
{
    Session *s = c->session;
    size_t size = body ? buffer_size(body) : 0;
    bool is_get = !body && opt.transport == EVENTSOURCE;
    char head[512];

    if (c->fd < 0)
        conn_open(c);
    int n = snprintf(head, sizeof head,
                     "%s %s/%03u/%s/%s HTTP/1.1\r\nHost: %s:%d\r\n",
                     is_get ? "GET" : "POST", opt.path, s->index % 1000, s->id, name,
                     opt.host, opt.port);
    n += snprintf(head + n, sizeof head - n,
                  is_get ? "\r\n" : "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                  size);
    buffer_add(&c->out, head, n);
    if (size)
        buffer_add(&c->out, body->data + body->start, size);
    c->busy = true;
    conn_flush(c);
}

/* One client frame, or one xhr_send, with opt.batch messages. */
static void send_batch(Session *s)
{
    static Buffer body;

    body.start = body.end = 0;
    if (opt.transport != RAW)
        buffer_add(&body, "[", 1);
    for (int i = 0; i < opt.batch; i++) {
        if (i)
            buffer_add(&body, ",", 1);
        s->sent_at[s->sent % opt.window] = now;
        add_message(&body, s->index, s->sent++);
    }
    if (opt.transport != RAW)
        buffer_add(&body, "]", 1);
    if (is_websocket())
        websocket_send(&s->receiver, 1, body.data, buffer_size(&body));
    else
        http_request(&s->sender, "xhr_send", &body);
}

/* Broadcast: session 0 sends; a message is complete when all have it. */
static uint32_t completed;
static int *receivers_left;             /* by sequence number modulo window */
static uint64_t broadcast_started;

static bool may_send(Session *s)
{
    if (!s->open || !is_sending() || (!is_websocket() && s->sender.busy))
        return false;
    if (s == probe)
        return s->sent == s->received;
    if (opt.scenario == ECHO)
        return (int)(opt.window - (s->sent - s->received)) >= opt.batch;
    if (opt.scenario != BROADCAST || s->index != 0)
        return false;
    if (opt.messages && s->sent >= opt.messages)
        return false;
    if (opt.rate && s->sent >= (now - broadcast_started) / 1e9 * opt.rate)
        return false;
    return (int)(s->sent - completed) < opt.window;
}

static void pump(Session *s)
{
    while (may_send(s)) {
        if (opt.scenario == BROADCAST && s != probe)
            receivers_left[s->sent % opt.window] = alive;
        send_batch(s);
    }
    if (is_websocket())
        conn_flush(&s->receiver);
}

/* ---------------------------------------------------- receiving messages -- */

static void on_message(Session *s, const char *data, size_t size)
{
    Session *from = opt.scenario == BROADCAST && s != probe ? &sessions[0] : s;

    if (s->received == from->sent) {
        error(MISMATCH, "more messages than were sent", 28);
        return;
    }
    uint32_t sequence = s->received++;
    uint64_t elapsed = now - from->sent_at[sequence % opt.window];
    check_message(from->index, sequence, data, size);
    if (s == probe) {
        histogram_add(&probed, elapsed);
        return;
    }
    messages++;
    if (opt.scenario == ECHO) {
        histogram_add(&latency, elapsed);
        histogram_add(s->latency, elapsed);
        return;
    }
    histogram_add(&delivery, elapsed);
    if (--receivers_left[sequence % opt.window] == 0) {
        histogram_add(&latency, elapsed);
        completed++;
        pump(from);
    }
}

static int hex4(const char *p)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)p[i]))
            return -1;
        value = value * 16 + (isdigit((unsigned char)p[i]) ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
    }
    return value;
}

/* Decodes the JSON string at p (behind its quote) into `out`, which is cleared
   before.  Returns the position behind the closing quote, or NULL. */
static const char *decode_string(const char *p, const char *end, Buffer *out)
{
    out->start = out->end = 0;
    for (;;) {
        const char *plain = p;
        while (p < end && *p != '"' && *p != '\\')
            p++;
        buffer_add(out, plain, p - plain);
        if (p == end)
            return NULL;
        if (*p++ == '"')
            return p;
        if (p == end)
            return NULL;
        if (*p != 'u') {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            const char *found = memchr(from, *p++, 8);
            if (!found)
                return NULL;
            buffer_add(out, to + (found - from), 1);
            continue;
        }
        int code = end - p > 5 ? hex4(p + 1) : -1;
        p += 5;
        if (code >> 10 == 0xD800 >> 10 && end - p > 6 && p[0] == '\\' && p[1] == 'u') {
            code = 0x10000 + ((code & 0x3FF) << 10) + (hex4(p + 2) & 0x3FF);
            p += 6;
        }
        if (code < 0)
            return NULL;
        char utf8[4];
        int n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        for (int i = n - 1; i > 0; i--, code >>= 6)
            utf8[i] = 0x80 | (code & 0x3F);
        utf8[0] = n == 1 ? code : (0xF00 >> n & 0xFF) | code;
        buffer_add(out, utf8, n);
    }
}

static void on_array(Session *s, const char *p, const char *end)
{
    static Buffer text;
    const char *frame = p;

    if (p < end && *p == '[') {
        do {
            for (p++; p < end && *p == ' '; p++)
                ;
            if (p == end || *p != '"' || !(p = decode_string(p + 1, end, &text)))
                break;
            on_message(s, text.data, buffer_size(&text));
        } while (p < end && *p == ',');
        if (p == end - 1 && *p == ']')
            return;
    }
    error(BAD_REPLY, frame, end - frame);
}

static void session_opened(Session *s)
{
    if (opt.scenario == CONNECT) {
        opened++;
        histogram_add(&latency, now - s->started);
        if (is_websocket()) {
            s->closing = true;
            websocket_send(&s->receiver, 8, "\x03\xe8", 2);
            conn_flush(&s->receiver);
        } else {
            conn_close(&s->receiver);
            restart[restarts++] = s;
        }
        return;
    }
    s->open = true;
    if (s == probe)
        return;
    opened++;
    alive++;
}

static void on_frame(Session *s, const char *p, size_t size)
{
    if (size == 1 && *p == 'o' && !s->open)
        session_opened(s);
    else if (size == 1 && *p == 'h')
        heartbeats++;
    else if (size > 1 && *p == 'a' && s->open)
        on_array(s, p + 1, p + size);
    else if (size > 6 && !is_websocket() && !memcmp(p, "c[2010,", 7))
        error(CONFLICT, p, size);       /* the last request still counts: ask again */
    else if (size > 1 && *p == 'c')
        session_lost(s, "closed by the server");
    else if (size == 2048 && *p == 'h' && !is_websocket())
        ;                       /* prelude of xhr_streaming */
    else if (!s->closing)
        error(BAD_REPLY, p, size);
}

/* -------------------------------------------------------------- protocols -- */

static void parse_websocket(Conn *c)
{
    Session *s = c->session;

    while (c->fd >= 0) {
        uint8_t *p = (uint8_t *)c->in.data + c->in.start;
        size_t have = buffer_size(&c->in), head = 2;
        if (have < 2)
            return;
        uint64_t size = p[1] & 127;
        if (size >= 126) {
            head = size == 126 ? 4 : 10;
            if (have < head)
                return;
            size = 0;
            for (size_t i = 2; i < head; i++)
                size = size << 8 | p[i];
        }
        if (have < head + size)
            return;
        buffer_skip(&c->in, head + size);
        char *payload = (char *)p + head;
        switch (p[0]) {
        case 0x81: case 0x82:
            if (opt.transport == RAW)
                on_message(s, payload, size);
            else
                on_frame(s, payload, size);
            break;
        case 0x88:
            if (!s->closing)
                session_lost(s, "WebSocket closed by the server");
            break;
        case 0x89:
            pings++;
            websocket_send(c, 10, payload, size);
            conn_flush(c);
            break;
        case 0x8a:
            break;
        default:
            error(BAD_REPLY, "unexpected WebSocket frame", 26);
        }
    }
}

/* The value of a header (up to the end of its line) or NULL. */
static const char *find_header(const char *head, const char *name)
{
    size_t length = strlen(name);
    for (const char *p = head; (p = strstr(p, "\r\n")); ) {
        p += 2;
        if (!strncasecmp(p, name, length) && p[length] == ':')
            return p + length + 1 + strspn(p + length + 1, " ");
    }
    return NULL;
}

static void on_headers(Conn *c, const char *head)
{
    const char *value = find_header(head, "Connection");
    c->status = strlen(head) > 12 ? atoi(head + 9) : 0;
    c->keep_alive = !(value && !strncasecmp(value, "close", 5)) && strncmp(head, "HTTP/1.0", 8);
    c->remaining = 0;

    if (is_websocket()) {
        /* the answer to the fixed key of session_start() */
        value = find_header(head, "Sec-WebSocket-Accept");
        if (c->status != 101 || !value || strncmp(value, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28)) {
            error(BAD_REPLY, head, strlen(head));
            session_lost(c->session, "no WebSocket");
            return;
        }
        c->http = UPGRADED;
        if (opt.transport == RAW)
            session_opened(c->session);
    } else if (c->status == 204) {
        c->http = BODY_LENGTH;
    } else if ((value = find_header(head, "Content-Length"))) {
        c->http = BODY_LENGTH;
        c->remaining = strtoul(value, NULL, 10);
    } else if ((value = find_header(head, "Transfer-Encoding"))) {
        c->http = CHUNK_SIZE;
    } else {
        c->http = BODY_EOF;
    }
}

static void on_body(Conn *c, const char *data, size_t size)
{
    Session *s = c->session;
    char *newline;

    if (c == &s->sender || c->status != 200)
        return;
    buffer_add(&c->lines, data, size);
    while ((newline = memchr(c->lines.data + c->lines.start, '\n', buffer_size(&c->lines)))) {
        char *line = c->lines.data + c->lines.start;
        buffer_skip(&c->lines, newline + 1 - line);
        if (opt.transport == EVENTSOURCE) {     /* "data: ...", "\r" after each line */
            if (newline - line < 7 || memcmp(line, "data: ", 6))
                continue;
            line += 6;
            newline--;
        }
        on_frame(s, line, newline - line);
        if (c->fd < 0)
            return;
    }
}

static void on_response_end(Conn *c)
{
    Session *s = c->session;

    if (!c->keep_alive)
        conn_close(c);
    c->busy = false;
    c->http = HEADERS;
    if (c == &s->sender) {
        if (c->status != 204)
            error(BAD_REPLY, "xhr_send failed", 15);
        pump(s);
    } else if (c->status != 200) {
        error(BAD_REPLY, "receiving failed", 16);
        session_lost(s, "bad status");
    } else {
        http_request(c, transport_names[opt.transport], NULL);
    }
}

static void parse_http(Conn *c)
{
    while (c->fd >= 0 && buffer_size(&c->in)) {
        char *p = c->in.data + c->in.start, *end;
        size_t have = buffer_size(&c->in), n;

        switch (c->http) {
        case HEADERS:
            if (!(end = memmem(p, have, "\r\n\r\n", 4)))
                return;
            end[2] = '\0';
            buffer_skip(&c->in, end + 4 - p);
            on_headers(c, p);
            if (c->http == BODY_LENGTH && !c->remaining)
                on_response_end(c);
            break;
        case BODY_LENGTH: case CHUNK: case BODY_EOF:
            n = c->http == BODY_EOF || have < c->remaining ? have : c->remaining;
            buffer_skip(&c->in, n);
            c->remaining -= n;
            on_body(c, p, n);
            if (c->fd < 0 || c->remaining || c->http == BODY_EOF)
                break;
            if (c->http == BODY_LENGTH)
                on_response_end(c);
            else
                c->http = CHUNK_SIZE;
            break;
        case CHUNK_SIZE: case TRAILER:
            if (have >= 2 && p[0] == '\r' && p[1] == '\n') {    /* ends a chunk */
                buffer_skip(&c->in, 2);
                if (c->http == TRAILER)
                    on_response_end(c);
                break;
            }
            if (!(end = memmem(p, have, "\r\n", 2)))
                return;
            c->remaining = strtoul(p, NULL, 16);
            c->http = c->remaining ? CHUNK : TRAILER;
            buffer_skip(&c->in, end + 2 - p);
            break;
        case UPGRADED:
            parse_websocket(c);
            return;
        }
    }
}

/* ----------------------------------------------------------------- events -- */

static void session_start(Session *s)
{
    snprintf(s->id, sizeof s->id, "s%x_%lx", getpid(), session_number++);
    s->started = clock_ns();
    s->closing = false;
    const char *prefix = s == probe ? opt.probe : opt.path;
    if (!is_websocket()) {
        http_request(&s->receiver, transport_names[opt.transport], NULL);
        return;
    }
    char path[256], head[640];
    if (opt.transport == RAW)
        snprintf(path, sizeof path, "%s", prefix);
    else
        snprintf(path, sizeof path, "%s/%03u/%s/websocket", prefix, s->index % 1000, s->id);
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: Upgrade\r\n"
                     "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                     path, opt.host, opt.port);
    conn_open(&s->receiver);
    buffer_add(&s->receiver.out, head, n);
    s->receiver.busy = true;
}

static void on_eof(Conn *c)
{
    Session *s = c->session;
    bool busy = c->busy;

    if (c->http == BODY_EOF) {
        on_response_end(c);
        return;
    }
    if (opt.scenario == CONNECT && s->closing) {
        conn_close(c);
        restart[restarts++] = s;
        return;
    }
    conn_close(c);
    if (busy)
        session_lost(s, "connection closed by the server");
}

static void on_readable(Conn *c)
{
    static char chunk[256 * 1024];
    bool eof = false;
    ssize_t n;

    do {
        n = recv(c->fd, chunk, sizeof chunk, 0);
        if (n > 0) {
            bytes_in += n;
            buffer_add(&c->in, chunk, n);
        } else if (n == 0 || errno != EAGAIN) {
            eof = true;
        }
    } while (n == sizeof chunk);
    parse_http(c);
    if (eof && c->fd >= 0)
        on_eof(c);
    if (!eof)
        pump(c->session);
}

static void on_event(Conn *c, uint32_t events)
{
    if (c->fd < 0)
        return;
    if (c->connecting) {
        int failure = 0;
        socklen_t size = sizeof failure;
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &size);
        if (failure) {
            session_lost(c->session, strerror(failure));
            return;
        }
        c->connecting = false;
    }
    conn_flush(c);
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        on_readable(c);
}

static void run_events(int timeout_ms)
{
    struct epoll_event events[512];
    int n = epoll_wait(epoll_fd, events, 512, timeout_ms);
    for (int i = 0; i < n; i++) {
        now = clock_ns();
        on_event(events[i].data.ptr, events[i].events);
    }
    n = restarts;
    restarts = 0;
    for (int i = 0; i < n; i++)
        if (is_sending())
            session_start(restart[i]);
    now = clock_ns();
}

/* ----------------------------------------------------------- server's use -- */

static double cpu_seconds(pid_t pid)
{
    clockid_t id;
    struct timespec t;
    if (clock_getcpuclockid(pid, &id) || clock_gettime(id, &t))
        return 0;
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double server_cpu(void)
{
    double seconds = cpu_seconds(opt.pid);
    for (int i = 0; i < opt.n_others; i++)
        seconds += cpu_seconds(opt.others[i]);
    return seconds;
}

static long server_kb(const char *field)
{
    char name[64], line[256];
    long kb = 0;
    snprintf(name, sizeof name, "/proc/%d/status", opt.pid);
    FILE *f = opt.pid ? fopen(name, "r") : NULL;
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, field, strlen(field)))
            kb = atol(line + strlen(field));
    if (f)
        fclose(f);
    return kb;
}

/* ------------------------------------------------------------------- main -- */

static int choice(const char *names[], const char *name)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], name))
            return i;
    fprintf(stderr, "loadgen: unknown name: %s\n", name);
    exit(2);
}

static void parse_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", 1, 0, 'H'}, {"port", 1, 0, 'p'}, {"scenario", 1, 0, 'S'},
        {"transport", 1, 0, 'T'}, {"path", 1, 0, 'P'}, {"raw", 1, 0, 'R'},
        {"connections", 1, 0, 'c'}, {"window", 1, 0, 'w'}, {"size", 1, 0, 's'},
        {"text", 1, 0, 'x'}, {"batch", 1, 0, 'b'}, {"rate", 1, 0, 'r'},
        {"messages", 1, 0, 'm'}, {"seconds", 1, 0, 't'}, {"warmup", 1, 0, 'u'},
        {"drain", 1, 0, 'd'}, {"ramp", 1, 0, 'a'}, {"sources", 1, 0, 'o'}, {"pid", 1, 0, 'i'},
        {"probe", 1, 0, 'B'},
        {"help", 0, 0, 'h'}, {0}};
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'H': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 'S': opt.scenario = choice(scenario_names, optarg); break;
        case 'T': opt.transport = choice(transport_names, optarg); break;
        case 'P': opt.path = optarg; break;
        case 'R': opt.transport = RAW; opt.path = optarg; break;
        case 'c': opt.connections = atoi(optarg); break;
        case 'w': opt.window = atoi(optarg); break;
        case 's': opt.size = atoi(optarg); break;
        case 'x': opt.text = choice(text_names, optarg); break;
        case 'b': opt.batch = atoi(optarg); break;
        case 'r': opt.rate = atof(optarg); break;
        case 'm': opt.messages = atol(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'u': opt.warmup = atof(optarg); break;
        case 'd': opt.drain = atof(optarg); break;
        case 'a': opt.ramp = atoi(optarg); break;
        case 'o': opt.sources = atoi(optarg); break;
        case 'i':
            if (!opt.pid)
                opt.pid = atoi(optarg);
            else if (opt.n_others < (int)(sizeof opt.others / sizeof *opt.others))
                opt.others[opt.n_others++] = atoi(optarg);
            break;
        case 'B': opt.probe = optarg; break;
        case 'h': fputs(help, stdout); exit(0);
        default: fputs(help, stderr); exit(2);
        }
    }
    if (opt.scenario == BROADCAST && opt.rate && opt.window == 1)
        opt.window = 1000;
    if (!opt.path)
        opt.path = opt.scenario == BROADCAST ? "/broadcast" : "/echo";
    if (optind < argc || !opt.port || opt.connections < 1 || opt.window < 1 || opt.size < 8
            || opt.batch < 1 || opt.batch > opt.window
            || (opt.batch > 1 && (opt.scenario != ECHO || opt.transport == RAW))
            || (opt.probe && (opt.scenario != BROADCAST || !is_websocket()))) {
        fputs("loadgen: bad options\n", stderr);
        fputs(help, stderr);
        exit(2);
    }
}

/* Echo: what the session that got least got, in comparison. */
static struct { uint64_t fewest, most; double worst_p99_ms; } fairness = {.fewest = UINT64_MAX};

static void fairness_measure(void)
{
    for (int i = 0; i < opt.connections && opt.scenario == ECHO; i++) {
        const Histogram *h = sessions[i].latency;
        double p99 = percentile_ms(h, 99);
        if (h->total < fairness.fewest)
            fairness.fewest = h->total;
        if (h->total > fairness.most)
            fairness.most = h->total;
        if (p99 > fairness.worst_p99_ms)
            fairness.worst_p99_ms = p99;
    }
}

static bool all_received(void)
{
    if (opt.scenario == BROADCAST)
        return completed == sessions[0].sent;
    for (int i = 0; i < opt.connections; i++)
        if (sessions[i].open && sessions[i].sent != sessions[i].received)
            return false;
    return true;
}

/* Runs events until `seconds` have passed, or all broadcasts are delivered. */
static void run_for(double seconds)
{
    uint64_t end = now + seconds * 1e9;
    while (now < end) {
        int timeout = (end - now) / 1000000 + 1;
        if (opt.scenario == BROADCAST && opt.rate)
            timeout = 1;
        run_events(timeout);
        if (opt.scenario == BROADCAST) {
            pump(&sessions[0]);
            if (probe)
                pump(probe);
            if (opt.messages && completed == opt.messages)
                return;
        }
        if (!alive && opt.scenario != CONNECT)
            return;
    }
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    make_filler();
    epoll_fd = epoll_create1(0);
    int wanted = opt.connections + (opt.probe != NULL);
    sessions = calloc(wanted, sizeof *sessions);
    probe = opt.probe ? &sessions[opt.connections] : NULL;
    restart = calloc(opt.connections, sizeof *restart);
    receivers_left = calloc(opt.window, sizeof *receivers_left);
    for (int i = 0; i < wanted; i++) {
        Session *s = &sessions[i];
        s->index = i;
        if (opt.scenario == ECHO)
            s->latency = calloc(1, sizeof *s->latency);
        s->sent_at = calloc(opt.window, sizeof *s->sent_at);
        s->receiver = s->sender = (Conn){.session = s, .fd = -1};
    }

    /* open the sessions, opt.ramp at a time */
    long rss_before = server_kb("VmRSS:");
    double cpu = server_cpu();
    uint64_t start = now = clock_ns();
    if (opt.scenario != CONNECT) {
        while (opened + errors[LOST_CONNECTION] < opt.connections && now - start < 60000000000ull) {
            while (started < opt.connections
                   && started - opened - errors[LOST_CONNECTION] < opt.ramp)
                session_start(&sessions[started++]);
            run_events(100);
        }
        if (probe)
            session_start(probe);
        while (probe && !probe->open && now - start < 60000000000ull)
            run_events(100);
        for (int i = opened + errors[LOST_CONNECTION]; i < opt.connections; i++)
            error(NOT_OPENED, "timeout", 7);
    }
    double open_seconds = (now - start) / 1e9, open_cpu = server_cpu() - cpu;
    long rss_open = server_kb("VmRSS:");

    /* warm up, measure, wait for what is in flight */
    phase = WARMUP;
    broadcast_started = now = clock_ns();
    for (int i = 0; i < opt.connections; i++) {
        if (opt.scenario == CONNECT)
            session_start(&sessions[i]);
        else
            pump(&sessions[i]);
    }
    if (opt.scenario != IDLE)
        run_for(opt.warmup);
    phase = MEASURE;
    messages = heartbeats = pings = bytes_in = bytes_out = 0;
    if (opt.scenario == CONNECT)
        opened = 0;
    memset(&latency, 0, sizeof latency);
    memset(&delivery, 0, sizeof delivery);
    memset(&probed, 0, sizeof probed);
    for (int i = 0; i < opt.connections && opt.scenario == ECHO; i++)
        memset(sessions[i].latency, 0, sizeof *sessions[i].latency);
    cpu = server_cpu();
    double own_cpu = cpu_seconds(0);
    start = now;
    run_for(opt.seconds);
    double seconds = (now - start) / 1e9;
    cpu = server_cpu() - cpu;
    own_cpu = cpu_seconds(0) - own_cpu;
    long done = opt.scenario == CONNECT ? opened : messages;
    /* some servers have only pings as heartbeats, others send both together */
    long counted_in = bytes_in, counted_out = bytes_out, beats = heartbeats ? heartbeats : pings;
    Histogram result = latency, spread = delivery, stalls = probed;
    fairness_measure();
    if (probe && probe->sent != probe->received)
        histogram_add(&stalls, now - probe->sent_at[probe->received % opt.window]);
    if (!done && opt.scenario != IDLE)
        error(STALLED, "nothing happened in the measured time", 37);
    phase = DRAIN;
    if (opt.scenario != CONNECT)
        for (uint64_t end = now + opt.drain * 1e9; now < end && !all_received(); )
            run_events(100);

    for (int i = 0; i < opt.connections; i++) {
        uint32_t due = opt.scenario == BROADCAST ? sessions[0].sent : sessions[i].sent;
        if (sessions[i].open && sessions[i].received < due)
            errors[LOST_MESSAGE] += due - sessions[i].received;
    }
    long total_errors = 0;
    for (int i = 0; i < N_ERRORS; i++)
        total_errors += errors[i];

    printf("{\"scenario\": \"%s\", \"transport\": \"%s\", \"connections\": %d, \"window\": %d, "
           "\"size\": %d, \"text\": \"%s\", \"batch\": %d, \"seconds\": %.3f, ",
           scenario_names[opt.scenario], transport_names[opt.transport], opt.connections,
           opt.window, opt.size, text_names[opt.text], opt.batch, seconds);
    printf("\"%s\": %ld, \"per_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, ",
           opt.scenario == CONNECT ? "sessions" : "messages", done, done / seconds,
           percentile_ms(&result, 50), percentile_ms(&result, 99), result.max / 1e6);
    if (opt.scenario == BROADCAST)
        printf("\"broadcasts\": %lu, \"delivery_p50_ms\": %.3f, ",
               (unsigned long)result.total, percentile_ms(&spread, 50));
    if (probe)
        printf("\"probes\": %lu, \"probe_p50_ms\": %.3f, \"longest_stall_ms\": %.3f, ",
               (unsigned long)stalls.total, percentile_ms(&stalls, 50), stalls.max / 1e6);
    if (opt.scenario == ECHO)
        printf("\"fairness\": {\"fewest\": %lu, \"most\": %lu, \"worst_p99_ms\": %.3f}, ",
               (unsigned long)fairness.fewest, (unsigned long)fairness.most,
               fairness.worst_p99_ms);
    printf("\"bytes_in\": %ld, \"bytes_out\": %ld, \"heartbeats\": %ld, \"open_seconds\": %.3f, ",
           counted_in, counted_out, beats, open_seconds);
    if (opt.pid)
        printf("\"server_cpu_s\": %.4f, \"server_cpu_ms_per_1000\": %.3f, \"server_open_cpu_s\": %.4f, "
               "\"server_rss_kb\": {\"before\": %ld, \"open\": %ld, \"end\": %ld, \"peak\": %ld}, ",
               cpu, done ? cpu * 1e6 / done : 0, open_cpu, rss_before, rss_open,
               server_kb("VmRSS:"), server_kb("VmHWM:"));
    printf("\"loadgen_cpu_s\": %.4f, \"errors\": %ld", own_cpu, total_errors);
    for (int i = 0; i < N_ERRORS; i++)
        if (errors[i])
            printf(", \"%s\": %ld", error_names[i], errors[i]);
    printf("}\n");
    return total_errors != 0;
}
