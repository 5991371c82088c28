/* A closed-loop load generator that costs almost nothing and believes no answer unseen.
 *
 *   load --port N --request FILE --end TEXT [--connections N] [--requests N] [--warmup N] [--rate PER_SECOND]
 *        [--warmup-request FILE]
 *
 * Sends the bytes of FILE, a whole HTTP/1.1 request, again and again over keep-alive connections on 127.0.0.1, one
 * request at a time on each.  Every answer must have status 200, its HTTP framing must be whole, and its body must end
 * with TEXT (white space aside); the first that does not ends the run with exit status 1 and a word on stderr.
 *
 * After the warm-up (with a request of its own, if given, whose answers must end alike) it prints {"phase": "ready"} and waits for a line on stdin, so that whoever measures can read the
 * clocks of the server first; then come the measured requests, and one JSON object with what was seen.  With --rate,
 * requests start at fixed times whether or not earlier ones are done, and latencies count from those times.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HEAD_BYTES = 16 * 1024, READ_BYTES = 64 * 1024, MAX_READY = 256, TAIL_BYTES = 64, MAX_CONNECTIONS = 4096, PATIENCE_MS = 30000 };

/* Where in an answer's framing the next byte belongs. */
typedef enum { IDLE, HEAD, SIZED_BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS } State;

typedef struct Connection {
    int fd;
    State state;
    char head[MAX_HEAD_BYTES + 1];
    size_t head_bytes;
    uint64_t left;         /* of the sized body or of the chunk */
    size_t line_bytes;     /* of the trailer line being read */
    bool last_was_newline; /* two in a row end an SSE event */
    char tail[TAIL_BYTES]; /* the body's last bytes */
    size_t tail_bytes;
    int64_t due_ns, first_body_ns;
    struct Connection *next_idle;
} Connection;

static struct {
    int port;
    const char *request_file, *warmup_file, *end;
    long connections, requests, warmup;
    double rate;
} options = {.end = "", .connections = 32, .requests = 1000};

static struct {
    long started, done, target, events, reads, reconnects;
    uint64_t body_bytes;
    int64_t began_ns;
    uint32_t *total_us, *first_us; /* one of each per request */
} run;

static char request[1 << 20];
static size_t request_bytes;
static int poller, timer;
static Connection *idle;
static char buffer[READ_BYTES];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    fprintf(stderr, "load: request %ld of %ld: ", run.done + 1, run.target);
    vfprintf(stderr, format, rest);
    fputc('\n', stderr);
    exit(1);
}

/* ---- connections ---- */

static void open_connection(Connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Also bounds connect: a server with a full queue lets it wait for minutes. */
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = 10}, sizeof(struct timeval));
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("cannot connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static void make_idle(Connection *c) {
    c->state = IDLE;
    c->next_idle = idle;
    idle = c;
}

static void reconnect(Connection *c) {
    close(c->fd);
    open_connection(c);
    run.reconnects++;
}

static void start_request(int64_t due_ns) {
    Connection *c = idle;
    idle = c->next_idle;
    c->state = HEAD;
    c->head_bytes = c->tail_bytes = 0;
    c->last_was_newline = false;
    c->due_ns = due_ns;
    c->first_body_ns = 0;
    run.started++;
    if (send(c->fd, request, request_bytes, MSG_NOSIGNAL) == (ssize_t)request_bytes) return;
    /* The server had closed the idle connection, or its socket is full, which a request of some kilobytes cannot do. */
    reconnect(c);
    if (send(c->fd, request, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes) fail("cannot send: %s", strerror(errno));
}

/* ---- reading an answer ---- */

static void finish_answer(Connection *c) {
    while (c->tail_bytes && strchr("\r\n ", c->tail[c->tail_bytes - 1])) c->tail_bytes--;
    size_t n = strlen(options.end);
    if (c->tail_bytes < n || memcmp(c->tail + c->tail_bytes - n, options.end, n))
        fail("the body does not end with %s but with %.*s", options.end, (int)c->tail_bytes, c->tail);
    int64_t now = now_ns();
    run.total_us[run.done] = (uint32_t)((now - c->due_ns) / 1000);
    run.first_us[run.done] = (uint32_t)(((c->first_body_ns ? c->first_body_ns : now) - c->due_ns) / 1000);
    run.done++;
    make_idle(c);
}

static void take_body(Connection *c, const char *bytes, size_t n) {
    if (!n) return;
    if (!c->first_body_ns) c->first_body_ns = now_ns();
    run.body_bytes += n;
    for (const char *at = bytes, *end = bytes + n; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == at && c->last_was_newline) run.events++;
        c->last_was_newline = newline != NULL && !(newline == at && c->last_was_newline);
        at = newline ? newline + 1 : end;
    }
    if (n >= TAIL_BYTES) {
        memcpy(c->tail, bytes + n - TAIL_BYTES, TAIL_BYTES);
        c->tail_bytes = TAIL_BYTES;
        return;
    }
    size_t keep = c->tail_bytes + n > TAIL_BYTES ? TAIL_BYTES - n : c->tail_bytes;
    memmove(c->tail, c->tail + c->tail_bytes - keep, keep);
    memcpy(c->tail + keep, bytes, n);
    c->tail_bytes = keep + n;
}

