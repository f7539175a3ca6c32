/*
 * Objects as JSON and as protobuf are the same objects, with the same
 * complaints. The numbers of the fields stand here a second time, next to the
 * recordings of a real API server (tests/unit/test_reflector.c), so that a slip
 * in the decoder's tables shows. VIPMAP_SEED repeats a run.
 */
#include "watch/decode_protobuf.h"

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/suite.h"
#include "tests/support/objects.h"
#include "tests/support/twin.h"
#include "watch/decode.h"

#ifdef __SANITIZE_ADDRESS__
enum { ROUNDS = 1000 };
#else
enum { ROUNDS = 5000 };
#endif

static bool chance(struct random *r, unsigned int one_in)
{
	return random_below(r, one_in) == 0;
}

#define PICK(r, list) (list)[random_below(r, sizeof(list) / sizeof((list)[0]))]

static const char *const names[] = { "web", "a",       "db-1",
				     "x0",  "service", "kubernetes" };
static const char *const bad_names[] = { "",  "UPPER",	  "dot.dot",
					 "-", "\xc3\xa4", "a\x1b[1m" };
static const char *const v4[] = { "10.0.0.1", "10.0.0.2", "172.30.7.9",
				  "192.0.2.77" };
static const char *const v6[] = { "fd00::1", "fd00:10:96::8a2d", "2001:db8::77" };
static const char *const bad_ips[] = { "",	    "None",	 "10.0.0.256",
				       "127.0.0.1", "::1",	 "224.0.0.1",
				       "0.0.0.0",   "fe80::1%1", "010.0.0.1" };
static const char *const ranges[] = { "10.0.0.0/8",	"10.1.0.0/16",
				      " 192.0.2.0/24 ", "fd00::/8",
				      "2001:db8::/32",	"0.0.0.0/0" };
static const char *const protocols[] = { "TCP", "UDP", "SCTP", "", "tcp", "DCCP" };

static const char *some_name(struct random *r)
{
	return chance(r, 30) ? PICK(r, bad_names) : PICK(r, names);
}

static const char *some_ip(struct random *r)
{
	if (chance(r, 30))
		return PICK(r, bad_ips);
	return chance(r, 2) ? PICK(r, v4) : PICK(r, v6);
}

static const char *some_protocol(struct random *r)
{
	return protocols[random_below(r, chance(r, 30) ? 6 : 3)];
}

static long long some_port(struct random *r)
{
	static const long long odd[] = { 0,	-1,	   65535,
					 65536, INT32_MAX, INT32_MIN };

	return chance(r, 30) ? PICK(r, odd)
			     : (long long)random_below(r, 65535) + 1;
}

static const char *some_word(struct random *r, const char *const *words, size_t n)
{
	return chance(r, 30) ? "nonsense" : words[random_below(r, n)];
}

#define WORD(r, list) some_word(r, list, sizeof(list) / sizeof((list)[0]))

/* ---- metadata */

static void add_map(struct twin *t, unsigned int number, const char *name,
		    const char *const *keys, const char *value)
{
	static const char *const others[] = { "app", "tier", "" };
	struct random *r = t->random;

	if (chance(r, 10))
		return;
	twin_map_begin(t, name);
	while (!chance(r, 3))
		twin_map_entry(t, number, PICK(r, others), PICK(r, names));
	for (; *keys; keys++)
		if (!chance(r, 20))
			twin_map_entry(t, number, *keys, value);
	twin_map_end(t);
}

static void add_owners(struct twin *t)
{
	struct twin owner, raw, managed;

	twin_begin(&owner, t->random);
	twin_text(&owner, 1, "kind", "Service");
	twin_text(&owner, 3, "name", "owner");
	twin_text(&owner, 4, "uid", "another-uid");
	twin_text(&owner, 5, "apiVersion", "v1");
	twin_bool_set(&owner, 6, "controller", true);
	twin_bool_set(&owner, 7, "blockOwnerDeletion", true);
	twin_list_begin(t, "ownerReferences");
	twin_list_message(t, 13, &owner);
	twin_list_end(t);

	twin_begin(&managed, t->random);
	twin_begin(&raw, t->random);
	twin_text(&raw, 1, "Raw", "{\"f:metadata\":{\"f:labels\":{}}}");
	twin_text(&managed, 1, "manager", "kubectl");
	twin_text(&managed, 2, "operation", "Update");
	twin_time(&managed, 4, "time", 1764113000);
	twin_message(&managed, 7, "fieldsV1", &raw);
	twin_list_begin(t, "managedFields");
	twin_list_message(t, 17, &managed);
	twin_list_end(t);
}

