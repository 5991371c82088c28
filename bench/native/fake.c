/* A fake provider that costs almost nothing, so that it is not what is measured.
 *
 *   fake [--port N] [--events N] [--gap-us N]
 *
 * One thread, one epoll, HTTP/1.1 with keep-alive on 127.0.0.1; prints {"port": N} when it listens.
 * POST /v1/chat/completions answers in OpenAI's format, POST /v1/messages in Anthropic's; as JSON, or as a stream when
 * the body says "stream":true.  A stream has `events` text events around which stand the format's own opening and
 * closing ones.  Every event is one write of its own (TCP_NODELAY), and one HTTP chunk.  Between the events of a
 * stream pass at least `gap_us` microseconds; with a gap of 0 the streams take turns, one event each, as fast as their
 * sockets take them.  A request can choose by carrying events=N and gap_us=N anywhere in its body, which survives
 * any gateway and any translation when it stands in the prompt.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "answers.h"

enum { MAX_REQUEST_BYTES = 256 * 1024, MAX_SEGMENT_BYTES = 4096, MAX_EVENTS = 256 };

/* Bytes that are written in one piece. */
typedef struct {
    char bytes[MAX_SEGMENT_BYTES];
    size_t length;
} Segment;

/* An answer: what comes first, a text event to repeat, what comes last.  JSON is an answer with a prologue only. */
typedef struct {
    Segment prologue[3];
    int prologues;
    Segment word;
    Segment epilogue[3];
    int epilogues;
} Answer;

typedef struct Connection {
    int fd;
    char *request; /* MAX_REQUEST_BYTES + 1, ended by a NUL for the searches */
    size_t have, wanted;
    const Answer *answer; /* NULL between answers */
    long position, words; /* the segment being written, and how many of them are words */
    size_t written;       /* of the segment at `position` */
    int64_t gap_ns, due_ns;
    bool blocked;                       /* the socket is full: waiting for EPOLLOUT */
    struct Connection *earlier, *later; /* neighbours in the queue of what is due */
    bool queued;
} Connection;

static Answer openai_json, openai_stream, anthropic_json, anthropic_stream, refusal;
static Connection *queue_head, *queue_tail;
static int poller, timer;
static long default_events = 64, default_gap_us = 0;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* ---- answers ---- */

static void set_json(Answer *answer, const char *status, const char *body) {
    Segment *only = &answer->prologue[answer->prologues++];
    only->length = (size_t)snprintf(only->bytes, sizeof only->bytes,
                                    "HTTP/1.1 %s\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
                                    "content-length: %zu\r\n\r\n%s",
                                    status, strlen(body), body);
    if (only->length >= sizeof only->bytes) die("an answer is too long");
}

static void set_chunk(Segment *segment, const char *event, const char *after) {
    segment->length = (size_t)snprintf(segment->bytes, sizeof segment->bytes, "%zx\r\n%s\r\n%s", strlen(event), event, after);
}

static void set_stream_head(Segment *segment) {
    segment->length = (size_t)snprintf(segment->bytes, sizeof segment->bytes,
                                       "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                                       "cache-control: no-cache\r\nx-request-id: req_bench\r\n"
                                       "transfer-encoding: chunked\r\n\r\n");
}

static void prepare_answers(void) {
    set_json(&openai_json, "200 OK", OPENAI_JSON);
    set_json(&anthropic_json, "200 OK", ANTHROPIC_JSON);
    set_json(&refusal, "404 Not Found", "{\"error\":{\"message\":\"the fake provider has no such path\"}}");

    set_stream_head(&openai_stream.prologue[0]);
    set_chunk(&openai_stream.prologue[1], OPENAI_ROLE, "");
    openai_stream.prologues = 2;
    set_chunk(&openai_stream.word, OPENAI_WORD, "");
    set_chunk(&openai_stream.epilogue[0], OPENAI_FINISH, "");
    set_chunk(&openai_stream.epilogue[1], OPENAI_USAGE, "");
    set_chunk(&openai_stream.epilogue[2], OPENAI_DONE, "0\r\n\r\n");
    openai_stream.epilogues = 3;

    set_stream_head(&anthropic_stream.prologue[0]);
    set_chunk(&anthropic_stream.prologue[1], ANTHROPIC_START, "");
    set_chunk(&anthropic_stream.prologue[2], ANTHROPIC_BLOCK, "");
    anthropic_stream.prologues = 3;
    set_chunk(&anthropic_stream.word, ANTHROPIC_WORD, "");
    set_chunk(&anthropic_stream.epilogue[0], ANTHROPIC_BLOCK_STOP, "");
    set_chunk(&anthropic_stream.epilogue[1], ANTHROPIC_DELTA, "");
    set_chunk(&anthropic_stream.epilogue[2], ANTHROPIC_STOP, "0\r\n\r\n");
    anthropic_stream.epilogues = 3;
}

static const Segment *segment_at(const Connection *c) {
    const Answer *a = c->answer;
    if (c->position < a->prologues) return &a->prologue[c->position];
    if (c->position < a->prologues + c->words) return &a->word;
    long last = c->position - a->prologues - c->words;
    return last < a->epilogues ? &a->epilogue[last] : NULL;
}

/* ---- the queue of streams whose next event is due at a time, in order ---- */

static void unqueue(Connection *c) {
    if (!c->queued) return;
    *(c->earlier ? &c->earlier->later : &queue_head) = c->later;
    *(c->later ? &c->later->earlier : &queue_tail) = c->earlier;
    c->queued = false;
}

