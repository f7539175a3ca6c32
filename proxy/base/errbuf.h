/*
 * An error message on its way up: the function that fails writes it, the level
 * that decides logs it.
 */
#ifndef BASE_ERRBUF_H
#define BASE_ERRBUF_H

struct errbuf {
	char text[512];
};

/* Fills @eb (NULL is allowed) and returns @err, a negative errno, so that one
 * line reports and returns. */
int errf(struct errbuf *eb, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for what needs no more words. */
int err_no_memory(struct errbuf *eb);

#endif
