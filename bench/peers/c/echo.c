// An echo server in C, with epoll: what the system itself costs, and next to nothing more.
//
//   program version | rows | serve epoll SIZE
//
// It does what such servers do: one thread, level-triggered events for reading, one buffer for all connections. What a
// connection does not take at once is kept for it, and nothing more is read from it until that is gone.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
	int fd;
	char *rest; // not yet taken
	size_t from, to;
};

static int ep;

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static void drop(struct conn *c) {
	close(c->fd);
	free(c->rest);
	free(c);
}

static int watch(struct conn *c, int op, unsigned events) {
	struct epoll_event ev = {.events = events, .data.ptr = c};
	return epoll_ctl(ep, op, c->fd, &ev);
}

static void accept_all(int listener) {
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno != EAGAIN)
				perror("accept4");
			return;
		}
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		struct conn *c = calloc(1, sizeof *c);
		if (!c)
			fail("calloc");
		c->fd = fd;
		if (watch(c, EPOLL_CTL_ADD, EPOLLIN) < 0)
			drop(c);
	}
}

// Returns -1 if the connection is broken, 1 if it takes no more.
static int send_some(struct conn *c, const char *p, size_t *from, size_t to) {
	while (*from < to) {
		ssize_t n = write(c->fd, p + *from, to - *from);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN ? 1 : -1;
		}
		*from += n;
	}
	return 0;
}

static void handle(struct conn *c, char *buf, size_t size) {
	if (c->rest) {
		int r = send_some(c, c->rest, &c->from, c->to);
		if (r < 0)
			drop(c);
		if (r != 0)
			return;
		free(c->rest);
		c->rest = NULL;
		if (watch(c, EPOLL_CTL_MOD, EPOLLIN) < 0)
			drop(c);
		return;
	}
	ssize_t n = read(c->fd, buf, size);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(c);
		return;
	}
	size_t from = 0;
	int r = send_some(c, buf, &from, n);
	if (r > 0) {
		c->from = 0;
		c->to = n - from;
		c->rest = malloc(c->to);
		if (!c->rest)
			fail("malloc");
		memcpy(c->rest, buf + from, c->to);
		r = watch(c, EPOLL_CTL_MOD, EPOLLOUT);
	}
	if (r < 0)
		drop(c);
}

static void serve(size_t size) {
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof addr;
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, len) < 0 || listen(listener, SOMAXCONN) < 0 ||
	    getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
		fail("listen");
	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
		fail("epoll_create1");
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
	if (epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) < 0)
		fail("epoll_ctl");
	char *buf = malloc(size);
	if (!buf)
		fail("malloc");
	printf("%d\n", ntohs(addr.sin_port));
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, events, 256, -1);
		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				handle(events[i].data.ptr, buf, size);
			else
				accept_all(listener);
		}
	}
}

int main(int argc, char **argv) {
	if (argc == 2 && !strcmp(argv[1], "version"))
		puts("C, compiler " __VERSION__);
	else if (argc == 2 && !strcmp(argv[1], "rows"))
		return 0;
	else if (argc == 4 && !strcmp(argv[1], "serve") && !strcmp(argv[2], "epoll") && atoi(argv[3]) > 0)
		serve(atoi(argv[3]));
	else {
		fprintf(stderr, "usage: version | rows | serve epoll SIZE\n");
		return 1;
	}
	return 0;
}