static void add_metadata(struct twin *t, const char *const *labels,
			 const char *label, const char *const *annotations,
			 const char *annotation)
{
	static const long long times[] = { 0,	       1,
					   1764113023, 253402300799,
					   -1,	       INT64_MAX };
	struct twin meta;
	struct random *r = t->random;

	twin_begin(&meta, r);
	twin_text(&meta, 1, "name", some_name(r));
	twin_text(&meta, 2, "generateName", PICK(r, names));
	twin_text(&meta, 3, "namespace", some_name(r));
	twin_text(&meta, 4, "selfLink", "");
	twin_text(&meta, 5, "uid",
		  chance(r, 5) ? "" : "b53a2ed9-39c1-461a-af1d-a5413d4de524");
	twin_text(&meta, 6, "resourceVersion", "79");
	twin_integer(&meta, 7, "generation", (long long)random_below(r, 3));
	twin_time(&meta, 8, "creationTimestamp", PICK(r, times));
	if (chance(r, 5))
		twin_time(&meta, 9, "deletionTimestamp", PICK(r, times));
	if (chance(r, 5))
		twin_integer_set(&meta, 10, "deletionGracePeriodSeconds", 30);
	add_map(&meta, 11, "labels", labels, label);
	add_map(&meta, 12, "annotations", annotations, annotation);
	if (chance(r, 2))
		add_owners(&meta);
	twin_list_begin(&meta, "finalizers");
	twin_list_text(&meta, 14, "service.kubernetes.io/load-balancer-cleanup");
	twin_list_end(&meta);
	twin_message(t, 1, "metadata", &meta);
}

/* ---- Service */

static void add_target_port(struct twin *t)
{
	struct strbuf message = STRBUF_INIT;

	/* IntOrString is no object in JSON. */
	protobuf_add_varint(&message, 1 << 3);
	protobuf_add_varint(&message, 0);
	protobuf_add_varint(&message, 2 << 3);
	protobuf_add_varint(&message, 8080);
	strbuf_adds(&t->json, "\"targetPort\":8080,");
	protobuf_add_bytes(&t->late, 4, message.text, message.length);
	strbuf_free(&message);
}

static void add_service_ports(struct twin *t)
{
	struct random *r = t->random;
	struct twin port;

	twin_list_begin(t, "ports");
	while (!chance(r, 3)) {
		twin_begin(&port, r);
		twin_text(&port, 1, "name", chance(r, 3) ? "" : some_name(r));
		twin_text(&port, 2, "protocol", some_protocol(r));
		twin_integer_set(&port, 3, "port", some_port(r));
		add_target_port(&port);
		twin_integer(&port, 5, "nodePort", chance(r, 2) ? 0 : some_port(r));
		if (chance(r, 2))
			twin_text_set(&port, 6, "appProtocol", "https");
		twin_list_message(t, 1, &port);
	}
	twin_list_end(t);
}

static void add_ips(struct twin *t, unsigned int number, const char *name)
{
	if (chance(t->random, 2))
		return;
	twin_list_begin(t, name);
	while (!chance(t->random, 3))
		twin_list_text(t, number, some_ip(t->random));
	twin_list_end(t);
}

static void add_ranges(struct twin *t, unsigned int number, const char *name)
{
	struct random *r = t->random;

	if (chance(r, 3))
		return;
	twin_list_begin(t, name);
	/* One at least: JSON can say that a list is there and empty. */
	do
		twin_list_text(t, number,
			       chance(r, 20) ? PICK(r, bad_ips) : PICK(r, ranges));
	while (!chance(r, 3));
	twin_list_end(t);
}

