/*
 * The servers of the packet tests: one process that listens in many network
 * namespaces, TCP and UDP, IPv4 and IPv6, on wildcard addresses, and answers
 * with where a packet arrived and whom it came from:
 *
 *	NAMESPACE LOCAL-ADDRESS:PORT PEER-ADDRESS:PORT
 *
 * TCP gets that line upon accept and again for everything it sends, so that a
 * test can see whether a connection is still alive and still the same. UDP gets
 * it per datagram, from the address the datagram was sent to. "ready" on
 * standard output means that every socket listens.
 *
 * usage: endpoints NAMESPACE[=LABEL]:PORT[-PORT][,PORT...] ...
 * "." is the current namespace.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 65536, LINE_SIZE = 256, BACKLOG = 4096 };

enum role { ROLE_NONE, ROLE_LISTENER, ROLE_CONNECTION, ROLE_UDP };

struct peer {
	uint8_t role;
	const char *label;
};

struct server {
	int epoll;
	struct peer *peers; /* by file descriptor */
};

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static void die(const char *what)
{
	fprintf(stderr, "endpoints: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch_fd(struct server *s, int fd, enum role role, const char *label)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (fd >= MAX_FDS || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
	s->peers[fd] = (struct peer){ .role = role, .label = label };
}

static void address_print(const union address *a, char *text, size_t size)
{
	char buf[INET6_ADDRSTRLEN];

	if (a->sa.sa_family == AF_INET)
		snprintf(text, size, "%s:%u",
			 inet_ntop(AF_INET, &a->in.sin_addr, buf, sizeof(buf)),
			 ntohs(a->in.sin_port));
	else
		snprintf(text, size, "[%s]:%u",
			 inet_ntop(AF_INET6, &a->in6.sin6_addr, buf, sizeof(buf)),
			 ntohs(a->in6.sin6_port));
}

static int line_print(char *line, const char *label, const union address *local,
		      const union address *peer)
{
	char from[80], to[80];

	address_print(local, to, sizeof(to));
	address_print(peer, from, sizeof(from));
	return snprintf(line, LINE_SIZE, "%s %s %s\n", label, to, from);
}

static void socket_open(struct server *s, int family, int type, uint16_t port,
			const char *label)
{
	union address a = { 0 };
	int one = 1;
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	a.sa.sa_family = (sa_family_t)family;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Answers come from the address asked for, even one that is only routed here. */
	setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	if (family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &one, sizeof(one));
		a.in6.sin6_port = htons(port);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one));
	} else {
		a.in.sin_port = htons(port);
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
	}
	if (bind(fd, &a.sa, family == AF_INET6 ? sizeof(a.in6) : sizeof(a.in)) < 0)
		die("bind");
	if (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
		die("listen");
	watch_fd(s, fd, type == SOCK_STREAM ? ROLE_LISTENER : ROLE_UDP, label);
}

static void port_open(struct server *s, uint16_t port, const char *label)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < 2; i++) {
		socket_open(s, families[i], SOCK_STREAM, port, label);
		socket_open(s, families[i], SOCK_DGRAM, port, label);
	}
}

