/*
 * The fast path: which interfaces are chosen, how a flowtable's devices follow
 * them, and that it is a part of the table that comes and goes whole. Against
 * the stand-in for the kernel; packets are in tests/packets/fastpath.py.
 */
#include "proxy/sync/fastpath.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/netfilter/nf_tables.h>

#include "nft/batch.h"
#include "nft/flowtable.h"
#include "nft/interfaces.h"
#include "nft/readback.h"
#include "nft/text.h"
#include "proxy/base/clock.h"
#include "proxy/model/model.h"
#include "tests/support/suite.h"
#include "tests/support/kernel.h"
#include "tests/support/nft.h"

static struct ruleset fast_ruleset(enum family family, const char *const *patterns)
{
	struct ruleset ruleset = sample_ruleset(family);
	size_t length;

	for (; *patterns; patterns++) {
		struct interface_pattern *p = &ruleset.fast[ruleset.n_fast++];

		length = strlen(*patterns);
		p->is_prefix = (*patterns)[length - 1] == '*';
		memcpy(p->name, *patterns, length - p->is_prefix);
	}
	ruleset.parts |= PART_FAST_PATH;
	return ruleset;
}

#define PATTERNS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static const struct {
	const char *pattern, *name;
	bool fast;
} matches[] = {
	{ "eth0", "eth0", true },
	{ "eth0", "eth01", false },
	{ "eth0", "eth", false },
	{ "cali*", "cali", true },
	{ "cali*", "cali1234567890a", true },
	{ "cali*", "cal", false },
	{ "cali*", "xcali1", false },
	{ "*", "anything", true },
	{ "a*b", "a*b", true },
	{ "a*b", "axb", false },
	{ "a**", "a*b", true },
	{ "a**", "ab", false },
};

START_TEST(matching)
{
	struct ruleset ruleset =
		fast_ruleset(FAMILY_IPV4, PATTERNS(matches[_i].pattern));

	ck_assert_msg(ruleset_is_fast(&ruleset, matches[_i].name) == matches[_i].fast,
		      "%s, %s: want %d", matches[_i].pattern, matches[_i].name,
		      matches[_i].fast);
}
END_TEST

/* From a configuration, as the program makes it. */
START_TEST(from_configuration)
{
	char patterns_text[][17] = { "eth0", "cali*", "*", "fifteen-letters*" };
	char *patterns[] = { patterns_text[0], patterns_text[1],
			     patterns_text[2], patterns_text[3], NULL };
	struct config config = { 0 };
	struct ruleset ruleset;
	struct model *m = model_new(&config, NULL, NULL);

	ck_assert_ptr_nonnull(m);
	model_ruleset(m, FAMILY_IPV4, &ruleset);
	ck_assert_uint_eq(ruleset.parts & PART_FAST_PATH, 0);
	ck_assert_uint_eq(ruleset.n_fast, 0);
	config.vipmap.fast_path_interfaces = patterns;
	model_ruleset(m, FAMILY_IPV6, &ruleset);
	ck_assert_uint_eq(ruleset.parts & PART_FAST_PATH, PART_FAST_PATH);
	ck_assert_uint_eq(ruleset.n_fast, 4);
	ck_assert_str_eq(ruleset.fast[0].name, "eth0");
	ck_assert(!ruleset.fast[0].is_prefix);
	ck_assert_str_eq(ruleset.fast[1].name, "cali");
	ck_assert(ruleset.fast[1].is_prefix);
	ck_assert_str_eq(ruleset.fast[2].name, "");
	ck_assert(ruleset.fast[2].is_prefix);
	ck_assert_str_eq(ruleset.fast[3].name, "fifteen-letters");
	model_allow_fast_path(m, false); /* a kernel without */
	model_ruleset(m, FAMILY_IPV6, &ruleset);
	ck_assert_uint_eq(ruleset.parts & PART_FAST_PATH, 0);
	model_free(m);
}
END_TEST

/* The text */

