/* Which conntrack entries are stale (sections 13 and 25 of the semantics), on made-up flows. */
#include "nft/conntrack.h"
#include "proxy/sync/dataplane.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"
#include "tests/support/world.h"

#include <check.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * The world: what was there at the last sweep, and what changed since. A flow is from 192.0.2.1
 * port 1000; "dst port > reply-source port", the same if it was not translated.
 */
static const char *const before[] = {
	"node n1 192.168.7.1 fd00:7::1",
	"service d/dns udp:53:dns@30053 tcp:53:tcp ip=10.96.0.1 ip=fd00:96::1 ext=203.0.113.1 "
	"lb=203.0.113.2",
	"slice d/dns-1 dns v4 udp:5353:dns tcp:5353:tcp 10.244.0.1 10.244.0.2(unready,terminating) "
	"10.244.0.3(unready) 10.244.0.4(unserving) 10.244.0.5(local)",
	"slice d/dns-2 dns v6 udp:5353:dns fd00:244::1",
	"service d/empty udp:80 ip=10.96.0.2",
	"service d/gone udp:80@30080 ip=10.96.0.3 ext=203.0.113.3",
	"slice d/gone-1 gone v4 udp:8080 10.244.0.7",
	"service d/quiet udp:80 ip=10.96.0.4",
	"slice d/quiet-1 quiet v4 udp:8080 10.244.0.8",
};

/* dns and empty are touched again, gone goes, dns loses an address. */
static const char *const after[] = {
	"service d/dns udp:53:dns@30053 tcp:53:tcp ip=10.96.0.1 ip=fd00:96::1 ext=203.0.113.1",
	"service d/empty udp:80 ip=10.96.0.2 ext=203.0.113.4",
	"gone service d/gone",
	"gone slice d/gone-1",
	"slice d/dns-3 dns v4 udp:5353:dns tcp:5353:tcp 10.244.0.6",
	"slice d/dns-2 dns v6 udp:5353:dns fd00:244::1 fd00:244::2",
};

static const struct {
	const char *name, *destination;
	uint16_t port;
	const char *source;
	uint16_t source_port;
	bool stale;
} cases[] = {
	{ "CT-1: answered by a serving endpoint", "10.96.0.1", 53, "10.244.0.1",
	  5353, false },
	{ "CT-1: by one that is none", "10.96.0.1", 53, "10.244.0.99", 5353, true },
	{ "CT-2: by one that drains and serves", "10.96.0.1", 53, "10.244.0.2",
	  5353, false },
	{ "CT-2: by one that serves and is not ready", "10.96.0.1", 53,
	  "10.244.0.3", 5353, false },
	{ "CT-2: by one that is ready and does not serve", "10.96.0.1", 53,
	  "10.244.0.4", 5353, true },
	{ "CT-3: never translated", "10.96.0.1", 53, "10.96.0.1", 53, true },
	{ "CT-3: the right address, a former port", "10.96.0.1", 53,
	  "10.244.0.1", 53, true },
	{ "CT-1: to an externalIP", "203.0.113.1", 53, "10.244.0.99", 5353, true },
	{ "CT-1: to an externalIP, served", "203.0.113.1", 53, "10.244.0.1",
	  5353, false },
	{ "CT-1: to a node port", "192.168.7.1", 30053, "10.244.0.99", 5353, true },
	{ "CT-1: to a node port, served", "192.168.7.1", 30053, "10.244.0.1",
	  5353, false },
	{ "CT-7: to that port of an address that is not this node's",
	  "192.168.7.9", 30053, "10.244.0.99", 5353, false },
	{ "NP-2: to that port of an address without node ports", "172.16.0.1",
	  30053, "10.244.0.99", 5353, false },
	{ "CT-8: to another port of a VIP", "10.96.0.1", 54, "10.244.0.99",
	  5353, false },
	{ "CT-8: to nothing of ours", "198.51.100.1", 53, "198.51.100.1", 53, false },
	{ "CT-8: an endpoint itself, without a VIP", "10.244.0.1", 5353,
	  "10.244.0.1", 5353, false },
	{ "CT-4: no endpoint at all", "10.96.0.2", 80, "10.244.0.1", 8080, true },
	{ "CT-4: no endpoint, never translated", "10.96.0.2", 80, "10.96.0.2",
	  80, true },
	{ "CT-5: the Service went", "10.96.0.3", 80, "10.244.0.7", 8080, true },
	{ "CT-5: its external address", "203.0.113.3", 80, "10.244.0.7", 8080, true },
	{ "CT-5: its node port", "192.168.7.1", 30080, "10.244.0.7", 8080, true },
	{ "CT-5, CT-7: that port of another address", "198.51.100.9", 30080,
	  "10.244.0.7", 8080, false },
	{ "CT-5: the Service went, a flow that was never translated",
	  "10.96.0.3", 80, "10.96.0.3", 80, false },
	{ "CT-5: a VIP went from a Service that stays", "203.0.113.2", 53,
	  "10.244.0.1", 5353, true },
	{ "nothing changed there since the last sweep", "10.96.0.4", 80,
	  "10.244.0.99", 8080, false },
	{ "DS-3: IPv6, served", "fd00:96::1", 53, "fd00:244::1", 5353, false },
	{ "DS-3: IPv6, not served", "fd00:96::1", 53, "fd00:244::9", 5353, true },
	{ "DS-3: IPv6 node port", "fd00:7::1", 30053, "fd00:244::9", 5353, true },
};

