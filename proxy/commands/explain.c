/*
 * explain: what becomes of a packet, by the objects and the configuration of
 * the running vipmap, or of those that flags name.
 */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/addr.h"
#include "proxy/base/clock.h"
#include "proxy/base/table.h"
#include "proxy/commands/ask.h"
#include "proxy/commands/objects.h"

const struct command_flag explain_flags[] = {
	{ "output", 'o', false, "\"json\" or \"yaml\" instead of text" },
	{ NULL, 0, false, NULL },
};

static bool is_ping(const char *protocol)
{
	return strcasecmp(protocol, "icmp") == 0 ||
	       strcasecmp(protocol, "icmpv6") == 0;
}

/* What can be told without any objects, so that it is a usage error. An echo request has no port.
 */
static int check_packet(char *const words[4], unsigned int n, struct errbuf *eb)
{
	enum family source_family, family;
	struct addr addr;
	char protocol[8] = "";
	uint16_t port;
	size_t i;

	if (addr_parse(words[0], &source_family, &addr) && !strchr(words[0], '/'))
		return errf(eb, -EINVAL,
			    "explain: source \"%s\" is neither an IP address nor NAMESPACE/POD",
			    words[0]);
	for (i = 0; words[1][i] && i < sizeof(protocol) - 1; i++)
		protocol[i] = (char)(words[1][i] & ~0x20);
	if (!protocol_parse(protocol) && !is_ping(words[1]))
		return errf(eb, -EINVAL,
			    "explain: protocol \"%s\" is not tcp, udp, sctp or icmp",
			    words[1]);
	if (is_ping(words[1]) && n == 4)
		return errf(eb, -EINVAL, "explain: %s has no ports: say SRC %s DST",
			    words[1], words[1]);
	if (!is_ping(words[1]) && n == 3)
		return errf(eb, -EINVAL,
			    "explain: which port? Say SRC %s DST PORT", words[1]);
	if (addr_parse(words[2], &family, &addr))
		return errf(eb, -EINVAL,
			    "explain: destination \"%s\" is not an IP address",
			    words[2]);
	if (!strchr(words[0], '/') && family != source_family)
		return errf(eb, -EINVAL,
			    "explain: source and destination are not of one family");
	if (n == 3)
		return strcasecmp(words[1], "icmpv6") == 0 && family == FAMILY_IPV4
			       ? errf(eb, -EINVAL,
				      "explain: icmpv6 is not IPv4's: say icmp")
			       : 0;
	if (port_parse(words[3], &port))
		return errf(eb, -EINVAL,
			    "explain: port \"%s\" is not between 1 and 65535",
			    words[3]);
	return 0;
}

/* "ADDRESS:PORT" with a port that is none; all else the running vipmap understands better. */
static int check_destination(const char *word, struct errbuf *eb)
{
	char text[256], *start = text, *port;
	enum family family;
	struct addr addr;
	unsigned long n;
	char *end;

	snprintf(text, sizeof(text), "%s", word);
	text[strcspn(text, "/")] = '\0';
	port = strrchr(text, ':');
	if (!port)
		return 0;
	*port++ = '\0';
	if (*start == '[' && port - 2 > start && port[-2] == ']') {
		port[-2] = '\0';
		start++;
	} else if (strchr(start, ':')) {
		return 0;
	}
	n = strtoul(port, &end, 10);
	if (addr_parse(start, &family, &addr) ||
	    (*port >= '0' && *port <= '9' && !*end && n >= 1 && n <= UINT16_MAX))
		return 0;
	return errf(eb, -EINVAL,
		    "explain: port \"%s\" is not between 1 and 65535", port);
}

int command_explain_check(const struct options *options, struct errbuf *eb)
{
	char *words[4];
	unsigned int i;

	if (output_check(options, "explain", eb))
		return -EINVAL;
	if (options->n_words == 1 || options->n_words == 2)
		return check_destination(options->words[options->n_words - 1], eb);
	if (options->n_words != 3 && options->n_words != 4)
		return errf(eb, -EINVAL,
			    "explain: needs DESTINATION, SOURCE DESTINATION, SRC PROTO DST PORT, "
			    "or SRC icmp DST");
	for (i = 0; i < options->n_words; i++)
		memcpy(&words[i], &options->words[i], sizeof(words[i]));
	return check_packet(words, options->n_words, eb);
}

