/*
 * API servers for tests: tests/support/fake_apiserver.py as a child process,
 * and a player of recorded responses inside the test's own loop.
 */
#ifndef TESTS_SUPPORT_APISERVER_H
#define TESTS_SUPPORT_APISERVER_H

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct fake;
struct player;

/* @arguments of the program, NULL-terminated; NULL: none. Fails the test if it does not start. */
struct fake *fake_start(const char *const *arguments);
void fake_stop(struct fake *fake);
int fake_port(const struct fake *fake);
/* Gives one command and waits for its answer, which lives until the next one. */
const char *fake_tell(struct fake *fake, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* One answer: to requests whose line contains all of @wants, the file's bytes as they are. */
struct play {
	const char *wants[4]; /* NULL: no more */
	const char *file;     /* in tests/data/recordings, without .response */
	const char *text;     /* or this */
	unsigned int times;   /* how often; 0: always */
};

/* Requests that nothing fits are left without answer. @plays is borrowed, ends
 * with file and text NULL. */
struct player *player_start(struct event_base *base, const struct play *plays);
void player_stop(struct player *player); /* before its loop is freed */
int player_port(const struct player *player);
const char *player_requests(const struct player *player); /* first lines, one per line */

const char *
player_unanswered(const struct player *player); /* those that nothing fitted */

/* A folder with what tests/support/certificates.sh makes, and its removal. */
char *certificates_new(void);
void certificates_free(char *folder);
/* A file's text; the caller frees it. */
char *read_text(const char *folder, const char *name);
void write_text(const char *folder, const char *name, const char *text);

#endif
