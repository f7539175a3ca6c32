/* The node's addresses, changed with iproute2 in a namespace of the test's own. */
#include "nft/addresses.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/suite.h"

static void run(const char *command)
{
	ck_assert_msg(system(command) == 0, "failed: %s", command);
}

static const char *list_text(const struct addresses *a, enum family family,
			     char *text, size_t size)
{
	char one[ADDR_TEXT_SIZE];
	unsigned int i, n;
	const struct addr *list = addresses_list(a, family, &n);
	size_t length = 0;

	text[0] = '\0';
	for (i = 0; i < n && length < size; i++)
		length += (size_t)snprintf(text + length, size - length, "%s%s",
					   i ? " " : "",
					   addr_format(family, &list[i], one));
	return text;
}

/* Each step starts from the state that the one before left. */
static const struct {
	const char *name, *command;
	bool changed;
	const char *ipv4, *ipv6;
} steps[] = {
	{ "nothing yet", "true", false, "", "" },
	{ "loopback", "ip link set lo up", true, "127.0.0.1", "::1" },
	{ "nothing changed", "true", false, "127.0.0.1", "::1" },
	{ "an address of each family (NP-4, NODE-4)",
	  "ip addr add 192.0.2.7/24 dev a; ip addr add 2001:db8::7/64 dev a nodad",
	  true, "127.0.0.1 192.0.2.7", "::1 2001:db8::7" },
	{ "tentative counts",
	  "ip link set dev b up; ip link set dev a up; ip addr add 2001:db8::8/64 dev b",
	  true, "127.0.0.1 192.0.2.7", "::1 2001:db8::7 2001:db8::8" },
	{ "the same on a second interface", "ip addr add 192.0.2.7/32 dev b",
	  false, "127.0.0.1 192.0.2.7", "::1 2001:db8::7 2001:db8::8" },
	{ "sorted, loopback secondary",
	  "ip addr add 10.0.0.1/8 dev b; ip addr add 127.0.0.53/8 dev lo", true,
	  "10.0.0.1 127.0.0.1 127.0.0.53 192.0.2.7", "::1 2001:db8::7 2001:db8::8" },
	{ "one of two is deleted", "ip addr del 192.0.2.7/24 dev a", false,
	  "10.0.0.1 127.0.0.1 127.0.0.53 192.0.2.7", "::1 2001:db8::7 2001:db8::8" },
	{ "point to point: ours, not the peer's",
	  "ip addr add 10.9.0.1 peer 10.9.0.2 dev a; ip addr add 2001:db8:1::1 peer 2001:db8:1::2 "
	  "dev a nodad",
	  true, "10.0.0.1 10.9.0.1 127.0.0.1 127.0.0.53 192.0.2.7",
	  "::1 2001:db8::7 2001:db8::8 2001:db8:1::1" },
	{ "down keeps them for IPv4, drops IPv6", "ip link set dev b down",
	  true, "10.0.0.1 10.9.0.1 127.0.0.1 127.0.0.53 192.0.2.7",
	  "::1 2001:db8::7 2001:db8:1::1" },
	{ "an interface goes", "ip link del dev a", true,
	  "127.0.0.1 127.0.0.53", "::1" },
};

START_TEST(follows)
{
	struct errbuf eb = { "" };
	struct addresses *a;
	char text[1024];
	bool changed;
	size_t i;
	int err;

	if (!new_namespace())
		return;
	/* no link-local addresses: their values are random */
	run("ip link add name a type veth peer name b");
	run("ip link set dev a addrgenmode none; ip link set dev b addrgenmode none");
	a = addresses_open(&eb);
	ck_assert_msg(a, "%s", eb.text);
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		run(steps[i].command);
		changed = !steps[i].changed;
		err = addresses_read(a, &changed, &eb);
		ck_assert_msg(err == 0, "%s: %s", steps[i].name, eb.text);
		ck_assert_msg(changed == steps[i].changed,
			      "%s: changed: want %d got %d", steps[i].name,
			      steps[i].changed, changed);
		list_text(a, FAMILY_IPV4, text, sizeof(text));
		ck_assert_msg(strcmp(text, steps[i].ipv4) == 0,
			      "%s: want %s got %s", steps[i].name,
			      steps[i].ipv4, text);
		list_text(a, FAMILY_IPV6, text, sizeof(text));
		ck_assert_msg(strcmp(text, steps[i].ipv6) == 0,
			      "%s: want %s got %s", steps[i].name,
			      steps[i].ipv6, text);
	}
	addresses_close(a);
}
END_TEST

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

START_TEST(wakes_up)
{
	struct errbuf eb = { "" };
	struct addresses *a;
	bool changed;

	if (!new_namespace())
		return;
	a = addresses_open(&eb);
	ck_assert_msg(a, "%s", eb.text);
	ck_assert_int_eq(addresses_read(a, &changed, &eb), 0);
	ck_assert_msg(!readable(addresses_fd(a)),
		      "readable though nothing happened");
	run("ip addr add 192.0.2.7/24 dev lo");
	ck_assert_msg(readable(addresses_fd(a)),
		      "an address came and nothing is readable");
	ck_assert_int_eq(addresses_read(a, &changed, &eb), 0);
	ck_assert(changed);
	ck_assert_msg(!readable(addresses_fd(a)), "still readable after a read");
	addresses_close(a);
}
END_TEST

/* More notifications than the socket holds: the list must still be right, and long ones must fit.
 */
START_TEST(loses_notifications)
{
	enum { N = 3000 };
	struct errbuf eb = { "" };
	struct addresses *a;
	unsigned int i, count;
	bool changed;
	FILE *ip;

	if (!new_namespace())
		return;
	a = addresses_open(&eb);
	ck_assert_msg(a, "%s", eb.text);
	ip = popen("ip -batch -", "w");
	ck_assert(ip);
	for (i = 0; i < N; i++)
		fprintf(ip, "addr add 10.0.%u.%u/32 dev lo\n", i / 256, i % 256);
	ck_assert_int_eq(pclose(ip), 0);
	ck_assert_int_eq(addresses_read(a, &changed, &eb), 0);
	addresses_list(a, FAMILY_IPV4, &count);
	ck_assert_uint_eq(count, N);
	run("ip addr flush dev lo");
	ck_assert_int_eq(addresses_read(a, &changed, &eb), 0);
	ck_assert(changed);
	addresses_list(a, FAMILY_IPV4, &count);
	ck_assert_uint_eq(count, 0);
	addresses_close(a);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("addresses");
	TCase *tcase = tcase_create("kernel");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, follows);
	tcase_add_test(tcase, wakes_up);
	tcase_add_test(tcase, loses_notifications);
	suite_add_tcase(suite, tcase);
	return suite;
}
