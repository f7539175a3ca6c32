/*
 * When a family is tried again whose sync failed (RUN-4): pauses that double,
 * and a change that may come before its turn, but not at once. Pure arithmetic
 * on times that the caller brings.
 */
#ifndef SYNC_RETRY_H
#define SYNC_RETRY_H

#include <stdbool.h>
#include <stdint.h>

struct retry {
	unsigned int failures; /* in a row */
	int64_t at_us; /* the next attempt without any change; INT64_MAX: none */
	int64_t earliest_us; /* of an attempt because of a change; 0: nothing has failed */
	uint64_t changes; /* the model's, when it failed */
};

void retry_init(struct retry *r);

/* Sets the next attempt: each time in a row twice as far off, at most @longest_us. */
void retry_later(struct retry *r, int64_t now_us, int64_t longest_us);

/* An attempt failed that took @took_us, of a model with so many @changes. */
void retry_failed(struct retry *r, int64_t now_us, int64_t took_us,
		  uint64_t changes, int64_t longest_us);
/* The same while another process has the table: no change of ours can help. */
void retry_locked_out(struct retry *r, int64_t now_us, uint64_t changes);

/*
 * When the family is to be synced, which wants it (something is dirty, in doubt
 * or due); 0: at once.
 */
int64_t retry_due_us(const struct retry *r, uint64_t changes);

#endif