static void make_path(const struct options *options, struct strbuf *path)
{
	static const char *const four[] = { "source", "protocol", "destination",
					    "port" };
	unsigned int i;

	strbuf_adds(path, "/v1/explain?");
	if (options->n_words >= 3)
		for (i = 0; i < options->n_words; i++)
			ask_add(path, four[i], options->words[i]);
	else
		ask_add(path, "destination", options->words[options->n_words - 1]);
	if (options->n_words == 2)
		ask_add(path, "source", options->words[0]);
}

/* What the rules take it for. */
static const char *source_text(const struct json *item)
{
	const char *kind = text_at(item, "sourceKind");

	if (strcmp(kind, "pod") == 0)
		return "a pod";
	return strcmp(kind, "host") == 0 ? "this node" : "outside";
}

/* ", pod on this node", or what else it is */
static void add_source_kind(const struct json *item, struct strbuf *out)
{
	const bool is_pod = strcmp(text_at(item, "sourceKind"), "pod") == 0;

	strbuf_adds(out, *text_at(item, "sourcePod") ? ", " : "");
	if (!is_pod || !json_has(item, "sourceNode"))
		strbuf_adds(out, source_text(item));
	else if (is_at(item, "sourceOnThisNode"))
		strbuf_adds(out, "pod on this node");
	else
		strbuf_addf(out, "pod on node %s", text_at(item, "sourceNode"));
}

static void add_packet(const struct json *item, struct strbuf *out)
{
	const char *source = text_at(item, "source"),
		   *pod = text_at(item, "sourcePod"),
		   *to = text_at(item, "destination");
	const bool v6 = strchr(to, ':') != NULL;

	strbuf_adds(out, "packet    ");
	if (*source) {
		strbuf_addf(out, "%s (%s", source, pod);
		add_source_kind(item, out);
		strbuf_adds(out, ")");
	} else {
		strbuf_adds(out, source_text(item));
	}
	if (json_has(item, "port"))
		strbuf_addf(out, " -> %s%s%s:%lld/%s\n", v6 ? "[" : "", to,
			    v6 ? "]" : "", (long long)number_at(item, "port"),
			    text_at(item, "protocol"));
	else
		strbuf_addf(out, " -> %s, %s echo request\n", to,
			    text_at(item, "protocol"));
	if (*text_at(item, "note"))
		strbuf_addf(out, "note      %s\n", text_at(item, "note"));
}

static void add_service_line(const struct json *item, struct strbuf *out)
{
	char age[AGE_TEXT_SIZE];

	if (!*text_at(item, "service"))
		return;
	strbuf_addf(out, "service   %s", text_at(item, "service"));
	if (json_has(item, "role"))
		strbuf_addf(out, "   %s   %s", text_at(item, "role"),
			    text_at(item, "policy"));
	if (number_at(item, "affinityTimeoutSeconds"))
		strbuf_addf(out, "   affinity %s",
			    age_format(number_at(item, "affinityTimeoutSeconds"),
				       age));
	strbuf_addc(out, '\n');
	if (*text_at(item, "conflict"))
		strbuf_addf(out, "note      %s: %s gets no traffic there\n",
			    text_at(item, "conflict"), text_at(item, "service"));
}

static void add_verdict_line(const struct json *item, struct strbuf *out)
{
	const char *reason = text_at(item, "reason");

	if (json_has(item, "choices"))
		strbuf_addf(
			out, "verdict   DNAT to one of %lld%s, source %s (%s)%s\n",
			(long long)number_at(item, "choices"),
			strcmp(text_at(item, "list"), "local") ? "" : " on this node",
			is_at(item, "masqueraded") ? "masqueraded" : "kept",
			text_at(item, "sourceReason"),
			!is_at(item, "masqueraded") ||
					!number_at(item, "choicesThatSeeTheSource")
				? ""
				: ", kept where told below");
	else
		strbuf_addf(out, "verdict   %s%s%s\n", text_at(item, "verdict"),
			    *reason ? ": " : "", reason);
}

