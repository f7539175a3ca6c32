/*
 * Packing: a copy in one block that stands on its own. Each object is built on memory that is
 * overwritten and released before the copy is looked at. And comparison: each field counts.
 */
#include "proxy/model/objects.h"

#include <check.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/arena.h"
#include "tests/support/suite.h"
#include "tests/support/objects.h"

static struct arena arena;

static const char *text_of(const char *text)
{
	return arena_strdup(&arena, text);
}

static struct addr address(const char *text)
{
	enum family family;
	struct addr addr;

	ck_assert_int_eq(addr_parse(text, &family, &addr), 0);
	return addr;
}

static struct addr_list address_list(const char *a, const char *b)
{
	struct addr *items = arena_array(&arena, 2, sizeof(*items));

	items[0] = address(a);
	items[1] = address(b);
	return (struct addr_list){ 2, items };
}

static struct prefix_list range_list(const char *a, const char *b)
{
	struct prefix *items = arena_array(&arena, 2, sizeof(*items));
	enum family family;

	ck_assert_int_eq(prefix_parse(a, &family, &items[0]), 0);
	ck_assert_int_eq(prefix_parse(b, &family, &items[1]), 0);
	return (struct prefix_list){ 2, items };
}

/* Everything that the originals point to, from now on garbage. */
static void destroy_originals(void)
{
	ck_assert_ptr_nonnull(arena.block);
	arena_free(&arena);
}

static void expect(struct strbuf *sb, const char *want)
{
	ck_assert_str_eq(sb->text, want);
	strbuf_free(sb);
}

static struct service full_service(void)
{
	struct service_port *ports = arena_array(&arena, 2, sizeof(*ports));
	struct service_extra *extra =
		arena_array(&arena, N_FAMILIES, sizeof(*extra));
	struct service s = { .namespace = text_of("default"),
			     .name = text_of("web"),
			     .uid = text_of("u1"),
			     .created_s = 5,
			     .flags = SERVICE_LOAD_BALANCER,
			     .affinity_timeout_s = 60,
			     .health_check_node_port = 32000,
			     .n_ports = 2,
			     .ports = ports };

	ports[0] = (struct service_port){ text_of("http"), 80, 30000, IPPROTO_TCP };
	ports[1] = (struct service_port){ text_of(""), 53, 0, IPPROTO_UDP };
	s.family[FAMILY_IPV4].has_cluster_ip = true;
	s.family[FAMILY_IPV4].cluster_ip = address("10.0.0.1");
	extra[FAMILY_IPV4].external_ips = address_list("192.0.2.1", "192.0.2.2");
	extra[FAMILY_IPV6].load_balancer_ips = address_list("fd00::1", "fd00::2");
	extra[FAMILY_IPV4].source_ranges =
		range_list("10.0.0.0/8", "192.0.2.0/24");
	s.family[FAMILY_IPV4].extra = &extra[FAMILY_IPV4];
	s.family[FAMILY_IPV6].extra = &extra[FAMILY_IPV6];
	return s;
}

START_TEST(test_service)
{
	struct service s = full_service(), *packed = service_pack(&s);
	struct strbuf sb = STRBUF_INIT;

	destroy_originals();
	describe_service(&sb, packed);
	expect(&sb,
	       "service default/web 10.0.0.1 http:80/tcp/30000 :53/udp external=192.0.2.1 "
	       "external=192.0.2.2 from=10.0.0.0/8 from=192.0.2.0/24 lb=fd00::1 lb=fd00::2 "
	       "load-balancer affinity=60 health=32000 created=5 uid=u1");
	free(packed);
}
END_TEST

START_TEST(test_empty_service)
{
	struct service s = { .namespace = "a",
			     .name = "b",
			     .uid = "",
			     .created_s = INT64_MAX,
			     .flags = SERVICE_IGNORED };
	struct service *packed = service_pack(&s);
	struct strbuf sb = STRBUF_INIT;

	describe_service(&sb, packed);
	expect(&sb, "service a/b ignored");
	free(packed);
}
END_TEST