START_TEST(prints)
{
	const enum family family = _i ? FAMILY_IPV6 : FAMILY_IPV4;
	char names[2][INTERFACE_NAME_SIZE] = { "eth0", "vethx" };
	const struct devices devices = { names, 2 };
	struct ruleset with =
		fast_ruleset(family, PATTERNS("eth0", "veth*", "*", "a*b"));
	struct ruleset without = sample_ruleset(family);
	struct strbuf out = STRBUF_INIT, plain = STRBUF_INIT;
	struct text *t = text_new(&with);

	sample_write(text_writer(t), family, 0);
	ck_assert_int_eq(text_print(t, &plain), 0);
	ck_assert(strstr(
		plain.text,
		"\tflowtable fast {\n\t\thook ingress priority filter\n\t}\n"));
	text_set_devices(t, &devices);
	ck_assert_int_eq(text_print(t, &out), 0);
	ck_assert(strstr(out.text, "\tflowtable fast {\n\t\thook ingress priority filter\n"
				   "\t\tdevices = { eth0, vethx }\n\t}\n"));
	ck_assert(strstr(out.text,
			 "\tchain fast-path {\n"
			 "\t\ttype filter hook forward priority filter + 10; policy accept;\n"
			 "\t\tct status dnat ct state established ct status assured goto "
			 "fast-path-in\n\t}\n"));
	ck_assert(strstr(out.text,
			 "\tchain fast-path-in {\n"
			 "\t\tiifname \"eth0\" goto fast-path-out\n"
			 "\t\tiifname \"veth*\" goto fast-path-out\n"
			 "\t\tgoto fast-path-out\n"
			 "\t\tiifname \"a*b\" goto fast-path-out\n\t}\n"));
	ck_assert(strstr(out.text, "\tchain fast-path-out {\n"
				   "\t\toifname \"eth0\" flow add @fast\n"
				   "\t\toifname \"veth*\" flow add @fast\n"
				   "\t\tflow add @fast\n"
				   "\t\toifname \"a*b\" flow add @fast\n\t}\n"));
	text_free(t);

	strbuf_reset(&out);
	t = text_new(&without);
	sample_write(text_writer(t), family, 0);
	ck_assert_int_eq(text_print(t, &out), 0);
	ck_assert(!strstr(out.text, "flow") && !strstr(out.text, "fast"));
	text_free(t);
	strbuf_free(&out);
	strbuf_free(&plain);
}
END_TEST

/* A part of the table */

struct bench {
	struct fake_kernel *kernel;
	struct nlsock *nl;
	struct log *log;
	int log_fd;
	struct strbuf devices;
};

static void write_table(struct bench *b, const struct ruleset *ruleset,
			enum change change, unsigned int parts)
{
	struct batch *batch = batch_new(ruleset, 0);
	struct errbuf eb = { "" };

	batch_writer(batch)->table(batch, change, parts);
	ck_assert_msg(batch_commit(batch, b->nl, 1000, NULL, &eb) == 0, "%s",
		      eb.text);
	batch_free(batch);
}

static void setup(struct bench *b)
{
	char path[] = "/tmp/test_fastpath.XXXXXX";

	*b = (struct bench){ .kernel = fake_kernel_new(), .devices = STRBUF_INIT };
	b->nl = fake_kernel_socket(b->kernel);
	b->log_fd = mkstemp(path);
	ck_assert_int_ge(b->log_fd, 0);
	unlink(path);
	b->log = log_new(b->log_fd, 0, false, clock_system());
	ck_assert_ptr_nonnull(b->log);
}

static void teardown(struct bench *b)
{
	log_free(b->log);
	close(b->log_fd);
	nlsock_close(b->nl);
	fake_kernel_free(b->kernel);
	strbuf_free(&b->devices);
}

static const char *devices_of(struct bench *b)
{
	fake_devices(b->kernel, FAMILY_IPV4, &b->devices);
	return b->devices.text ? b->devices.text : "";
}

