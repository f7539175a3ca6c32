/* The table as text: all of it, or what a full sync would write. */
#include "proxy/sync/dataplane_internal.h"

#include "nft/flowtable.h"
#include "nft/lookup.h"
#include "nft/text.h"

#include <errno.h>
#include <string.h>

/* Those of this machine; the caller frees them after success. */
static int fast_devices(const struct dataplane *dp, struct devices *devices)
{
	*devices = (struct devices){ NULL, 0 };
	return dp->interfaces
		       ? devices_choose(&dp->ruleset, dp->interfaces, devices)
		       : 0;
}

int dataplane_print(struct dataplane *dp, struct strbuf *out)
{
	struct service_port_state **ports;
	const struct element *globals;
	struct devices devices = { NULL, 0 };
	struct text *text;
	struct difference t;
	unsigned int i, n;
	size_t n_globals;
	int err;

	model_ruleset(dp->model, dp->family, &dp->ruleset);
	text = text_new(&dp->ruleset);
	if (!text)
		return -ENOMEM;
	err = fast_devices(dp, &devices);
	if (err)
		goto out;
	text_set_devices(text, &devices);
	t = dp_difference(dp, text_writer(text), NULL);
	t.writer->table(t.writer->ctx, CHANGE_ADD, 0);
	err = dataplane_compile(dp);
	if (!err)
		err = dp_all_ports(dp, &ports, &n);
	if (!err)
		err = model_globals(dp->model, dp->family, &dp->scratch,
				    &globals, &n_globals);
	if (!err)
		err = dp_want_spares(dp, ports, n);
	for (i = 0; !err && i < n; i++)
		difference_port(&t, NULL, ports[i]->desired, ports[i]);
	if (!err && !t.err) {
		difference_globals(&t, NULL, 0, globals, n_globals);
		difference_shared(&t);
	}
	err = err ? err : t.err;
	if (!err)
		err = text_print(text, out);
out:
	devices_free(&devices);
	text_free(text);
	arena_reset(&dp->scratch);
	return err;
}

/* Differences as text */

struct diff {
	struct dataplane *dp;
	struct strbuf *out;
};

static void diff_line(struct diff *d, enum change change, const char *what,
		      const char *name)
{
	strbuf_addf(d->out, "%c %s %s vipmap%s%s",
		    change == CHANGE_DELETE ? '-' : '+', what,
		    d->dp->family == FAMILY_IPV4 ? "ip" : "ip6",
		    *name ? " " : "", name);
}

static void diff_table(void *ctx, enum change change, unsigned int parts)
{
	struct diff *d = ctx;

	(void)parts; /* their elements are shown */

	diff_line(d, change, "table",
		  change == CHANGE_UPDATE ? "{ rules of constant chains }" : "");
	strbuf_addc(d->out, '\n');
}

static void diff_pick(void *ctx, enum change change, const struct verdict *pick)
{
	char name[PICK_NAME_SIZE];
	struct diff *d = ctx;

	diff_line(d, change, "chain", pick_name(pick, name));
	strbuf_addc(d->out, '\n');
}

static void diff_affinity(void *ctx, enum change change, const char *name,
			  const char *comment)
{
	struct diff *d = ctx;

	(void)comment;
	diff_line(d, change, "map", name);
	strbuf_addc(d->out, '\n');
}

static void diff_sticky(void *ctx, enum change change,
			const struct sticky_chain *chain)
{
	struct diff *d = ctx;

	diff_line(d, change, "chain", chain->name);
	strbuf_addc(d->out, '\n');
}

/* The set and its chain. */
static void diff_ranges(void *ctx, enum change change, const char *set)
{
	struct diff *d = ctx;

	diff_line(d, change,
		  change == CHANGE_UPDATE ? "rules of the chain for set" : "set",
		  set);
	strbuf_addc(d->out, '\n');
}