static void add_cluster_ips(struct twin *t)
{
	static const char *const families[] = { "IPv4", "IPv6" };
	struct random *r = t->random;
	unsigned int first = (unsigned int)random_below(r, 2),
		     n = chance(r, 2) ? 2 : 1;
	const char *ips[2];

	ips[0] = chance(r, 30) ? PICK(r, bad_ips)
		 : first       ? PICK(r, v6)
			       : PICK(r, v4);
	ips[1] = chance(r, 30) ? PICK(r, bad_ips)
		 : first       ? PICK(r, v4)
			       : PICK(r, v6);
	twin_text(t, 3, "clusterIP", ips[0]);
	if (chance(r, 10))
		return;
	twin_list_begin(t, "clusterIPs");
	for (unsigned int i = 0; i < n; i++)
		twin_list_text(t, 18, ips[i]);
	twin_list_end(t);
	twin_list_begin(t, "ipFamilies");
	for (unsigned int i = 0; i < n; i++)
		twin_list_text(t, 19, chance(r, 30) ? "IPv5" : families[first ^ i]);
	twin_list_end(t);
	twin_text_set(t, 17, "ipFamilyPolicy", "PreferDualStack");
}

static void add_affinity(struct twin *t)
{
	static const char *const words[] = { "None", "ClientIP", "ClientIP", "" };
	static const long long timeouts[] = { 1, 600, 86400, 0, 86401, -1 };
	struct random *r = t->random;
	struct twin config, client_ip;

	twin_text(t, 7, "sessionAffinity", WORD(r, words));
	if (chance(r, 2))
		return;
	twin_begin(&config, r);
	twin_begin(&client_ip, r);
	twin_integer_set(&client_ip, 1, "timeoutSeconds",
			 timeouts[random_below(r, chance(r, 30) ? 6 : 3)]);
	twin_message(&config, 1, "clientIP", &client_ip);
	twin_message(t, 14, "sessionAffinityConfig", &config);
}

static void add_service_spec(struct twin *t)
{
	static const char *const types[] = { "ClusterIP", "NodePort",
					     "LoadBalancer", "", "ExternalName" };
	static const char *const policies[] = { "Cluster", "Local", "" };
	static const char *const no_keys[] = { NULL };
	struct random *r = t->random;
	struct twin spec;

	twin_begin(&spec, r);
	add_service_ports(&spec);
	add_map(&spec, 2, "selector", no_keys, "");
	add_cluster_ips(&spec);
	twin_text(&spec, 4, "type", WORD(r, types));
	add_ips(&spec, 5, "externalIPs");
	add_affinity(&spec);
	twin_text(&spec, 8, "loadBalancerIP", chance(r, 2) ? "" : "192.0.2.1");
	add_ranges(&spec, 9, "loadBalancerSourceRanges");
	twin_text(&spec, 10, "externalName", chance(r, 2) ? "" : "example.org");
	twin_text(&spec, 11, "externalTrafficPolicy", WORD(r, policies));
	twin_integer(&spec, 12, "healthCheckNodePort",
		     chance(r, 2) ? 0 : some_port(r));
	if (chance(r, 2))
		twin_bool_set(&spec, 13, "publishNotReadyAddresses", true);
	twin_bool_set(&spec, 20, "allocateLoadBalancerNodePorts", true);
	twin_text_set(&spec, 21, "loadBalancerClass", "example.org/class");
	if (!chance(r, 4))
		twin_text_set(&spec, 22, "internalTrafficPolicy",
			      WORD(r, policies));
	twin_text_set(&spec, 23, "trafficDistribution", "PreferClose");
	twin_message(t, 2, "spec", &spec);
}

static void add_service_status(struct twin *t)
{
	static const char *const modes[] = { "VIP", "Proxy" };
	struct random *r = t->random;
	struct twin status, balancer, ingress, port;

	twin_begin(&status, r);
	twin_begin(&balancer, r);
	twin_list_begin(&balancer, "ingress");
	while (!chance(r, 3)) {
		twin_begin(&ingress, r);
		twin_text(&ingress, 1, "ip", chance(r, 5) ? "" : some_ip(r));
		twin_text(&ingress, 2, "hostname",
			  chance(r, 2) ? "" : "lb.example.org");
		if (chance(r, 2))
			twin_text_set(&ingress, 3, "ipMode", WORD(r, modes));
		twin_begin(&port, r);
		twin_integer(&port, 1, "port", 80);
		twin_text(&port, 2, "protocol", "TCP");
		twin_list_begin(&ingress, "ports");
		twin_list_message(&ingress, 4, &port);
		twin_list_end(&ingress);
		twin_list_message(&balancer, 1, &ingress);
	}
	twin_list_end(&balancer);
	twin_message(&status, 1, "loadBalancer", &balancer);
	twin_message(t, 3, "status", &status);
}