START_TEST(comes_and_goes)
{
	const struct ruleset with =
		fast_ruleset(FAMILY_IPV4, PATTERNS("eth0", "veth*"));
	const struct ruleset other = fast_ruleset(FAMILY_IPV4, PATTERNS("eth1"));
	const struct ruleset without = sample_ruleset(FAMILY_IPV4);
	unsigned int parts;
	struct bench b;

	setup(&b);
	write_table(&b, &without, CHANGE_ADD, 0);
	ck_assert_int_eq(read_parts(b.nl, &without, &parts), TABLE_CURRENT);
	ck_assert_str_eq(devices_of(&b), "none");
	ck_assert_int_eq(read_parts(b.nl, &with, &parts), TABLE_RULES_DIFFER);
	ck_assert_uint_eq(parts, 0);
	write_table(&b, &with, CHANGE_UPDATE, parts);
	ck_assert_int_eq(read_parts(b.nl, &with, &parts), TABLE_CURRENT);
	ck_assert_uint_eq(parts, PART_FAST_PATH);
	ck_assert_str_eq(devices_of(&b), "");
	ck_assert_int_eq(read_parts(b.nl, &other, &parts), TABLE_RULES_DIFFER);
	write_table(&b, &other, CHANGE_UPDATE, parts);
	ck_assert_int_eq(read_parts(b.nl, &other, &parts), TABLE_CURRENT);
	ck_assert_int_eq(read_parts(b.nl, &without, &parts), TABLE_RULES_DIFFER);
	ck_assert_uint_eq(parts, PART_FAST_PATH);
	write_table(&b, &without, CHANGE_UPDATE, parts);
	ck_assert_int_eq(read_parts(b.nl, &without, &parts), TABLE_CURRENT);
	ck_assert_str_eq(devices_of(&b), "none");
	/* a part of the part is none that an update could mend */
	write_table(&b, &with, CHANGE_UPDATE, 0);
	ck_assert(fake_delete_chain(b.kernel, FAMILY_IPV4, "fast-path"));
	ck_assert_int_eq(read_parts(b.nl, &with, &parts), TABLE_OTHER);
	ck_assert_int_eq(read_parts(b.nl, &without, &parts), TABLE_OTHER);
	teardown(&b);
}
END_TEST

/* Devices */

static int refuse_second(void *ctx, const struct fake_op *op)
{
	const char *const *names = ctx;

	if (op->type != NFT_MSG_NEWFLOWTABLE)
		return 0;
	return strcmp(op->name, names[0]) == 0	 ? -EOPNOTSUPP
	       : strcmp(op->name, names[1]) == 0 ? -ENOENT
						 : 0;
}

START_TEST(changes)
{
	const struct ruleset ruleset = fast_ruleset(FAMILY_IPV4, PATTERNS("*"));
	const char *bad[] = { "b", "d" };
	struct device_change adds[] = { { "a", false, 0 },
					{ "b", false, 0 },
					{ "c", false, 0 },
					{ "d", false, 0 } };
	struct device_change more[] = { { "a", true, 0 },
					{ "b", false, 0 },
					{ "gone", true, 0 },
					{ "e", false, 0 } };
	struct devices devices;
	struct errbuf eb = { "" };
	struct bench b;

	setup(&b);
	ck_assert_int_eq(flowtable_devices(b.nl, FAMILY_IPV4, &devices, &eb),
			 -ENOENT);
	write_table(&b, &ruleset, CHANGE_ADD, 0);
	fake_faults(b.kernel)->refuse = refuse_second;
	fake_faults(b.kernel)->ctx = bad;
	fake_counts_reset(b.kernel);
	ck_assert_msg(flowtable_change(b.nl, FAMILY_IPV4, adds, 4, &eb) == 0,
		      "%s", eb.text);
	ck_assert_int_eq(adds[0].err, 0);
	ck_assert_int_eq(adds[1].err, -EOPNOTSUPP);
	ck_assert_int_eq(adds[2].err, 0);
	ck_assert_int_eq(adds[3].err, -ENOENT);
	ck_assert_str_eq(devices_of(&b), "a c");
	ck_assert_uint_eq(fake_counts(b.kernel).transactions, 1);

	ck_assert_int_eq(flowtable_change(b.nl, FAMILY_IPV4, more, 4, &eb), 0);
	ck_assert_int_eq(more[1].err, -EOPNOTSUPP);
	ck_assert_int_eq(more[2].err, -ENOENT);
	ck_assert_int_eq(flowtable_devices(b.nl, FAMILY_IPV4, &devices, &eb), 0);
	ck_assert_uint_eq(devices.count, 2);
	ck_assert_str_eq(devices.names[0], "c");
	ck_assert_str_eq(devices.names[1], "e");
	ck_assert(devices_have(&devices, "c") && !devices_have(&devices, "a"));
	devices_free(&devices);

	/* all refused: nothing is sent any more; then a table that is not ours to change */
	fake_counts_reset(b.kernel);
	ck_assert_int_eq(flowtable_change(b.nl, FAMILY_IPV4, &more[1], 2, &eb), 0);
	ck_assert_uint_eq(fake_counts(b.kernel).transactions, 0);
	fake_faults(b.kernel)->fail_at = 1;
	fake_faults(b.kernel)->fail_err = -ENOBUFS;
	ck_assert_int_eq(flowtable_change(b.nl, FAMILY_IPV4, adds, 4, &eb),
			 -ENOBUFS);
	teardown(&b);
}
END_TEST

