/*
 * Files and directories that are followed for changes (inotify), through
 * symbolic links: also when a file is replaced by renaming another one onto it,
 * and when a link on the way to it is turned to another target, as in a mounted
 * ConfigMap.
 */
#ifndef WATCH_FOLLOW_H
#define WATCH_FOLLOW_H

#include <stdbool.h>

struct follow;

struct follow *follow_new(void);       /* NULL with errno set */
void follow_free(struct follow *f);    /* NULL is allowed */
int follow_fd(const struct follow *f); /* readable: call follow_changed() */

/*
 * What is to be followed is told afresh each time, between these two, before it
 * is read: a change after follow_file() is noticed. Without follow_end() what
 * was followed before stays so, too. What does not exist is followed as far as
 * its directory does.
 */
void follow_begin(struct follow *f);
void follow_file(struct follow *f, const char *path);
/* The names in it for which @relevant is true, and the directory itself. */
void follow_directory(struct follow *f, const char *path,
		      bool (*relevant)(const char *name));
void follow_end(struct follow *f);

/* Empties the queue, without blocking; whether anything that is followed may have changed. */
bool follow_changed(struct follow *f);

#endif