static void make_service(struct twin *t)
{
	static const char *const labels[] = {
		"service.kubernetes.io/service-proxy-name", NULL
	};
	static const char *const closing[] = { "vipmap/close-connections", NULL };
	static const char *const passing[] = { "vipmap/no-endpoints", NULL };
	const char *const *annotations = chance(t->random, 2) ? closing : passing;
	static const char *const words[] = { "Never", "EndpointGone", "Soon",
					     "Pass", "Reject" };

	add_metadata(t, labels, "other", annotations, PICK(t->random, words));
	add_service_spec(t);
	add_service_status(t);
}

/* ---- EndpointSlice */

static void add_hint_list(struct twin *t, unsigned int number, const char *name,
			  const char *const *words, size_t n)
{
	struct random *r = t->random;
	struct twin hint;

	twin_list_begin(t, name);
	while (!chance(r, 2)) {
		twin_begin(&hint, r);
		twin_text(&hint, 1, "name", words[random_below(r, n)]);
		twin_list_message(t, number, &hint);
	}
	twin_list_end(t);
}

static void add_endpoint(struct twin *t, bool is_v6)
{
	static const char *const zones[] = { "zone-1", "zone-2", "" };
	static const char *const nodes[] = { "node-a", "node-b", "" };
	static const char *const no_keys[] = { NULL };
	static const char *const conditions[] = { "ready", "serving",
						  "terminating" };
	static const char *const targets[] = { "Pod", "Pod", "Node", "" };
	static const char *const pods[] = { "web-5krxk", "web-6hz2p", "db-0",
					    "\xc3\xa4" };
	struct random *r = t->random;
	struct twin endpoint, inner;

	twin_begin(&endpoint, r);
	twin_list_begin(&endpoint, "addresses");
	while (!chance(r, 10)) {
		twin_list_text(&endpoint, 1,
			       chance(r, 10) ? some_ip(r)
			       : is_v6	     ? PICK(r, v6)
					     : PICK(r, v4));
		if (!chance(r, 10))
			break;
	}
	twin_list_end(&endpoint);
	twin_begin(&inner, r);
	for (unsigned int i = 0; i < 3; i++)
		if (!chance(r, 3))
			twin_bool_set(&inner, i + 1, conditions[i], chance(r, 2));
	twin_message(&endpoint, 2, "conditions", &inner);
	if (chance(r, 2))
		twin_text_set(&endpoint, 3, "hostname", "web-0");
	if (chance(r, 2)) {
		twin_begin(&inner, r);
		twin_text(&inner, 1, "kind", PICK(r, targets));
		twin_text(&inner, 2, "namespace", "default");
		twin_text(&inner, 3, "name", chance(r, 10) ? "" : PICK(r, pods));
		twin_text(&inner, 4, "uid", "pods-uid");
		twin_message(&endpoint, 4, "targetRef", &inner);
	}
	add_map(&endpoint, 5, "deprecatedTopology", no_keys, "");
	if (!chance(r, 5))
		twin_text_set(&endpoint, 6, "nodeName", PICK(r, nodes));
	if (!chance(r, 3))
		twin_text_set(&endpoint, 7, "zone", PICK(r, zones));
	if (!chance(r, 3)) {
		twin_begin(&inner, r);
		add_hint_list(&inner, 1, "forZones", zones, 3);
		add_hint_list(&inner, 2, "forNodes", nodes, 3);
		twin_message(&endpoint, 8, "hints", &inner);
	}
	twin_list_message(t, 2, &endpoint);
}