static int refuse_all(void *ctx, const struct fake_op *op)
{
	return op->type == NFT_MSG_NEWFLOWTABLE ? *(const int *)ctx : 0;
}

START_TEST(not_a_devices_fault)
{
	static const int errors[] = { -EPERM, -ENOMEM };
	const struct ruleset ruleset = fast_ruleset(FAMILY_IPV4, PATTERNS("*"));
	struct device_change add[] = { { "a", false, 0 }, { "b", false, 0 } };
	struct errbuf eb = { "" };
	struct bench b;

	setup(&b);
	write_table(&b, &ruleset, CHANGE_ADD, 0);
	fake_faults(b.kernel)->refuse = refuse_all;
	fake_faults(b.kernel)->ctx = (void *)(uintptr_t)&errors[_i];
	ck_assert_int_eq(flowtable_change(b.nl, FAMILY_IPV4, add, 2, &eb),
			 errors[_i]);
	ck_assert_int_eq(add[0].err, 0);
	ck_assert_str_eq(devices_of(&b), "");
	teardown(&b);
}
END_TEST

/* Following, with real interfaces in a namespace */

static void spin(struct event_base *base, unsigned int ms)
{
	const struct timeval tv = { 0, ms * 1000 };

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static void shell(const char *command)
{
	struct strbuf out = STRBUF_INIT;

	ck_assert_msg(run(command, &out) == 0, "%s: %s", command, out.text);
	strbuf_free(&out);
}

static unsigned int times_logged(struct bench *b, const char *word)
{
	static char text[65536];
	ssize_t n = pread(b->log_fd, text, sizeof(text) - 1, 0);
	const char *at = text;
	unsigned int times = 0;

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	while ((at = strstr(at, word))) {
		times++;
		at++;
	}
	return times;
}

static void becomes(struct bench *b, struct event_base *base, const char *what,
		    const char *want)
{
	unsigned int i;

	for (i = 0; i < 100 && strcmp(devices_of(b), want) != 0; i++)
		spin(base, 20);
	ck_assert_msg(strcmp(devices_of(b), want) == 0,
		      "%s: want \"%s\" got \"%s\"", what, want, devices_of(b));
}

START_TEST(follows)
{
	const struct ruleset ruleset = fast_ruleset(FAMILY_IPV4, PATTERNS("fp*"));
	const struct ruleset without = sample_ruleset(FAMILY_IPV4);
	const char *bad[] = { "fpbad", "fpbad" };
	struct event_base *base = event_base_new();
	struct fastpath *fp;
	struct bench b;

	if (!new_namespace())
		return;
	setup(&b);
	fp = fastpath_new(base, b.nl, b.log);
	shell("ip link add fp1 type veth peer name other");
	write_table(&b, &ruleset, CHANGE_ADD, 0);
	fastpath_synced(fp, &ruleset, true);
	ck_assert_str_eq(devices_of(&b), "fp1");
	shell("ip link add fp2 type veth peer name fp3");
	becomes(&b, base, "two come", "fp1 fp2 fp3");
	shell("ip link set other name fp0");
	becomes(&b, base, "one is named otherwise", "fp1 fp2 fp3 fp0");
	shell("ip link del fp2");
	becomes(&b, base, "two go", "fp1 fp0");

	/* nothing is written for what is not named, nor after a sync that wrote nothing */
	fake_counts_reset(b.kernel);
	shell("ip link add x1 type veth peer name x2");
	spin(base, 200);
	fastpath_synced(fp, &ruleset, false);
	fastpath_synced(fp, &ruleset, true);
	ck_assert_uint_eq(fake_counts(b.kernel).transactions, 0);

	/* one that is refused is named once, and the others are taken */
	fake_faults(b.kernel)->refuse = refuse_second;
	fake_faults(b.kernel)->ctx = bad;
	shell("ip link add fpbad type veth peer name fp4");
	becomes(&b, base, "one is refused", "fp1 fp0 fp4");
	shell("ip link add fp5 type veth peer name x3");
	becomes(&b, base, "another", "fp1 fp0 fp4 fp5");
	ck_assert_uint_eq(times_logged(&b, "fpbad is left out"), 1);
	shell("ip link del fpbad");
	becomes(&b, base, "it goes", "fp1 fp0 fp5");
	shell("ip link add fpbad type veth peer name fp4");
	becomes(&b, base, "it is back", "fp1 fp0 fp5 fp4");
	ck_assert_uint_eq(times_logged(&b, "fpbad is left out"), 2);
	fake_faults(b.kernel)->refuse = NULL;

	/* a failure is made up for */
	fake_faults(b.kernel)->fail_at = 2;
	fake_faults(b.kernel)->fail_err = -ENOBUFS;
	shell("ip link add fp6 type veth peer name x4");
	becomes(&b, base, "after a failure", "fp1 fp0 fp5 fp4 fp6");
	ck_assert_uint_eq(times_logged(&b, "not followed yet"), 1);

	/* what somebody else took away comes back with the next comparison */
	write_table(&b, &ruleset, CHANGE_DELETE, 0);
	fastpath_forget(fp, FAMILY_IPV4);
	write_table(&b, &ruleset, CHANGE_ADD, 0);
	fastpath_synced(fp, &ruleset, false);
	ck_assert_str_eq(devices_of(&b), "fp0 fp1 fp4 fp5 fp6");

	write_table(&b, &without, CHANGE_UPDATE, PART_FAST_PATH);
	fastpath_synced(fp, &without, true);
	fake_counts_reset(b.kernel);
	shell("ip link add fp7 type veth peer name x5");
	spin(base, 200);
	ck_assert_uint_eq(fake_counts(b.kernel).exchanges, 0);
	fastpath_free(fp);
	teardown(&b);
	event_base_free(base);
}
END_TEST

/* The interfaces themselves */

static const struct {
	const char *name, *command;
	bool changed;
	const char *list;
} steps[] = {
	{ "loopback is none", "true", false, "" },
	{ "two come", "ip link add name b type veth peer name a", true, "a b" },
	{ "nothing happens", "true", false, "a b" },
	{ "up is no change", "ip link set dev a up", false, "a b" },
	{ "another name", "ip link set dev a name c", true, "b c" },
	{ "others of the same names",
	  "ip link del dev b; ip link add name b type veth peer name c", true,
	  "b c" },
	{ "they go", "ip link del dev b", true, "" },
};

START_TEST(lists_interfaces)
{
	const struct interface *list;
	struct interfaces *interfaces;
	struct errbuf eb = { "" };
	struct strbuf text = STRBUF_INIT;
	unsigned int i, n, j;
	bool changed;

	if (!new_namespace())
		return;
	interfaces = interfaces_open(&eb);
	ck_assert_msg(interfaces, "%s", eb.text);
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		shell(steps[i].command);
		ck_assert_msg(interfaces_read(interfaces, &changed, &eb) == 0,
			      "%s", eb.text);
		ck_assert_msg(changed == steps[i].changed,
			      "%s: changed: want %d got %d", steps[i].name,
			      steps[i].changed, changed);
		list = interfaces_list(interfaces, &n);
		strbuf_reset(&text);
		strbuf_adds(&text, "");
		for (j = 0; j < n; j++)
			strbuf_addf(&text, "%s%s", j ? " " : "", list[j].name);
		ck_assert_msg(strcmp(text.text ? text.text : "", steps[i].list) == 0,
			      "%s: want %s got %s", steps[i].name,
			      steps[i].list, text.text);
	}
	interfaces_close(interfaces);
	strbuf_free(&text);
}
END_TEST

Suite *make_suite(void)
{
	Suite *s = suite_create("fastpath");
	TCase *tc = tcase_create("fastpath"), *kernel = tcase_create("interfaces");

	ADD_LOOP(tc, matching, matches);
	tcase_add_test(tc, from_configuration);
	tcase_add_loop_test(tc, prints, 0, 2);
	tcase_add_test(tc, comes_and_goes);
	tcase_add_test(tc, changes);
	tcase_add_loop_test(tc, not_a_devices_fault, 0, 2);
	tcase_set_timeout(kernel, 60);
	tcase_add_test(kernel, follows);
	tcase_add_test(kernel, lists_interfaces);
	suite_add_tcase(s, tc);
	suite_add_tcase(s, kernel);
	return s;
}
