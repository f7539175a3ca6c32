/*
 * What vipmap does besides running: one file per command. A flag such as --dry-run chooses one by
 * its action, a word such as "explain" by its row in commands.c.
 *
 * To add a command: one file with a run function, its line below, and its row in commands.c.
 */
#ifndef COMMANDS_COMMANDS_H
#define COMMANDS_COMMANDS_H

#include "proxy/app.h"

struct command {
	const char *word;     /* the first argument that is no flag */
	const char *synopsis; /* after "vipmap " */
	const char *help;     /* what it does, with examples; whole lines */
	/* Flags of its own, ended by a row without a name; NULL: none. */
	const struct command_flag *flags;
	bool judges_config; /* a bad configuration is no error of usage: options->config_error */
	bool takes_flags; /* those of the program that say where objects come from */
	/*
	 * Looks at the words, before anything is done. Returns 0, or a negative
	 * errno with @eb (exit status 2). NULL: it takes no words.
	 */
	int (*check)(const struct options *options, struct errbuf *eb);
	/* Returns the exit status, and may take from @options what it needs. */
	int (*run)(struct app *app, struct options *options);
};

const struct command *command_find(const char *word); /* NULL: there is none */
/* The @i-th row, for lists of them; NULL after the last. */
const struct command *command_at(size_t i);

/* Does what the command line asks for and frees @options. Returns the exit status. */
int command_run(struct app *app, struct options *options);

/* By flag */
int command_once(struct app *app, struct options *options);
int command_dry_run(struct app *app, struct options *options);
int command_init_only(struct app *app, struct options *options);
int command_cleanup(struct app *app, struct options *options);
int command_write_config(struct app *app, struct options *options);
int command_version(struct app *app, struct options *options); /* by word, too */
int command_version_check(const struct options *options, struct errbuf *eb);
extern const struct command_flag version_flags[];
int command_help(struct app *app, struct options *options);

/* By word */
int command_explain(struct app *app, struct options *options);
int command_explain_check(const struct options *options, struct errbuf *eb);
extern const struct command_flag explain_flags[];
int command_completion(struct app *app, struct options *options);
int command_completion_check(const struct options *options, struct errbuf *eb);
int command_debug(struct app *app, struct options *options);
int command_debug_check(const struct options *options, struct errbuf *eb);
int command_diff(struct app *app, struct options *options);
int command_diff_check(const struct options *options, struct errbuf *eb);
int command_flows(struct app *app, struct options *options);
int command_flows_check(const struct options *options, struct errbuf *eb);
extern const struct command_flag flows_flags[];
int command_get(struct app *app, struct options *options);
int command_get_check(const struct options *options, struct errbuf *eb);
extern const struct command_flag get_flags[];
int command_monitor(struct app *app, struct options *options);
int command_monitor_check(const struct options *options, struct errbuf *eb);
extern const struct command_flag monitor_flags[];
int command_preflight(struct app *app, struct options *options);
int command_preflight_check(const struct options *options, struct errbuf *eb);
int command_status(struct app *app, struct options *options);
int command_status_check(const struct options *options, struct errbuf *eb);
extern const struct command_flag status_flags[];
int command_top(struct app *app, struct options *options);
int command_top_check(const struct options *options, struct errbuf *eb);
extern const struct command_flag top_flags[];

#endif
