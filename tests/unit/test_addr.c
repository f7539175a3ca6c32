/* Addresses and prefixes: reading, printing, comparing, and which are special. */
#include "proxy/base/addr.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/suite.h"

static const struct {
	const char *text;
	const char *want; /* NULL: refused */
	enum family family;
} addresses[] = {
	{ "10.0.0.1", "10.0.0.1", FAMILY_IPV4 },
	{ "0.0.0.0", "0.0.0.0", FAMILY_IPV4 },
	{ "255.255.255.255", "255.255.255.255", FAMILY_IPV4 },
	{ "172.30.0.041", "172.30.0.41", FAMILY_IPV4 }, /* API-11 */
	{ "010.000.0008.0000000009", "10.0.8.9", FAMILY_IPV4 },
	{ "fd00::1", "fd00::1", FAMILY_IPV6 },
	{ "FD00:0:0::1", "fd00::1", FAMILY_IPV6 },
	{ "::", "::", FAMILY_IPV6 },
	{ "::ffff:10.0.0.1", "10.0.0.1", FAMILY_IPV4 },
	{ "::ffff:0a00:1", "10.0.0.1", FAMILY_IPV4 },
	{ "::fffe:10.0.0.1", "::fffe:a00:1", FAMILY_IPV6 },
	{ "", NULL, 0 },
	{ "10.0.0", NULL, 0 },
	{ "10.0.0.", NULL, 0 },
	{ "10.0.0.1.", NULL, 0 },
	{ "10.0.0.1.2", NULL, 0 },
	{ "10..0.1", NULL, 0 },
	{ "10.0.0.256", NULL, 0 },
	{ "10.0.0.-1", NULL, 0 },
	{ "10.0.0.0x1", NULL, 0 },
	{ " 10.0.0.1", NULL, 0 },
	{ "10.0.0.1 ", NULL, 0 },
	{ "10.0.0.00000000000000001", NULL, 0 },
	{ "4294967297.0.0.1", NULL, 0 },
	{ "fd00::1%eth0", NULL, 0 },
	{ "fd00:::1", NULL, 0 },
	{ "1:2:3:4:5:6:7:8:9", NULL, 0 },
	{ "[fd00::1]", NULL, 0 },
	{ "10.0.0.1/8", NULL, 0 },
	{ "localhost", NULL, 0 },
};

START_TEST(test_address)
{
	enum family family = N_FAMILIES;
	char text[ADDR_TEXT_SIZE] = "";
	struct addr addr;
	int err;

	memset(&addr, 0xff,
	       sizeof(addr)); /* what is not part of it must come out as zero */
	err = addr_parse(addresses[_i].text, &family, &addr);
	ck_assert_msg(err == (addresses[_i].want ? 0 : -EINVAL), "%s: %d",
		      addresses[_i].text, err);
	if (err) {
		ck_assert_msg(family == N_FAMILIES, "%s: family was written",
			      addresses[_i].text);
		return;
	}
	addr_format(family, &addr, text);
	ck_assert_msg(family == addresses[_i].family &&
			      strcmp(text, addresses[_i].want) == 0,
		      "%s: want %s, got %s", addresses[_i].text,
		      addresses[_i].want, text);
	if (family == FAMILY_IPV4)
		ck_assert_msg(memcmp(addr.bytes + 4, (uint8_t[12]){ 0 }, 12) == 0,
			      "%s: padding", addresses[_i].text);
}
END_TEST

