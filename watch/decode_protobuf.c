/*
 * Tables of the API's messages, and one walk that follows them. The numbers are those of the API's
 * generated.proto files; a number never changes its meaning there.
 *
 * How the API's protobuf differs from its JSON: fields without a value are there and empty, where
 * JSON leaves them out; lists that are empty are not there at all; a time is a message of seconds.
 * The decoders take "" and 0 for absent, so only the time is made alike here.
 *
 * As the wire format has it, of a number or string that is repeated the last one counts, and a
 * message that is repeated is one message with all of the fields.
 */
#include "watch/decode_protobuf.h"

#include <errno.h>
#include <string.h>
#include <time.h>

const char protobuf_magic[4] = { 'k', '8', 's', '\0' };

enum message_field_type {
	TEXT,	 /* string */
	BOOLEAN, /* bool */
	INTEGER, /* int32, int64 */
	TIME,	 /* meta/v1 Time: text in JSON */
	TEXT_MAP,
	MESSAGE,
	TEXTS,	  /* repeated string */
	MESSAGES, /* repeated message */
};

struct message;

struct message_field {
	uint32_t number;
	const char *name;
	enum message_field_type type;
	const struct message *message;
};

enum { FIELDS_MAX = 16 };

struct message {
	const char *name;
	struct message_field fields[FIELDS_MAX]; /* ends with number 0 */
};

/* clang-format off */

/* ---- k8s.io/apimachinery meta/v1 */

static const struct message object_meta = { "ObjectMeta", {
	{  1, "name", TEXT, NULL },
	{  3, "namespace", TEXT, NULL },
	{  5, "uid", TEXT, NULL },
	{  6, "resourceVersion", TEXT, NULL },
	{  8, "creationTimestamp", TIME, NULL },
	{  9, "deletionTimestamp", TIME, NULL },
	{ 11, "labels", TEXT_MAP, NULL },
	{ 12, "annotations", TEXT_MAP, NULL },
} };

static const struct message list_meta = { "ListMeta", {
	{ 2, "resourceVersion", TEXT, NULL },
	{ 3, "continue", TEXT, NULL },
} };

static const struct message status_cause = { "StatusCause", {
	{ 1, "reason", TEXT, NULL },
} };

static const struct message status_details = { "StatusDetails", {
	{ 4, "causes", MESSAGES, &status_cause },
} };

static const struct message status = { "Status", {
	{ 2, "status", TEXT, NULL },
	{ 3, "message", TEXT, NULL },
	{ 4, "reason", TEXT, NULL },
	{ 5, "details", MESSAGE, &status_details },
	{ 6, "code", INTEGER, NULL },
} };

/* Any list: the items are passed on one by one before it is read. */
static const struct message any_list = { "List", {
	{ LIST_METADATA, "metadata", MESSAGE, &list_meta },
} };

/* ---- core/v1 Service */

static const struct message service_port = { "ServicePort", {
	{ 1, "name", TEXT, NULL },
	{ 2, "protocol", TEXT, NULL },
	{ 3, "port", INTEGER, NULL },
	{ 5, "nodePort", INTEGER, NULL },
} };

static const struct message client_ip_config = { "ClientIPConfig", {
	{ 1, "timeoutSeconds", INTEGER, NULL },
} };

static const struct message session_affinity_config = { "SessionAffinityConfig", {
	{ 1, "clientIP", MESSAGE, &client_ip_config },
} };

static const struct message service_spec = { "ServiceSpec", {
	{  1, "ports", MESSAGES, &service_port },
	{  3, "clusterIP", TEXT, NULL },
	{  4, "type", TEXT, NULL },
	{  5, "externalIPs", TEXTS, NULL },
	{  7, "sessionAffinity", TEXT, NULL },
	{  9, "loadBalancerSourceRanges", TEXTS, NULL },
	{ 11, "externalTrafficPolicy", TEXT, NULL },
	{ 12, "healthCheckNodePort", INTEGER, NULL },
	{ 14, "sessionAffinityConfig", MESSAGE, &session_affinity_config },
	{ 18, "clusterIPs", TEXTS, NULL },
	{ 19, "ipFamilies", TEXTS, NULL },
	{ 22, "internalTrafficPolicy", TEXT, NULL },
} };

static const struct message load_balancer_ingress = { "LoadBalancerIngress", {
	{ 1, "ip", TEXT, NULL },
	{ 3, "ipMode", TEXT, NULL },
} };

static const struct message load_balancer_status = { "LoadBalancerStatus", {
	{ 1, "ingress", MESSAGES, &load_balancer_ingress },
} };