static void add_endpoint_ports(struct twin *t)
{
	struct random *r = t->random;
	struct twin port;

	twin_list_begin(t, "ports");
	while (!chance(r, 3)) {
		twin_begin(&port, r);
		if (!chance(r, 10))
			twin_text_set(&port, 1, "name",
				      chance(r, 3) ? "" : some_name(r));
		if (!chance(r, 10))
			twin_text_set(&port, 2, "protocol", some_protocol(r));
		if (!chance(r, 10))
			twin_integer_set(&port, 3, "port", some_port(r));
		twin_text_set(&port, 4, "appProtocol", "kubernetes.io/h2c");
		twin_list_message(t, 3, &port);
	}
	twin_list_end(t);
}

static void make_slice(struct twin *t)
{
	static const char *const labels[] = { "kubernetes.io/service-name",
					      "endpointslice.kubernetes.io/managed-by",
					      NULL };
	static const char *const annotations[] = { "endpoints.kubernetes.io/"
						   "last-change-trigger-time",
						   NULL };
	static const char *const moments[] = { "2026-11-25T23:23:02Z",
					       "2026-11-25T23:23:02.123456Z",
					       "yesterday", "" };
	struct random *r = t->random;
	const bool is_v6 = chance(r, 2);

	add_metadata(t, labels, some_name(r), annotations, PICK(r, moments));
	twin_text(t, 4, "addressType",
		  chance(r, 20) ? "FQDN"
		  : is_v6	? "IPv6"
				: "IPv4");
	twin_list_begin(t, "endpoints");
	while (!chance(r, 6))
		add_endpoint(t, is_v6);
	twin_list_end(t);
	add_endpoint_ports(t);
}

/* ---- ServiceCIDR and Node */

static void make_cidr(struct twin *t)
{
	static const char *const no_keys[] = { NULL };
	struct twin spec;

	add_metadata(t, no_keys, "", no_keys, "");
	twin_begin(&spec, t->random);
	add_ranges(&spec, 1, "cidrs");
	twin_message(t, 2, "spec", &spec);
}

static void add_taints(struct twin *t)
{
	static const char *const keys[] = { "ToBeDeletedByClusterAutoscaler",
					    "node.kubernetes.io/not-ready", "" };
	struct random *r = t->random;
	struct twin taint;

	twin_list_begin(t, "taints");
	while (!chance(r, 2)) {
		twin_begin(&taint, r);
		twin_text(&taint, 1, "key", PICK(r, keys));
		twin_text(&taint, 2, "value", "");
		twin_text(&taint, 3, "effect", "NoSchedule");
		twin_time(&taint, 4, "timeAdded", 1764113023);
		twin_list_message(t, 5, &taint);
	}
	twin_list_end(t);
}

static void add_node_addresses(struct twin *t)
{
	static const char *const types[] = { "InternalIP", "ExternalIP",
					     "Hostname" };
	struct random *r = t->random;
	struct twin status, address;

	twin_begin(&status, r);
	twin_text(&status, 3, "phase", "");
	twin_list_begin(&status, "addresses");
	while (!chance(r, 4)) {
		twin_begin(&address, r);
		twin_text(&address, 1, "type", PICK(r, types));
		twin_text(&address, 2, "address", some_ip(r));
		twin_list_message(&status, 5, &address);
	}
	twin_list_end(&status);
	twin_message(t, 3, "status", &status);
}

static void make_node(struct twin *t)
{
	static const char *const labels[] = { "topology.kubernetes.io/zone", NULL };
	struct random *r = t->random;
	struct twin spec;

	add_metadata(t, labels, "zone-1", labels, "");
	twin_begin(&spec, r);
	twin_text(&spec, 1, "podCIDR", PICK(r, ranges));
	twin_text(&spec, 3, "providerID", "cloud://1");
	twin_bool_set(&spec, 4, "unschedulable", true);
	add_taints(&spec);
	add_ranges(&spec, 7, "podCIDRs");
	twin_message(t, 2, "spec", &spec);
	add_node_addresses(t);
}

/* ---- both ways */

static void complain(void *ctx, const char *message)
{
	strbuf_addf(ctx, "%s\n", message);
}

static void describe_names(struct strbuf *sb, const struct slice *slice)
{
	struct arena scratch = ARENA_INIT;
	const struct endpoint_names *who = slice_names(slice, &scratch);

	ck_assert_ptr_nonnull(who);
	for (unsigned int i = 0; i < slice->n_endpoints; i++)
		strbuf_addf(sb, " %s@%s/%s", who[i].pod, who[i].node, who[i].zone);
	arena_free(&scratch);
}

