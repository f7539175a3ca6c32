/*
 * The page is made from the applied programs: what the kernel has, not what is wanted. Asking for
 * it is one HTTP/1.0 request over a blocking socket: the command does nothing else.
 */
#include "proxy/serve/status.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FETCH_TIMEOUT_MS = 10000 };

struct port_list {
	const struct service_port_state **items;
	size_t count, size;
};

static int port_order(const void *va, const void *vb)
{
	const struct service_port_state *a = *(const struct service_port_state *const *)va;
	const struct service_port_state *b = *(const struct service_port_state *const *)vb;
	int order = strcmp(a->label, b->label);

	return order ? order : (int)a->protocol - (int)b->protocol;
}

static int port_add(struct port_list *list, const struct service_port_state *port)
{
	size_t size = list->size ? list->size * 2 : 64;
	const struct service_port_state **more;

	if (list->count == list->size) {
		more = realloc(list->items, size * sizeof(*more));
		if (!more)
			return -ENOMEM;
		list->items = more;
		list->size = size;
	}
	list->items[list->count++] = port;
	return 0;
}

static int list_ports(const struct model *m, enum family family, struct port_list *list)
{
	const struct service_port_state *p;
	struct hash_walk walk;
	struct hash_node *n;

	for (n = hashtab_first(&m->services, &walk); n; n = hashtab_next(&m->services, &walk))
		for (p = hash_entry(n, struct service_entry, node)->ports[family]; p; p = p->next)
			if (p->applied && port_add(list, p))
				return -ENOMEM;
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), port_order);
	return 0;
}

static void format_vip(const struct vip *vip, enum family family, struct strbuf *out)
{
	static const char *const roles[] = {
		[VIP_CLUSTER_IP] = "cluster",
		[VIP_LOAD_BALANCER] = "load balancer",
		[VIP_EXTERNAL_IP] = "external",
		[VIP_NODE_PORT] = "node port",
	};
	char addr[ADDR_TEXT_SIZE];

	if (vip->role == VIP_NODE_PORT)
		strbuf_addf(out, "  %s %u", roles[vip->role], vip->port);
	else
		strbuf_addf(out, family == FAMILY_IPV6 ? "  %s [%s]:%u" : "  %s %s:%u",
			    roles[vip->role], addr_format(family, &vip->addr, addr), vip->port);
}

static void format_port(const struct service_port_state *port, enum family family,
			struct strbuf *out)
{
	const struct program *p = port->applied;
	unsigned int i;

	strbuf_addf(out, "%s %s", port->label, protocol_name(port->protocol));
	for (i = 0; i < p->n_vips; i++)
		format_vip(&p->vips[i], family, out);
	if (program_uses(p, false))
		strbuf_addf(out, "  endpoints %u", p->cluster.count);
	if (program_uses(p, true))
		strbuf_addf(out, "  local endpoints %u", p->local.count);
	if (p->affinity_timeout_s)
		strbuf_addf(out, "  affinity %u s", p->affinity_timeout_s);
	if (!(p->flags & PROGRAM_ALIVE))
		strbuf_adds(out, "  refused: no endpoints");
	if (port->refusals)
		strbuf_adds(out, "  set aside: the kernel refuses a change");
	strbuf_addc(out, '\n');
}

static void format_family(const struct model *m, const struct metrics *metrics, enum family family,
			  struct strbuf *out)
{
	const double synced = metrics_get(metrics, METRIC_LAST_SYNC, family);
	struct port_list list = { 0 };
	struct timespec now;
	size_t i;

	if (synced <= 0)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	strbuf_addf(out,
		    "%s: last sync %.1f s ago, %.0f transactions, %.0f elements written, "
		    "%.0f failures\n",
		    family_name(family), (double)now.tv_sec + (double)now.tv_nsec / 1e9 - synced,
		    metrics_get(metrics, METRIC_TRANSACTIONS, family),
		    metrics_get(metrics, METRIC_ELEMENTS_WRITTEN, family),
		    metrics_get(metrics, METRIC_SYNC_FAILURES, family));
	if (list_ports(m, family, &list))
		out->err = -ENOMEM;
	for (i = 0; i < list.count; i++)
		format_port(list.items[i], family, out);
	free(list.items);
}

void status_format(const struct model *m, const struct metrics *metrics, struct strbuf *out)
{
	unsigned int f;

	strbuf_addf(out, "node %s, zone %s, %zu services known\n",
		    m->node ? m->node->name : "unknown", *model_zone(m) ? model_zone(m) : "unknown",
		    m->services.count);
	for (f = 0; f < N_FAMILIES; f++)
		format_family(m, metrics, (enum family)f, out);
}

/* Splits "ADDRESS:PORT", with brackets for IPv6. */
static int parse_server(const char *text, struct sockaddr_storage *server, socklen_t *length)
{
	const char *colon = strrchr(text, ':');
	char host[ADDR_TEXT_SIZE + 2];
	size_t n = colon ? (size_t)(colon - text) : 0;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)server;
	struct sockaddr_in *v4 = (struct sockaddr_in *)server;
	enum family family;
	struct addr addr;
	long port;

	if (!n || n >= sizeof(host))
		return -EINVAL;
	if (text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	memcpy(host, text, n);
	host[n] = '\0';
	port = strtol(colon + 1, NULL, 10);
	if (addr_parse(host, &family, &addr) || port < 1 || port > UINT16_MAX)
		return -EINVAL;
	memset(server, 0, sizeof(*server));
	if (family == FAMILY_IPV4) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		memcpy(&v4->sin_addr, addr.bytes, 4);
		*length = sizeof(*v4);
	} else {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		memcpy(&v6->sin6_addr, addr.bytes, 16);
		*length = sizeof(*v6);
	}
	return 0;
}

static int exchange(int fd, struct strbuf *answer)
{
	static const char request[] = "GET /status HTTP/1.0\r\n\r\n";
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	char buf[4096];
	ssize_t n;

	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
		return -errno;
	for (;;) {
		if (poll(&ready, 1, FETCH_TIMEOUT_MS) <= 0)
			return -ETIMEDOUT;
		n = recv(fd, buf, sizeof(buf), 0);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		strbuf_add(answer, buf, (size_t)n);
	}
}

static int take_body(const struct strbuf *answer, struct strbuf *out)
{
	const char *status = answer->length ? strchr(answer->text, ' ') : NULL;
	const char *body = status ? strstr(answer->text, "\r\n\r\n") : NULL;

	if (answer->err || !body || strncmp(status, " 200", 4))
		return -EPROTO;
	strbuf_adds(out, body + 4);
	return out->err;
}

int status_fetch(const char *address, struct strbuf *out, struct errbuf *eb)
{
	struct sockaddr_storage server;
	struct strbuf answer = STRBUF_INIT;
	socklen_t length;
	int fd, err = 0;

	if (parse_server(address, &server, &length))
		return errf(eb, -EINVAL, "metricsBindAddress \"%s\": nobody to ask there", address);
	fd = socket(server.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&server, length))
		err = -errno;
	if (!err)
		err = exchange(fd, &answer);
	if (!err)
		err = take_body(&answer, out);
	if (fd >= 0)
		close(fd);
	strbuf_free(&answer);
	if (err)
		return errf(eb, err, "no answer from a vipmap at %s: %s", address, strerror(-err));
	return 0;
}