static const struct message service_status = { "ServiceStatus", {
	{ 1, "loadBalancer", MESSAGE, &load_balancer_status },
} };

static const struct message service = { "Service", {
	{ 1, "metadata", MESSAGE, &object_meta },
	{ 2, "spec", MESSAGE, &service_spec },
	{ 3, "status", MESSAGE, &service_status },
} };

/* ---- discovery/v1 EndpointSlice */

static const struct message for_hint = { "ForZone", { /* and ForNode */
	{ 1, "name", TEXT, NULL },
} };

static const struct message endpoint_hints = { "EndpointHints", {
	{ 1, "forZones", MESSAGES, &for_hint },
	{ 2, "forNodes", MESSAGES, &for_hint },
} };

static const struct message endpoint_conditions = { "EndpointConditions", {
	{ 1, "ready", BOOLEAN, NULL },
	{ 2, "serving", BOOLEAN, NULL },
	{ 3, "terminating", BOOLEAN, NULL },
} };

static const struct message object_reference = { "ObjectReference", {
	{ 1, "kind", TEXT, NULL },
	{ 3, "name", TEXT, NULL },
} };

static const struct message endpoint = { "Endpoint", {
	{ 1, "addresses", TEXTS, NULL },
	{ 2, "conditions", MESSAGE, &endpoint_conditions },
	{ 4, "targetRef", MESSAGE, &object_reference },
	{ 6, "nodeName", TEXT, NULL },
	{ 7, "zone", TEXT, NULL },
	{ 8, "hints", MESSAGE, &endpoint_hints },
} };

static const struct message endpoint_port = { "EndpointPort", {
	{ 1, "name", TEXT, NULL },
	{ 2, "protocol", TEXT, NULL },
	{ 3, "port", INTEGER, NULL },
} };

static const struct message endpoint_slice = { "EndpointSlice", {
	{ 1, "metadata", MESSAGE, &object_meta },
	{ 2, "endpoints", MESSAGES, &endpoint },
	{ 3, "ports", MESSAGES, &endpoint_port },
	{ 4, "addressType", TEXT, NULL },
} };

/* ---- networking/v1 ServiceCIDR */

static const struct message service_cidr_spec = { "ServiceCIDRSpec", {
	{ 1, "cidrs", TEXTS, NULL },
} };

static const struct message service_cidr = { "ServiceCIDR", {
	{ 1, "metadata", MESSAGE, &object_meta },
	{ 2, "spec", MESSAGE, &service_cidr_spec },
} };

/* ---- core/v1 Node */

static const struct message taint = { "Taint", {
	{ 1, "key", TEXT, NULL },
} };

static const struct message node_spec = { "NodeSpec", {
	{ 5, "taints", MESSAGES, &taint },
	{ 7, "podCIDRs", TEXTS, NULL },
} };

static const struct message node_address = { "NodeAddress", {
	{ 1, "type", TEXT, NULL },
	{ 2, "address", TEXT, NULL },
} };

static const struct message node_status = { "NodeStatus", {
	{ 5, "addresses", MESSAGES, &node_address },
} };

static const struct message node = { "Node", {
	{ 1, "metadata", MESSAGE, &object_meta },
	{ 2, "spec", MESSAGE, &node_spec },
	{ 3, "status", MESSAGE, &node_status },
} };

/* ---- what they come in */

enum { EVENT_TYPE = 1, EVENT_OBJECT = 2, RAW_EXTENSION_RAW = 1 };

/* clang-format on */

static const struct message *const kinds[N_KINDS] = {
	[KIND_SERVICE] = &service,
	[KIND_SLICE] = &endpoint_slice,
	[KIND_SERVICE_CIDR] = &service_cidr,
	[KIND_NODE] = &node,
};

struct walk {
	struct arena *arena;
	unsigned int n_values;
	const struct message *message; /* where a problem is */
	const char *field;
	struct errbuf *eb;
};

static int walk_fail(struct walk *w, const char *problem)
{
	const char *dot = w->field ? "." : "";

	return errf(w->eb, -EINVAL, "protobuf, %s%s%s: %s",
		    w->message ? w->message->name : "frame", dot,
		    w->field ? w->field : "", problem);
}

/* Each value in a tree comes through here: whatever is claimed, there is an end to it. */
static int walk_added(struct walk *w, const struct json *value)
{
	if (!value)
		return err_no_memory(w->eb);
	if (++w->n_values > JSON_MAX_VALUES)
		return walk_fail(w, "too many values");
	return 0;
}

/* ---- values */

