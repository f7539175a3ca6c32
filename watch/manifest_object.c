/*
 * What decoders do for the API server's objects, and what the server would have
 * done: leaving out what the label selectors leave out, and what is not known.
 */
#include "watch/manifest_object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name, *group,
		*version; /* group "" is the core, whose apiVersion is "v1" */
	unsigned int kind;
} kinds[] = {
	{ "Service", "", "v1", KIND_SERVICE },
	{ "EndpointSlice", "discovery.k8s.io", "v1", KIND_SLICE },
	{ "ServiceCIDR", "networking.k8s.io", "v1", KIND_SERVICE_CIDR },
	{ "Node", "", "v1", KIND_NODE },
	{ "Pod", "", "v1", KIND_POD },
};

enum { N_KNOWN_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* Whether @api_version is of @group; what comes after it is *version. */
static bool is_of_group(const char *api_version, const char *group,
			const char **version)
{
	const char *slash = strchr(api_version, '/');
	size_t length = strlen(group);

	*version = slash ? slash + 1 : api_version;
	if (!slash)
		return !length;
	return (size_t)(slash - api_version) == length &&
	       strncmp(api_version, group, length) == 0;
}

void manifest_complain(struct manifest *m, const char *message)
{
	store_complain(m->store, m->source, message);
}

static void manifest_on_complaint(void *ctx, const char *message)
{
	manifest_complain(ctx, message);
}

void manifest_complain_about(struct manifest *m, const char *kind,
			     const struct json *json, const char *problem)
{
	const struct json *metadata = json_get(json, "metadata");
	const char *namespace = json_string(json_get(metadata, "namespace"));
	const char *name = json_string(json_get(metadata, "name"));
	char text[512];

	snprintf(text, sizeof(text), "%.64s %.64s/%.253s: %s", kind,
		 namespace ? namespace : "default", name ? name : "", problem);
	manifest_complain(m, text);
}

/* Takes the object over. Names are copied. */
static int add_named(struct manifest *m, struct entry *e, const char *namespace,
		     const char *name)
{
	e->source = m->source;
	e->namespace = arena_strdup(&m->store->arena, namespace);
	e->name = arena_strdup(&m->store->arena, name);
	if (e->namespace && e->name)
		return entries_add(&m->entries, e);
	free(e->object);
	return -ENOMEM;
}

/* An object that is not for us takes its name all the same. */
static int add_unselected(struct manifest *m, unsigned int kind,
			  const struct json *json)
{
	const struct json *metadata = json_get(json, "metadata");
	const char *namespace = json_string(json_get(metadata, "namespace"));
	const char *name = json_string(json_get(metadata, "name"));
	struct entry e = { .kind = kind };

	return add_named(m, &e, namespace && *namespace ? namespace : "default",
			 name ? name : "");
}

/* An object that could not be decoded: it is complained of and left out, if it is to blame. */
static int leave_out(struct manifest *m, const struct errbuf *eb)
{
	if (errno == ENOMEM)
		return -ENOMEM;
	manifest_complain(m, eb->text);
	return 0;
}

static int add_service_entry(struct manifest *m, struct decoder *d,
			     struct entry *e, const struct json *json)
{
	const struct service *service = e->object;
	const struct json *spec = json_get(json, "spec");
	const char *type = json_string(json_get(spec, "type"));
	struct errbuf eb = { "" };

