/*
 * The whole screen of a terminal: keys as they are pressed, frames drawn over each other. Whoever
 * opens it closes it: then the terminal is as it was before.
 */
#ifndef COMMANDS_SCREEN_H
#define COMMANDS_SCREEN_H

#include <stdbool.h>

#include "proxy/base/errbuf.h"

struct screen;
struct strbuf;

/* Whether standard input and output are a terminal that can move its cursor. */
bool screen_is_possible(void);
/* NULL with @eb. */
struct screen *screen_open(struct errbuf *eb);
void screen_close(struct screen *s); /* NULL is allowed */

bool screen_has_utf8(const struct screen *s);
void screen_size(const struct screen *s, unsigned int *rows, unsigned int *columns);

/* Characters are themselves. */
enum {
	KEY_NONE = -1,	 /* no more for now */
	KEY_CLOSED = -2, /* nobody is there any more */
	KEY_ESCAPE = 27,
	KEY_UP = 0x1000,
	KEY_DOWN,
	KEY_LEFT,
	KEY_RIGHT,
	KEY_PAGE_UP,
	KEY_PAGE_DOWN,
	KEY_HOME,
	KEY_END,
	KEY_ENTER,
	KEY_ERASE,
};
int screen_fd(const struct screen *s); /* readable: there are keys */
/* The next key; waits for nothing but the rest of one that has begun. */
int screen_key(struct screen *s);

/*
 * Lines, separated by '\n', are cut to the width; those that do not fit are
 * left out. @marked is the number of one to make conspicuous, counted from 0,
 * or -1. Returns 0 or a negative errno.
 */
int screen_draw(struct screen *s, const struct strbuf *lines, int marked);

#endif