static const uint8_t *packed_endpoints(const struct slice *s,
				       const struct slice_endpoint *endpoints)
{
	uint8_t *packed = arena_alloc(&arena, endpoints_pack(s, endpoints, NULL));

	endpoints_pack(s, endpoints, packed);
	return packed;
}

static struct slice full_slice(void)
{
	static const char zones[] = "a\0b\0\0c\0\0";
	struct slice_port *ports = arena_array(&arena, 2, sizeof(*ports));
	struct slice_endpoint *endpoints =
		arena_array(&arena, 3, sizeof(*endpoints));
	struct slice s = { .namespace = text_of("default"),
			   .name = text_of("web-1"),
			   .service = text_of("web"),
			   .family = FAMILY_IPV4,
			   .trigger_us = 7,
			   .n_ports = 2,
			   .n_endpoints = 3,
			   .ports = ports,
			   .zones = arena_strndup(&arena, zones, sizeof(zones) - 1),
			   .zones_size = sizeof(zones) - 1 };

	ports[0] = (struct slice_port){ text_of("http"), 8080, IPPROTO_TCP };
	ports[1] = (struct slice_port){ text_of("d"), 53, IPPROTO_SCTP };
	endpoints[0] =
		(struct slice_endpoint){ address("10.1.0.1"), 0,
					 ENDPOINT_READY | ENDPOINT_ZONE_HINTS };
	endpoints[1] = (struct slice_endpoint){ address("10.1.0.2"), 5,
						ENDPOINT_ZONE_HINTS };
	endpoints[2] =
		(struct slice_endpoint){ address("10.1.0.3"), 0, ENDPOINT_LOCAL };
	s.endpoints = packed_endpoints(&s, endpoints);
	return s;
}

START_TEST(test_slice)
{
	struct slice s = full_slice(), *packed = slice_pack(&s);
	struct strbuf sb = STRBUF_INIT;

	destroy_originals();
	describe_slice(&sb, packed);
	expect(&sb, "slice default/web-1 of web IPv4 http:8080/tcp d:53/sctp 10.1.0.1( ready "
		    "zones=a+b+ ) "
		    "10.1.0.2( zones=c+ ) 10.1.0.3( local ) trigger=7");
	free(packed);
}
END_TEST

/* Names survive the packing, take little room, and are of no harm to a terminal. */
START_TEST(test_names)
{
	static const struct endpoint_names names[] = {
		{ "web-7c9-abcde", "node-1", "zone-a" },
		{ "web-7c9-abxyz", "node-1", "zone-a" },
		{ "web-7c9", "node-12", "" },
		{ "", "", "zone-a" },
		{ "bad\033[2Jname", "node 1", "zone-a" },
		{ "w\303\251b", "node-1", "zone-b" },
	};
	static const char *const want[] = {
		"web-7c9-abcde node-1 zone-a",
		"web-7c9-abxyz node-1 zone-a",
		"web-7c9 node-12 ",
		"  zone-a",
		"  zone-a",
		" node-1 zone-b",
	};
	const unsigned int n = sizeof(names) / sizeof(names[0]);
	struct slice_endpoint endpoints[6] = { 0 };
	struct slice s = { .namespace = "a", .name = "b", .service = "c", .zones = "" };
	const struct endpoint_names *unpacked;
	struct slice *packed;
	char buffer[512];
	unsigned int i;

	s.n_endpoints = n;
	s.endpoints = packed_endpoints(&s, endpoints);
	s.names = buffer;
	s.names_size = (uint32_t)names_pack(names, n, NULL);
	ck_assert_uint_lt(s.names_size, 110);
	ck_assert_uint_eq(names_pack(names, n, buffer), s.names_size);
	packed = slice_pack(&s);
	ck_assert(slice_equal(packed, &s));
	memset(buffer, 0, sizeof(buffer));
	ck_assert(!slice_equal(packed, &s));
	unpacked = slice_names(packed, &arena);
	for (i = 0; i < n; i++) {
		snprintf(buffer, sizeof(buffer), "%s %s %s", unpacked[i].pod,
			 unpacked[i].node, unpacked[i].zone);
		ck_assert_str_eq(buffer, want[i]);
	}
	free(packed);
	ck_assert_uint_eq(
		names_pack((const struct endpoint_names[]){ { "", "", "" } }, 1,
			   NULL),
		0);
}
END_TEST

