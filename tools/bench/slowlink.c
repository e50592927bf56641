/*
 * slowlink MBIT DELAY_MS PORT: a slow line to 127.0.0.1:PORT. Prints the port that it listens on, then passes TCP connections
 * on until its stdin ends.
 *
 * The line is one for all connections, as a real one is: what the server sends shares MBIT million bits a second, and each
 * byte arrives DELAY_MS after it has passed the line; half a round trip, so a request with an empty answer costs two delays.
 * Connecting costs a round trip more (the first bytes of a client wait for it). The way up has the delay and no limit.
 *
 *   server --recv--> [ line: free at time t ] --> queue of pieces, each with its due time --send--> client
 *
 * A connection has at most QUEUE_MAX bytes on the way, which is more than rate times round trip: the window is never what
 * limits. No slow start, no losses: it is kinder than a real line, to all clients alike.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINKS_MAX = 256, PIECE = 64 << 10, QUEUE_MAX = 4 << 20, PIECES = 1024 };

/* one direction of a connection */
struct way {
        int from, to;
        bool limited, ended, shut;
        struct piece {
                int64_t due_ns;
                uint32_t len, sent;
                uint8_t *data;
        } piece[PIECES];
        unsigned first, count;
        size_t bytes;
};

struct link {
        bool used;
        struct way up, down;
};

static struct link links[LINKS_MAX];
static int64_t delay_ns, line_free_ns;
static double ns_per_byte;

static int64_t now_ns(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
        perror(what);
        exit(1);
}

static struct sockaddr_in loopback(int port)
{
        return (struct sockaddr_in){
                .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void way_done(struct way *w)
{
        for (; w->count; w->count--)
                free(w->piece[w->first++ % PIECES].data);
        w->first = 0;
        w->bytes = 0;
}

static void link_close(struct link *l)
{
        close(l->up.from);
        close(l->down.from);
        way_done(&l->up);
        way_done(&l->down);
        l->used = false;
}

static void accept_one(int listener, int port)
{
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (client < 0)
                return;
        struct link *l = links;
        while (l < links + LINKS_MAX && l->used)
                l++;
        int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in a = loopback(port);
        if (l == links + LINKS_MAX || connect(server, (struct sockaddr *)&a, sizeof a) < 0) {
                close(client);
                close(server);
                return;
        }
        fcntl(server, F_SETFL, O_NONBLOCK);
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        memset(l, 0, sizeof *l);
        l->used = true;
        l->up.from = l->down.to = client;
        l->up.to = l->down.from = server;
        l->down.limited = true;
        /* the handshake: an empty piece that holds up what the client sends first */
        l->up.piece[l->up.count++] = (struct piece){.due_ns = now_ns() + 2 * delay_ns};
}

static bool has_room(const struct way *w)
{
        return !w->ended && w->bytes < QUEUE_MAX && w->count < PIECES;
}

/* reads what there is, while the queue has room; false: the connection is broken */
static bool take_in(struct way *w, int64_t now)
{
        while (has_room(w)) {
                uint8_t *data = malloc(PIECE);
                ssize_t n = data ? recv(w->from, data, PIECE, 0) : -1;
                if (n <= 0) {
                        free(data);
                        if (n < 0 && errno == EAGAIN)
                                return true;
                        w->ended = true;
                        return n == 0;
                }
                int64_t due = now + delay_ns;
                if (w->limited) {
                        line_free_ns = (line_free_ns > now ? line_free_ns : now) + (int64_t)(ns_per_byte * (double)n);
                        due = line_free_ns + delay_ns;
                }
                /* what comes later never overtakes (the handshake's piece) */
                if (w->count && w->piece[(w->first + w->count - 1) % PIECES].due_ns > due)
                        due = w->piece[(w->first + w->count - 1) % PIECES].due_ns;
                w->piece[(w->first + w->count++) % PIECES] =
                        (struct piece){.due_ns = due, .len = (uint32_t)n, .data = data};
                w->bytes += (size_t)n;
        }
        return true;
}

/* sends what is due; *next: when the next piece is. false: the connection is broken */
static bool give_out(struct way *w, int64_t now, int64_t *next)
{
        while (w->count) {
                struct piece *p = &w->piece[w->first];
                if (p->due_ns > now) {
                        *next = p->due_ns < *next ? p->due_ns : *next;
                        return true;
                }
                while (p->sent < p->len) {
                        ssize_t n = send(w->to, p->data + p->sent, p->len - p->sent, MSG_NOSIGNAL);
                        if (n < 0) {
                                *next = now + 500000 < *next ? now + 500000 : *next; /* the receiver is slow */
                                return errno == EAGAIN;
                        }
                        p->sent += (uint32_t)n;
                }
                w->bytes -= p->len;
                free(p->data);
                w->first = (w->first + 1) % PIECES;
                w->count--;
        }
        if (w->ended && !w->shut) {
                shutdown(w->to, SHUT_WR);
                w->shut = true;
        }
        return true;
}

/* one round over all connections; the time of the next piece that is due */
static int64_t serve(int64_t now)
{
        int64_t next = INT64_MAX;
        for (struct link *l = links; l < links + LINKS_MAX; l++) {
                if (!l->used)
                        continue;
                bool alive = take_in(&l->up, now) && take_in(&l->down, now) && give_out(&l->up, now, &next) &&
                             give_out(&l->down, now, &next);
                if (!alive || (l->up.shut && l->down.shut))
                        link_close(l);
        }
        return next;
}

/* until then, or until something comes in */
static void wait_until(int64_t next, int listener)
{
        static struct pollfd fds[2 * LINKS_MAX + 2];
        nfds_t n = 0;
        fds[n++] = (struct pollfd){.fd = listener, .events = POLLIN};
        fds[n++] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        for (const struct link *l = links; l < links + LINKS_MAX; l++) {
                if (l->used && has_room(&l->up))
                        fds[n++] = (struct pollfd){.fd = l->up.from, .events = POLLIN};
                if (l->used && has_room(&l->down))
                        fds[n++] = (struct pollfd){.fd = l->down.from, .events = POLLIN};
        }
        int64_t wait = next == INT64_MAX ? 1000000000 : next - now_ns();
        wait = wait < 20000 ? 20000 : wait;
        ppoll(fds, n, &(struct timespec){.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000}, NULL);
}

int main(int argc, char **argv)
{
        if (argc != 4) {
                fprintf(stderr, "usage: slowlink MBIT DELAY_MS PORT\n");
                return 2;
        }
        ns_per_byte = 8000 / atof(argv[1]);
        delay_ns = (int64_t)(atof(argv[2]) * 1e6);
        int port = atoi(argv[3]);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_in a = loopback(0);
        socklen_t len = sizeof a;
        if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 64) < 0)
                die("slowlink: listen");
        getsockname(listener, (struct sockaddr *)&a, &len);
        printf("%d\n", ntohs(a.sin_port));
        fflush(stdout);

        fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
        for (char c; read(STDIN_FILENO, &c, 1) != 0;) {
                accept_one(listener, port);
                wait_until(serve(now_ns()), listener);
        }
        return 0;
}