/* The object, or what is wrong with it, and all complaints. */
static void describe(struct strbuf *sb, struct decoder *d, enum kind kind,
		     const struct json *json)
{
	struct errbuf eb = { "" };
	void *object = NULL;

	d->ctx = sb;
	switch (kind) {
	case KIND_SERVICE:
		object = decode_service(d, json, &eb);
		if (object)
			describe_service(sb, object);
		break;
	case KIND_SLICE:
		object = decode_slice(d, json, &eb);
		if (object) {
			describe_slice(sb, object);
			describe_names(sb, object);
		}
		break;
	case KIND_SERVICE_CIDR:
		object = decode_service_cidr(d, json, &eb);
		if (object)
			describe_service_cidr(sb, object);
		break;
	case KIND_NODE:
		object = decode_node(d, json, &eb);
		if (object)
			describe_node(sb, object);
		break;
	case N_KINDS:
		break;
	}
	if (!object)
		strbuf_addf(sb, "refused: %s", eb.text);
	free(object);
}

struct count {
	unsigned int good, bad, complaints;
};

static void compare(struct random *r, enum kind kind, uint64_t seed,
		    struct count *count)
{
	static void (*const make[N_KINDS])(
		struct twin *) = { make_service, make_slice, make_cidr, make_node };
	struct strbuf text = STRBUF_INIT, bytes = STRBUF_INIT;
	struct strbuf want = STRBUF_INIT, got = STRBUF_INIT;
	struct arena scratch = ARENA_INIT, trees = ARENA_INIT;
	struct decoder d = { .node_name = "node-a",
			     .scratch = &scratch,
			     .complain = complain };
	struct errbuf eb = { "" };
	struct json *json, *tree;
	struct twin t;

	twin_begin(&t, r);
	make[kind](&t);
	twin_end(&t, &text, &bytes);
	json = json_parse(text.text, text.length, &eb);
	ck_assert_msg(json, "%s in %s", eb.text, text.text);
	tree = protobuf_read_item(&trees, kind, bytes.text, bytes.length, &eb);
	ck_assert_msg(tree, "seed %llu: %s: %s", (unsigned long long)seed,
		      eb.text, text.text);
	describe(&want, &d, kind, json);
	describe(&got, &d, kind, tree);
	ck_assert_msg(!strcmp(want.text, got.text),
		      "seed %llu: of\n%.2000s\nJSON\n%.500s\nprotobuf\n%.500s",
		      (unsigned long long)seed, text.text, want.text, got.text);
	if (strstr(want.text, "refused: "))
		count->bad++;
	else
		count->good++;
	count->complaints += strchr(want.text, '\n') != NULL;
	json_free(json);
	arena_free(&trees);
	arena_free(&scratch);
	strbuf_free(&text);
	strbuf_free(&bytes);
	strbuf_free(&want);
	strbuf_free(&got);
}

START_TEST(both_decoders_agree)
{
	const enum kind kind = (enum kind)_i;
	struct count count = { 0 };
	uint64_t seed = random_seed("VIPMAP_SEED");
	struct random r;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		r = (struct random){ seed + i };
		compare(&r, kind, seed + i, &count);
	}
	/* Neither way may be left untried. */
	ck_assert_msg(count.good > ROUNDS / 10 && count.bad > ROUNDS / 100 &&
			      (count.complaints > ROUNDS / 100 ||
			       kind == KIND_SERVICE_CIDR),
		      "%s: %u good, %u bad, %u with complaints",
		      kind_name(kind), count.good, count.bad, count.complaints);
}
END_TEST

/* ---- what objects come in, and what is wrong with some of it */

#define BYTES(text) text, sizeof(text) - 1
#define META(kind, length)                                                     \
	"k8s\0\x0a" length "\x12" kind /* a TypeMeta without a version */

enum reader { BODY, EVENT, LIST, SERVICE };

