/*
 * Loading is in three steps: each file is read to entries, and thrown away if
 * it is no JSON or YAML after all; they are joined in the order of the paths,
 * where a later object of a name replaces an earlier one; and the whole is
 * handed on when nothing failed.
 *
 * Standard input can be read once only. Its entries are kept, and their objects
 * copied for each load.
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

#include "watch/entries.h"
#include "watch/follow.h"
#include "watch/manifest_file.h"

struct manifests {
	char *const *paths;
	const char *node_name;
	struct follow *follow; /* NULL: nothing but standard input */
	struct arena scratch;  /* of decoders */
	bool has_input;
	struct store input; /* what standard input gave */
};

/* ---- following paths */

static int read_manifest(struct manifests *m, struct store *store,
			 const char *path, struct errbuf *eb)
{
	int fd, err;

	follow_file(m->follow, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	err = manifest_read(store, fd, path, m->node_name, &m->scratch, eb);
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

static int is_member(const struct dirent *entry)
{
	return is_manifest_name(entry->d_name);
}

static int by_member_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* A folder or a device is no manifest, whatever it is called; a file may have gone since. */
static int read_member(struct manifests *m, struct store *store,
		       const char *path, struct errbuf *eb)
{
	struct stat st;

	if (lstat(path, &st))
		return 0;
	if (S_ISLNK(st.st_mode)) {
		follow_file(m->follow, path);
		if (stat(path, &st))
			return errf(eb, -errno, "%s: %s", path, strerror(errno));
	}
	return S_ISREG(st.st_mode) ? read_manifest(m, store, path, eb) : 0;
}

static int read_directory(struct manifests *m, struct store *store,
			  const char *path, struct errbuf *eb)
{
	struct dirent **members;
	char member[PATH_MAX];
	int i, n, err = 0;

	follow_directory(m->follow, path, is_manifest_name);
	n = scandir(path, &members, is_member, by_member_name);
	if (n < 0)
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	for (i = 0; i < n; i++) {
		if (!err && snprintf(member, sizeof(member), "%s/%s", path,
				     members[i]->d_name) >= (int)sizeof(member))
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
	e->object = object_pack((enum kind)e->kind, e->object);
	return e->object ? 0 : -ENOMEM;
}

static int copy_input(struct manifests *m, struct store *store, struct errbuf *eb)
{
	struct entry copy;
	size_t i;

	for (i = 0; i < m->input.entries.count; i++) {
		copy = m->input.entries.items[i];
		if (copy_object(&copy) || entries_add(&store->entries, &copy))
			return err_no_memory(eb);
	}
	return 0;
}

static int read_standard_input(struct manifests *m, struct store *store,
			       struct errbuf *eb)
{
	int err;

	if (m->has_input)
		return copy_input(m, store, eb);
	err = manifest_read(&m->input, STDIN_FILENO, "-", m->node_name,
			    &m->scratch, eb);
	if (err) {
		store_free(&m->input);
		return err;
	}
	m->has_input = true;
	return copy_input(m, store, eb);
}

static int read_path(struct manifests *m, struct store *store, const char *path,
		     struct errbuf *eb)
{
	struct stat st;

	if (is_input(path))
		return read_standard_input(m, store, eb);
	follow_file(m->follow, path);
	if (stat(path, &st))
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	return S_ISDIR(st.st_mode) ? read_directory(m, store, path, eb)
				   : read_manifest(m, store, path, eb);
}

/* ---- endpoints from Pods */

static struct pod_index *index_pods(const struct store *store)
{
	const struct entries *list = &store->entries;
	const struct pod **pods =
		calloc(list->count + 1, sizeof(const struct pod *));
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

	return entries_add(ctx, &e);
}

static int add_pod_slices(const struct store *store, struct entries *slices,
			  struct errbuf *eb)
{
	struct pod_index *index = index_pods(store);
	const struct entry *e;
	size_t i;
	int err = index ? 0 : -ENOMEM;

	for (i = 0; i < store->entries.count && !err; i++) {
		e = &store->entries.items[i];
		if (e->kind == KIND_SERVICE && e->object && e->selector &&
		    !store_has_slices(store, e))
			err = pods_to_slices(index, e->object, e->selector,
					     put_pod_slice, slices);
	}
	pod_index_free(index);
	return err ? err_no_memory(eb) : 0;
}

/* ---- handing on */

static int put_kind(const struct object_sink *sink, enum kind kind,
		    struct entries *list)
{
	void *object;
	size_t i;
	int err = 0;

	for (i = 0; !err && i < list->count; i++) {
		object = list->items[i].object;
		if (list->items[i].kind != kind || !object)
			continue;
		list->items[i].object = NULL; /* the sink's from here on */
		err = sink_put(sink, kind, object);
	}
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
		snprintf(text, sizeof(text),
			 "kind %s is not used here, %u object%s left out",
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
static int hand_on(struct store *store, struct entries *pod_slices,
		   const struct object_sink *sink)
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

static int read_paths(struct manifests *m, struct store *store, struct errbuf *eb)
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

int manifests_load(struct manifests *m, const struct object_sink *sink,
		   struct errbuf *eb)
{
	struct entries pod_slices = { 0 };
	struct store store = { 0 };
	int err = read_paths(m, &store, eb);

	if (!err) {
		store_index(&store);
		err = add_pod_slices(&store, &pod_slices, eb);
	}
	if (!err) {
		hand_complaints(m, sink, &store);
		if (hand_on(&store, &pod_slices, sink))
			err = err_no_memory(eb);
	}
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