	if (!json_get(spec, "clusterIP") &&
	    !(type && strcmp(type, "ExternalName") == 0))
		manifest_complain_about(m, "Service", json,
					"spec.clusterIP: missing, not programmed");
	if (!(service->flags & SERVICE_IGNORED)) {
		e->selector = decode_selector(d, json, &m->store->arena, &eb);
		if (!e->selector && *eb.text && leave_out(m, &eb)) {
			free(e->object);
			return -ENOMEM;
		}
	}
	return add_named(m, e, service->namespace, service->name);
}

static int add_slice(struct manifest *m, struct entry *e)
{
	struct entry sliced = { .kind = KIND_SLICED };
	const struct slice *slice = e->object;

	if (add_named(m, &sliced, slice->namespace, slice->service)) {
		free(e->object);
		return -ENOMEM;
	}
	return add_named(m, e, slice->namespace, slice->name);
}

static int add_pod(struct manifest *m, struct decoder *d, const struct json *json)
{
	struct entry e = { .kind = KIND_POD };
	struct errbuf eb = { "" };

	e.pod = decode_pod(d, json, &m->store->arena, &eb);
	if (!e.pod && *eb.text)
		return leave_out(m, &eb);
	if (!e.pod)
		return add_unselected(m, KIND_POD, json);
	return add_named(m, &e, pod_namespace(e.pod), pod_name(e.pod));
}

static bool is_selected(enum kind kind, const struct json *json)
{
	return kind == KIND_SERVICE ? decode_service_selected(json)
	       : kind == KIND_SLICE ? decode_slice_selected(json)
				    : true;
}

static int add_kind_object(struct manifest *m, struct decoder *d,
			   enum kind kind, const struct json *json)
{
	struct entry e = { .kind = kind };
	struct errbuf eb = { "" };
	const struct node *node;

	if (is_selected(kind, json))
		e.object = decode_object(d, kind, json, &eb);
	if (!e.object)
		return *eb.text ? leave_out(m, &eb)
				: add_unselected(m, kind, json);
	switch (kind) {
	case KIND_SERVICE:
		return add_service_entry(m, d, &e, json);
	case KIND_SLICE:
		return add_slice(m, &e);
	case KIND_SERVICE_CIDR:
		return add_named(m, &e, "",
				 ((const struct service_cidr *)e.object)->name);
	case KIND_NODE: /* API-4: only this node is asked for. */
		node = e.object;
		if (strcmp(node->name, m->node_name) == 0)
			return add_named(m, &e, "", node->name);
		break;
	case N_KINDS:
		break;
	}
	free(e.object);
	return 0;
}

struct repetition {
	struct manifest *m;
	const char *kind;
	const struct json *json;
};

static void complain_repeated(void *ctx, const char *path)
{
	struct repetition *rep = ctx;
	char text[JSON_PATH_SIZE + 64];

	snprintf(text, sizeof(text), "%s: repeated, the last one counts", path);
	manifest_complain_about(rep->m, rep->kind, rep->json, text);
}

int manifest_add(struct manifest *m, const char *kind, const char *api_version,
		 const struct json *json)
{
	struct repetition rep = { m, kind, json };
	struct decoder d = {
		.node_name = m->node_name,
		.scratch = m->scratch,
		.default_namespace = "default",
		.complain = manifest_on_complaint,
		.ctx = m,
	};
	const char *version;
	char text[256];
	size_t i;

	for (i = 0; i < N_KNOWN_KINDS; i++)
		if (strcmp(kinds[i].name, kind) == 0 &&
		    is_of_group(api_version, kinds[i].group, &version))
			break;
	if (i == N_KNOWN_KINDS) {
		store_note_unused(m->store, kind, api_version);
		return 0;
	}
	if (strcmp(version, kinds[i].version)) {
		snprintf(text, sizeof(text),
			 "apiVersion: '%.64s' is not known, only %s%s%s is",
			 api_version, kinds[i].group,
			 *kinds[i].group ? "/" : "", kinds[i].version);
		manifest_complain_about(m, kind, json, text);
		return 0;
	}
	/* JSON is written by programs, and looking takes time. */
	if (m->is_yaml && json_duplicates(json, complain_repeated, &rep))
		return -ENOMEM;
	return kinds[i].kind == KIND_POD
		       ? add_pod(m, &d, json)
		       : add_kind_object(m, &d, (enum kind)kinds[i].kind, json);
}