static const struct {
	const char *name;
	enum reader reader;
	const char *bytes;
	size_t length;
	const char *want; /* JSON paths of the tree and their values, or the problem */
} readings[] = {
	{ "a Status", BODY,
	  BYTES(META("\6Status",
		     "\x08") "\x12\x17\x0a\0\x22\7Expired\x2a\7\x22\5\x0a\3why\x30\x9a\3"),
	  "kind=Status reason=Expired details.causes[0].reason=why code=410 " },
	{ "a Status without anything", BODY, BYTES(META("\6Status", "\x08")),
	  "kind=Status " },
	{ "a body of an unknown kind", BODY, BYTES(META("\3Pod", "\5") "\x12\0"),
	  "protobuf, frame: an object of an unknown kind" },
	{ "a body of no kind", BODY, BYTES("k8s\0\x12\0"),
	  "protobuf, frame: an object of an unknown kind" },
	{ "a body without anything", BODY, BYTES(""),
	  "protobuf, frame: an object does not begin with \"k8s\"" },
	{ "JSON", BODY, BYTES("{\"kind\":\"Status\"}"),
	  "protobuf, frame: an object does not begin with \"k8s\"" },
	{ "a kind that is cut", BODY, BYTES("k8s\0\x0a\2\x12\6"),
	  "protobuf, frame: malformed" },
	{ "a body that is cut", BODY, BYTES(META("\6Status", "\x08") "\x12\5\x30"),
	  "protobuf, frame: malformed" },

	{ "an event", EVENT,
	  BYTES("\x0a\5ADDED\x12\x1c\x0a\x1a" META("\7Service", "\x09") "\x12\x09\x0a\7\x0a\1n\x32\2"
									"79"),
	  "type=ADDED object.kind=Service object.metadata.name=n "
	  "object.metadata.resourceVersion=79 " },
	{ "an event without type", EVENT, BYTES("\x12\x02\x0a\0"),
	  "protobuf, frame: an event without type or object" },
	{ "an event without object", EVENT, BYTES("\x0a\5ADDED"),
	  "protobuf, frame: an event without type or object" },
	{ "an event without anything", EVENT, BYTES(""),
	  "protobuf, frame: an event without type or object" },
	{ "an event whose object is cut", EVENT,
	  BYTES("\x0a\5ADDED\x12\2\x0a\1"), "protobuf, frame: malformed" },
	{ "an event that is cut", EVENT, BYTES("\x0a\5ADD"),
	  "protobuf, frame: malformed" },

	{ "a list", LIST,
	  BYTES("\x0a\7\x12\1"
		"5\x1a\2ab"),
	  "metadata.resourceVersion=5 metadata.continue=ab " },
	{ "a list without anything", LIST, BYTES(""), "" },

	{ "no fields", SERVICE, BYTES(""), "" },
	{ "messages that are empty", SERVICE, BYTES("\x0a\0\x12\0\x1a\0"), "" },
	{ "a number where a message belongs", SERVICE, BYTES("\x08\1"),
	  "protobuf, Service.metadata: a wrong wire type" },
	{ "a message where a number belongs", SERVICE,
	  BYTES("\x12\6\x0a\4\x1a\2\x08\1"),
	  "protobuf, ServicePort.port: a wrong wire type" },
	{ "a fixed number", SERVICE, BYTES("\x12\7\x0a\5\x1d\1\0\0\0"),
	  "protobuf, ServicePort.port: a wrong wire type" },
	{ "a message that is cut", SERVICE, BYTES("\x12\3\x0a\2\x18"),
	  "protobuf, ServiceSpec: malformed" },
	{ "a message within that is cut", SERVICE, BYTES("\x12\3\x0a\1\x18"),
	  "protobuf, ServicePort: malformed" },
	{ "NUL in a text", SERVICE, BYTES("\x0a\5\x0a\3a\0b"),
	  "metadata.name=a\x1a"
	  "b " },
	{ "NUL in a label's key", SERVICE, BYTES("\x0a\7\x5a\5\x0a\3a\0b"),
	  "metadata.labels.a?b= " },
	{ "NULs in a label", SERVICE, BYTES("\x0a\6\x5a\4\x12\2\0\0"),
	  "metadata.labels.=\x1a\x1a " },
	{ "a label of nothing", SERVICE, BYTES("\x0a\2\x5a\0"),
	  "metadata.labels.= " },
	{ "a label that is cut", SERVICE, BYTES("\x0a\3\x5a\1\x0a"),
	  "protobuf, ObjectMeta.labels: malformed" },
	{ "a negative number", SERVICE,
	  BYTES("\x12\x0d\x0a\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"),
	  "spec.ports[0].port=-1 " },
	{ "the year 0", SERVICE,
	  BYTES("\x0a\x0d\x42\x0b\x08\x80\x88\xae\xb4\x98\xfe\xff\xff\xff\1"),
	  "metadata.creationTimestamp=0000-01-01T00:00:00Z " },
	{ "the year 10000", SERVICE,
	  BYTES("\x0a\x09\x42\7\x08\x80\xdc\xef\xff\xaf\7"),
	  "protobuf, ObjectMeta.creationTimestamp: a time out of all range" },
	{ "a time that is cut", SERVICE, BYTES("\x0a\4\x42\2\x08\x80"),
	  "protobuf, ObjectMeta.creationTimestamp: malformed" },
	{ "a time that is none", SERVICE, BYTES("\x0a\2\x42\0"), "" },
};