/* Takes head bytes until the empty line; returns how many. */
static size_t take_head(Connection *c, const char *bytes, size_t n) {
    size_t had = c->head_bytes, room = MAX_HEAD_BYTES - had, copied = n < room ? n : room;
    memcpy(c->head + had, bytes, copied);
    c->head_bytes += copied;
    c->head[c->head_bytes] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (copied < n) fail("the head is longer than %d bytes", MAX_HEAD_BYTES);
        return n;
    }
    size_t used = (size_t)(end + 4 - c->head) - had;
    int status = atoi(c->head + 9);
    if (strncmp(c->head, "HTTP/1.1 ", 9) || status != 200) fail("not a 200: %.600s", c->head);
    end[2] = 0;
    const char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) {
        c->state = CHUNK_SIZE;
        c->left = 0;
    } else if (length) {
        c->state = SIZED_BODY;
        c->left = strtoull(length + 17, NULL, 10);
    } else {
        fail("neither a length nor chunks: %.600s", c->head);
    }
    return used;
}

static size_t take_sized(Connection *c, const char *bytes, size_t n, State after) {
    size_t take = n < c->left ? n : (size_t)c->left;
    take_body(c, bytes, take);
    c->left -= take;
    if (!c->left) c->state = after;
    return take;
}

static void take_chunk_size(Connection *c, char byte) {
    static const char digits[] = "0123456789abcdef";
    const char *digit = byte ? strchr(digits, byte | 0x20) : NULL;
    if (byte == '\n') {
        c->line_bytes = 0;
        c->state = c->left ? CHUNK_DATA : TRAILERS;
    } else if (digit) {
        c->left = c->left * 16 + (uint64_t)(digit - digits);
    } else if (byte != '\r') {
        fail("a chunk size has the byte 0x%02x in it", (unsigned char)byte);
    }
}

/* Drives the framing over what one read returned. */
static void take(Connection *c, const char *bytes, size_t n) {
    for (size_t at = 0; at < n;) {
        switch (c->state) {
        case IDLE:
            fail("%zu bytes after the end of an answer", n - at);
            break;
        case HEAD:
            at += take_head(c, bytes + at, n - at);
            if (c->state == SIZED_BODY && !c->left) finish_answer(c);
            break;
        case SIZED_BODY:
            at += take_sized(c, bytes + at, n - at, IDLE);
            if (c->state == IDLE) finish_answer(c);
            break;
        case CHUNK_SIZE:
            take_chunk_size(c, bytes[at++]);
            break;
        case CHUNK_DATA:
            at += take_sized(c, bytes + at, n - at, CHUNK_END);
            break;
        case CHUNK_END:
            if (bytes[at++] == '\n') c->state = CHUNK_SIZE;
            break;
        case TRAILERS:
            if (bytes[at] != '\n' && bytes[at] != '\r') c->line_bytes++;
            if (bytes[at++] == '\n' && !c->line_bytes) finish_answer(c);
            else if (bytes[at - 1] == '\n') c->line_bytes = 0;
            break;
        }
    }
}

