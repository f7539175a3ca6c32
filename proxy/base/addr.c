/* Parsing by hand for IPv4, since inet_pton() refuses the leading zeros that old objects carry and
 * inet_aton() reads them as octal; IPv6 is left to the C library. */
#include "proxy/base/addr.h"

#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *family_name(enum family family)
{
	return family == FAMILY_IPV4 ? "IPv4" : "IPv6";
}

/* Decimal, any number of leading zeros, at most @max; the end must be at @end. */
static int number_parse(const char *text, const char *end, unsigned int max,
			unsigned int *value)
{
	unsigned int v = 0;

	assert(text <= end);
	if (text == end)
		return -EINVAL;
	for (; text < end; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		v = v * 10 + (unsigned int)(*text - '0');
		if (v > max)
			return -EINVAL;
	}
	*value = v;
	return 0;
}

static int ipv4_parse(const char *text, struct addr *addr)
{
	struct addr a = { { 0 } };
	const char *end;
	unsigned int part, i;

	for (i = 0; i < 4; i++) {
		end = i < 3 ? strchr(text, '.') : text + strlen(text);
		if (!end || end - text > 16 || number_parse(text, end, 255, &part))
			return -EINVAL;
		a.bytes[i] = (uint8_t)part;
		text = end + 1;
	}
	*addr = a;
	return 0;
}

int addr_parse(const char *text, enum family *family, struct addr *addr)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0,    0,
					    0, 0, 0, 0, 0xff, 0xff };
	struct addr a = { { 0 } };

	if (!strchr(text, ':')) {
		if (ipv4_parse(text, addr))
			return -EINVAL;
		*family = FAMILY_IPV4;
		return 0;
	}
	if (inet_pton(AF_INET6, text, a.bytes) != 1)
		return -EINVAL;
	*family = FAMILY_IPV6;
	if (memcmp(a.bytes, mapped, sizeof(mapped)) == 0) {
		memcpy(a.bytes, a.bytes + 12, 4);
		memset(a.bytes + 4, 0, 12);
		*family = FAMILY_IPV4;
	}
	*addr = a;
	return 0;
}

/* Clears all bits of @addr after the first @length. */
static void addr_mask(struct addr *addr, unsigned int length)
{
	unsigned int i;

	assert(length <= 8 * sizeof(addr->bytes));
	for (i = 0; i < sizeof(addr->bytes); i++) {
		if (length >= (i + 1) * 8)
			continue;
		addr->bytes[i] &=
			length <= i * 8 ? 0
					: (uint8_t)(0xff00u >> (length - i * 8));
	}
}

int prefix_parse(const char *text, enum family *family, struct prefix *prefix)
{
	char copy[64];
	const char *slash = strchr(text, '/');
	unsigned int length;
	struct prefix p;
	enum family f;

	if (!slash || (size_t)(slash - text) >= sizeof(copy) ||
	    strlen(slash + 1) > 8)
		return -EINVAL;
	memcpy(copy, text, (size_t)(slash - text));
	copy[slash - text] = '\0';
	if (addr_parse(copy, &f, &p.addr))
		return -EINVAL;
	/* ::ffff:10.0.0.0/104 means 10.0.0.0/8 */
	if (f == FAMILY_IPV4 && strchr(copy, ':')) {
		if (number_parse(slash + 1, slash + strlen(slash), 128, &length) ||
		    length < 96)
			return -EINVAL;
		length -= 96;
	} else if (number_parse(slash + 1, slash + strlen(slash),
				family_bits(f), &length)) {
		return -EINVAL;
	}
	p.length = (uint8_t)length;
	addr_mask(&p.addr, length);
	*family = f;
	*prefix = p;
	return 0;
}

char *addr_format(enum family family, const struct addr *addr, char *text)
{
	if (!inet_ntop(family == FAMILY_IPV4 ? AF_INET : AF_INET6, addr->bytes,
		       text, ADDR_TEXT_SIZE))
		text[0] = '\0';
	return text;
}

