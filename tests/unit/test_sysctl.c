/* Kernel settings of section 21 on a made-up /proc/sys: SYS-1 to SYS-3. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "proxy/sysctl.h"

#include "tests/support/suite.h"

enum { N_FILES = 8 };

/* The first values are those of a freshly booted kernel. */
static const struct {
	const char *path, *value;
} files[N_FILES] = {
	{ "proc/sys/net/netfilter/nf_conntrack_max", "65536\n" },
	{ "module/nf_conntrack/parameters/hashsize", "16384\n" },
	{ "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", "432000\n" },
	{ "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait", "60\n" },
	{ "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", "0\n" },
	{ "proc/sys/net/netfilter/nf_conntrack_udp_timeout", "30\n" },
	{ "proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", "120\n" },
	{ "proc/self/oom_score_adj", "0\n" },
};

struct fixture {
	char root[64], proc[80], module[80];
	struct sysctl_roots roots;
	struct sysctl_report report;
	struct strbuf failed, refused, written;
	struct config *config;
};

static void note_failed(void *ctx, const char *message)
{
	struct fixture *f = ctx;

	strbuf_addf(&f->failed, "%s\n", message);
}

static void note_refused(void *ctx, const char *message)
{
	struct fixture *f = ctx;

	strbuf_addf(&f->refused, "%s\n", message);
}

static void note_written(void *ctx, const char *message)
{
	struct fixture *f = ctx;

	strbuf_addf(&f->written, "%s\n", message);
}

static void path_of(const struct fixture *f, int file, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", f->root, files[file].path);
}

static void put_file(const struct fixture *f, int file, const char *value)
{
	char path[PATH_MAX];
	FILE *out;

	path_of(f, file, path);
	out = fopen(path, "w");
	ck_assert_ptr_nonnull(out);
	fputs(value, out);
	fclose(out);
}

/* Makes the folders above a path. */
static void make_folders(const char *path)
{
	char copy[PATH_MAX], *slash = copy;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((slash = strchr(slash + 1, '/'))) {
		*slash = '\0';
		ck_assert_msg(mkdir(copy, 0700) == 0 || errno == EEXIST, "%s",
			      copy);
		*slash = '/';
	}
}