/*
 * What @field of @object is set in: the member that is there, or a new one.
 * Members are found by the pointer to their name, and none is there twice.
 */
static int open_field(struct walk *w, struct json *object,
		      const struct message_field *field, enum json_type type,
		      struct json **open)
{
	if (*open)
		return 0;
	*open = json_place(w->arena, object, field->name, type);
	return walk_added(w, *open);
}

/* As json_parse_object() does it. NULL: no memory */
static char *copy_text(struct walk *w, struct protobuf text)
{
	const size_t length = (size_t)(text.end - text.at);
	char *copy = arena_strndup(w->arena, text.at, length), *nul = copy;

	while (copy && (nul = memchr(nul, '\0', length - (size_t)(nul - copy))))
		*nul++ = JSON_FOR_NUL;
	return copy;
}

/* Counted also where it replaces another one, which stays on the arena. */
static int walk_set_text(struct walk *w, struct json *json, struct protobuf text)
{
	char *copy = copy_text(w, text);

	if (!copy)
		return err_no_memory(w->eb);
	json_set_string(json, copy);
	return walk_added(w, json);
}

static int place_text(struct walk *w, struct json *parent, const char *key,
		      struct protobuf text)
{
	struct json *json = json_place(w->arena, parent, key, JSON_STRING);

	return json ? walk_set_text(w, json, text) : err_no_memory(w->eb);
}

/* Seconds since 1970; *any says whether there is a time. */
static int read_time(struct walk *w, struct protobuf message, time_t *seconds,
		     bool *any)
{
	enum { SECONDS = 1 };
	/* What RFC 3339 can say. */
	const int64_t first = -62167219200, last = 253402300799;
	struct protobuf_field field;
	int64_t value = 0;
	int ret;

	*any = message.at != message.end;
	while ((ret = protobuf_next(&message, &field)) > 0)
		if (field.number == SECONDS && field.wire == PROTOBUF_VARINT)
			value = (int64_t)field.value;
	if (ret < 0 || value < first || value > last)
		return walk_fail(w, ret < 0 ? "malformed"
					    : "a time out of all range");
	*seconds = (time_t)value;
	return 0;
}

/* An empty message is the time that is none, which JSON leaves out or has as null. */
static int walk_add_time(struct walk *w, struct json *object,
			 const struct message_field *field,
			 struct protobuf message, struct json **open)
{
	time_t seconds = 0;
	struct tm tm;
	char text[32];
	bool any;
	size_t length;
	int err = read_time(w, message, &seconds, &any);

	if (err || !any)
		return err;
	err = open_field(w, object, field, JSON_STRING, open);
	if (err)
		return err;
	gmtime_r(&seconds, &tm);
	length = strftime(text, sizeof(text), "-%m-%dT%H:%M:%SZ", &tm);
	memmove(text + 4, text, length + 1);
	for (int i = 3, year = tm.tm_year + 1900; i >= 0; i--, year /= 10)
		text[i] = (char)('0' + year % 10);
	return walk_set_text(w, *open,
			     (struct protobuf){ text, text + 4 + length });
}

/* One entry of a map: a message of key and value. */
static int add_map_entry(struct walk *w, struct json *map, struct protobuf entry)
{
	enum { KEY = 1, VALUE = 2 };
	struct protobuf key = { "", NULL }, value = { "", NULL };
	struct protobuf_field field;
	char *name;
	int ret;

	key.end = key.at;
	value.end = value.at;
	while ((ret = protobuf_next(&entry, &field)) > 0) {
		if (field.wire != PROTOBUF_BYTES)
			continue;
		if (field.number == KEY)
			key = field.bytes;
		else if (field.number == VALUE)
			value = field.bytes;
	}
	if (ret < 0)
		return walk_fail(w, "malformed");
	name = copy_text(w, key);
	return name ? place_text(w, map, name, value) : err_no_memory(w->eb);
}

/* ---- messages */

static int add_fields(struct walk *w, struct json *object,
		      const struct message *message, struct protobuf bytes);

static int add_message(struct walk *w, struct json *object,
		       const struct message *message, struct protobuf bytes)
{
	const struct message *outer = w->message;
	int err = add_fields(w, object, message, bytes);

	if (!err)
		w->message = outer;
	return err;
}

static int add_list_item(struct walk *w, struct json *list,
			 const struct message *message, struct protobuf bytes)
{
	struct json *element = json_place(w->arena, list, NULL, JSON_OBJECT);
	int err = walk_added(w, element);

	return err ? err : add_message(w, element, message, bytes);
}

static int add_bytes(struct walk *w, struct json *object,
		     const struct message_field *field, struct protobuf bytes,
		     struct json **open)
{
	int err = 0;