static const struct {
	const char *text, *want, *last;
} prefixes[] = {
	{ "10.0.0.0/8", "10.0.0.0/8", "10.255.255.255" },
	{ "10.1.2.3/8", "10.0.0.0/8", "10.255.255.255" }, /* API-11: host bits */
	{ "203.0.113.000/025", "203.0.113.0/25", "203.0.113.127" },
	{ "203.0.113.200/25", "203.0.113.128/25", "203.0.113.255" },
	{ "10.0.0.1/32", "10.0.0.1/32", "10.0.0.1" },
	{ "10.0.0.1/31", "10.0.0.0/31", "10.0.0.1" },
	{ "10.0.0.1/0", "0.0.0.0/0", "255.255.255.255" },
	{ "fd00::1/64", "fd00::/64", "fd00::ffff:ffff:ffff:ffff" },
	{ "fd00::/9", "fd00::/9", "fd7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	{ "::/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	{ "::1/128", "::1/128", "::1" },
	{ "::ffff:10.1.0.0/104", "10.0.0.0/8", "10.255.255.255" },
	{ "::ffff:10.1.0.0/95", NULL, NULL },
	{ "10.0.0.0", NULL, NULL },
	{ "10.0.0.0/", NULL, NULL },
	{ "10.0.0.0/33", NULL, NULL },
	{ "10.0.0.0/-1", NULL, NULL },
	{ "10.0.0.0/8/8", NULL, NULL },
	{ "10.0.0.0/8 ", NULL, NULL },
	{ "10.0.0.0/255.0.0.0", NULL, NULL },
	{ "fd00::/129", NULL, NULL },
	{ "/8", NULL, NULL },
	{ "00000000000000000000000000000000000000000000000000000000000000000000010.0.0.0/8",
	  NULL, NULL },
};

START_TEST(test_prefix)
{
	char text[PREFIX_TEXT_SIZE], last_text[ADDR_TEXT_SIZE];
	struct prefix prefix;
	struct addr last;
	enum family family;
	int err = prefix_parse(prefixes[_i].text, &family, &prefix);

	ck_assert_msg(err == (prefixes[_i].want ? 0 : -EINVAL), "%s: %d",
		      prefixes[_i].text, err);
	if (err)
		return;
	prefix_format(family, &prefix, text);
	last = prefix_last(family, &prefix);
	addr_format(family, &last, last_text);
	ck_assert_msg(strcmp(text, prefixes[_i].want) == 0, "%s: want %s, got %s",
		      prefixes[_i].text, prefixes[_i].want, text);
	ck_assert_msg(strcmp(last_text, prefixes[_i].last) == 0,
		      "%s: want last %s, got %s", prefixes[_i].text,
		      prefixes[_i].last, last_text);
	ck_assert_msg(prefix_contains(&prefix, &last) &&
			      prefix_contains(&prefix, &prefix.addr) &&
			      prefix_covers(&prefix, &prefix),
		      "%s: contains its ends and covers itself",
		      prefixes[_i].text);
}
END_TEST

static const struct {
	const char *outer, *inner;
	bool covers;
} pairs[] = {
	{ "10.0.0.0/8", "10.1.0.0/16", true },
	{ "10.1.0.0/16", "10.0.0.0/8", false },
	{ "10.0.0.0/8", "11.0.0.0/16", false },
	{ "0.0.0.0/0", "10.0.0.0/8", true },
	{ "10.0.0.0/9", "10.128.0.0/9", false },
	{ "fd00::/63", "fd00:0:0:1::/64", true },
	{ "fd00::/64", "fd00:0:0:1::/64", false },
	{ "10.0.0.1/32", "10.0.0.1/32", true },
};

START_TEST(test_covers)
{
	struct prefix outer, inner;
	enum family f;

	ck_assert_int_eq(prefix_parse(pairs[_i].outer, &f, &outer), 0);
	ck_assert_int_eq(prefix_parse(pairs[_i].inner, &f, &inner), 0);
	ck_assert_msg(prefix_covers(&outer, &inner) == pairs[_i].covers,
		      "%s covers %s", pairs[_i].outer, pairs[_i].inner);
	ck_assert_msg(pairs[_i].covers ? prefix_contains(&outer, &inner.addr) : true,
		      "%s contains %s", pairs[_i].outer, pairs[_i].inner);
}
END_TEST

static const struct {
	const char *text;
	bool special, loopback;
} specials[] = {
	{ "0.0.0.0", true, false },
	{ "127.0.0.1", true, true },
	{ "127.255.255.255", true, true },
	{ "169.254.0.1", true, false },
	{ "224.0.0.1", true, false },
	{ "239.255.255.255", true, false },
	{ "10.0.0.1", false, false },
	{ "126.0.0.1", false, false },
	{ "128.0.0.1", false, false },
	{ "169.253.0.1", false, false },
	{ "240.0.0.1", false, false },
	{ "::", true, false },
	{ "::1", true, true },
	{ "fe80::1", true, false },
	{ "febf::1", true, false },
	{ "ff02::1", true, false },
	{ "fec0::1", false, false },
	{ "fd00::1", false, false },
	{ "::2", false, false },
	{ "2001:db8::1", false, false },
};

START_TEST(test_special)
{
	enum family f;
	struct addr a;

	ck_assert_int_eq(addr_parse(specials[_i].text, &f, &a), 0);
	ck_assert_msg(addr_is_special(f, &a) == specials[_i].special,
		      "%s: special", specials[_i].text);
	ck_assert_msg(addr_is_loopback(f, &a) == specials[_i].loopback,
		      "%s: loopback", specials[_i].text);
}
END_TEST

/* In the order of the numbers, which is that of the bytes. */
START_TEST(test_compare)
{
	static const char *const ordered[] = { "0.0.0.1", "1.0.0.0", "9.255.0.0",
					       "10.0.0.0", "200.0.0.0" };
	struct addr a, b;
	enum family f;
	int i, j;

	for (i = 0; i < 5; i++) {
		for (j = 0; j < 5; j++) {
			ck_assert_int_eq(addr_parse(ordered[i], &f, &a), 0);
			ck_assert_int_eq(addr_parse(ordered[j], &f, &b), 0);
			ck_assert_msg((addr_compare(&a, &b) > 0) == (i > j) &&
					      (addr_compare(&a, &b) == 0) ==
						      (i == j),
				      "%s, %s", ordered[i], ordered[j]);
		}
	}
}
END_TEST

static const struct {
	const char *name, *list[6], *want;
} disjoint[] = {
	{ "nothing", { NULL }, "" },
	{ "sorted", { "10.2.0.0/16", "10.1.0.0/16" }, "10.1.0.0/16 10.2.0.0/16 " },
	{ "repeated", { "10.1.0.0/16", "10.1.0.0/16" }, "10.1.0.0/16 " },
	{ "covered, at the beginning and the end",
	  { "10.255.0.0/16", "10.0.0.0/8", "10.0.0.0/16", "10.128.0.0/9",
	    "11.0.0.0/8" },
	  "10.0.0.0/8 11.0.0.0/8 " },
	{ "all", { "10.0.0.0/8", "0.0.0.0/0", "255.255.255.255/32" }, "0.0.0.0/0 " },
	{ "neighbours",
	  { "10.1.0.0/17", "10.1.128.0/17" },
	  "10.1.0.0/17 10.1.128.0/17 " },
	{ "IPv6", { "fd00::/64", "::/0", "fd00::/8" }, "::/0 " },
};

START_TEST(test_disjoint)
{
	char text[PREFIX_TEXT_SIZE], got[400] = "";
	enum family family = FAMILY_IPV4;
	struct prefix list[6];
	unsigned int i, n;
	size_t length = 0;

	for (n = 0; n < 6 && disjoint[_i].list[n]; n++)
		ck_assert_int_eq(
			prefix_parse(disjoint[_i].list[n], &family, &list[n]), 0);
	n = prefixes_disjoint(list, n);
	for (i = 0; i < n; i++)
		length += (size_t)snprintf(got + length, sizeof(got) - length,
					   "%s ",
					   prefix_format(family, &list[i], text));
	ck_assert_msg(strcmp(got, disjoint[_i].want) == 0, "%s: want %s, got %s",
		      disjoint[_i].name, disjoint[_i].want, got);
}
END_TEST

static const struct {
	const char *text, *host, *port; /* no host: refused */
} host_ports[] = {
	{ "10.0.0.1", "10.0.0.1", NULL },
	{ "10.0.0.1:80", "10.0.0.1", "80" },
	{ "host:", "host", "" },
	{ ":80", "", "80" },
	{ "", "", NULL },
	{ "fd00::1", "fd00::1", NULL },
	{ "a:b:80", "a:b:80", NULL },
	{ "[fd00::1]", "fd00::1", NULL },
	{ "[fd00::1]:80", "fd00::1", "80" },
	{ "[fd00::1]:", "fd00::1", "" },
	{ "[]:80", "", "80" },
	{ "[fd00::1", NULL, NULL },
	{ "[fd00::1]80", NULL, NULL },
	{ "123456789012345", "123456789012345", NULL },
	{ "1234567890123456", NULL, NULL },
	{ "[1234567890123456]:80", NULL, NULL },
};

START_TEST(test_host_port)
{
	char host[16] = "";
	const char *port = NULL;
	int err = host_port_split(host_ports[_i].text, host, sizeof(host), &port);

	ck_assert_msg((err == 0) == (host_ports[_i].host != NULL), "%s: got %d",
		      host_ports[_i].text, err);
	if (err)
		return;
	ck_assert_str_eq(host, host_ports[_i].host);
	ck_assert_pstr_eq(port, host_ports[_i].port);
}
END_TEST

static const struct {
	const char *text;
	uint16_t port; /* 0: refused */
} ports[] = {
	{ "1", 1 },   { "80", 80 },  { "65535", 65535 }, { "0080", 80 },
	{ "", 0 },    { "0", 0 },    { "65536", 0 },	 { "4294967376", 0 },
	{ "-1", 0 },  { "+80", 0 },  { " 80", 0 },	 { "80 ", 0 },
	{ "0x5", 0 }, { "http", 0 },
};

START_TEST(test_port)
{
	uint16_t port = 0;
	int err = port_parse(ports[_i].text, &port);

	ck_assert_msg(err == (ports[_i].port ? 0 : -EINVAL) && port == ports[_i].port,
		      "\"%s\": got %d and %u", ports[_i].text, err, port);
}
END_TEST

START_TEST(test_words)
{
	ck_assert_uint_eq(protocol_parse("TCP"), IPPROTO_TCP);
	ck_assert_uint_eq(protocol_parse("UDP"), IPPROTO_UDP);
	ck_assert_uint_eq(protocol_parse("SCTP"), IPPROTO_SCTP);
	ck_assert_uint_eq(protocol_parse("tcp"), 0);
	ck_assert_uint_eq(protocol_parse(""), 0);
	ck_assert_str_eq(protocol_name(IPPROTO_SCTP), "sctp");
	ck_assert_str_eq(protocol_name(1), "?");
	ck_assert_str_eq(family_name(FAMILY_IPV4), "IPv4");
	ck_assert_str_eq(family_name(FAMILY_IPV6), "IPv6");
	ck_assert_uint_eq(family_bits(FAMILY_IPV4), 32);
	ck_assert_uint_eq(family_size(FAMILY_IPV6), 16);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("addr");
	TCase *tc = tcase_create("addr");

	ADD_LOOP(tc, test_address, addresses);
	ADD_LOOP(tc, test_prefix, prefixes);
	ADD_LOOP(tc, test_covers, pairs);
	ADD_LOOP(tc, test_special, specials);
	ADD_LOOP(tc, test_disjoint, disjoint);
	ADD_LOOP(tc, test_host_port, host_ports);
	ADD_LOOP(tc, test_port, ports);
	tcase_add_test(tc, test_compare);
	tcase_add_test(tc, test_words);
	suite_add_tcase(suite, tc);
	return suite;
}