static void add_endpoints(const struct json *item, struct strbuf *out)
{
	static const char *const headers[] = { "ENDPOINT", "POD",   "NODE",
					       "ZONE",	   "SHARE", "WHY" };
	struct table t;
	unsigned int n = 0;

	table_begin(&t, headers, 6);
	json_for_each (e, json_get(item, "endpoints")) {
		const double share = json_number(json_get(e, "sharePercent"));

		n++;
		table_add(&t, text_at(e, "address"));
		table_add(&t, text_at(e, "pod"));
		table_add(&t, text_at(e, "nodeName"));
		table_add(&t, text_at(e, "zone"));
		if (share > 0)
			table_addf(&t, share == (int)share ? "%.0f %%" : "%.2f %%",
				   share);
		else
			table_add(&t, "-");
		table_addf(&t, "%s%s%s", text_at(e, "reason"),
			   share > 0 && is_at(e, "onThisNode") ? ", this node" : "",
			   *text_at(e, "sourceKept")
				   ? ", source kept: both are in noMasqueradeCIDRs"
				   : "");
	}
	if (n)
		table_print(&t, true, 2, out);
	if (n < number_at(item, "endpointsTotal"))
		strbuf_addf(out, "  and %lld more: vipmap get endpoints %s\n",
			    (long long)(number_at(item, "endpointsTotal") - n),
			    text_at(item, "service"));
	table_free(&t);
}

static void add_kernel(const struct json *item, struct strbuf *out)
{
	const struct json *k = json_get(item, "kernel");
	char age[AGE_TEXT_SIZE];

	if (!k)
		return;
	if (is_at(k, "agrees"))
		strbuf_addf(out, "kernel    agrees: %s", text_at(k, "path"));
	else
		strbuf_addf(out, "kernel    DIFFERS: %s (%lld in all): %s",
			    text_at(k, "message"),
			    (long long)number_at(k, "differences"),
			    text_at(k, "path"));
	if (*text_at(k, "rememberedFor"))
		strbuf_addf(out, "; this client is remembered for %s, %s left",
			    text_at(k, "rememberedFor"),
			    age_format(number_at(k, "rememberedSeconds"), age));
	strbuf_addc(out, '\n');
}

static int show_explanation(const struct json *answer, const char *output)
{
	struct strbuf out = STRBUF_INIT;
	bool first = true, differs = false;
	int status;

	json_for_each (item, json_get(answer, "items")) {
		if (!output) {
			strbuf_adds(&out, first ? "" : "\n");
			add_packet(item, &out);
			add_service_line(item, &out);
			add_verdict_line(item, &out);
			add_endpoints(item, &out);
			add_kernel(item, &out);
		}
		first = false;
		differs |= json_get(item, "kernel") &&
			   !is_at(json_get(item, "kernel"), "agrees");
	}
	if (output)
		print_data(answer, output, &out);
	status = put_out(&out);
	return status ? status : differs ? EXIT_FAILED : EXIT_DONE;
}

int command_explain(struct app *app, struct options *options)
{
	const char *output = options_own(options, "output");
	struct strbuf path = STRBUF_INIT;
	struct objects objects = { 0 };
	struct json *json = NULL;
	int status = EXIT_DONE;

	make_path(options, &path);
	if (objects_are_named(options))
		status = objects_open(&objects, app, options);
	if (!status && path.err)
		status = command_fails(EXIT_FAILED, "out of memory");
	if (!status)
		status = ask_json(app, path.text, &json);
	if (!status)
		status = show_explanation(json, output);
	json_free(json);
	objects_close(&objects);
	strbuf_free(&path);
	return status;
}
