/*
 * Addresses, prefixes, protocols: plain values. An address does not know its
 * family; whoever holds it does, since everything is done once per family.
 */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum family { FAMILY_IPV4, FAMILY_IPV6, N_FAMILIES };

/* Network byte order. IPv4 takes the first 4 bytes, the others are zero: memcmp compares. */
struct addr {
	uint8_t bytes[16];
};

struct prefix {
	struct addr addr; /* host bits are zero */
	uint8_t length;	  /* in bits, 0 to 32 or 128 */
};

enum { ADDR_TEXT_SIZE = 46, PREFIX_TEXT_SIZE = ADDR_TEXT_SIZE + 4 };

static inline unsigned int family_bits(enum family family)
{
	return family == FAMILY_IPV4 ? 32 : 128;
}

static inline size_t family_size(enum family family)
{
	return family == FAMILY_IPV4 ? 4 : 16;
}

const char *family_name(enum family family); /* "IPv4", "IPv6" */

/*
 * Reads an address as the Kubernetes API allows it: leading zeros in IPv4
 * numbers are decimal (API-11); an IPv4-mapped IPv6 address counts as IPv4.
 * Zones ("%eth0") are refused. Returns 0 or -EINVAL.
 */
int addr_parse(const char *text, enum family *family, struct addr *addr);

/* The same for ADDRESS/LENGTH. Host bits are cleared. */
int prefix_parse(const char *text, enum family *family, struct prefix *prefix);

/* Canonical text; @text has ADDR_TEXT_SIZE or PREFIX_TEXT_SIZE bytes. Returns @text. */
char *addr_format(enum family family, const struct addr *addr, char *text);
char *prefix_format(enum family family, const struct prefix *prefix, char *text);

int addr_compare(const struct addr *a, const struct addr *b);
bool prefix_contains(const struct prefix *prefix, const struct addr *addr);
bool prefix_covers(const struct prefix *outer, const struct prefix *inner);
struct addr prefix_last(enum family family, const struct prefix *prefix);
int prefix_compare(const struct prefix *a,
		   const struct prefix *b); /* by address, then length */

/*
 * Sorts @list and drops what another range of it covers, since the kernel's
 * sets refuse overlaps. Returns how many are left.
 */
unsigned int prefixes_disjoint(struct prefix *list, unsigned int n);

/* Loopback, link-local, multicast or unspecified: never acceptable as an endpoint. */
bool addr_is_special(enum family family, const struct addr *addr);
bool addr_is_loopback(enum family family, const struct addr *addr);

/*
 * The parts of "HOST", "HOST:PORT", "[HOST]" or "[HOST]:PORT"; neither is
 * judged. A bare IPv6 address has more than one colon and no port. @host has
 * @size bytes; *port points into @text, NULL: there is none. Returns 0, or
 * -EINVAL for brackets that do not match or a host that does not fit.
 */
int host_port_split(const char *text, char *host, size_t size, const char **port);
/* A whole number from 1 to 65535. Returns 0 or -EINVAL. */
int port_parse(const char *text, uint16_t *port);

/* IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP for "TCP", "UDP", "SCTP"; 0 for anything else. */
uint8_t protocol_parse(const char *text);
const char *protocol_name(uint8_t protocol); /* "tcp", "udp", "sctp" */

#endif
