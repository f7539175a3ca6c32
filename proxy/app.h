/*
 * What every command and the daemon share: the command line, the log, the loop,
 * and how the program ends. There is one, made by main().
 */
#ifndef PROXY_APP_H
#define PROXY_APP_H

#include <sys/stat.h>

#include "proxy/base/clock.h"
#include "proxy/base/log.h"
#include "proxy/options.h"

struct event;
struct event_base;
struct view;

enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_KERNEL = 3,
	EXIT_ABSENT = 4, /* no vipmap runs here */
};

enum { N_APP_SIGNALS = 3 };

struct app {
	int argc;
	char **argv;
	const char *revision; /* of the sources, "" if unknown */
	const struct clock *clock;
	struct log *log;
	struct event_base *base;
	bool family[N_FAMILIES]; /* which the kernel has (DS-1) */
	/* Of the configuration files as they were last read */
	struct stat config_stat, vipmap_config_stat;
	struct event *signals[N_APP_SIGNALS];
	void (*hangup)(void *ctx); /* at SIGHUP */
	void *hangup_ctx;
	bool log_is_set;
	int signal; /* SIGTERM or SIGINT, once it has come; else 0 */
	/* What commands look at if flags name objects that do not run here; NULL: what runs */
	const struct view *view;
	int end_status; /* at SIGTERM and SIGINT */
	int exit_status;
	bool ending; /* exit_status holds, even if the loop has not begun */
};

/* @clock is borrowed. Returns 0, or a negative errno: then app_close() all the same. */
int app_open(struct app *app, const struct clock *clock, int argc, char **argv);
void app_close(struct app *app);

/* The command line, and the file that it names, as they are now. */
int app_parse_options(struct app *app, struct options *options, struct errbuf *eb);

/*
 * The files that @options name are known as they are now, before they are read
 * again: a bad one may keep the other from being read, which must not count as
 * changed for ever.
 */
void app_remember_files(struct app *app, const struct options *options);

/* How and how much to log from now on. */
void app_set_log(struct app *app, const struct config *config);

/* Ends the loop; what is called first decides nothing, the last status holds. */
void app_exit(struct app *app, int status);

/* SIGHUP is held back from the program's begin on, and takes its usual effect from here on. */
void app_release_hangup(void);

/*
 * SIGTERM and SIGINT end the loop with app->end_status from now on, and SIGHUP
 * calls @hangup (NULL: is left alone). To be called before anything is
 * programmed: a signal that comes in the middle ends the program in order.
 * Returns 0 or -ENOMEM.
 */
int app_watch_signals(struct app *app, void (*hangup)(void *ctx), void *ctx);

#endif