static void namespace_enter(const char *name)
{
	char path[256];
	int fd;

	if (strcmp(name, ".") == 0)
		return;
	snprintf(path, sizeof(path), "/var/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(path);
	close(fd);
}

/* NAMESPACE[=LABEL]:PORTS; the text is cut up in place and outlives the server. */
static void spec_open(struct server *s, char *spec)
{
	char *ports = strchr(spec, ':'), *label, *item, *rest;

	if (!ports) {
		errno = EINVAL;
		die(spec);
	}
	*ports++ = '\0';
	label = strchr(spec, '=');
	if (label)
		*label++ = '\0';
	namespace_enter(spec);
	for (item = strtok_r(ports, ",", &rest); item;
	     item = strtok_r(NULL, ",", &rest)) {
		char *end;
		unsigned long first = strtoul(item, &end, 10);
		unsigned long last =
			*end == '-' ? strtoul(end + 1, NULL, 10) : first;

		for (unsigned long port = first; port <= last && port <= 65535;
		     port++)
			port_open(s, (uint16_t)port, label ? label : spec);
	}
}

static void connection_close(struct server *s, int fd)
{
	s->peers[fd].role = ROLE_NONE;
	close(fd);
}

static void connection_answer(struct server *s, int fd)
{
	union address local, peer;
	socklen_t local_size = sizeof(local), peer_size = sizeof(peer);
	char line[LINE_SIZE];
	int size;

	if (getsockname(fd, &local.sa, &local_size) < 0 ||
	    getpeername(fd, &peer.sa, &peer_size) < 0) {
		connection_close(s, fd);
		return;
	}
	size = line_print(line, s->peers[fd].label, &local, &peer);
	if (send(fd, line, (size_t)size, MSG_NOSIGNAL) != size)
		connection_close(s, fd);
}

static void connection_read(struct server *s, int fd)
{
	char buf[4096];
	ssize_t got = recv(fd, buf, sizeof(buf), 0);

	if (got > 0)
		connection_answer(s, fd);
	else if (got == 0 || errno != EAGAIN)
		connection_close(s, fd);
}

static void listener_accept(struct server *s, int fd)
{
	for (int i = 0; i < 64; i++) {
		int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (peer < 0)
			return;
		watch_fd(s, peer, ROLE_CONNECTION, s->peers[fd].label);
		connection_answer(s, peer);
	}
}

/* The address a datagram was sent to; the control message is then sent back as it is. */
static bool datagram_local(struct msghdr *msg, int fd, union address *local)
{
	socklen_t size = sizeof(*local);
	struct cmsghdr *c;

	if (getsockname(fd, &local->sa, &size) < 0)
		return false;
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			local->in.sin_addr = info.ipi_addr;
			info.ipi_spec_dst = info.ipi_addr;
			info.ipi_ifindex = 0;
			memcpy(CMSG_DATA(c), &info, sizeof(info));
			return true;
		}
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			local->in6.sin6_addr = info.ipi6_addr;
			info.ipi6_ifindex = 0;
			memcpy(CMSG_DATA(c), &info, sizeof(info));
			return true;
		}
	}
	return false;
}

static bool datagram_answer(struct server *s, int fd)
{
	union address local, peer;
	char line[LINE_SIZE];
	struct iovec iov = { .iov_base = line, .iov_len = sizeof(line) };
	_Alignas(struct cmsghdr) char control[128];
	struct msghdr msg = {
		.msg_name = &peer,
		.msg_namelen = sizeof(peer),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};

	if (recvmsg(fd, &msg, 0) < 0)
		return errno !=
		       EAGAIN; /* an ICMP error of an earlier answer is nothing to stop at */
	if (!datagram_local(&msg, fd, &local))
		return true;
	iov.iov_len = (size_t)line_print(line, s->peers[fd].label, &local, &peer);
	sendmsg(fd, &msg, MSG_NOSIGNAL);
	return true;
}

static void event_handle(struct server *s, int fd)
{
	switch (s->peers[fd].role) {
	case ROLE_LISTENER:
		listener_accept(s, fd);
		break;
	case ROLE_CONNECTION:
		connection_read(s, fd);
		break;
	case ROLE_UDP:
		for (int i = 0; i < 64 && datagram_answer(s, fd); i++)
			;
		break;
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	struct epoll_event events[256];
	struct server s = { .epoll = epoll_create1(EPOLL_CLOEXEC) };

	/* Servers never outlive the test that started them, even if it is killed. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	s.peers = calloc(MAX_FDS, sizeof(*s.peers));
	if (s.epoll < 0 || !s.peers || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("start");
	/* As many as we may; too few show as a failing bind or accept. */
	limit.rlim_cur = limit.rlim_max < MAX_FDS ? limit.rlim_max : MAX_FDS;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 1; i < argc; i++)
		spec_open(&s, argv[i]);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(s.epoll, events, 256, -1);

		for (int i = 0; i < n; i++)
			event_handle(&s, events[i].data.fd);
	}
}