/* What is deleted is known by its key alone; its value is asked for, except for ranges. */
static void diff_element(void *ctx, enum change change,
			 const struct element *element, void *owner)
{
	const bool is_range = set_has_range(element->set);
	struct diff *d = ctx;
	struct lookup found;
	struct errbuf eb;
	bool whole = change != CHANGE_DELETE;

	(void)owner;
	diff_line(d, change, "element",
		  element->ranges ? element->ranges : set_name(element->set));
	strbuf_adds(d->out, " { ");
	if (!whole && !is_range &&
	    lookup_element(d->dp->nl, d->dp->family, element, &found, &eb) == 0) {
		element = &found.element;
		whole = true;
	}
	text_print_element(d->out, d->dp->family, element, whole);
	strbuf_adds(d->out, " }\n");
}

static int diff_full(struct dataplane *dp, struct full_sync *full,
		     struct strbuf *out)
{
	struct diff d = { dp, out };
	const struct writer writer = {
		.ctx = &d,
		.table = diff_table,
		.pick = diff_pick,
		.affinity = diff_affinity,
		.sticky = diff_sticky,
		.ranges = diff_ranges,
		.element = diff_element,
	};
	struct difference t = dp_difference(dp, &writer, full->snapshot);
	unsigned int i;

	registry_unwant(&dp->registry);
	snapshot_unsee(full->snapshot);
	if (full->state == TABLE_OTHER)
		diff_table(&d, CHANGE_DELETE, 0);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		diff_table(&d, CHANGE_ADD, 0);
	if (full->state == TABLE_RULES_DIFFER)
		diff_table(&d, CHANGE_UPDATE, full->parts);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		t.err = dp_want_spares(dp, full->ports, full->n_ports);
	for (i = 0; i < full->n_ports; i++)
		difference_port(&t, NULL, full->ports[i]->desired, full->ports[i]);
	difference_globals(&t, NULL, 0, full->globals, full->n_globals);
	difference_shared(&t);
	difference_unseen(&t);
	return t.err ? t.err : out->err;
}

static void diff_device(struct diff *d, enum change change, const char *device)
{
	diff_line(d, change, "flowtable", FLOWTABLE_NAME);
	strbuf_addf(d->out, " { devices = { %s } }\n", device);
}

/* A table that is not there, or is replaced, has none. */
static int diff_devices(struct dataplane *dp, enum table_state state,
			struct strbuf *out, struct errbuf *eb)
{
	struct devices wanted, have = { NULL, 0 };
	struct diff d = { dp, out };
	unsigned int i;
	int err = fast_devices(dp, &wanted);

	if (!err && (state == TABLE_CURRENT || state == TABLE_RULES_DIFFER))
		err = flowtable_devices(dp->nl, dp->family, &have, eb);
	if (err && err != -ENOENT)
		goto out;
	err = 0;
	for (i = 0; i < have.count; i++)
		if (!devices_have(&wanted, have.names[i]))
			diff_device(&d, CHANGE_DELETE, have.names[i]);
	for (i = 0; i < wanted.count; i++)
		if (!devices_have(&have, wanted.names[i]))
			diff_device(&d, CHANGE_ADD, wanted.names[i]);
out:
	devices_free(&wanted);
	devices_free(&have);
	return err ? err : out->err;
}

int dataplane_diff(struct dataplane *dp, struct strbuf *out, struct errbuf *eb)
{
	struct sync_report report = { 0 };
	struct full_sync full = { 0 };
	int err;

	model_ruleset(dp->model, dp->family, &dp->ruleset);
	err = dp_read_kernel(dp, true, &full, eb);
	if (err)
		return err;
	err = dp_compile_dirty(dp, full.snapshot, &report);
	if (!err)
		err = dp_all_ports(dp, &full.ports, &full.n_ports);
	if (!err)
		err = dp_wanted_globals(dp, full.snapshot, &full.globals,
					&full.n_globals);
	if (!err)
		err = diff_full(dp, &full, out);
	if (!err && (dp->ruleset.parts & PART_FAST_PATH))
		err = diff_devices(dp, full.state, out, eb);
	if (err)
		errf(eb, err, "%s: %s", family_name(dp->family), strerror(-err));
	snapshot_free(full.snapshot);
	arena_reset(&dp->scratch);
	dp->n_changed = 0;
	return err;
}