static void begin(struct fixture *f)
{
	char path[PATH_MAX];
	int i;

	memset(f, 0, sizeof(*f));
	snprintf(f->root, sizeof(f->root), "/tmp/test_sysctl.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->root));
	snprintf(f->proc, sizeof(f->proc), "%s/proc", f->root);
	snprintf(f->module, sizeof(f->module), "%s/module", f->root);
	f->roots = (struct sysctl_roots){ f->proc, f->module };
	f->report = (struct sysctl_report){ .failed = note_failed,
					    .refused = note_refused,
					    .written = note_written,
					    .ctx = f };
	f->config = config_new();
	strbuf_adds(&f->failed, "");
	strbuf_adds(&f->written, "");
	strbuf_adds(&f->refused, "");
	for (i = 0; i < N_FILES; i++) {
		path_of(f, i, path);
		make_folders(path);
		put_file(f, i, files[i].value);
	}
}

static int remove_entry(const char *path, const struct stat *st, int type,
			struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void end(struct fixture *f)
{
	ck_assert_int_eq(nftw(f->root, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
	strbuf_free(&f->failed);
	strbuf_free(&f->written);
	strbuf_free(&f->refused);
	config_free(f->config);
}

static long long value_of(const struct fixture *f, int file)
{
	char path[PATH_MAX], text[32] = "";
	FILE *in;

	path_of(f, file, path);
	in = fopen(path, "r");
	ck_assert_ptr_nonnull(in);
	ck_assert_ptr_nonnull(fgets(text, sizeof(text), in));
	fclose(in);
	return strtoll(text, NULL, 10);
}

static const struct {
	const char *name;
	int64_t per_core, min;
	unsigned int cpus;
	int64_t want;
} maxima[] = {
	{ "SYS-1 default, 2 CPUs: the minimum", 32768, 131072, 2, 131072 },
	{ "SYS-1 default, 8 CPUs", 32768, 131072, 8, 262144 },
	{ "SYS-1 default, 32 CPUs: the limit, exactly", 32768, 131072, 32, 1048576 },
	{ "SYS-1 default, 64 CPUs: the limit", 32768, 131072, 64, 1048576 },
	{ "SYS-1 the minimum may be above the limit", 1, 2000000, 4, 2000000 },
	{ "SYS-1 the limit wins over a larger minimum", 2000000, 3000000, 4,
	  1048576 },
	{ "SYS-1 off", 0, 131072, 8, 0 },
	{ "SYS-1 no minimum", 10, 0, 3, 30 },
	{ "SYS-1 overflow", INT64_MAX, 0, 8, 1048576 },
};

START_TEST(conntrack_max)
{
	struct config *c = config_new();
	int64_t got;

	c->conntrack.max_per_core = maxima[_i].per_core;
	c->conntrack.min = maxima[_i].min;
	got = sysctl_conntrack_max(c, maxima[_i].cpus);
	ck_assert_msg(got == maxima[_i].want, "%s: want %lld, got %lld",
		      maxima[_i].name, (long long)maxima[_i].want, (long long)got);
	config_free(c);
}
END_TEST

START_TEST(defaults)
{
	static const long long want[N_FILES] = { 262144, 65536, 86400, 3600,
						 0,	 30,	120,   0 };
	struct fixture f;
	int i;

	begin(&f);
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 0);
	for (i = 0; i < N_FILES; i++)
		ck_assert_msg(value_of(&f, i) == want[i],
			      "section 21, SYS-2: %s: want %lld, got %lld",
			      files[i].path, want[i], value_of(&f, i));
	CHECK_HAS("told", f.written.text,
		  "/nf_conntrack_max: set from 65536 to 262144\n");
	ck_assert_uint_eq(f.failed.length, 0);
	end(&f);
}
END_TEST

START_TEST(all_set)
{
	static const long long want[N_FILES] = { 262144, 65536, 5, 1, 1, 7, 8, 0 };
	struct fixture f;
	int i;

	begin(&f);
	f.config->conntrack.tcp_established_timeout_ms = 5999;
	f.config->conntrack.tcp_close_wait_timeout_ms = 10; /* never 0 */
	f.config->conntrack.tcp_be_liberal = true;
	f.config->conntrack.udp_timeout_ms = 7000;
	f.config->conntrack.udp_stream_timeout_ms = 8000;
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 0);
	for (i = 0; i < N_FILES; i++)
		ck_assert_msg(value_of(&f, i) == want[i], "%s: want %lld, got %lld",
			      files[i].path, want[i], value_of(&f, i));
	end(&f);
}
END_TEST

START_TEST(all_off)
{
	struct fixture f;
	int i;

	begin(&f);
	f.config->conntrack.max_per_core = 0;
	f.config->conntrack.tcp_established_timeout_ms = 0;
	f.config->conntrack.tcp_close_wait_timeout_ms = 0;
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 0);
	for (i = 0; i < N_FILES; i++)
		ck_assert_msg(value_of(&f, i) == strtoll(files[i].value, NULL, 10),
			      "SYS-3: %s was touched", files[i].path);
	ck_assert_uint_eq(f.written.length, 0);
	end(&f);
}
END_TEST

/* Right values are not written: a read-only /proc/sys is then no failure. */
START_TEST(second_time)
{
	struct fixture f;

	begin(&f);
	sysctl_apply(f.config, 8, &f.roots, &f.report);
	strbuf_reset(&f.written);
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 0);
	ck_assert_uint_eq(f.written.length, 0);
	end(&f);
}
END_TEST

START_TEST(more_buckets_than_needed)
{
	struct fixture f;

	begin(&f);
	put_file(&f, 1, "999999\n");
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 0);
	ck_assert_msg(value_of(&f, 1) == 999999, "SYS-2: hashsize was lowered");
	end(&f);
}
END_TEST

/* SYS-4 */
START_TEST(max_is_never_lowered)
{
	struct fixture f;

	begin(&f);
	put_file(&f, 0, "900000\n");
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 0);
	ck_assert_msg(value_of(&f, 0) == 900000, "nf_conntrack_max was lowered");
	ck_assert_msg(value_of(&f, 1) == 65536,
		      "SYS-2: for what we want, not for what is there");
	end(&f);
}
END_TEST