char *prefix_format(enum family family, const struct prefix *prefix, char *text)
{
	size_t length;

	addr_format(family, &prefix->addr, text);
	length = strlen(text);
	snprintf(text + length, PREFIX_TEXT_SIZE - length, "/%u", prefix->length);
	return text;
}

int addr_compare(const struct addr *a, const struct addr *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool prefix_contains(const struct prefix *prefix, const struct addr *addr)
{
	struct addr a = *addr;

	addr_mask(&a, prefix->length);
	return addr_compare(&a, &prefix->addr) == 0;
}

bool prefix_covers(const struct prefix *outer, const struct prefix *inner)
{
	return outer->length <= inner->length &&
	       prefix_contains(outer, &inner->addr);
}

struct addr prefix_last(enum family family, const struct prefix *prefix)
{
	struct addr a = prefix->addr;
	unsigned int i;

	for (i = 0; i < family_size(family); i++) {
		if (prefix->length <= i * 8)
			a.bytes[i] = 0xff;
		else if (prefix->length < (i + 1) * 8)
			a.bytes[i] |= (uint8_t)(0xff >> (prefix->length - i * 8));
	}
	return a;
}

int prefix_compare(const struct prefix *a, const struct prefix *b)
{
	int order = addr_compare(&a->addr, &b->addr);

	return order ? order : (int)a->length - (int)b->length;
}

static int prefix_order(const void *a, const void *b)
{
	return prefix_compare(a, b);
}

/* In this order a range comes after any that covers it, and right after what else that one covers.
 */
unsigned int prefixes_disjoint(struct prefix *list, unsigned int n)
{
	unsigned int i, kept = 0;

	assert(list || !n);
	if (n)
		qsort(list, n, sizeof(*list), prefix_order);
	for (i = 0; i < n; i++)
		if (!kept || !prefix_covers(&list[kept - 1], &list[i]))
			list[kept++] = list[i];
	assert(kept <= n && !kept == !n);
	return kept;
}

bool addr_is_loopback(enum family family, const struct addr *addr)
{
	static const struct addr one = { { [15] = 1 } };

	if (family == FAMILY_IPV4)
		return addr->bytes[0] == 127;
	return addr_compare(addr, &one) == 0;
}

bool addr_is_special(enum family family, const struct addr *addr)
{
	static const struct addr zero = { { 0 } };
	const uint8_t *b = addr->bytes;

	if (addr_compare(addr, &zero) == 0 || addr_is_loopback(family, addr))
		return true;
	if (family == FAMILY_IPV4)
		return (b[0] & 0xf0) == 224 || (b[0] == 169 && b[1] == 254);
	return b[0] == 0xff || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80);
}

int host_port_split(const char *text, char *host, size_t size, const char **port)
{
	const char *start = text, *end, *colon;

	if (*text == '[') {
		start = text + 1;
		end = strchr(start, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		colon = end[1] ? end + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (colon && strchr(colon + 1, ':'))
			colon = NULL;
		end = colon ? colon : text + strlen(text);
	}
	if ((size_t)(end - start) >= size)
		return -EINVAL;
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	*port = colon ? colon + 1 : NULL;
	return 0;
}

int port_parse(const char *text, uint16_t *port)
{
	unsigned int value;

	if (number_parse(text, text + strlen(text), UINT16_MAX, &value) || !value)
		return -EINVAL;
	*port = (uint16_t)value;
	return 0;
}

static const struct {
	uint8_t protocol;
	const char *api, *name;
} protocols[] = {
	{ IPPROTO_TCP, "TCP", "tcp" },
	{ IPPROTO_UDP, "UDP", "udp" },
	{ IPPROTO_SCTP, "SCTP", "sctp" },
};

uint8_t protocol_parse(const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (strcmp(text, protocols[i].api) == 0)
			return protocols[i].protocol;
	return 0;
}

const char *protocol_name(uint8_t protocol)
{
	size_t i;

	for (i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (protocols[i].protocol == protocol)
			return protocols[i].name;
	return "?";
}