static struct world *world_at(bool with_changes)
{
	struct world *w = world_new(0);
	struct addr local[3] = { build_addr("127.0.0.1"), build_addr("172.16.0.1"),
				 build_addr("192.168.7.1") };
	int i;

	model_set_addresses(w->model, FAMILY_IPV4, local, 3);
	for (i = 0; i < N_ROWS(before); i++)
		world_put(w, before[i]);
	world_must_sync(w, "before");
	for (i = 0; i < N_FAMILIES; i++)
		stale_swept(w->stale[i]);
	for (i = 0; with_changes && i < N_ROWS(after); i++)
		world_put(w, after[i]);
	world_must_sync(w, "after");
	return w;
}

static struct flow flow_to(const char *destination, uint16_t port,
			   const char *source, uint16_t source_port,
			   enum family *f)
{
	struct flow flow = {
		.client = { { 192, 0, 2, 1 } },
		.client_port = 1000,
		.destination_port = port,
		.reply_source_port = source_port,
		.translated = strcmp(destination, source) || port != source_port,
	};

	ck_assert_int_eq(addr_parse(destination, f, &flow.destination), 0);
	ck_assert_int_eq(addr_parse(source, f, &flow.reply_source), 0);
	return flow;
}

START_TEST(judges)
{
	struct world *w = world_at(true);
	enum family f;
	struct flow flow = flow_to(cases[_i].destination, cases[_i].port,
				   cases[_i].source, cases[_i].source_port, &f);

	ck_assert_msg(stale_flow(w->stale[f], &flow) == cases[_i].stale, "%s",
		      cases[_i].name);
	/* asked again, out of the cache */
	ck_assert_msg(stale_flow(w->stale[f], &flow) == cases[_i].stale,
		      "%s, again", cases[_i].name);
	world_free(w);
}
END_TEST

/* TCP (BEY-1) */

enum { ESTABLISHED = TCP_CONNTRACK_ESTABLISHED };

/*
 * Services: on, where its annotation says that connections are ended; off,
 * where it says never; unsaid. Each has lost 10.244.0.9 since the last sweep.
 */
static const char *const tcp_before[] = {
	"node n1 192.168.7.1 fd00:7::1",
	"service d/on close-gone tcp:80:web@30080 udp:80:udp ip=10.96.0.1 ip=fd00:96::1 "
	"ext=203.0.113.1 lb=203.0.113.2",
	"slice d/on-1 on v4 tcp:8080:web udp:8080:udp 10.244.0.1 10.244.0.2(unready,terminating) "
	"10.244.0.3(unserving) 10.244.0.4(unready,unserving) 10.244.0.9",
	"slice d/on-2 on v6 tcp:8080:web fd00:244::1 fd00:244::9",
	"service d/off close-never tcp:80 ip=10.96.0.2",
	"slice d/off-1 off v4 tcp:8080 10.244.0.1 10.244.0.9",
	"service d/unsaid tcp:80 ip=10.96.0.3",
	"slice d/unsaid-1 unsaid v4 tcp:8080 10.244.0.1 10.244.0.9",
	"service d/gone close-gone tcp:80@30081 ip=10.96.0.4",
	"slice d/gone-1 gone v4 tcp:8080 10.244.0.9",
	"service d/quiet close-gone tcp:80 ip=10.96.0.5",
	"slice d/quiet-1 quiet v4 tcp:8080 10.244.0.8",
	"service d/last close-gone tcp:80 ip=10.96.0.6",
	"slice d/last-1 last v4 tcp:8080 10.244.0.9",
	"service d/moved close-gone tcp:80 ip=10.96.0.7",
	"slice d/moved-1 moved v4 tcp:8080 10.244.0.1 10.244.0.9",
};

