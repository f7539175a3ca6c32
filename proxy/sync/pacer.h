/*
 * When the next sync may begin: at once after a quiet time, spaced by what syncs cost under load
 * (RUN-3). Pure arithmetic on times that the caller brings.
 */
#ifndef SYNC_PACER_H
#define SYNC_PACER_H

#include <stdint.h>

struct pacer {
	int64_t min_period_us; /* minSyncPeriod; 0: by cost alone */
	int64_t credit_us; /* processor time that may be spent; negative: overspent */
	int64_t updated_us; /* when credit_us was right */
	int64_t ended_us;   /* end of the latest sync */
};

void pacer_init(struct pacer *p, int64_t min_period_us, int64_t now_us);
void pacer_set_min_period(struct pacer *p, int64_t min_period_us); /* from now on */
int64_t pacer_delay_us(struct pacer *p, int64_t now_us); /* 0: begin now */
/* A sync has ended that took @cost_us of processor time. */
void pacer_spent(struct pacer *p, int64_t now_us, int64_t cost_us);

#endif
