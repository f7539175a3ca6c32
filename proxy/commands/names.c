#include "proxy/commands/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "proxy/commands/ask.h"
#include "proxy/serve/vips.h"

static uint8_t protocol_of(const struct json *item)
{
	const char *text = text_at(item, "protocol");
	char upper[8] = "";
	size_t i;

	for (i = 0; i < sizeof(upper) - 1 && text[i]; i++)
		upper[i] = (char)(text[i] & ~0x20);
	return protocol_parse(upper);
}

static int facts_room(struct names *n, unsigned int port)
{
	const unsigned int room = n->room ? n->room * 2 : 64;
	struct port_facts *more;

	if (port < n->room)
		return 0;
	more = reallocarray(n->facts, room, sizeof(*more));
	if (!more)
		return -ENOMEM;
	memset(more + n->room, 0, (room - n->room) * sizeof(*more));
	n->facts = more;
	n->room = room;
	return 0;
}

static int add_addresses(struct names *n, unsigned int port,
			 const struct json *item, const char *list)
{
	const uint16_t number = (uint16_t)number_at(item, "servicePort");
	enum family family;
	struct addr addr;
	int err = 0;

	json_for_each (ip, json_get(item, list))
		if (!err && json_string(ip) &&
		    addr_parse(json_string(ip), &family, &addr) == 0)
			err = vips_add(n->vips, port, family, &addr, number,
				       protocol_of(item));
	return err;
}

static int add_names_of(struct names *n, const struct json *item)
{
	static const char *const lists[] = { "clusterIPs", "loadBalancerIPs",
					     "externalIPs" };
	const char *port_name = text_at(item, "port");
	const int64_t nodeport = number_at(item, "nodePort");
	struct strbuf label = STRBUF_INIT;
	int port, err = -ENOMEM;
	size_t i;

	if (!json_has(item, "servicePort"))
		return 0;
	strbuf_addf(&label, "%s/%s%s%s", text_at(item, "namespace"),
		    text_at(item, "name"), *port_name ? ":" : "", port_name);
	port = label.err ? -ENOMEM : vips_add_port(n->vips, label.text);
	strbuf_free(&label);
	if (port < 0 || facts_room(n, (unsigned int)port))
		return -ENOMEM;
	n->facts[port].affinity_s = number_at(item, "affinityTimeoutSeconds");
	n->facts[port].used = number_at(json_get(item, "endpoints"), "used");
	for (err = 0, i = 0; !err && i < sizeof(lists) / sizeof(lists[0]); i++)
		err = add_addresses(n, (unsigned int)port, item, lists[i]);
	if (!err && nodeport)
		err = vips_add(n->vips, (unsigned int)port, FAMILY_IPV4, NULL,
			       (uint16_t)nodeport, protocol_of(item));
	return err;
}

static int on_names_page(void *ctx, const struct json *page)
{
	struct names *n = ctx;

	json_for_each (item, json_get(page, "items"))
		if (add_names_of(n, item))
			n->out_of_memory = true;
	return n->out_of_memory ? EXIT_FAILED : EXIT_DONE;
}

int names_fetch(struct app *app, struct names *names, bool quiet)
{
	int status = EXIT_FAILED;

	*names = (struct names){ .vips = vips_new() };
	names->out_of_memory = !names->vips;
	if (names->vips)
		status = (quiet ? ask_list_quietly : ask_list)(
			app, "/v1/services?", on_names_page, names);
	if (names->out_of_memory && !quiet)
		status = command_fails(EXIT_FAILED, "out of memory");
	if (status)
		names_free(names);
	else
		vips_sort(names->vips);
	return status;
}

void names_free(struct names *names)
{
	vips_free(names->vips);
	free(names->facts);
	*names = (struct names){ 0 };
}