	switch (field->type) {
	case TEXT:
		err = open_field(w, object, field, JSON_STRING, open);
		return err ? err : walk_set_text(w, *open, bytes);
	case TIME:
		return walk_add_time(w, object, field, bytes, open);
	case TEXT_MAP:
		err = open_field(w, object, field, JSON_OBJECT, open);
		return err ? err : add_map_entry(w, *open, bytes);
	case MESSAGE:
		err = open_field(w, object, field, JSON_OBJECT, open);
		return err ? err : add_message(w, *open, field->message, bytes);
	case TEXTS:
		err = open_field(w, object, field, JSON_ARRAY, open);
		return err ? err : place_text(w, *open, NULL, bytes);
	case MESSAGES:
		err = open_field(w, object, field, JSON_ARRAY, open);
		return err ? err : add_list_item(w, *open, field->message, bytes);
	case BOOLEAN:
	case INTEGER:
		break;
	}
	return walk_fail(w, "a wrong wire type");
}

static int walk_add_number(struct walk *w, struct json *object,
			   const struct message_field *field, uint64_t value,
			   struct json **open)
{
	const bool is_bool = field->type == BOOLEAN;
	int err;

	if (!is_bool && field->type != INTEGER)
		return walk_fail(w, "a wrong wire type");
	err = open_field(w, object, field, is_bool ? JSON_BOOL : JSON_NUMBER, open);
	if (err)
		return err;
	if (is_bool)
		json_set_bool(*open, value);
	else
		json_set_number(*open, (double)(int64_t)value);
	return 0;
}

static const struct message_field *find_field(const struct message *message,
					      uint32_t number)
{
	const struct message_field *field;

	for (field = message->fields; field->number; field++)
		if (field->number == number)
			return field;
	return NULL;
}

static int walk_add_field(struct walk *w, struct json *object,
			  const struct message_field *field,
			  const struct protobuf_field *read, struct json **open)
{
	w->field = field->name;
	if (read->wire == PROTOBUF_BYTES)
		return add_bytes(w, object, field, read->bytes, open);
	if (read->wire == PROTOBUF_VARINT)
		return walk_add_number(w, object, field, read->value, open);
	return walk_fail(w, "a wrong wire type");
}

/* A message that came before: its members are opened again. */
static void open_members(struct json *object, const struct message *message,
			 struct json **open)
{
	for (unsigned int i = 0; message->fields[i].number; i++)
		open[i] = json_placed(object, message->fields[i].name);
}

/* Goes down only where the tables do, and they end. */
static int add_fields(struct walk *w, struct json *object,
		      const struct message *message, struct protobuf bytes)
{
	struct json *open[FIELDS_MAX] = { NULL };
	const struct message_field *field;
	struct protobuf_field read;
	int ret, err = 0;

	w->message = message;
	if (json_first(object))
		open_members(object, message, open);
	while (!err && (ret = protobuf_next(&bytes, &read)) > 0) {
		field = find_field(message, read.number);
		if (field)
			err = walk_add_field(w, object, field, &read,
					     &open[field - message->fields]);
	}
	if (err)
		return err;
	w->field = NULL;
	return ret < 0 ? walk_fail(w, "malformed") : 0;
}

/* ---- what objects come in */

/* "k8s\0" and the message Unknown. @kind is NULL if there is none. */
static int open_body(struct walk *w, struct protobuf bytes,
		     struct protobuf *kind, struct protobuf *raw)
{
	const size_t magic = sizeof(protobuf_magic);
	struct protobuf_field field, inner;
	struct protobuf type_meta;
	int ret;

	*kind = *raw = (struct protobuf){ NULL, NULL };
	if ((size_t)(bytes.end - bytes.at) < magic ||
	    memcmp(bytes.at, protobuf_magic, magic))
		return walk_fail(w, "an object does not begin with \"k8s\"");
	bytes.at += magic;
	while ((ret = protobuf_next(&bytes, &field)) > 0) {
		if (field.wire != PROTOBUF_BYTES)
			continue;
		if (field.number == UNKNOWN_RAW)
			*raw = field.bytes;
		if (field.number != UNKNOWN_TYPE_META)
			continue;
		type_meta = field.bytes;
		while ((ret = protobuf_next(&type_meta, &inner)) > 0)
			if (inner.number == TYPE_META_KIND &&
			    inner.wire == PROTOBUF_BYTES)
				*kind = inner.bytes;
		if (ret < 0)
			break;
	}
	return ret < 0 ? walk_fail(w, "malformed") : 0;
}