START_TEST(failures_are_reported)
{
	char path[PATH_MAX];
	struct fixture f;

	begin(&f);
	path_of(&f, 0, path);
	ck_assert_int_eq(unlink(path), 0);
	put_file(&f, 3, "words\n");
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 2);
	CHECK_HAS("missing", f.failed.text,
		  "/nf_conntrack_max: cannot read: No such file or directory\n");
	CHECK_HAS("no number", f.failed.text,
		  "/nf_conntrack_tcp_timeout_close_wait: cannot read: Invalid argument\n");
	ck_assert_msg(value_of(&f, 2) == 86400,
		      "section 21: the others are set all the same");
	end(&f);
}
END_TEST

/* Root may write to read-only files: a file that cannot be written is made otherwise. */
START_TEST(cannot_write)
{
	char path[PATH_MAX];
	struct fixture f;

	begin(&f);
	path_of(&f, 0, path);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("/proc/sys/kernel/ostype", path), 0);
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 1);
	CHECK_HAS("not a number", f.failed.text, "cannot read");
	unlink(path);
	ck_assert_int_eq(symlink("/proc/sys/kernel/random/entropy_avail", path), 0);
	strbuf_reset(&f.failed);
	put_file(&f, 1, "1\n");
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 0);
	CHECK_HAS("SYS-4", f.refused.text,
		  "/nf_conntrack_max: cannot be set from ");
	ck_assert_uint_eq(f.failed.length, 0);
	ck_assert_msg(value_of(&f, 1) == 1,
		      "more buckets for a limit that was not raised");
	path_of(&f, 2, path);
	unlink(path);
	ck_assert_int_eq(symlink("/proc/sys/kernel/random/entropy_avail", path), 0);
	ck_assert_uint_eq(sysctl_apply(f.config, 8, &f.roots, &f.report), 1);
	CHECK_HAS("read-only", f.failed.text,
		  "_timeout_established: cannot be set from ");
	end(&f);
}
END_TEST

START_TEST(oom_score)
{
	char path[PATH_MAX];
	struct fixture f;

	begin(&f);
	sysctl_apply_oom_score(f.config, &f.roots, &f.report);
	ck_assert_int_eq(value_of(&f, 7), -999);
	path_of(&f, 7, path);
	ck_assert_int_eq(unlink(path), 0);
	sysctl_apply_oom_score(f.config, &f.roots, &f.report);
	ck_assert_uint_eq(f.failed.length, 0);
	CHECK_HAS("told", f.refused.text, "/self/oom_score_adj: cannot read");
	end(&f);
}
END_TEST

/* The real /proc, which holds the wanted value already: nothing is written. */
START_TEST(roots_of_the_system)
{
	struct fixture f;
	FILE *in = fopen("/proc/self/oom_score_adj", "re");

	begin(&f);
	ck_assert_ptr_nonnull(in);
	ck_assert_int_eq(fscanf(in, "%d", &f.config->oom_score_adj), 1);
	fclose(in);
	sysctl_apply_oom_score(f.config, NULL, &f.report);
	ck_assert_uint_eq(f.written.length, 0);
	ck_assert_uint_eq(f.refused.length, 0);
	end(&f);
}
END_TEST

START_TEST(cpus)
{
	unsigned int n = sysctl_count_cpus();

	ck_assert_uint_ge(n, 1);
	ck_assert_uint_le(n, (unsigned int)sysconf(_SC_NPROCESSORS_CONF));
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("sysctl");
	TCase *tc = tcase_create("sysctl");

	ADD_LOOP(tc, conntrack_max, maxima);
	tcase_add_test(tc, defaults);
	tcase_add_test(tc, all_set);
	tcase_add_test(tc, all_off);
	tcase_add_test(tc, second_time);
	tcase_add_test(tc, more_buckets_than_needed);
	tcase_add_test(tc, max_is_never_lowered);
	tcase_add_test(tc, failures_are_reported);
	tcase_add_test(tc, cannot_write);
	tcase_add_test(tc, oom_score);
	tcase_add_test(tc, roots_of_the_system);
	tcase_add_test(tc, cpus);
	suite_add_tcase(suite, tc);
	return suite;
}
