/*
 * Kernel settings: a table of paths and wanted values, read first and written
 * only if they differ, as /proc/sys is often read-only in a container while the
 * values are right. Nothing else is set (SYS-3).
 *
 * Two things are often not permitted although all is well: nf_conntrack_max and
 * the size of the hash table belong to the machine's first network namespace,
 * and a lower oom_score_adj takes CAP_SYS_RESOURCE. Whoever waits for
 * --init-only to succeed must not wait for these (SYS-4).
 */
#include "proxy/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONNTRACK_MAX_LIMIT = 1048576, BUCKET_RATIO = 4 };

struct sysctl_target {
	const char *proc, *module;
	const struct sysctl_report *report;
	unsigned int failures;
};

enum ensure_flags {
	AT_LEAST = 1 << 0,   /* more is right, too */
	MAY_REFUSE = 1 << 1, /* not to be permitted is no failure */
	MAY_FAIL = 1 << 2,   /* nothing is */
};

int64_t sysctl_conntrack_max(const struct config *config, unsigned int n_cpus)
{
	int64_t max;

	if (config->conntrack.max_per_core <= 0)
		return 0;
	if (__builtin_mul_overflow(config->conntrack.max_per_core,
				   (int64_t)n_cpus, &max) ||
	    max > CONNTRACK_MAX_LIMIT)
		return CONNTRACK_MAX_LIMIT;
	return max < config->conntrack.min ? config->conntrack.min : max;
}

unsigned int sysctl_count_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	/* More than 1024 CPUs do not fit into the set: EINVAL. */
	if (!sched_getaffinity(0, sizeof(set), &set))
		n = CPU_COUNT(&set);
	return n > 0 ? (unsigned int)n : 1;
}

static struct sysctl_target target_init(const struct sysctl_roots *roots,
					const struct sysctl_report *report)
{
	return (struct sysctl_target){
		.proc = roots && roots->proc ? roots->proc : "/proc",
		.module = roots && roots->module ? roots->module : "/sys/module",
		.report = report,
	};
}

static void sysctl_tell(const struct sysctl_target *t,
			void (*to)(void *, const char *), const char *message)
{
	if (to)
		to(t->report->ctx, message);
}

static bool sysctl_is_refusal(int error)
{
	return error == EACCES || error == EPERM || error == EOPNOTSUPP;
}

static void sysctl_fail(struct sysctl_target *t, const char *path,
			const char *what, int error, unsigned int flags)
{
	char text[PATH_MAX + 128];
	bool refused = flags & MAY_FAIL ||
		       (flags & MAY_REFUSE && sysctl_is_refusal(error));

	if (!refused)
		t->failures++;
	snprintf(text, sizeof(text), "%s: cannot %s: %s", path, what,
		 strerror(error));
	sysctl_tell(t, refused ? t->report->refused : t->report->failed, text);
}

/* Returns 0 or an errno. */
static int read_number(const char *path, int64_t *value)
{
	char text[32], *end;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return errno;
	n = read(fd, text, sizeof(text) - 1);
	err = n < 0 ? errno : 0;
	close(fd);
	if (err)
		return err;
	text[n] = '\0';
	*value = strtoll(text, &end, 10);
	return end == text ? EINVAL : 0;
}

static int write_number(const char *path, int64_t value)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%lld\n", (long long)value);
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, (size_t)length) != length)
		err = errno ? errno : EIO;
	close(fd);
	return err;
}

/* Makes @path hold @value. False if it does not. */
static bool ensure_value(struct sysctl_target *t, const char *path,
			 int64_t value, unsigned int flags)
{
	char text[PATH_MAX + 128];
	int64_t now = 0;
	int err = read_number(path, &now);

	if (err) {
		sysctl_fail(t, path, "read", err, flags);
		return false;
	}
	if (now == value || (flags & AT_LEAST && now > value))
		return true;
	err = t->report->look_only ? 0 : write_number(path, value);
	if (err) {
		snprintf(text, sizeof(text), "be set from %lld to %lld",
			 (long long)now, (long long)value);
		sysctl_fail(t, path, text, err, flags);
		return false;
	}
	snprintf(text, sizeof(text), "%s: %sset from %lld to %lld", path,
		 t->report->look_only ? "would be " : "", (long long)now,
		 (long long)value);
	sysctl_tell(t, t->report->written, text);
	return true;
}

static bool ensure_sysctl(struct sysctl_target *t, const char *name,
			  int64_t value, unsigned int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/sys/net/netfilter/%s", t->proc, name);
	return ensure_value(t, path, value, flags);
}

/* SYS-2 */
static void ensure_buckets(struct sysctl_target *t, int64_t value)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/nf_conntrack/parameters/hashsize",
		 t->module);
	ensure_value(t, path, value, AT_LEAST | MAY_REFUSE);
}

/* Whole seconds; less than one would turn the timeout off. */
static void ensure_timeout(struct sysctl_target *t, const char *name, int64_t ms)
{
	if (ms > 0)
		ensure_sysctl(t, name, ms < 1000 ? 1 : ms / 1000, 0);
}

unsigned int sysctl_apply(const struct config *config, unsigned int n_cpus,
			  const struct sysctl_roots *roots,
			  const struct sysctl_report *report)
{
	struct sysctl_target t = target_init(roots, report);
	int64_t max = sysctl_conntrack_max(config, n_cpus);

	if (max && ensure_sysctl(&t, "nf_conntrack_max", max, AT_LEAST | MAY_REFUSE))
		ensure_buckets(&t, max / BUCKET_RATIO);
	ensure_timeout(&t, "nf_conntrack_tcp_timeout_established",
		       config->conntrack.tcp_established_timeout_ms);
	ensure_timeout(&t, "nf_conntrack_tcp_timeout_close_wait",
		       config->conntrack.tcp_close_wait_timeout_ms);
	if (config->conntrack.tcp_be_liberal)
		ensure_sysctl(&t, "nf_conntrack_tcp_be_liberal", 1, 0);
	ensure_timeout(&t, "nf_conntrack_udp_timeout",
		       config->conntrack.udp_timeout_ms);
	ensure_timeout(&t, "nf_conntrack_udp_timeout_stream",
		       config->conntrack.udp_stream_timeout_ms);
	return t.failures;
}

void sysctl_apply_oom_score(const struct config *config,
			    const struct sysctl_roots *roots,
			    const struct sysctl_report *report)
{
	struct sysctl_target t = target_init(roots, report);
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/self/oom_score_adj", t.proc);
	ensure_value(&t, path, config->oom_score_adj, MAY_FAIL);
}
