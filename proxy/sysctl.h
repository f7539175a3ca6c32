/*
 * Kernel settings (section 21): conntrack limits and timeouts, and this process' oom score. A
 * failure is reported and nothing more: service traffic matters more than a limit.
 */
#ifndef PROXY_SYSCTL_H
#define PROXY_SYSCTL_H

#include "proxy/model/config.h"

/* Where things are, for tests; NULL, the whole or a part: /proc and /sys/module. */
struct sysctl_roots {
	const char *proc, *module;
};

struct sysctl_report {
	void (*failed)(void *ctx, const char *message);
	/* Not permitted here, which is no failure (SYS-4). */
	void (*refused)(void *ctx, const char *message);
	void (*written)(void *ctx, const char *message);
	void *ctx;
	bool look_only; /* nothing is written, @written is told what would be */
};

/* Values that are right already are not written. Returns the number of failures. */
unsigned int sysctl_apply(const struct config *config, unsigned int n_cpus,
			  const struct sysctl_roots *roots,
			  const struct sysctl_report *report);

/* oomScoreAdj. A failure is told as refused, whatever it is. */
void sysctl_apply_oom_score(const struct config *config,
			    const struct sysctl_roots *roots,
			    const struct sysctl_report *report);

/* SYS-1; 0: leave it alone. */
int64_t sysctl_conntrack_max(const struct config *config, unsigned int n_cpus);

unsigned int sysctl_count_cpus(void); /* that this process may use */

#endif
