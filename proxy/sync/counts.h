/*
 * How many connections the elements of one family's table have counted (BEY-5).
 *
 * An element is replaced whenever its data changes, and an endpoint moves to
 * another index when the list gets shorter. The kernel forgets a count with its
 * element, so the count is asked for just before, and what takes its place
 * begins with it: a virtual IP keeps its count, and so does an endpoint,
 * whatever its index is.
 *
 * What was ever read is remembered until the element is gone for good. So a
 * count that somebody has seen does not go back if others delete the table.
 */
#ifndef SYNC_COUNTS_H
#define SYNC_COUNTS_H

#include "proxy/model/element.h"

struct counts;

struct counts *counts_new(void); /* NULL when out of memory */
void counts_free(struct counts *c);

/*
 * What the kernel says of an element of a counted set. Out of memory, a count
 * is lost: rules do not wait for that.
 */
void counts_note(struct counts *c, const struct element *element);
/* What is known of it, whatever its index is; 0 if nothing is. */
uint64_t counts_of(const struct counts *c, const struct element *element);

/* A transaction, from the first try to the acknowledgement. */
void counts_begin(struct counts *c);
/* It deletes the element; something may take its place. */
void counts_gone(struct counts *c, const struct element *element);
/* It adds the element, or leaves it as it is. Returns what it begins with. */
uint64_t counts_stay(struct counts *c, const struct element *element);
/* @all: there is nothing in the table but what stays. */
void counts_applied(struct counts *c, bool all);

/* The keys of what it deletes, to be asked for before; valid until the next
 * call for @c, but counts_note(). */
const struct element *counts_questions(const struct counts *c, size_t *count);
size_t counts_known(const struct counts *c); /* how many are remembered */

#endif