/* Longer than a length of one byte tells. */
START_TEST(test_long_names)
{
	char longest[256], too_long[257];
	const struct endpoint_names names[] = { { longest, too_long, "" },
						{ longest, "n", longest } };
	struct slice s = { .n_endpoints = 2 };
	const struct endpoint_names *unpacked;
	char buffer[2048];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	s.names = buffer;
	s.names_size = (uint32_t)names_pack(names, 2, buffer);
	unpacked = slice_names(&s, &arena);
	ck_assert_str_eq(unpacked[0].pod, longest);
	ck_assert_str_eq(unpacked[0].node, "");
	ck_assert_str_eq(unpacked[1].pod, longest);
	ck_assert_str_eq(unpacked[1].node, "n");
	ck_assert_str_eq(unpacked[1].zone, longest);
}
END_TEST

START_TEST(test_empty_slice)
{
	struct slice s = {
		.namespace = "a", .name = "b", .service = "c", .family = FAMILY_IPV6
	};
	struct slice *packed = slice_pack(&s);
	struct strbuf sb = STRBUF_INIT;

	describe_slice(&sb, packed);
	expect(&sb, "slice a/b of c IPv6");
	free(packed);
}
END_TEST

/*
 * There are ten times as many endpoints as anything else of a cluster: one has
 * an address and a byte, and where zones are hinted at 4 bytes more.
 */
START_TEST(test_slice_is_small)
{
	static const struct {
		enum family family;
		const char *zones;
		size_t zones_size, each;
	} cases[] = {
		{ FAMILY_IPV4, "", 0, 5 },
		{ FAMILY_IPV4, "a\0", 3, 9 },
		{ FAMILY_IPV6, "", 0, 17 },
		{ FAMILY_IPV6, "a\0", 3, 21 },
	};
	struct slice_endpoint *endpoints = calloc(1000, sizeof(*endpoints)), got;
	struct slice s = { .namespace = "a", .name = "b", .service = "c" }, *packed;
	unsigned int i;

	for (i = 0; i < 1000; i++) {
		endpoints[i].flags = (uint8_t)i;
		memset(endpoints[i].addr.bytes, (int)(i >> 2),
		       family_size(cases[_i].family));
		endpoints[i].zones = cases[_i].zones_size ? ~i : 0;
	}
	s.family = cases[_i].family;
	s.n_endpoints = 1000;
	s.zones = cases[_i].zones;
	s.zones_size = (uint32_t)cases[_i].zones_size;
	s.endpoints = packed_endpoints(&s, endpoints);
	packed = slice_pack(&s);
	ck_assert_uint_le(malloc_usable_size(packed), 1000 * cases[_i].each + 256);
	for (i = 0; i < 1000; i++) {
		got = slice_endpoint(packed, i);
		ck_assert(addr_compare(&got.addr, &endpoints[i].addr) == 0);
		ck_assert_uint_eq(got.zones, endpoints[i].zones);
		ck_assert_uint_eq(got.flags, endpoints[i].flags);
		ck_assert_uint_eq(slice_endpoint_flags(packed, i), got.flags);
	}
	free(packed);
	free(endpoints);
}
END_TEST

START_TEST(test_service_cidr)
{
	struct service_cidr c = { .name = text_of("k") }, *packed;
	struct strbuf sb = STRBUF_INIT;

	c.family[FAMILY_IPV4] = range_list("10.0.0.0/16", "10.1.0.0/16");
	c.family[FAMILY_IPV6] = range_list("fd00::/112", "fd00:1::/112");
	packed = service_cidr_pack(&c);
	destroy_originals();
	describe_service_cidr(&sb, packed);
	expect(&sb,
	       "cidr k range=10.0.0.0/16 range=10.1.0.0/16 range=fd00::/112 range=fd00:1::/112");
	free(packed);
}
END_TEST

