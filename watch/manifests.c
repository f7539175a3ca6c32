/*
 * Loading is in three steps: each file is read to a batch of entries, and thrown away if it is no
 * JSON or YAML after all; batches are joined in the order of the paths, where a later object of a
 * name replaces an earlier one; and the whole is handed on when nothing failed. Text is decoded one
 * object at a time, so memory goes with the decoded objects and not with the text.
 *
 * Standard input can be read once only. Its entries are kept, and their objects copied for each
 * load.
 */
#include "watch/manifests.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/base/arena.h"
#include "proxy/base/strbuf.h"
#include "watch/decode.h"
#include "watch/follow.h"
#include "watch/pods.h"
#include "watch/splitter.h"
#include "watch/yaml.h"

enum {
	INPUT_SIZE = 64 * 1024,
	/* Elements of a list whose kind is not known yet, and complaints: bytes of memory. */
	HELD_MAX = 64 * 1024 * 1024,
	COMPLAINTS_MAX = 1024 * 1024,
	MAX_UNUSED_KINDS = 64,
};

/* What there is besides the kinds of objects.h; the second says which Services have slices. */
enum { KIND_POD = N_KINDS, KIND_SLICED, N_ENTRY_KINDS };

struct entry {
	unsigned int kind;
	const char *namespace, *name; /* in the arena of the load */
	const char *source;
	void *object; /* as objects.h has it; NULL if it is not for us, or it is a Pod */
	const struct pod *pod;
	const struct selector *selector; /* of a Service, or NULL */
};

struct entries {
	struct entry *items;
	size_t count, size;
};

/* A kind of object that is of no use here, and how often it came. */
struct unused_kind {
	char name[128];
	unsigned int count;
};

/* What lives as long as a load, or for standard input as long as the manifests. */
struct store {
	struct arena arena;
	struct entries entries;
	struct strbuf complaints; /* a line each */
	struct unused_kind unused[MAX_UNUSED_KINDS];
	unsigned int n_unused;
};

struct manifests {
	char *const *paths;
	const char *node_name;
	struct follow *follow; /* NULL: nothing but standard input */
	struct arena scratch;  /* of decoders */
	bool has_input;
	struct store input; /* what standard input gave */
};

/* ---- entries */

static void entry_release(struct entry *e)
{
	free(e->object);
	e->object = NULL;
}

static void entries_free(struct entries *list)
{
	size_t i;

	for (i = 0; i < list->count; i++)
		entry_release(&list->items[i]);
	free(list->items);
	*list = (struct entries){ 0 };
}

static int entries_add(struct entries *list, const struct entry *entry)
{
	size_t size = list->size ? 2 * list->size : 64;
	struct entry *longer;

	if (list->count == list->size) {
		longer = reallocarray(list->items, size, sizeof(*longer));
		if (!longer)
			return -ENOMEM;
		list->items = longer;
		list->size = size;
	}
	list->items[list->count++] = *entry;
	return 0;
}

static void store_free(struct store *store)
{
	entries_free(&store->entries);
	arena_free(&store->arena);
	strbuf_free(&store->complaints);
	store->n_unused = 0;
}

static void store_complain(struct store *store, const char *source, const char *message)
{
	store->complaints.max = COMPLAINTS_MAX;
	strbuf_addf(&store->complaints, "%s: %s\n", source, message);
}

static int no_memory(struct errbuf *eb)
{
	return errf(eb, -ENOMEM, "out of memory");
}

/* ---- kinds */