static void add_values(struct strbuf *sb, const struct json *root,
		       const struct json *json)
{
	char path[JSON_PATH_SIZE];

	json_for_each (child, json)
		add_values(sb, root, child);
	if (json_string(json))
		strbuf_addf(sb, "%s=%s ", json_path(root, json, path),
			    json_string(json));
	else if (json_type(json) == JSON_NUMBER)
		strbuf_addf(sb, "%s=%.0f ", json_path(root, json, path),
			    json_number(json));
}

static struct json *read_with(enum reader reader, struct arena *arena,
			      const char *bytes, size_t length, struct errbuf *eb)
{
	switch (reader) {
	case BODY:
		return protobuf_read_body(arena, bytes, length, eb);
	case EVENT:
		return protobuf_read_event(arena, bytes, length, eb);
	case LIST:
		return protobuf_read_list(arena, bytes, length, eb);
	case SERVICE:
		return protobuf_read_item(arena, KIND_SERVICE, bytes, length, eb);
	}
	return NULL;
}

START_TEST(reads_trees)
{
	const size_t length = readings[_i].length;
	struct strbuf got = STRBUF_INIT;
	struct arena arena = ARENA_INIT;
	struct errbuf eb = { "" };
	char *copy = malloc(length ? length : 1);
	struct json *json;

	memcpy(copy, readings[_i].bytes, length);
	strbuf_adds(&got, "");
	json = read_with(readings[_i].reader, &arena, copy, length, &eb);
	if (json)
		add_values(&got, json, json);
	else
		ck_assert_int_eq(errno, EINVAL);
	ck_assert_msg(!strcmp(json ? got.text : eb.text, readings[_i].want),
		      "%s: want %s, got %s%s", readings[_i].name,
		      readings[_i].want, got.text, eb.text);
	free(copy);
	arena_free(&arena);
	strbuf_free(&got);
}
END_TEST

/* Two bytes make a value of a hundred: there is an end to it. */
START_TEST(values_are_bounded)
{
	struct strbuf bytes = STRBUF_INIT, endpoints = STRBUF_INIT;
	struct arena arena = ARENA_INIT;
	struct errbuf eb = { "" };

	for (unsigned int i = 0; i < JSON_MAX_VALUES / 2; i++)
		strbuf_add(&endpoints, "\x12\0", 2);
	ck_assert_ptr_nonnull(protobuf_read_item(
		&arena, KIND_SLICE, endpoints.text, endpoints.length, &eb));
	arena_reset(&arena);
	for (unsigned int i = 0; i < JSON_MAX_VALUES; i++)
		strbuf_add(&bytes, "\x22\0", 2); /* one text again and again */
	ck_assert_ptr_null(protobuf_read_item(&arena, KIND_SLICE, bytes.text,
					      bytes.length, &eb));
	ck_assert_str_eq(eb.text,
			 "protobuf, EndpointSlice.addressType: too many values");
	arena_free(&arena);
	strbuf_free(&bytes);
	strbuf_free(&endpoints);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("decode protobuf");
	TCase *tcase = tcase_create("decode protobuf");

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, both_decoders_agree, 0, N_KINDS);
	ADD_LOOP(tcase, reads_trees, readings);
	tcase_add_test(tcase, values_are_bounded);
	suite_add_tcase(suite, tcase);
	return suite;
}
