/*
 * Service ports that the kernel refused: set aside, so that the others go on, and tried again
 * later. A service port that was set aside keeps what the kernel has of it, if possible.
 */
#include "proxy/sync/dataplane_internal.h"

#include <assert.h>
#include <errno.h>
#include <syslog.h>

enum {
	RETRY_FIRST_US = 1000 * 1000, /* doubled up to syncPeriod */
};

bool dp_is_aside(const struct dataplane *dp, const struct service_port_state *p)
{
	return p->refusals && p->retry_us > dp->now_us;
}

const struct dispatch *dp_target(const struct dataplane *dp,
				 const struct service_port_state *p)
{
	if (dp_is_aside(dp, p))
		return p->dropped ? NULL : p->applied;
	return p->desired;
}

/* Whether all that is applied is still the service port's own. */
static bool owns_vips(const struct dataplane *dp,
		      const struct service_port_state *p)
{
	const struct vip *vip;
	unsigned int i;

	for (i = 0; p->applied && i < p->applied->n_vips; i++) {
		vip = &p->applied->vips[i];
		if (model_vip_owner(dp->model, dp->family,
				    vip->role == VIP_NODE_PORT ? NULL : &vip->addr,
				    p->protocol, vip->port) != p)
			return false;
	}
	return true;
}

void dp_set_aside(struct dataplane *dp, struct service_port_state *p,
		  const char *reason)
{
	const int64_t longest =
		model_config(dp->model)->sync_period_ms * 1000; /* RUN-4 */
	int64_t wait = RETRY_FIRST_US;
	unsigned int i;

	/* Refused although only what was there is asked for, or others have its virtual IPs by now
	 */
	p->dropped = dp_is_aside(dp, p) || p->desired_is_applied ||
		     !owns_vips(dp, p);
	for (i = 0; i < p->refusals && wait < longest; i++)
		wait *= 2;
	if (wait > longest)
		wait = longest;
	p->refusals++;
	p->retry_us = dp->now_us + wait;
	assert(p->retry_us >= dp->now_us);
	model_log(dp->model, LOG_ERR, "Service %s: set aside for %d s: %s",
		  p->label, (int)(wait / 1000000), reason);
}

bool dp_any_refused(const struct dataplane *dp)
{
	unsigned int i;

	for (i = 0; i < dp->n_changed; i++)
		if (dp->changed[i]->refusals)
			return true;
	return false;
}

void dp_find_retry(struct dataplane *dp)
{
	struct service_port_state **ports;
	unsigned int i, n;

	dp->retry_us = INT64_MAX;
	dp->gauges.set_aside = 0;
	if (dp_all_ports(dp, &ports, &n))
		return;
	for (i = 0; i < n; i++) {
		dp->gauges.set_aside += ports[i]->refusals > 0;
		if (ports[i]->refusals && ports[i]->retry_us < dp->retry_us)
			dp->retry_us = ports[i]->retry_us;
	}
	assert(dp->gauges.set_aside <= n);
}
