/*
 * Every name on the way to a file is watched in the directory that it is in,
 * since inotify follows what a name stands for and not the name. A file that is
 * written in place is reported when it is closed, not at each write: half of it
 * is of no use. For the same reason a name that appears counts only if it is a
 * link; a new file will be closed.
 *
 * Regret: who truncates a file, and lets another file of the directory change
 * before writing it, makes us read an empty one.
 */
#include "watch/follow.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/base/array.h"

enum { MAX_LINKS = 16 };

struct watch {
	int wd;
	char *directory;
	char *name; /* NULL: those for which relevant() is true */
	bool (*relevant)(const char *name);
	bool fresh; /* asked for since follow_begin() */
};

struct follow {
	int fd;
	struct watch *watches;
	unsigned int count, room;
};

static const uint32_t mask = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM |
			     IN_CREATE | IN_DELETE | IN_DELETE_SELF |
			     IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR;

struct follow *follow_new(void)
{
	struct follow *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (f->fd < 0) {
		free(f);
		return NULL;
	}
	return f;
}

static void watch_free(struct watch *w)
{
	free(w->directory);
	free(w->name);
}

void follow_free(struct follow *f)
{
	unsigned int i;

	if (!f)
		return;
	for (i = 0; i < f->count; i++)
		watch_free(&f->watches[i]);
	free(f->watches);
	close(f->fd);
	free(f);
}

int follow_fd(const struct follow *f)
{
	return f->fd;
}

/* ---- what to watch */

