/*
 * The addresses of this node in this network namespace (rtnetlink), and their changes.
 */
#ifndef NFT_ADDRESSES_H
#define NFT_ADDRESSES_H

#include "proxy/base/addr.h"
#include "proxy/base/errbuf.h"

struct addresses;

struct addresses *addresses_open(struct errbuf *eb); /* NULL with @eb on failure */
void addresses_close(struct addresses *a);
int addresses_fd(const struct addresses *a); /* readable: call addresses_read() */

/* Dumps (at first, or after lost notifications) or follows; *changed tells
 * whether the list differs. Never blocks for long. */
int addresses_read(struct addresses *a, bool *changed, struct errbuf *eb);

/* Sorted, without duplicates, loopback included. Borrowed until the next addresses_read(). */
const struct addr *addresses_list(const struct addresses *a, enum family family,
				  unsigned int *count);

#endif