static const char *const tcp_after[] = {
	("slice d/on-1 on v4 tcp:8080:web udp:8080:udp 10.244.0.1 10.244.0.2(unready,terminating) "
	 "10.244.0.3(unserving) 10.244.0.4(unready,unserving)"),
	"slice d/on-2 on v6 tcp:8080:web fd00:244::1",
	"slice d/off-1 off v4 tcp:8080 10.244.0.1",
	"slice d/unsaid-1 unsaid v4 tcp:8080 10.244.0.1",
	"gone service d/gone",
	"gone slice d/gone-1",
	"slice d/last-1 last v4 tcp:8080",
	"slice d/moved-1 moved v4 tcp:8080 10.244.0.1",
	"slice d/moved-2 moved v4 tcp:8080 10.244.0.9",
};

static const struct {
	const char *name, *destination;
	uint16_t port;
	const char *source;
	uint16_t source_port;
	uint8_t state;
	bool unsaid, on; /* stale with closeConnections Never, and EndpointGone */
} tcp_cases[] = {
	{ "its endpoint is gone", "10.96.0.1", 80, "10.244.0.9", 8080,
	  ESTABLISHED, true, true },
	{ "to an externalIP", "203.0.113.1", 80, "10.244.0.9", 8080,
	  ESTABLISHED, true, true },
	{ "to a load balancer address", "203.0.113.2", 80, "10.244.0.9", 8080,
	  ESTABLISHED, true, true },
	{ "to a node port", "192.168.7.1", 30080, "10.244.0.9", 8080,
	  ESTABLISHED, true, true },
	{ "IPv6", "fd00:96::1", 80, "fd00:244::9", 8080, ESTABLISHED, true, true },
	{ "IPv6, to a node port", "fd00:7::1", 30080, "fd00:244::9", 8080,
	  ESTABLISHED, true, true },
	{ "its endpoint has not answered yet", "10.96.0.1", 80, "10.244.0.9",
	  8080, TCP_CONNTRACK_SYN_SENT, true, true },
	{ "half closed", "10.96.0.1", 80, "10.244.0.9", 8080,
	  TCP_CONNTRACK_CLOSE_WAIT, true, true },
	{ "over", "10.96.0.1", 80, "10.244.0.9", 8080, TCP_CONNTRACK_TIME_WAIT,
	  false, false },
	{ "reset", "10.96.0.1", 80, "10.244.0.9", 8080, TCP_CONNTRACK_CLOSE,
	  false, false },
	{ "a former target port", "10.96.0.1", 80, "10.244.0.1", 8081,
	  ESTABLISHED, true, true },
	{ "neither ready nor serving", "10.96.0.1", 80, "10.244.0.4", 8080,
	  ESTABLISHED, true, true },
	{ "another endpoint", "10.96.0.1", 80, "10.244.0.1", 8080, ESTABLISHED,
	  false, false },
	{ "one that drains", "10.96.0.1", 80, "10.244.0.2", 8080, ESTABLISHED,
	  false, false },
	{ "one that is on a list and does not serve", "10.96.0.1", 80,
	  "10.244.0.3", 8080, ESTABLISHED, false, false },
	{ "IPv6, another endpoint", "fd00:96::1", 80, "fd00:244::1", 8080,
	  ESTABLISHED, false, false },
	{ "in another slice by now", "10.96.0.7", 80, "10.244.0.9", 8080,
	  ESTABLISHED, false, false },
	{ "of no endpoint, as there is none left", "10.96.0.6", 80,
	  "10.244.0.9", 8080, ESTABLISHED, true, true },
	{ "never translated", "10.96.0.1", 80, "10.96.0.1", 80, ESTABLISHED,
	  false, false },
	{ "the annotation says never", "10.96.0.2", 80, "10.244.0.9", 8080,
	  ESTABLISHED, false, false },
	{ "no annotation", "10.96.0.3", 80, "10.244.0.9", 8080, ESTABLISHED,
	  false, true },
	{ "the Service went", "10.96.0.4", 80, "10.244.0.9", 8080, ESTABLISHED,
	  false, false },
	{ "the Service went, its node port", "192.168.7.1", 30081, "10.244.0.9",
	  8080, ESTABLISHED, false, false },
	{ "nothing changed there", "10.96.0.5", 80, "10.244.0.9", 8080,
	  ESTABLISHED, false, false },
	{ "to another port of a VIP", "10.96.0.1", 81, "10.244.0.9", 8080,
	  ESTABLISHED, false, false },
	{ "to nothing of ours", "198.51.100.1", 80, "10.244.0.9", 8080,
	  ESTABLISHED, false, false },
	{ "to the endpoint itself", "10.244.0.9", 8080, "10.244.0.9", 8080,
	  ESTABLISHED, false, false },
};

/* What went, went before a sweep; @on is the setting. */
static struct world *tcp_world(bool on)
{
	struct world *w = world_new(0);
	int i;