/* Walks from the tail; as long as all streams of a run have the same gap, the first look is the last. */
static void enqueue(Connection *c) {
    Connection *before = queue_tail;
    while (before && before->due_ns > c->due_ns) before = before->earlier;
    c->earlier = before;
    c->later = before ? before->later : queue_head;
    *(before ? &before->later : &queue_head) = c;
    *(c->later ? &c->later->earlier : &queue_tail) = c;
    c->queued = true;
}

/* ---- connections ---- */

static void drop(Connection *c) {
    unqueue(c);
    close(c->fd);
    free(c->request);
    free(c);
}

static void watch(Connection *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
}

/* Writes the segment that is due.  Returns false when the connection is gone. */
static bool write_segment(Connection *c) {
    const Segment *s = segment_at(c);
    ssize_t n = send(c->fd, s->bytes + c->written, s->length - c->written, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        drop(c);
        return false;
    }
    if (n > 0) c->written += (size_t)n;
    if (c->written < s->length) {
        c->blocked = true;
        watch(c, EPOLLIN | EPOLLOUT);
        return true;
    }
    c->written = 0;
    c->position++;
    if (!segment_at(c)) {
        c->answer = NULL;
        return true;
    }
    c->due_ns = now_ns() + c->gap_ns;
    enqueue(c);
    return true;
}

static long number_after(const char *text, const char *name, long otherwise) {
    const char *at = strstr(text, name);
    return at ? strtol(at + strlen(name), NULL, 10) : otherwise;
}

static bool starts(const char *text, const char *with) { return !strncmp(text, with, strlen(with)); }

static bool answer_request(Connection *c, const char *body) {
    bool streams = strstr(body, "\"stream\":true") || strstr(body, "\"stream\": true");
    if (starts(c->request, "POST /v1/chat/completions "))
        c->answer = streams ? &openai_stream : &openai_json;
    else if (starts(c->request, "POST /v1/messages "))
        c->answer = streams ? &anthropic_stream : &anthropic_json;
    else
        c->answer = &refusal;
    c->words = c->answer->epilogues ? number_after(body, "events=", default_events) : 0;
    c->gap_ns = number_after(body, "gap_us=", default_gap_us) * 1000;
    c->position = 0;
    c->written = 0;
    c->have = c->wanted = 0;
    return write_segment(c);
}

/* Reads what has come, and answers once the request is whole.  Pipelining is not expected: clients here await answers. */
static void read_request(Connection *c) {
    ssize_t n = recv(c->fd, c->request + c->have, MAX_REQUEST_BYTES - c->have, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(c);
        return;
    }
    c->have += (size_t)n;
    c->request[c->have] = 0;
    char *body = strstr(c->request, "\r\n\r\n");
    if (!body) {
        if (c->have == MAX_REQUEST_BYTES) drop(c);
        return;
    }
    body += 4;
    if (!c->wanted) {
        const char *length = strcasestr(c->request, "\r\ncontent-length:");
        size_t head_bytes = (size_t)(body - c->request);
        c->wanted = head_bytes + (length && length < body ? strtoul(length + 17, NULL, 10) : 0);
        if (c->wanted > MAX_REQUEST_BYTES) {
            drop(c);
            return;
        }
    }
    if (c->have >= c->wanted) answer_request(c, body);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        Connection *c = calloc(1, sizeof *c);
        if (c) c->request = malloc(MAX_REQUEST_BYTES + 1);
        if (!c || !c->request) die("no memory for a connection");
        c->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    }
}

/* ---- the loop ---- */

/* Gives each stream that is due now its one event; those that come due meanwhile wait for the next round. */
static void write_what_is_due(void) {
    int64_t now = now_ns();
    while (queue_head && queue_head->due_ns <= now) {
        Connection *c = queue_head;
        unqueue(c);
        write_segment(c);
    }
}

/* How long epoll may wait; sets the timer when the next event is due in the future. */
static int patience(void) {
    if (!queue_head) return -1;
    if (queue_head->due_ns <= now_ns()) return 0;
    struct itimerspec at = {.it_value = {queue_head->due_ns / 1000000000, queue_head->due_ns % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
    return -1;
}

static void serve(int listener) {
    struct epoll_event ready[MAX_EVENTS];
    for (;;) {
        int n = epoll_wait(poller, ready, MAX_EVENTS, patience());
        for (int i = 0; i < n; i++) {
            Connection *c = ready[i].data.ptr;
            uint64_t ticks;
            if (ready[i].data.ptr == &timer) {
                if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer");
            } else if (ready[i].data.ptr == &poller) {
                accept_all(listener);
            } else if (c->blocked && ready[i].events & EPOLLOUT) {
                c->blocked = false;
                watch(c, EPOLLIN);
                write_segment(c);
            } else if (c->answer && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                drop(c); /* a peer that speaks or leaves in the middle of an answer */
            } else {
                read_request(c);
            }
        }
        write_what_is_due();
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof at;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 1024)) die("listen");
    getsockname(fd, (struct sockaddr *)&at, &length);
    printf("{\"port\": %d}\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    int port = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port")) port = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--events")) default_events = atol(argv[i + 1]);
        if (!strcmp(argv[i], "--gap-us")) default_gap_us = atol(argv[i + 1]);
    }
    signal(SIGPIPE, SIG_IGN);
    prepare_answers();
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int listener = listen_on(port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &poller};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    e.data.ptr = &timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e);
    serve(listener);
}