static bool same_name(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static struct watch *find_watch(struct follow *f, int wd, const char *name)
{
	unsigned int i;

	for (i = 0; i < f->count; i++)
		if (f->watches[i].wd == wd && same_name(f->watches[i].name, name))
			return &f->watches[i];
	return NULL;
}

static struct watch *new_watch(struct follow *f)
{
	return array_grow(f->watches, f->count, f->room) ? NULL
							 : &f->watches[f->count];
}

/* Running out of memory or of watches means that a change may go unnoticed, and nothing worse. */
static void add_watch(struct follow *f, const char *directory, const char *name,
		      bool (*relevant)(const char *name))
{
	int wd = inotify_add_watch(f->fd, directory, mask);
	struct watch *w;

	if (wd < 0)
		return;
	w = find_watch(f, wd, name);
	if (w) {
		w->fresh = true;
		return;
	}
	w = new_watch(f);
	if (!w)
		return;
	*w = (struct watch){ wd, strdup(directory), name ? strdup(name) : NULL,
			     relevant, true };
	if (!w->directory || (name && !w->name))
		watch_free(w);
	else
		f->count++;
}

/* Splits into directory and last name; @directory has PATH_MAX bytes. NULL if there is no name. */
static const char *split_path(const char *path, char *directory)
{
	const char *slash = strrchr(path, '/');
	int n;

	if (!slash)
		n = snprintf(directory, PATH_MAX, ".");
	else
		n = snprintf(directory, PATH_MAX, "%.*s",
			     slash == path ? 1 : (int)(slash - path), path);
	path = slash ? slash + 1 : path;
	if (n >= PATH_MAX || !*path || strcmp(path, ".") == 0 ||
	    strcmp(path, "..") == 0)
		return NULL;
	return path;
}

static void follow_name(struct follow *f, const char *path, unsigned int links);

/* If @path is a link, where it leads, seen from @directory. */
static void follow_link(struct follow *f, const char *path,
			const char *directory, unsigned int links)
{
	char target[PATH_MAX], whole[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	int length;

	if (n < 0 || !links)
		return;
	target[n] = '\0';
	if (target[0] == '/')
		length = snprintf(whole, sizeof(whole), "%s", target);
	else
		length = snprintf(whole, sizeof(whole), "%s/%s", directory, target);
	if (length < (int)sizeof(whole))
		follow_name(f, whole, links - 1);
}

/* The name itself, and each link on the way to what it stands for. */
static void follow_name(struct follow *f, const char *path, unsigned int links)
{
	char directory[PATH_MAX], above[PATH_MAX];
	const char *name = split_path(path, directory);
	struct stat st;

	assert(links <= MAX_LINKS);
	if (!name)
		return;
	add_watch(f, directory, name, NULL);
	follow_link(f, path, directory, links);
	if (links && lstat(directory, &st) == 0 && S_ISLNK(st.st_mode) &&
	    split_path(directory, above))
		follow_name(f, directory, links - 1);
}

void follow_begin(struct follow *f)
{
	unsigned int i;

	for (i = 0; i < f->count; i++)
		f->watches[i].fresh = false;
}

void follow_file(struct follow *f, const char *path)
{
	follow_name(f, path, MAX_LINKS);
}

/* "dir/" and "dir" are the same, but only the latter has a name. */
static void without_slashes(const char *path, char out[PATH_MAX])
{
	size_t length = strlen(path);

	while (length > 1 && path[length - 1] == '/')
		length--;
	snprintf(out, PATH_MAX, "%.*s", (int)length, path);
}

void follow_directory(struct follow *f, const char *path,
		      bool (*relevant)(const char *name))
{
	char plain[PATH_MAX];

	without_slashes(path, plain);
	add_watch(f, plain, NULL, relevant);
	follow_name(f, plain, MAX_LINKS);
}

/* Whether a watch of the same directory is still needed. */
static bool is_needed(const struct follow *f, int wd)
{
	unsigned int i;

	for (i = 0; i < f->count; i++)
		if (f->watches[i].wd == wd && f->watches[i].fresh)
			return true;
	return false;
}

void follow_end(struct follow *f)
{
	unsigned int i, n = 0;

	for (i = 0; i < f->count; i++)
		if (!is_needed(f, f->watches[i].wd))
			inotify_rm_watch(f->fd, f->watches[i].wd);
	for (i = 0; i < f->count; i++) {
		if (f->watches[i].fresh)
			f->watches[n++] = f->watches[i];
		else
			watch_free(&f->watches[i]);
	}
	assert(n <= f->count);
	f->count = n;
}

/* ---- what happened */

/* A link, or a name for a file that has another one: there will be no closing. */
static bool is_link(const char *directory, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >=
	    (int)sizeof(path))
		return true;
	if (lstat(path, &st))
		return false;
	return !S_ISREG(st.st_mode) || st.st_nlink > 1;
}

static bool watch_concerns(const struct watch *w, const struct inotify_event *event)
{
	assert(w->name || w->relevant);
	if (w->wd != event->wd)
		return false;
	if (!event->len)
		return true; /* the directory itself */
	if (w->name ? strcmp(w->name, event->name) != 0 : !w->relevant(event->name))
		return false;
	return !(event->mask & IN_CREATE) || is_link(w->directory, event->name);
}

/* The kernel has dropped the watch: the directory is gone. */
static void forget_watches(struct follow *f, int wd)
{
	unsigned int i, n = 0;

	for (i = 0; i < f->count; i++) {
		if (f->watches[i].wd != wd)
			f->watches[n++] = f->watches[i];
		else
			watch_free(&f->watches[i]);
	}
	f->count = n;
}

static bool is_change(struct follow *f, const struct inotify_event *event)
{
	bool changed = event->mask & IN_Q_OVERFLOW;
	unsigned int i;

	for (i = 0; i < f->count; i++)
		changed |= watch_concerns(&f->watches[i], event);
	if (event->mask & IN_IGNORED)
		forget_watches(f, event->wd);
	return changed;
}

bool follow_changed(struct follow *f)
{
	char buffer[16 * 1024]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	const struct inotify_event *event;
	bool changed = false;
	ssize_t n, at;

	while ((n = read(f->fd, buffer, sizeof(buffer))) > 0 ||
	       (n < 0 && errno == EINTR)) {
		for (at = 0; at < n; at += (ssize_t)(sizeof(*event) + event->len)) {
			event = (const struct inotify_event *)(const void *)(buffer +
									     at);
			changed |= is_change(f, event);
		}
	}
	return changed;
}