	if (on)
		ck_assert_int_eq(config_set(&w->config->vipmap.close_connections,
					    "EndpointGone"),
				 0);
	for (i = 0; i < N_ROWS(tcp_before); i++)
		world_put(w, tcp_before[i]);
	world_must_sync(w, "before");
	for (i = 0; i < N_FAMILIES; i++) {
		stale_swept(w->stale[i]);
		stale_swept(w->closing[i]);
	}
	return w;
}

static void tcp_changes(struct world *w)
{
	int i;

	for (i = 0; i < N_ROWS(tcp_after); i++)
		world_put(w, tcp_after[i]);
	world_must_sync(w, "after");
}

static struct flow tcp_flow(int i, enum family *f)
{
	struct flow flow =
		flow_to(tcp_cases[i].destination, tcp_cases[i].port,
			tcp_cases[i].source, tcp_cases[i].source_port, f);

	flow.tcp_state = tcp_cases[i].state;
	return flow;
}

START_TEST(judges_connections)
{
	enum family f;
	struct flow flow = tcp_flow(_i, &f);
	struct world *w;
	int on;

	for (on = 0; on < 2; on++) {
		w = tcp_world(on);
		ck_assert_msg(!stale_flow(w->closing[f], &flow),
			      "BEY-1: %s, before", tcp_cases[_i].name);
		tcp_changes(w);
		ck_assert_msg(stale_flow(w->closing[f], &flow) ==
				      (on ? tcp_cases[_i].on : tcp_cases[_i].unsaid),
			      "BEY-1: %s, the setting is %s",
			      tcp_cases[_i].name, on ? "on" : "off");
		stale_swept(w->closing[f]);
		ck_assert_msg(!stale_flow(w->closing[f], &flow),
			      "BEY-1: %s, swept", tcp_cases[_i].name);
		world_free(w);
	}
}
END_TEST

/* What makes a look at all connections due, where connections of d/on are ended. */
static const struct {
	const char *name, *object;
	bool due;
} closing[] = {
	{ "an endpoint goes", "slice d/on-2 on v4 tcp:8080:web 10.244.0.1", true },
	{ "all go", "slice d/on-2 on v4 tcp:8080:web", true },
	{ "the slice goes", "gone slice d/on-2", true },
	{ "the slice becomes another Service's",
	  "slice d/on-2 off v4 tcp:8080:web 10.244.0.9", true },
	{ "the target port is another",
	  "slice d/on-2 on v4 tcp:8081:web 10.244.0.9", true },
	{ "one ceases to be ready and to serve",
	  "slice d/on-2 on v4 tcp:8080:web 10.244.0.9(unready,unserving)", true },
	{ "one begins to drain",
	  "slice d/on-2 on v4 tcp:8080:web 10.244.0.9(unready,terminating)", false },
	{ "one comes",
	  "slice d/on-2 on v4 tcp:8080:web 10.244.0.7 10.244.0.9 10.244.0.8",
	  false },
	{ "a slice comes", "slice d/on-3 on v4 tcp:8080:web 10.244.0.7", false },
	{ "another virtual IP",
	  "service d/on close-gone tcp:80:web udp:80:udp ip=10.96.0.1 ext=203.0.113.9",
	  false },
	{ "the annotation goes, and with it the wish",
	  "service d/on tcp:80:web ip=10.96.0.1", false },
	{ "an annotation comes",
	  "service d/unsaid close-gone tcp:80 ip=10.96.0.3", true },
	{ "the Service goes", "gone service d/on", false },
	{ "an endpoint of a Service that says never goes",
	  "slice d/off-1 off v4 tcp:8080", false },
	{ "an endpoint of a Service that says nothing goes",
	  "slice d/unsaid-1 unsaid v4 tcp:8080", false },
};

START_TEST(looks_when_endpoints_go)
{
	struct world *w = tcp_world(false);
	const enum family f = FAMILY_IPV4;

	world_put(w, "slice d/on-2 on v4 tcp:8080:web 10.244.0.9");
	world_must_sync(w, "begin");
	stale_swept(w->closing[f]);
	world_put(w, closing[_i].object);
	ck_assert(!stale_is_pending(w->closing[f])); /* not before the rules are there */
	world_must_sync(w, closing[_i].name);
	ck_assert_msg(stale_is_pending(w->closing[f]) == closing[_i].due,
		      "BEY-1: %s", closing[_i].name);
	world_free(w);
}
END_TEST

/* BEY-1 is off: not once is a look due, from the start on. */
START_TEST(never_looks)
{
	struct world *w = world_new(0);
	int i;

	world_put(w, "service d/a tcp:80@30080 ip=10.96.0.1 ip=fd00:96::1");
	world_put(w, "slice d/a-1 a v4 tcp:8080 10.244.0.1 10.244.0.9");
	world_must_sync(w, "start");
	world_put(w, "slice d/a-1 a v4 tcp:8080 10.244.0.1");
	world_must_sync(w, "one less");
	world_put(w, "gone slice d/a-1");
	world_must_sync(w, "none");
	world_restart(w);
	world_must_sync(w, "restart");
	for (i = 0; i < N_FAMILIES; i++)
		ck_assert(!stale_is_pending(w->closing[i]));
	world_free(w);
}
END_TEST

