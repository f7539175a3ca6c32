/*
 * The network interfaces of this network namespace (rtnetlink), and their changes.
 */
#ifndef NFT_INTERFACES_H
#define NFT_INTERFACES_H

#include "proxy/base/errbuf.h"

#include <stdbool.h>

enum { INTERFACE_NAME_SIZE = 16 }; /* IFNAMSIZ */

struct interface {
	char name[INTERFACE_NAME_SIZE];
	int index; /* another one of the same name has another */
};

struct interfaces;

struct interfaces *interfaces_open(struct errbuf *eb); /* NULL with @eb on failure */
void interfaces_close(struct interfaces *i);
int interfaces_fd(const struct interfaces *i); /* readable: call interfaces_read() */

/* Dumps (at first, or after notifications); *changed tells whether the list differs. Returns 0, or
 * a negative errno with @eb: then the former list stays. Never blocks for long. */
int interfaces_read(struct interfaces *i, bool *changed, struct errbuf *eb);

/* Sorted by name, without loopback. Borrowed until the next interfaces_read(). */
const struct interface *interfaces_list(const struct interfaces *i,
					unsigned int *count);

#endif