static const struct {
	const char *name, *group, *version; /* group "" is the core, whose apiVersion is "v1" */
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
static bool is_of_group(const char *api_version, const char *group, const char **version)
{
	const char *slash = strchr(api_version, '/');
	size_t length = strlen(group);

	*version = slash ? slash + 1 : api_version;
	if (!slash)
		return !length;
	return (size_t)(slash - api_version) == length && strncmp(api_version, group, length) == 0;
}

/* ---- one file being read */

struct file {
	struct manifests *m;
	struct store *store;
	const char *source; /* its name, for messages; in the store's arena */
	struct entries batch;
	bool is_yaml;
	/* A list under way: what stood before its items, and those that wait to learn their kind.
	 */
	bool in_list;
	char *list_kind, *list_api_version; /* NULL: not known yet */
	struct json **held;
	size_t n_held, held_size;
	unsigned int n_documents;
};

static void file_complain(void *ctx, const char *message)
{
	struct file *file = ctx;

	store_complain(file->store, file->source, message);
}

static void list_end(struct file *file)
{
	size_t i;

	for (i = 0; i < file->n_held; i++)
		json_free(file->held[i]);
	free(file->held);
	free(file->list_kind);
	free(file->list_api_version);
	file->held = NULL;
	file->list_kind = file->list_api_version = NULL;
	file->n_held = file->held_size = 0;
	file->in_list = false;
}

/* Forgets what was read of the file. */
static void file_reset(struct file *file)
{
	list_end(file);
	entries_free(&file->batch);
	file->n_documents = 0;
}

static void note_unused(struct file *file, const char *kind, const char *api_version)
{
	struct store *store = file->store;
	char name[sizeof(store->unused[0].name)];
	unsigned int i;

	snprintf(name, sizeof(name), "%.60s %.60s", api_version, kind);
	for (i = 0; i < store->n_unused; i++) {
		if (strcmp(store->unused[i].name, name) == 0) {
			store->unused[i].count++;
			return;
		}
	}
	if (i == MAX_UNUSED_KINDS)
		return;
	memcpy(store->unused[i].name, name, sizeof(name));
	store->unused[i].count = 1;
	store->n_unused++;
}

static void complain_about(struct file *file, const char *kind, const struct json *json,
			   const char *problem)
{
	const struct json *metadata = json_get(json, "metadata");
	const char *namespace = json_string(json_get(metadata, "namespace"));
	const char *name = json_string(json_get(metadata, "name"));
	char text[512];

	snprintf(text, sizeof(text), "%.64s %.64s/%.253s: %s", kind,
		 namespace ? namespace : "default", name ? name : "", problem);
	file_complain(file, text);
}

/* ---- objects to entries */

static struct decoder file_decoder(struct file *file)
{
	return (struct decoder){
		.node_name = file->m->node_name,
		.scratch = &file->m->scratch,
		.default_namespace = "default",
		.complain = file_complain,
		.ctx = file,
	};
}

/* Takes @object over. Names are copied. */
static int add_entry(struct file *file, struct entry *e, const char *namespace, const char *name)
{
	e->source = file->source;
	e->namespace = arena_strdup(&file->store->arena, namespace);
	e->name = arena_strdup(&file->store->arena, name);
	if (e->namespace && e->name && entries_add(&file->batch, e) == 0)
		return 0;
	entry_release(e);
	return -ENOMEM;
}

/* An object that is not for us takes its name all the same. */
static int add_unselected(struct file *file, unsigned int kind, const struct json *json)
{
	const struct json *metadata = json_get(json, "metadata");
	const char *namespace = json_string(json_get(metadata, "namespace"));
	const char *name = json_string(json_get(metadata, "name"));
	struct entry e = { .kind = kind };

	return add_entry(file, &e, namespace && *namespace ? namespace : "default",
			 name ? name : "");
}

/* An object that could not be decoded: it is complained of and left out, if it is to blame. */
static int leave_out(struct file *file, const struct errbuf *eb)
{
	if (errno == ENOMEM)
		return -ENOMEM;
	file_complain(file, eb->text);
	return 0;
}

static int add_service(struct file *file, struct decoder *d, const struct json *json)
{
	const struct json *spec = json_get(json, "spec");
	const char *type = json_string(json_get(spec, "type"));
	struct entry e = { .kind = KIND_SERVICE };
	struct service *service;
	struct errbuf eb = { "" };

	if (!decode_service_selected(json))
		return add_unselected(file, KIND_SERVICE, json);
	service = decode_service(d, json, &eb);
	if (!service)
		return leave_out(file, &eb);
	e.object = service;
	if (!json_get(spec, "clusterIP") && !(type && strcmp(type, "ExternalName") == 0))
		complain_about(file, "Service", json, "spec.clusterIP: missing, not programmed");
	if (!(service->flags & SERVICE_IGNORED)) {
		e.selector = decode_selector(d, json, &file->store->arena, &eb);
		if (!e.selector && *eb.text && leave_out(file, &eb)) {
			entry_release(&e);
			return -ENOMEM;
		}
	}
	return add_entry(file, &e, service->namespace, service->name);
}

static int add_slice(struct file *file, struct decoder *d, const struct json *json)
{
	struct entry e = { .kind = KIND_SLICE }, sliced = { .kind = KIND_SLICED };
	struct errbuf eb = { "" };
	struct slice *slice;
	int err;

	if (!decode_slice_selected(json))
		return add_unselected(file, KIND_SLICE, json);
	slice = decode_slice(d, json, &eb);
	if (!slice && *eb.text)
		return leave_out(file, &eb);
	if (!slice)
		return add_unselected(file, KIND_SLICE, json);
	e.object = slice;
	err = add_entry(file, &sliced, slice->namespace, slice->service);
	if (err)
		entry_release(&e);
	else
		err = add_entry(file, &e, slice->namespace, slice->name);
	return err;
}

static int add_service_cidr(struct file *file, struct decoder *d, const struct json *json)
{
	struct entry e = { .kind = KIND_SERVICE_CIDR };
	struct errbuf eb = { "" };
	struct service_cidr *cidr = decode_service_cidr(d, json, &eb);

	if (!cidr)
		return leave_out(file, &eb);
	e.object = cidr;
	return add_entry(file, &e, "", cidr->name);
}

/* API-4: only this node is asked for. */
static int add_node(struct file *file, struct decoder *d, const struct json *json)
{
	struct entry e = { .kind = KIND_NODE };
	struct errbuf eb = { "" };
	struct node *node = decode_node(d, json, &eb);

	if (!node)
		return leave_out(file, &eb);
	if (strcmp(node->name, file->m->node_name)) {
		free(node);
		return 0;
	}
	e.object = node;
	return add_entry(file, &e, "", node->name);
}

static int add_pod(struct file *file, struct decoder *d, const struct json *json)
{
	struct entry e = { .kind = KIND_POD };
	struct errbuf eb = { "" };

	e.pod = decode_pod(d, json, &file->store->arena, &eb);
	if (!e.pod && *eb.text)
		return leave_out(file, &eb);
	if (!e.pod)
		return add_unselected(file, KIND_POD, json);
	return add_entry(file, &e, pod_namespace(e.pod), pod_name(e.pod));
}

static int add_object(struct file *file, unsigned int kind, const struct json *json)
{
	struct decoder d = file_decoder(file);

	switch (kind) {
	case KIND_SERVICE:
		return add_service(file, &d, json);
	case KIND_SLICE:
		return add_slice(file, &d, json);
	case KIND_SERVICE_CIDR:
		return add_service_cidr(file, &d, json);
	case KIND_NODE:
		return add_node(file, &d, json);
	default:
		return add_pod(file, &d, json);
	}
}

struct repetition {
	struct file *file;
	const char *kind;
	const struct json *json;
};

static void complain_repeated(void *ctx, const char *path)
{
	struct repetition *rep = ctx;
	char text[JSON_PATH_SIZE + 64];

	snprintf(text, sizeof(text), "%s: repeated, the last one counts", path);
	complain_about(rep->file, rep->kind, rep->json, text);
}

/* @json is an object of @kind and @api_version. Returns 0 or -ENOMEM. */
static int handle_kind(struct file *file, const char *kind, const char *api_version,
		       const struct json *json)
{
	struct repetition rep = { file, kind, json };
	const char *version;
	char text[256];
	size_t i;

	for (i = 0; i < N_KNOWN_KINDS; i++)
		if (strcmp(kinds[i].name, kind) == 0 &&
		    is_of_group(api_version, kinds[i].group, &version))
			break;
	if (i == N_KNOWN_KINDS) {
		note_unused(file, kind, api_version);
		return 0;
	}
	if (strcmp(version, kinds[i].version)) {
		snprintf(text, sizeof(text), "apiVersion: '%.64s' is not known, only %s%s%s is",
			 api_version, kinds[i].group, *kinds[i].group ? "/" : "", kinds[i].version);
		complain_about(file, kind, json, text);
		return 0;
	}
	/* JSON is written by programs, and looking takes time. */
	if (file->is_yaml && json_duplicates(json, complain_repeated, &rep))
		return -ENOMEM;
	return add_object(file, kinds[i].kind, json);
}

/* ---- documents and lists */

static bool is_list_kind(const char *kind)
{
	size_t length = strlen(kind);

	return length >= 4 && strcmp(kind + length - 4, "List") == 0;
}

/*
 * An element of a list of @list_kind. Those of a ServiceList are Services without saying so; those
 * of a List have kinds of their own.
 */
static int handle_item(struct file *file, const char *list_kind, const char *list_api_version,
		       const struct json *json)
{
	const char *kind = json_string(json_get(json, "kind"));
	const char *api_version = json_string(json_get(json, "apiVersion"));
	char own_kind[64];

	if (json_type(json) != JSON_OBJECT) {
		file_complain(file, "an element of a list that is no object");
		return 0;
	}
	if (!kind && strcmp(list_kind, "List")) {
		snprintf(own_kind, sizeof(own_kind), "%.*s", (int)strlen(list_kind) - 4, list_kind);
		kind = own_kind;
	}
	if (!kind || !*kind) {
		complain_about(file, "an object", json, "kind: missing");
		return 0;
	}
	if (!api_version)
		api_version = strcmp(list_kind, "List") ? list_api_version : "";
	return handle_kind(file, kind, api_version, json);
}

static int hold(struct file *file, struct json *json, struct errbuf *eb)
{
	size_t count = file->n_held;
	struct json **longer;

	file->held_size += json_size(json);
	if (file->held_size > HELD_MAX)
		return errf(eb, -E2BIG, "a long list whose kind comes after its items");
	if ((count & (count - 1)) == 0) {
		longer = reallocarray(file->held, count ? 2 * count : 1, sizeof(struct json *));
		if (!longer)
			return no_memory(eb);
		file->held = longer;
	}
	file->held[file->n_held++] = json;
	return 0;
}

/* Takes @json over. */
static int on_item(struct file *file, struct json *json, struct errbuf *eb)
{
	int err = 0;

	file->in_list = true;
	if (!file->list_kind && !json_get(json, "kind")) {
		err = hold(file, json, eb);
		if (err)
			json_free(json);
		return err;
	}
	/* Something else may have items, too. */
	if (!file->list_kind || is_list_kind(file->list_kind))
		err = handle_item(file, file->list_kind ? file->list_kind : "List",
				  file->list_api_version ? file->list_api_version : "", json);
	json_free(json);
	return err ? no_memory(eb) : 0;
}

static int set_text(char **target, const struct json *json, const char *key)
{
	const char *text = json_string(json_get(json, key));

	if (*target || !text)
		return 0;
	*target = strdup(text);
	return *target ? 0 : -ENOMEM;
}

/* @json is what is known of the list so far. */
static int learn_list(struct file *file, const struct json *json, struct errbuf *eb)
{
	if (set_text(&file->list_kind, json, "kind") ||
	    set_text(&file->list_api_version, json, "apiVersion"))
		return no_memory(eb);
	return 0;
}

static int finish_list(struct file *file, const struct json *json, struct errbuf *eb)
{
	int err = learn_list(file, json, eb);
	const char *kind = file->list_kind ? file->list_kind : "";
	size_t i;

	if (!err && is_list_kind(kind)) {
		for (i = 0; i < file->n_held && !err; i++)
			err = handle_item(file, kind,
					  file->list_api_version ? file->list_api_version : "",
					  file->held[i]);
		err = err ? no_memory(eb) : 0;
	} else if (!err && *kind) {
		note_unused(file, kind, file->list_api_version ? file->list_api_version : "");
	} else if (!err) {
		complain_about(file, "an object", json, "kind: missing");
	}
	return err;
}

static int handle_document(struct file *file, const struct json *json, struct errbuf *eb)
{
	const char *kind = json_string(json_get(json, "kind"));
	const char *api_version = json_string(json_get(json, "apiVersion"));
	enum json_type items = json_type(json_get(json, "items"));
	int err;

	if (json_type(json) == JSON_NULL)
		return 0;
	if (json_type(json) != JSON_OBJECT)
		return errf(eb, -EINVAL, "document %u: %s where an object belongs",
			    file->n_documents, json_type_name(json_type(json)));
	if (file->in_list ||
	    (kind && is_list_kind(kind) && (items == JSON_ARRAY || items == JSON_NULL)))
		return finish_list(file, json, eb);
	if (!kind || !*kind) {
		complain_about(file, "an object", json, "kind: missing");
		return 0;
	}
	err = handle_kind(file, kind, api_version ? api_version : "", json);
	return err ? no_memory(eb) : 0;
}

static int on_document(struct file *file, const struct json *json, struct errbuf *eb)
{
	int err;

	file->n_documents++;
	err = handle_document(file, json, eb);
	list_end(file);
	return err;
}

/* ---- the two syntaxes */

static int on_json_head(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	struct json *json = json_parse(text, length, eb);
	int err;

	if (!json)
		return -errno;
	err = learn_list(ctx, json, eb);
	json_free(json);
	return err;
}

/* Says which object could not be parsed, since lines are counted from its beginning. */
static struct json *parse_piece(const char *text, size_t length, struct errbuf *eb)
{
	struct errbuf problem = { "" };
	struct json *json = json_parse(text, length, &problem);

	if (!json)
		errf(eb, -errno, "in the object '%.*s...': %.200s", length < 60 ? (int)length : 60,
		     text, problem.text);
	return json;
}

static int on_json_item(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	struct json *json = parse_piece(text, length, eb);

	return json ? on_item(ctx, json, eb) : -errno;
}

static int on_json_rest(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	struct json *json = parse_piece(text, length, eb);
	int err;

	if (!json)
		return -errno;
	err = on_document(ctx, json, eb);
	json_free(json);
	return err;
}

static int on_yaml_item(void *ctx, const struct json *document, struct json *item,
			struct errbuf *eb)
{
	struct file *file = ctx;
	int err = file->in_list ? 0 : learn_list(file, document, eb);

	if (!err)
		return on_item(file, item, eb);
	json_free(item);
	return err;
}

static int on_yaml_document(void *ctx, struct json *document, struct errbuf *eb)
{
	int err = on_document(ctx, document, eb);

	json_free(document);
	return err;
}

/* ---- bytes */

struct input {
	int fd;
	size_t start, end;
	char bytes[INPUT_SIZE];
};

/* At least one byte in the buffer, or *n is 0 at the end. */
static int input_fill(struct input *in, size_t *n)
{
	ssize_t got = 0;

	if (in->start == in->end) {
		do {
			got = read(in->fd, in->bytes, sizeof(in->bytes));
		} while (got < 0 && errno == EINTR);
		if (got < 0)
			return -errno;
		in->start = 0;
		in->end = (size_t)got;
	}
	*n = in->end - in->start;
	return 0;
}

static ssize_t input_read(void *ctx, char *bytes, size_t size)
{
	struct input *in = ctx;
	size_t n;
	int err = input_fill(in, &n);

	if (err)
		return err;
	n = n < size ? n : size;
	memcpy(bytes, in->bytes + in->start, n);
	in->start += n;
	return (ssize_t)n;
}

/* JSON begins with a brace. White space before it is consumed, which YAML can do without as well.
 */
static int looks_like_json(struct input *in, bool *json)
{
	size_t n;
	int err;

	while ((err = input_fill(in, &n)) == 0 && n) {
		if (!strchr(" \t\r\n", in->bytes[in->start]) || !in->bytes[in->start])
			break;
		in->start++;
	}
	*json = !err && n && in->bytes[in->start] == '{';
	return err;
}

static int read_json(struct file *file, struct input *in, struct errbuf *eb)
{
	static const struct splitter_ops ops = { on_json_head, on_json_item, on_json_rest };
	struct splitter *s = splitter_new(SPLIT_LIST, &ops, file);
	size_t n;
	int err;

	if (!s)
		return no_memory(eb);
	file->is_yaml = false;
	do {
		err = input_fill(in, &n);
		if (err) {
			errf(eb, err, "%s", strerror(-err));
			break;
		}
		err = splitter_feed(s, in->bytes + in->start, n, eb);
		in->start += n;
	} while (!err && n);
	if (!err)
		err = splitter_finish(s, eb);
	splitter_free(s);
	return err;
}

static int read_yaml(struct file *file, struct input *in, struct errbuf *eb)
{
	static const struct yaml_ops ops = { on_yaml_item, on_yaml_document };

	file->is_yaml = true;
	return yaml_read(input_read, in, &ops, file, eb);
}

/* What the store has noted; to be taken back when a file is read in another way. */
struct notes {
	size_t complaints;
	unsigned int n_unused;
	unsigned int counts[MAX_UNUSED_KINDS];
};

static struct notes notes_save(const struct store *store)
{
	struct notes notes = { .complaints = store->complaints.length,
			       .n_unused = store->n_unused };
	unsigned int i;

	for (i = 0; i < store->n_unused; i++)
		notes.counts[i] = store->unused[i].count;
	return notes;
}

static void notes_restore(struct store *store, const struct notes *notes)
{
	unsigned int i;

	if (store->complaints.text && notes->complaints < store->complaints.length) {
		store->complaints.length = notes->complaints;
		store->complaints.text[notes->complaints] = '\0';
	}
	store->n_unused = notes->n_unused;
	for (i = 0; i < store->n_unused; i++)
		store->unused[i].count = notes->counts[i];
}

/* Whether a file that is no JSON may still be YAML. */
static bool may_be_yaml(const struct file *file, const struct input *in)
{
	size_t length = strlen(file->source);

	if (length > 5 && strcmp(file->source + length - 5, ".json") == 0)
		return false;
	return lseek(in->fd, 0, SEEK_SET) == 0;
}

/*
 * What begins like JSON may be YAML with braces, or JSON documents between "---". If it can be read
 * again it is tried as that, too; if neither fits, it is called bad JSON.
 */
static int read_input(struct file *file, struct input *in, struct errbuf *eb)
{
	struct notes notes = notes_save(file->store);
	struct errbuf second = { "" };
	bool json;
	int err = looks_like_json(in, &json);

	if (err)
		return errf(eb, err, "%s", strerror(-err));
	if (!json)
		return read_yaml(file, in, eb);
	err = read_json(file, in, eb);
	if (err != -EINVAL || !may_be_yaml(file, in))
		return err;
	file_reset(file);
	notes_restore(file->store, &notes);
	in->start = in->end = 0;
	return read_yaml(file, in, &second) ? err : 0;
}

/* ---- paths to batches */

/* Appends the objects of an open file to the store's. */
static int read_fd(struct manifests *m, struct store *store, int fd, const char *source,
		   struct errbuf *eb)
{
	struct file file = { .m = m, .store = store };
	struct input *in = malloc(sizeof(*in));
	struct errbuf problem = { "" };
	size_t i;
	int err;

	file.source = arena_strdup(&store->arena, source);
	if (!in || !file.source) {
		free(in);
		return no_memory(eb);
	}
	in->fd = fd;
	in->start = in->end = 0;
	err = read_input(&file, in, &problem);
	if (err)
		errf(eb, err, "%s: %s", source, problem.text);
	for (i = 0; i < file.batch.count && !err; i++) {
		if (entries_add(&store->entries, &file.batch.items[i]))
			err = no_memory(eb);
		else
			file.batch.items[i].object = NULL; /* moved */
	}
	file_reset(&file);
	free(in);
	return err;
}

static int read_file(struct manifests *m, struct store *store, const char *path, struct errbuf *eb)
{
	int fd, err;

	follow_file(m->follow, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	err = read_fd(m, store, fd, path, eb);
	close(fd);
	return err;
}

static bool is_manifest_name(const char *name)
{
	static const char *const endings[] = { ".yaml", ".yml", ".json" };
	size_t i, length = strlen(name), n;

	for (i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		n = strlen(endings[i]);
		if (length > n && strcmp(name + length - n, endings[i]) == 0)
			return name[0] != '.';
	}
	return false;
}

static int filter_entry(const struct dirent *entry)
{
	return is_manifest_name(entry->d_name);
}

static int compare_entries(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* A folder or a device is no manifest, whatever it is called; a file may have gone since. */
static int read_member(struct manifests *m, struct store *store, const char *path,
		       struct errbuf *eb)
{
	struct stat st;

	if (lstat(path, &st))
		return 0;
	if (S_ISLNK(st.st_mode)) {
		follow_file(m->follow, path);
		if (stat(path, &st))
			return errf(eb, -errno, "%s: %s", path, strerror(errno));
	}
	return S_ISREG(st.st_mode) ? read_file(m, store, path, eb) : 0;
}

static int read_directory(struct manifests *m, struct store *store, const char *path,
			  struct errbuf *eb)
{
	struct dirent **members;
	char member[PATH_MAX];
	int i, n, err = 0;

	follow_directory(m->follow, path, is_manifest_name);
	n = scandir(path, &members, filter_entry, compare_entries);
	if (n < 0)
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	for (i = 0; i < n; i++) {
		if (!err && snprintf(member, sizeof(member), "%s/%s", path, members[i]->d_name) >=
				    (int)sizeof(member))
			err = errf(eb, -ENAMETOOLONG, "%s: too long", path);
		if (!err)
			err = read_member(m, store, member, eb);
		free(members[i]);
	}
	free(members);
	return err;
}

static bool is_input(const char *path)
{
	return strcmp(path, "-") == 0;
}

/* A copy for this load: what is handed on is gone. */
static int copy_object(struct entry *e)
{
	if (!e->object)
		return 0;
	if (e->kind == KIND_SERVICE)
		e->object = service_pack(e->object);
	else if (e->kind == KIND_SLICE)
		e->object = slice_pack(e->object);
	else if (e->kind == KIND_SERVICE_CIDR)
		e->object = service_cidr_pack(e->object);
	else
		e->object = node_pack(e->object);
	return e->object ? 0 : -ENOMEM;
}

static int copy_input(struct manifests *m, struct store *store, struct errbuf *eb)
{
	struct entry copy;
	size_t i;

	for (i = 0; i < m->input.entries.count; i++) {
		copy = m->input.entries.items[i];
		if (copy_object(&copy))
			return no_memory(eb);
		if (entries_add(&store->entries, &copy)) {
			entry_release(&copy);
			return no_memory(eb);
		}
	}
	return 0;
}

static int read_standard_input(struct manifests *m, struct store *store, struct errbuf *eb)
{
	int err;

	if (m->has_input)
		return copy_input(m, store, eb);
	err = read_fd(m, &m->input, STDIN_FILENO, "-", eb);
	if (err) {
		store_free(&m->input);
		return err;
	}
	m->has_input = true;
	return copy_input(m, store, eb);
}

static int read_path(struct manifests *m, struct store *store, const char *path, struct errbuf *eb)
{
	struct stat st;

	if (is_input(path))
		return read_standard_input(m, store, eb);
	follow_file(m->follow, path);
	if (stat(path, &st))
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	return S_ISDIR(st.st_mode) ? read_directory(m, store, path, eb)
				   : read_file(m, store, path, eb);
}

/* ---- one object per name */

/* Indices into the store's entries plus 1, by hash; 0 is free. */
struct table {
	struct entries *entries;
	size_t *slots;
	size_t mask;
};

static size_t hash_name(const struct entry *e)
{
	const char *const parts[] = { e->namespace, e->name };
	uint64_t hash = UINT64_C(0xcbf29ce484222325) + e->kind;
	const char *p;
	size_t i;

	for (i = 0; i < 2; i++) {
		for (p = parts[i]; *p; p++)
			hash = (hash ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
		hash = (hash ^ '/') * UINT64_C(0x100000001b3);
	}
	return (size_t)(hash ^ hash >> 32);
}

static int table_init(struct table *t, struct entries *entries)
{
	size_t size = 64;

	while (size < 2 * entries->count)
		size *= 2;
	t->slots = calloc(size, sizeof(*t->slots));
	t->entries = entries;
	t->mask = size - 1;
	return t->slots ? 0 : -ENOMEM;
}

/* The slot of the entry of this name, or the free one for it. */
static size_t *table_find(const struct table *t, const struct entry *e)
{
	size_t at = hash_name(e);
	const struct entry *other;

	for (;; at++) {
		size_t *slot = &t->slots[at & t->mask];

		if (!*slot)
			return slot;
		other = &t->entries->items[*slot - 1];
		if (other->kind == e->kind && strcmp(other->name, e->name) == 0 &&
		    strcmp(other->namespace, e->namespace) == 0)
			return slot;
	}
}

static void complain_replaced(struct store *store, const struct entry *old, const struct entry *e)
{
	char text[512];

	snprintf(text, sizeof(text), "%s %s%s%s: replaces the one in %s",
		 e->kind == KIND_POD ? "Pod" : kind_name((enum kind)e->kind), e->namespace,
		 *e->namespace ? "/" : "", e->name, old->source);
	store_complain(store, e->source, text);
}

/* Fills the table; of entries of the same name all but the last are emptied. */
static int index_entries(struct store *store, struct table *t, struct errbuf *eb)
{
	struct entry *e, *old;
	size_t i, *slot;

	if (table_init(t, &store->entries))
		return no_memory(eb);
	for (i = 0; i < store->entries.count; i++) {
		e = &store->entries.items[i];
		slot = table_find(t, e);
		if (*slot && e->kind != KIND_SLICED) {
			old = &store->entries.items[*slot - 1];
			complain_replaced(store, old, e);
			entry_release(old);
			old->pod = NULL;
			old->selector = NULL;
		}
		*slot = i + 1;
	}
	return 0;
}

/* ---- endpoints from Pods */

static struct pod_index *index_pods(struct store *store)
{
	const struct entries *list = &store->entries;
	const struct pod **pods = calloc(list->count + 1, sizeof(const struct pod *));
	struct pod_index *index = NULL;
	size_t i, n = 0;

	if (!pods)
		return NULL;
	for (i = 0; i < list->count; i++)
		if (list->items[i].kind == KIND_POD && list->items[i].pod)
			pods[n++] = list->items[i].pod;
	index = pod_index_new(pods, n);
	free(pods);
	return index;
}

static int put_pod_slice(void *ctx, struct slice *slice)
{
	struct entry e = { .kind = KIND_SLICE, .object = slice };
	int err = entries_add(ctx, &e);

	if (err)
		free(slice);
	return err;
}

/* Is there a slice that names this Service? */
static bool has_slices(const struct table *t, const struct entry *service)
{
	struct entry e = *service;

	e.kind = KIND_SLICED;
	return *table_find(t, &e);
}

static int add_pod_slices(struct store *store, const struct table *t, struct entries *slices,
			  struct errbuf *eb)
{
	struct pod_index *index = index_pods(store);
	const struct entry *e;
	size_t i;
	int err = index ? 0 : -ENOMEM;

	for (i = 0; i < store->entries.count && !err; i++) {
		e = &store->entries.items[i];
		if (e->kind == KIND_SERVICE && e->object && e->selector && !has_slices(t, e))
			err = pods_to_slices(index, e->object, e->selector, put_pod_slice, slices);
	}
	pod_index_free(index);
	return err ? no_memory(eb) : 0;
}

/* ---- handing on */

static int put_object(const struct object_sink *sink, struct entry *e)
{
	void *object = e->object;

	e->object = NULL; /* the sink's from here on */
	if (!object)
		return 0;
	if (e->kind == KIND_SERVICE)
		return sink->put_service(sink->ctx, object);
	if (e->kind == KIND_SLICE)
		return sink->put_slice(sink->ctx, object);
	if (e->kind == KIND_SERVICE_CIDR)
		return sink->put_service_cidr(sink->ctx, object);
	return sink->put_node(sink->ctx, object);
}

static int put_kind(const struct object_sink *sink, enum kind kind, struct entries *list)
{
	size_t i;
	int err = 0;

	for (i = 0; !err && i < list->count; i++)
		if (list->items[i].kind == kind)
			err = put_object(sink, &list->items[i]);
	return err;
}

/* Each line of @text; cuts it up. */
static void complain_lines(const struct object_sink *sink, char *text)
{
	char *end;

	for (; text && (end = strchr(text, '\n')); text = end + 1) {
		*end = '\0';
		sink->complain(sink->ctx, text);
	}
}

static void complain_unused(const struct object_sink *sink, const struct store *store)
{
	char text[256];
	unsigned int i;

	for (i = 0; i < store->n_unused; i++) {
		snprintf(text, sizeof(text), "kind %s is not used here, %u object%s left out",
			 store->unused[i].name, store->unused[i].count,
			 store->unused[i].count == 1 ? "" : "s");
		sink->complain(sink->ctx, text);
	}
}

/* Those of standard input belong to its first load only. */
static void hand_complaints(struct manifests *m, const struct object_sink *sink,
			    struct store *store)
{
	if (!sink->complain)
		return;
	complain_lines(sink, m->input.complaints.text);
	complain_unused(sink, &m->input);
	complain_lines(sink, store->complaints.text);
	complain_unused(sink, store);
	strbuf_free(&m->input.complaints);
	m->input.n_unused = 0;
}

/* A list that breaks off is not ended: what it did not come to is there still. */
static int hand_on(struct store *store, struct entries *pod_slices, const struct object_sink *sink)
{
	enum kind kind;
	int err = 0;

	for (kind = 0; !err && kind < N_KINDS; kind++) {
		sink->list_begin(sink->ctx, kind);
		err = put_kind(sink, kind, &store->entries);
		if (!err)
			err = put_kind(sink, kind, pod_slices);
		if (!err)
			sink->list_end(sink->ctx, kind);
	}
	return err;
}

static int read_all(struct manifests *m, struct store *store, struct errbuf *eb)
{
	char *const *path;
	int err = 0;

	if (m->follow)
		follow_begin(m->follow);
	for (path = m->paths; *path && !err; path++)
		err = read_path(m, store, *path, eb);
	if (m->follow && !err)
		follow_end(m->follow);
	return err;
}

int manifests_load(struct manifests *m, const struct object_sink *sink, struct errbuf *eb)
{
	struct entries pod_slices = { 0 };
	struct store store = { 0 };
	struct table table = { 0 };
	int err = read_all(m, &store, eb);

	if (!err)
		err = index_entries(&store, &table, eb);
	if (!err)
		err = add_pod_slices(&store, &table, &pod_slices, eb);
	if (!err) {
		hand_complaints(m, sink, &store);
		if (hand_on(&store, &pod_slices, sink))
			err = no_memory(eb);
	}
	free(table.slots);
	entries_free(&pod_slices);
	store_free(&store);
	arena_reset(&m->scratch);
	return err;
}

/* ---- life */

struct manifests *manifests_new(char *const *paths, const char *node_name)
{
	struct manifests *m = calloc(1, sizeof(*m));
	char *const *path;

	if (!m)
		return NULL;
	m->paths = paths;
	m->node_name = node_name;
	for (path = paths; *path && !m->follow; path++) {
		if (is_input(*path))
			continue;
		m->follow = follow_new();
		if (!m->follow) {
			free(m);
			return NULL;
		}
	}
	return m;
}

void manifests_free(struct manifests *m)
{
	if (!m)
		return;
	follow_free(m->follow);
	store_free(&m->input);
	arena_free(&m->scratch);
	free(m);
}

int manifests_fd(const struct manifests *m)
{
	return m->follow ? follow_fd(m->follow) : -1;
}

bool manifests_changed(struct manifests *m)
{
	return m->follow && follow_changed(m->follow);
}