/* The change's own transaction fails: the one that makes up for it has to be followed by a look. */
START_TEST(looks_after_a_refusal)
{
	struct world *w = tcp_world(false);
	const enum family f = FAMILY_IPV4;

	world_put(w, "slice d/on-1 on v4 tcp:8080:web udp:8080:udp 10.244.0.1");
	fake_faults(w->kernel)->fail_at = 1;
	fake_faults(w->kernel)->fail_err = -ENOBUFS;
	world_must_sync(w, "the second transaction");
	ck_assert_uint_eq(fake_faults(w->kernel)->fail_at, 0);
	ck_assert(stale_is_pending(w->closing[f]));
	world_free(w);
}
END_TEST

/* After a restart all is looked at, and only what is gone is ended. */
START_TEST(restart_closes)
{
	struct world *w = tcp_world(false);
	enum family f;
	struct flow lost = flow_to("10.96.0.1", 80, "10.244.0.9", 8080, &f);
	struct flow kept = flow_to("10.96.0.1", 80, "10.244.0.1", 8080, &f);
	struct flow of_none = flow_to("10.96.0.4", 80, "10.244.0.9", 8080, &f);

	world_remember(w, tcp_after[0]);
	world_remember(w, "gone service d/gone");
	world_restart(w);
	world_must_sync(w, "restart");
	ck_assert(stale_is_pending(w->closing[f]));
	ck_assert(stale_flow(w->closing[f], &lost));
	ck_assert(!stale_flow(w->closing[f], &kept));
	ck_assert(!stale_flow(w->closing[f], &of_none));
	world_free(w);
}
END_TEST

/* The setting changes: all Services count that say nothing themselves. */
START_TEST(setting_changes)
{
	struct world *w = tcp_world(false);
	enum family f;
	struct flow unsaid = flow_to("10.96.0.3", 80, "10.244.0.9", 8080, &f);
	struct flow kept = flow_to("10.96.0.3", 80, "10.244.0.1", 8080, &f);
	struct flow off = flow_to("10.96.0.2", 80, "10.244.0.9", 8080, &f);

	tcp_changes(w);
	stale_swept(w->closing[f]);
	ck_assert_int_eq(config_set(&w->config->vipmap.close_connections,
				    "EndpointGone"),
			 0);
	ck_assert(!stale_flow(w->closing[f], &unsaid));
	stale_all_changed(w->closing[f]);
	ck_assert(stale_is_pending(w->closing[f]));
	ck_assert(stale_flow(w->closing[f], &unsaid));
	ck_assert(!stale_flow(w->closing[f], &kept));
	ck_assert(!stale_flow(w->closing[f], &off));
	ck_assert_int_eq(
		config_set(&w->config->vipmap.close_connections, "Never"), 0);
	ck_assert(!stale_flow(w->closing[f], &unsaid));
	stale_swept(w->closing[f]);
	ck_assert(!stale_is_pending(w->closing[f]));
	world_free(w);
}
END_TEST

/* Where nothing changed, everything is let be. */
START_TEST(nothing_changed)
{
	struct world *w = world_at(false);
	enum family f;
	struct flow flow = flow_to(cases[_i].destination, cases[_i].port,
				   cases[_i].source, cases[_i].source_port, &f);

	ck_assert_msg(!stale_flow(w->stale[f], &flow), "%s", cases[_i].name);
	ck_assert(!stale_is_pending(w->stale[f]));
	world_free(w);
}
END_TEST