static bool is_utf8_text(struct protobuf bytes, const char *text)
{
	size_t length = (size_t)(bytes.end - bytes.at);

	return length == strlen(text) &&
	       (!length || memcmp(bytes.at, text, length) == 0);
}

static const struct message *find_kind(struct protobuf kind)
{
	if (is_utf8_text(kind, status.name))
		return &status;
	for (unsigned int i = 0; i < N_KINDS; i++)
		if (is_utf8_text(kind, kinds[i]->name))
			return kinds[i];
	return NULL;
}

/* @object gets the fields of the object in @bytes, and "kind". */
static int add_body(struct walk *w, struct json *object, struct protobuf bytes)
{
	const struct message *message;
	struct protobuf kind, raw;
	int err = open_body(w, bytes, &kind, &raw);

	if (err)
		return err;
	message = find_kind(kind);
	if (!message)
		return walk_fail(w, "an object of an unknown kind");
	err = place_text(w, object, "kind", kind);
	return err ? err : add_fields(w, object, message, raw);
}

static int read_raw_extension(struct walk *w, struct protobuf bytes,
			      struct protobuf *raw)
{
	struct protobuf_field field;
	int ret;

	while ((ret = protobuf_next(&bytes, &field)) > 0)
		if (field.number == RAW_EXTENSION_RAW && field.wire == PROTOBUF_BYTES)
			*raw = field.bytes;
	return ret < 0 ? walk_fail(w, "malformed") : 0;
}

static int add_event(struct walk *w, struct json *event, struct protobuf bytes)
{
	struct protobuf type = { NULL, NULL }, object = { NULL, NULL };
	struct protobuf_field field;
	struct json *json;
	int ret, err;

	while ((ret = protobuf_next(&bytes, &field)) > 0) {
		if (field.number == EVENT_TYPE && field.wire == PROTOBUF_BYTES)
			type = field.bytes;
		if (field.number == EVENT_OBJECT && field.wire == PROTOBUF_BYTES &&
		    read_raw_extension(w, field.bytes, &object))
			return -EINVAL;
	}
	if (ret < 0 || !type.at || !object.at)
		return walk_fail(w, ret < 0 ? "malformed"
					    : "an event without type or object");
	err = place_text(w, event, "type", type);
	if (err)
		return err;
	json = json_place(w->arena, event, "object", JSON_OBJECT);
	err = walk_added(w, json);
	return err ? err : add_body(w, json, object);
}

/* ---- trees */

static struct json *tree_new(struct walk *w)
{
	struct json *root = json_place(w->arena, NULL, NULL, JSON_OBJECT);

	errno = 0;
	if (!root) {
		err_no_memory(w->eb);
		errno = ENOMEM;
	}
	return root;
}

static struct json *tree_end(struct json *root, int err)
{
	if (!err)
		return root;
	errno = err == -ENOMEM ? ENOMEM : EINVAL;
	return NULL;
}

struct json *protobuf_read_body(struct arena *arena, const char *bytes,
				size_t length, struct errbuf *eb)
{
	struct walk w = { .arena = arena, .eb = eb };
	struct json *root = tree_new(&w);

	if (!root)
		return NULL;
	return tree_end(root, add_body(&w, root,
				       (struct protobuf){ bytes, bytes + length }));
}

struct json *protobuf_read_event(struct arena *arena, const char *bytes,
				 size_t length, struct errbuf *eb)
{
	struct walk w = { .arena = arena, .eb = eb };
	struct json *root = tree_new(&w);

	if (!root)
		return NULL;
	return tree_end(root,
			add_event(&w, root,
				  (struct protobuf){ bytes, bytes + length }));
}

struct json *protobuf_read_item(struct arena *arena, enum kind kind,
				const char *bytes, size_t length, struct errbuf *eb)
{
	struct walk w = { .arena = arena, .eb = eb };
	struct json *root = tree_new(&w);

	if (!root)
		return NULL;
	return tree_end(root,
			add_fields(&w, root, kinds[kind],
				   (struct protobuf){ bytes, bytes + length }));
}

struct json *protobuf_read_list(struct arena *arena, const char *bytes,
				size_t length, struct errbuf *eb)
{
	struct walk w = { .arena = arena, .eb = eb };
	struct json *root = tree_new(&w);
	int err;

	if (!root)
		return NULL;
	err = walk_added(&w, json_place(arena, root, "items", JSON_ARRAY));
	if (!err)
		err = add_fields(&w, root, &any_list,
				 (struct protobuf){ bytes, bytes + length });
	return tree_end(root, err);
}