START_TEST(test_node)
{
	struct node_address *addresses =
		arena_array(&arena, 2, sizeof(*addresses));
	struct node n = { .name = text_of("node-a"),
			  .uid = text_of("u"),
			  .zone = text_of("z"),
			  .flags = NODE_DELETED | NODE_TO_BE_DELETED,
			  .n_addresses = 2,
			  .addresses = addresses };
	struct strbuf sb = STRBUF_INIT;
	struct node *packed;

	addresses[0] = (struct node_address){ FAMILY_IPV6, address("fd00::1") };
	addresses[1] = (struct node_address){ FAMILY_IPV4, address("10.0.0.1") };
	n.pod_cidrs[FAMILY_IPV4] = range_list("10.0.0.0/24", "10.0.1.0/24");
	packed = node_pack(&n);
	destroy_originals();
	describe_node(&sb, packed);
	expect(&sb, "node node-a zone=z fd00::1 10.0.0.1 pods=10.0.0.0/24 pods=10.0.1.0/24 deleted "
		    "to-be-deleted uid=u");
	free(packed);
}
END_TEST

/* After @change, of a field of s or of its ports, a Service is another one than before. */
#define SERVICE_DIFFERS(change)                                                  \
	do {                                                                     \
		struct service before = full_service(), s = full_service();      \
		struct service_port *ports =                                     \
			arena_array(&arena, 3, sizeof(*ports));                  \
		struct service_extra extra[N_FAMILIES] = { *s.family[0].extra,   \
							   *s.family[1].extra }; \
                                                                                 \
		s.family[0].extra = &extra[0];                                   \
		s.family[1].extra = &extra[1];                                   \
		memcpy(ports, s.ports, 2 * sizeof(*ports));                      \
		ports[2] = ports[1];                                             \
		s.ports = ports;                                                 \
		ck_assert(service_equal(&before, &s));                           \
		change;                                                          \
		ck_assert_msg(!service_equal(&before, &s) &&                     \
				      !service_equal(&s, &before),               \
			      "%s", #change);                                    \
		arena_free(&arena);                                              \
	} while (0)

START_TEST(test_service_equal)
{
	SERVICE_DIFFERS(s.namespace = "other");
	SERVICE_DIFFERS(s.name = "other");
	SERVICE_DIFFERS(s.uid = "u2");
	SERVICE_DIFFERS(s.created_s++);
	SERVICE_DIFFERS(s.flags |= SERVICE_EXTERNAL_LOCAL);
	SERVICE_DIFFERS(s.affinity_timeout_s++);
	SERVICE_DIFFERS(s.health_check_node_port++);
	SERVICE_DIFFERS(s.n_ports++);
	SERVICE_DIFFERS(ports[1].name = "dns");
	SERVICE_DIFFERS(ports[0].port++);
	SERVICE_DIFFERS(ports[0].node_port++);
	SERVICE_DIFFERS(ports[1].protocol = IPPROTO_SCTP);
	SERVICE_DIFFERS(s.family[FAMILY_IPV6].has_cluster_ip = true);
	SERVICE_DIFFERS(s.family[FAMILY_IPV4].cluster_ip = address("10.0.0.2"));
	SERVICE_DIFFERS(extra[FAMILY_IPV4].external_ips.count--);
	SERVICE_DIFFERS(s.family[FAMILY_IPV6].extra = NULL);
	SERVICE_DIFFERS(extra[FAMILY_IPV4].external_ips =
				address_list("192.0.2.1", "192.0.2.3"));
	SERVICE_DIFFERS(extra[FAMILY_IPV6].load_balancer_ips =
				address_list("fd00::2", "fd00::1"));
	SERVICE_DIFFERS(extra[FAMILY_IPV4].source_ranges =
				range_list("10.0.0.0/9", "192.0.2.0/24"));
	SERVICE_DIFFERS(extra[FAMILY_IPV6].source_ranges =
				range_list("fd00::/8", "fd01::/16"));
}
END_TEST

static struct slice plain_slice(void)
{
	struct slice_port *ports = arena_array(&arena, 2, sizeof(*ports));
	struct slice_endpoint endpoints[2];
	struct slice s;

	/* The padding differs from one to the next. */
	memset(endpoints, (int)((uintptr_t)ports >> 4 & 0xff), sizeof(endpoints));
	ports[0] = (struct slice_port){ text_of("http"), 80, IPPROTO_TCP };
	ports[1] = (struct slice_port){ text_of(""), 53, IPPROTO_UDP };
	endpoints[0].addr = address("10.0.0.1");
	endpoints[1].addr = address("10.0.0.2");
	endpoints[0].zones = endpoints[1].zones = 0;
	endpoints[0].flags = endpoints[1].flags = ENDPOINT_READY;
	s = (struct slice){ .namespace = text_of("default"),
			    .name = text_of("web-1"),
			    .service = text_of("web"),
			    .trigger_us = 7,
			    .n_ports = 1,
			    .n_endpoints = 1,
			    .ports = ports,
			    .zones = text_of("a\0"),
			    .zones_size = 2 };
	s.endpoints = packed_endpoints(&s, endpoints);
	return s;
}

#define SLICE_DIFFERS(change)                                                   \
	do {                                                                    \
		struct slice before = plain_slice(), s = plain_slice();         \
		struct slice_endpoint endpoints[2] = { slice_endpoint(&s, 0) }; \
		struct slice_port *ports =                                      \
			arena_array(&arena, 2, sizeof(*ports));                 \
                                                                                \
		memcpy(ports, s.ports, 2 * sizeof(*ports));                     \
		s.ports = ports;                                                \
		ck_assert(slice_equal(&before, &s));                            \
		change;                                                         \
		s.endpoints = packed_endpoints(&s, endpoints);                  \
		ck_assert_msg(!slice_equal(&before, &s) &&                      \
				      !slice_equal(&s, &before),                \
			      "%s", #change);                                   \
		arena_free(&arena);                                             \
	} while (0)

START_TEST(test_slice_equal)
{
	SLICE_DIFFERS(s.namespace = "other");
	SLICE_DIFFERS(s.name = "other");
	SLICE_DIFFERS(s.service = "other");
	SLICE_DIFFERS(s.family = FAMILY_IPV6);
	SLICE_DIFFERS(s.trigger_us++);
	SLICE_DIFFERS(s.n_ports++);
	SLICE_DIFFERS(s.n_endpoints++);
	SLICE_DIFFERS(s.zones_size--);
	SLICE_DIFFERS(s.zones = text_of("b\0"));
	SLICE_DIFFERS(ports[0].name = "https");
	SLICE_DIFFERS(ports[0].port++);
	SLICE_DIFFERS(ports[0].protocol = IPPROTO_SCTP);
	SLICE_DIFFERS(endpoints[0].addr = address("10.0.0.3"));
	SLICE_DIFFERS(endpoints[0].zones = 1);
	SLICE_DIFFERS(endpoints[0].flags |= ENDPOINT_LOCAL);
}
END_TEST

START_TEST(test_kind_names)
{
	ck_assert_str_eq(kind_name(KIND_SERVICE), "Service");
	ck_assert_str_eq(kind_name(KIND_SLICE), "EndpointSlice");
	ck_assert_str_eq(kind_name(KIND_SERVICE_CIDR), "ServiceCIDR");
	ck_assert_str_eq(kind_name(KIND_NODE), "Node");
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("objects");
	TCase *tc = tcase_create("objects");

	tcase_add_test(tc, test_service);
	tcase_add_test(tc, test_empty_service);
	tcase_add_test(tc, test_slice);
	tcase_add_test(tc, test_empty_slice);
	tcase_add_test(tc, test_names);
	tcase_add_test(tc, test_long_names);
	tcase_add_loop_test(tc, test_slice_is_small, 0, 4);
	tcase_add_test(tc, test_service_cidr);
	tcase_add_test(tc, test_node);
	tcase_add_test(tc, test_service_equal);
	tcase_add_test(tc, test_slice_equal);
	tcase_add_test(tc, test_kind_names);
	suite_add_tcase(suite, tc);
	return suite;
}