/* What a change makes the next sweep look at, of IPv4. */
static const struct {
	const char *name, *object;
	const char *lost, *vips; /* each with a space after it */
} looks[] = {
	{ "the same again", "slice d/quiet-1 quiet v4 udp:8080 10.244.0.8", "",
	  "10.96.0.4:80 " },
	{ "of another", "service d/tcp tcp:80 ip=10.96.0.9", "", "" },
	{ "an endpoint goes",
	  "slice d/dns-1 dns v4 udp:5353:dns tcp:5353:tcp 10.244.0.1 10.244.0.3(unready) "
	  "10.244.0.4(unserving) 10.244.0.5(local)",
	  "10.244.0.2:5353 ", "" },
	{ "one begins to drain",
	  "slice d/dns-1 dns v4 udp:5353:dns tcp:5353:tcp 10.244.0.1(unready,terminating) "
	  "10.244.0.2(unready,terminating) 10.244.0.3(unready) 10.244.0.4(unserving) "
	  "10.244.0.5(local)",
	  "", "10.96.0.1:53 203.0.113.1:53 203.0.113.2:53 any:30053 " },
	{ "all have another port", "slice d/quiet-1 quiet v4 udp:8081 10.244.0.8",
	  "10.244.0.8:8080 ", "" },
	{ "one joins", "slice d/quiet-1 quiet v4 udp:8080 10.244.0.8 10.244.0.9",
	  "", "10.96.0.4:80 " },
	{ "nobody is left: packets are refused", "gone slice d/quiet-1", "",
	  "10.96.0.4:80 " },
	{ "a virtual IP comes", "service d/quiet udp:80 ip=10.96.0.4 ext=203.0.113.9",
	  "", "10.96.0.4:80 203.0.113.9:80 " },
	{ "a virtual IP goes", "service d/gone udp:80@30080 ip=10.96.0.3", "",
	  "10.96.0.3:80 203.0.113.3:80 any:30080 " },
	{ "a Service goes", "gone service d/quiet", "", "10.96.0.4:80 " },
};