static void read_answer(Connection *c) {
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0) {
        run.reads++;
        take(c, buffer, (size_t)n);
    } else if (c->state == IDLE) {
        reconnect(c);
    } else {
        fail("the connection closed in the middle of an answer, after %.200s", c->head);
    }
}

/* ---- the loop ---- */

static int64_t due_of(long index) { return run.began_ns + (int64_t)((double)index * 1e9 / options.rate); }

/* Starts what may be started now: in a closed loop all that is idle, at a rate all that is due. */
static void start_what_may(void) {
    int64_t now = now_ns();
    while (idle && run.started < run.target) {
        int64_t due = options.rate > 0 ? due_of(run.started) : now;
        if (due > now) {
            struct itimerspec at = {.it_value = {due / 1000000000, due % 1000000000}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            return;
        }
        start_request(due);
    }
}

static void run_requests(long requests) {
    uint32_t *total = run.total_us, *first = run.first_us;
    memset(&run, 0, sizeof run);
    run.total_us = total;
    run.first_us = first;
    run.target = requests;
    run.began_ns = now_ns();
    struct epoll_event ready[MAX_READY];
    while (run.done < run.target) {
        start_what_may();
        int n = epoll_wait(poller, ready, MAX_READY, PATIENCE_MS);
        if (n == 0) fail("nothing came for %d ms", PATIENCE_MS);
        for (int i = 0; i < n; i++) {
            uint64_t ticks;
            if (ready[i].data.ptr != &timer) read_answer(ready[i].data.ptr);
            else if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) fail("timer");
        }
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_percentiles(const char *name, uint32_t *values, long n) {
    qsort(values, (size_t)n, sizeof *values, compare);
    printf("\"%s_p50_us\": %u, \"%s_p99_us\": %u, ", name, values[n / 2], name, values[n * 99 / 100]);
}

static void print_result(void) {
    double seconds = (double)(now_ns() - run.began_ns) / 1e9;
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"events\": %ld, \"body_bytes\": %llu, \"reads\": %ld, \"reconnects\": %ld, ",
           run.done, seconds, run.events, (unsigned long long)run.body_bytes, run.reads, run.reconnects);
    print_percentiles("total", run.total_us, run.done);
    print_percentiles("first", run.first_us, run.done);
    printf("\"phase\": \"done\"}\n");
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port")) options.port = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--request")) options.request_file = argv[i + 1];
        if (!strcmp(argv[i], "--warmup-request")) options.warmup_file = argv[i + 1];
        if (!strcmp(argv[i], "--end")) options.end = argv[i + 1];
        if (!strcmp(argv[i], "--connections")) options.connections = atol(argv[i + 1]);
        if (!strcmp(argv[i], "--requests")) options.requests = atol(argv[i + 1]);
        if (!strcmp(argv[i], "--warmup")) options.warmup = atol(argv[i + 1]);
        if (!strcmp(argv[i], "--rate")) options.rate = atof(argv[i + 1]);
    }
    if (!options.port || !options.request_file || options.requests < 1 || options.connections < 1 ||
        options.connections > MAX_CONNECTIONS || strlen(options.end) > TAIL_BYTES)
        fail("usage: load --port N --request FILE --end TEXT [--connections N] [--requests N] [--warmup N] [--rate R]");
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("%s: %s", path, strerror(errno));
    request_bytes = fread(request, 1, sizeof request, file);
    fclose(file);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    read_request(options.warmup_file ? options.warmup_file : options.request_file);
    long most = options.requests > options.warmup ? options.requests : options.warmup;
    run.total_us = calloc((size_t)most, sizeof *run.total_us);
    run.first_us = calloc((size_t)most, sizeof *run.first_us);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &timer};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e);
    for (long i = 0; i < options.connections; i++) {
        Connection *c = calloc(1, sizeof *c);
        open_connection(c);
        make_idle(c);
    }
    run_requests(options.warmup);
    read_request(options.request_file);
    printf("{\"phase\": \"ready\"}\n");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    run_requests(options.requests);
    print_result();
    return 0;
}
