/*
 * The program as its user sees it: run in a folder of its own, its standard
 * output and error apart, once or as a daemon.
 */
#ifndef TESTS_SUPPORT_PROGRAM_H
#define TESTS_SUPPORT_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "proxy/base/strbuf.h"

/*
 * A folder that is the current one until scratch_leave(). In it are vipmap, the program ($VIPMAP,
 * or that of gcc's build), and goldens, the folder of manifests.
 */
struct scratch {
	char folder[64], *before;
};

void scratch_enter(struct scratch *s);
void scratch_leave(struct scratch *s);

/* Replaces a file at once, as a careful editor does. */
void write_file(const char *path, const char *text);
char *read_whole(const char *path); /* caller frees; "" if there is none */

/* Runs a shell command, and returns its status. Both buffers are emptied before. */
int run_apart(const char *command, struct strbuf *out, struct strbuf *err);

/* A network namespace with 192.168.7.11, fd00:7::11 and loopback. False if it cannot be had. */
bool program_namespace(void);
char *program_rules(void); /* "nft list ruleset"; caller frees */

/* Runs until daemon_stop(), or until the test process ends. Its words go to the file "log". */
pid_t daemon_start(const char *arguments);
/* Sends @signal and returns the exit status, or the negative number of the signal that ended it. */
int daemon_stop(pid_t pid, int signal);

/* Waits until the shell command succeeds; after 20 s the test fails, with @what and the log. */
void until(const char *what, const char *command);
void until_logged(const char *text);
void until_rule(const char *text);
void until_no_rule(const char *text);

/* GET. Returns the HTTP status or a negative errno; @answer has the headers too. */
int fetch(const char *address, unsigned int port, const char *path,
	  struct strbuf *answer);

#endif