static int text_order(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void filters_text(const struct flow_filter *list, unsigned int n,
			 bool answered, char text[512])
{
	char lines[SWEEP_FILTERS_MAX][64], addr[ADDR_TEXT_SIZE];
	unsigned int i;

	for (i = 0; i < n; i++) {
		ck_assert_int_eq(list[i].answered, answered);
		addr_format(FAMILY_IPV4, &list[i].addr, addr);
		snprintf(lines[i], sizeof(lines[i]), "%s:%u ",
			 list[i].any_address ? "any" : addr, list[i].port);
	}
	qsort(lines, n, sizeof(lines[0]), text_order);
	*text = '\0';
	for (i = 0; i < n; i++)
		snprintf(text + strlen(text), 512 - strlen(text), "%s", lines[i]);
}

START_TEST(looks_at_what_changed)
{
	struct world *w = world_at(false);
	struct stale *s = w->stale[FAMILY_IPV4];
	char lost[512], vips[512];
	const struct flow_filter *list;
	unsigned int n;

	world_put(w, looks[_i].object);
	world_must_sync(w, looks[_i].name);
	list = stale_lost(s, &n);
	filters_text(list, n, true, lost);
	list = stale_vips(s, &n);
	filters_text(list, n, false, vips);
	ck_assert_msg(strcmp(lost, looks[_i].lost) == 0 &&
			      strcmp(vips, looks[_i].vips) == 0,
		      "%s: who ceased to serve: %s, virtual IPs: %s",
		      looks[_i].name, lost, vips);
	ck_assert_int_eq(stale_is_urgent(s), *looks[_i].lost != '\0');
	stale_swept(s);
	ck_assert(!stale_is_urgent(s) && !stale_is_pending(s));
	world_free(w);
}
END_TEST

/* Who ceased to serve comes first; what else changed is still looked at. */
START_TEST(urgent_sweeps_cover_their_part)
{
	struct world *w = world_at(false);
	struct stale *s = w->stale[FAMILY_IPV4];
	enum family f;
	struct flow lost = flow_to("10.96.0.1", 53, "10.244.0.5", 5353, &f),
		    other = flow_to("10.96.0.4", 80, "10.244.0.99", 8080, &f);
	struct errbuf eb;

	world_put(w, "slice d/dns-1 dns v4 udp:5353:dns tcp:5353:tcp 10.244.0.1");
	world_put(w, "slice d/quiet-1 quiet v4 udp:8080 10.244.0.8 10.244.0.9");
	world_must_sync(w, "changes");
	ck_assert(stale_is_urgent(s));
	ck_assert_int_eq(stale_begin(s, true, &eb), 0);
	ck_assert(stale_flow(s, &lost));
	while (stale_step(s, 1000, &eb) > 0)
		;
	ck_assert(!stale_is_urgent(s) && stale_is_pending(s));
	ck_assert(stale_flow(s, &other));
	ck_assert_int_eq(stale_begin(s, false, &eb), 0);
	while (stale_step(s, 1000, &eb) > 0)
		;
	ck_assert(!stale_is_pending(s));
	ck_assert(!stale_flow(s, &other));
	/* and where it is the only change, there is nothing left */
	world_put(w, "slice d/quiet-1 quiet v4 udp:8080 10.244.0.8");
	world_must_sync(w, "one change");
	ck_assert_int_eq(stale_begin(s, true, &eb), 0);
	while (stale_step(s, 1000, &eb) > 0)
		;
	ck_assert(!stale_is_pending(s));
	world_free(w);
}
END_TEST

/* The cache of who serves follows the model at once. */
START_TEST(follows_the_model)
{
	struct world *w = world_at(true);
	enum family f;
	struct flow flow = flow_to("10.96.0.1", 53, "10.244.0.9", 5353, &f);

	ck_assert(stale_flow(w->stale[f], &flow));
	world_put(w, "slice d/dns-1 dns v4 udp:5353:dns 10.244.0.9");
	ck_assert(!stale_flow(w->stale[f], &flow));
	world_put(w, "gone slice d/dns-1");
	ck_assert(stale_flow(w->stale[f], &flow));
	world_free(w);
}
END_TEST

/* NODE-4: node ports leave 192.168.7.1 and come to 192.168.7.2. */
static const struct {
	const char *name, *destination;
	uint16_t port;
	const char *source;
	uint16_t source_port;
	bool stale;
} moved[] = {
	{ "CT-5: the address that they left", "192.168.7.1", 30053,
	  "10.244.0.1", 5353, true },
	{ "CT-5: never translated", "192.168.7.1", 30053, "192.168.7.1", 30053,
	  false },
	{ "CT-8: a port of it that is no node port", "192.168.7.1", 999,
	  "10.244.0.1", 5353, false },
	{ "CT-8: an address that never was one of theirs", "172.16.0.1", 30053,
	  "10.244.0.1", 5353, false },
	{ "CT-3: the address that they came to, never translated",
	  "192.168.7.2", 30053, "192.168.7.2", 30053, true },
	{ "CT-1: the address that they came to, served", "192.168.7.2", 30053,
	  "10.244.0.1", 5353, false },
	{ "CT-1: a ClusterIP, served", "10.96.0.1", 53, "10.244.0.1", 5353, false },
};

START_TEST(nodeports_move)
{
	struct world *w = world_at(false);
	enum family f;
	struct flow flow = flow_to(moved[_i].destination, moved[_i].port,
				   moved[_i].source, moved[_i].source_port, &f);

	world_put(w, "node n1 192.168.7.2 fd00:7::1");
	world_must_sync(w, "moved");
	ck_assert(stale_is_pending(w->stale[f]));
	ck_assert(!stale_is_pending(w->stale[FAMILY_IPV6]));
	ck_assert_msg(stale_flow(w->stale[f], &flow) == moved[_i].stale, "%s",
		      moved[_i].name);
	stale_swept(w->stale[f]);
	ck_assert_msg(!stale_flow(w->stale[f], &flow), "%s, later", moved[_i].name);
	world_free(w);
}
END_TEST

/* NP-2: node ports on all local addresses but loopback. */
START_TEST(nodeports_everywhere)
{
	static const struct {
		const char *addr;
		bool stale;
	} addrs[] = {
		{ "172.16.0.1", true },
		{ "192.168.7.1", true },
		{ "127.0.0.1", false },
		{ "8.8.8.8", false },
	};
	struct world *w = world_at(true);
	enum family f;
	int i;

	world_put(w, "gone node n1");
	world_must_sync(w, "everywhere");
	for (i = 0; i < N_ROWS(addrs); i++) {
		struct flow flow =
			flow_to(addrs[i].addr, 30053, "10.244.0.99", 5353, &f);

		ck_assert_msg(stale_flow(w->stale[f], &flow) == addrs[i].stale,
			      "%s", addrs[i].addr);
	}
	world_free(w);
}
END_TEST

/* CT-5: a VIP that comes back before the sweep is judged by who serves it now. */
START_TEST(back_before_the_sweep)
{
	struct world *w = world_at(true);
	enum family f;
	struct flow kept = flow_to("10.96.0.3", 80, "10.244.0.7", 8080, &f);
	struct flow lost = flow_to("10.96.0.3", 80, "10.244.0.8", 8080, &f);

	world_put(w, "service d/other udp:80 ip=10.96.0.3");
	world_put(w, "slice d/other-1 other v4 udp:8080 10.244.0.7");
	world_must_sync(w, "back");
	ck_assert(!stale_flow(w->stale[f], &kept));
	ck_assert(stale_flow(w->stale[f], &lost));
	world_free(w);
}
END_TEST

/* After a restart, living flows stay and the others go; so do those of what went meanwhile. */
START_TEST(restart)
{
	struct world *w = world_at(false);
	enum family f;
	struct flow served = flow_to("10.96.0.1", 53, "10.244.0.1", 5353, &f);
	struct flow dead = flow_to("10.96.0.1", 53, "10.244.0.99", 5353, &f);
	struct flow gone = flow_to("10.96.0.3", 80, "10.244.0.7", 8080, &f);
	struct flow nodeport =
		flow_to("192.168.7.1", 30080, "10.244.0.7", 8080, &f);

	world_remember(w, "gone service d/gone");
	world_restart(w);
	world_must_sync(w, "restart");
	ck_assert(stale_is_pending(w->stale[f]));
	ck_assert(!stale_flow(w->stale[f], &served));
	ck_assert(stale_flow(w->stale[f], &dead));
	ck_assert(stale_flow(w->stale[f], &gone));
	ck_assert(stale_flow(w->stale[f], &nodeport));
	world_free(w);
}
END_TEST

/* A sweep covers what changed before it, and forgets what was removed. */
START_TEST(a_sweep_settles)
{
	struct world *w = world_at(true);
	enum family f;
	struct flow gone = flow_to("10.96.0.3", 80, "10.244.0.7", 8080, &f);

	ck_assert(stale_flow(w->stale[f], &gone));
	stale_swept(w->stale[f]);
	ck_assert(!stale_is_pending(w->stale[f]));
	ck_assert(!stale_flow(w->stale[f], &gone));
	world_put(w, "service d/dns udp:53:dns ip=10.96.0.1");
	world_must_sync(w, "a node port went");
	gone = flow_to("192.168.7.1", 30053, "10.244.0.1", 5353, &f);
	ck_assert(stale_flow(w->stale[f], &gone));
	world_free(w);
}
END_TEST

/* Removals are remembered up to a bound, without harm beyond it. */
START_TEST(many_removals)
{
	struct world *w = world_at(false);
	struct vip vip = { .port = 80, .role = VIP_EXTERNAL_IP };
	unsigned int i;

	for (i = 0; i < 70000; i++) {
		memcpy(vip.addr.bytes, &i, sizeof(i));
		stale_vip_removed(w->stale[FAMILY_IPV4], &vip);
	}
	ck_assert(stale_is_pending(w->stale[FAMILY_IPV4]));
	stale_swept(w->stale[FAMILY_IPV4]);
	ck_assert(!stale_is_pending(w->stale[FAMILY_IPV4]));
	world_free(w);
}
END_TEST

static int64_t cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Processor time of @n flows to nobody, after @removals VIPs went; the best of several. */
static int64_t time_flows(unsigned int removals, unsigned int n)
{
	struct world *w = world_at(false);
	struct vip vip = { .port = 80, .role = VIP_EXTERNAL_IP };
	enum family f;
	struct flow flow = flow_to("198.51.100.1", 80, "10.244.0.7", 8080, &f);
	int64_t best = INT64_MAX, took;
	unsigned int i, turn;

	for (i = 0; i < removals; i++) {
		vip.addr.bytes[0] = 172;
		vip.addr.bytes[1] = (uint8_t)(i >> 16);
		vip.addr.bytes[2] = (uint8_t)(i >> 8);
		vip.addr.bytes[3] = (uint8_t)i;
		stale_vip_removed(w->stale[f], &vip);
	}
	for (turn = 0; turn < 5; turn++) {
		took = cpu_us();
		for (i = 0; i < n; i++) {
			flow.destination.bytes[3] = (uint8_t)i;
			ck_assert(!stale_flow(w->stale[f], &flow));
		}
		took = cpu_us() - took;
		best = took < best ? took : best;
	}
	world_free(w);
	return best;
}

/* CT-10: a flow costs the same after a mass deletion as after a few. */
START_TEST(mass_deletion)
{
	enum { FLOWS = 3000 };
	int64_t few = time_flows(64, FLOWS), many = time_flows(65536, FLOWS);

	printf("%d flows: %lld us after 64 removals, %lld us after 65,536\n",
	       FLOWS, (long long)few, (long long)many);
	ck_assert_msg(many < 10 * few + 1000, "%lld us and %lld us",
		      (long long)few, (long long)many);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("stale");
	TCase *tc = tcase_create("stale");

	ADD_LOOP(tc, judges, cases);
	ADD_LOOP(tc, nothing_changed, cases);
	ADD_LOOP(tc, judges_connections, tcp_cases);
	ADD_LOOP(tc, looks_when_endpoints_go, closing);
	ADD_LOOP(tc, nodeports_move, moved);
	tcase_add_test(tc, never_looks);
	tcase_add_test(tc, looks_after_a_refusal);
	tcase_add_test(tc, restart_closes);
	tcase_add_test(tc, setting_changes);
	ADD_LOOP(tc, looks_at_what_changed, looks);
	tcase_add_test(tc, urgent_sweeps_cover_their_part);
	tcase_add_test(tc, follows_the_model);
	tcase_add_test(tc, nodeports_everywhere);
	tcase_add_test(tc, back_before_the_sweep);
	tcase_add_test(tc, restart);
	tcase_add_test(tc, a_sweep_settles);
	tcase_add_test(tc, many_removals);
	tcase_add_test(tc, mass_deletion);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(suite, tc);
	return suite;
}
