/*
 * The command line: flags as kube-proxy has them, a few of vipmap's own, and
 * commands. The result is a checked configuration and the word for what to do.
 */
#ifndef PROXY_OPTIONS_H
#define PROXY_OPTIONS_H

#include "proxy/model/config.h"

struct command;
struct strbuf;

enum action {
	ACTION_RUN,
	ACTION_ONCE,	     /* --once */
	ACTION_DRY_RUN,	     /* --dry-run; wins over --once */
	ACTION_COMMAND,	     /* a word: options->command */
	ACTION_INIT_ONLY,    /* --init-only */
	ACTION_CLEANUP,	     /* --cleanup */
	ACTION_WRITE_CONFIG, /* --write-config-to */
	ACTION_VERSION,
	ACTION_HELP, /* the later wins over the earlier */
};

/* A flag of one command alone. */
struct command_flag {
	const char *name; /* without "--" */
	char letter;	  /* of the short form; 0: none */
	bool boolean; /* takes no value, but may have one: "--watch=false" */
	const char *help;
};

struct own_flag {
	const struct command_flag *flag;
	const char *value; /* "true" or "false" of a boolean */
};

struct options {
	enum action action;
	struct config *config; /* validated, except for ACTION_VERSION and ACTION_HELP */
	const char *config_path; /* --config; NULL: none. Borrowed from argv */
	const char *vipmap_config_path; /* --vipmap-config; NULL: none. Borrowed from argv */
	const char *write_config_path; /* --write-config-to. Borrowed from argv */
	int64_t timeout_ms; /* --timeout: for commands that wait for an API server; not 0 */
	/* With ACTION_COMMAND, and perhaps with ACTION_HELP; else NULL */
	const struct command *command;
	const char **words; /* that follow the command's, borrowed from argv */
	unsigned int n_words;
	/* Of a command that judges it by itself: why the configuration is not valid; "": it is */
	struct errbuf config_error;
	struct own_flag *own; /* as given */
	unsigned int n_own;
};

/* How the outside is reached: proxyconfig_read() is not ours to know. */
struct options_env {
	int (*read_config)(void *ctx, const char *path, struct config *config,
			   void (*warn)(void *ctx, const char *message),
			   void *warn_ctx, struct errbuf *eb);
	/* The same for a VipmapConfiguration; NULL: there is no such file. */
	int (*read_vipmap_config)(void *ctx, const char *path,
				  struct config *config,
				  void (*warn)(void *ctx, const char *message),
				  void *warn_ctx, struct errbuf *eb);
	void (*warn)(void *ctx,
		     const char *message); /* one line; NULL: nobody listens */
	/*
	 * How to log is known: called once, before the first warning, also if
	 * the options are found bad. @config is not checked yet; @lasts: it is
	 * not a command whose end somebody waits for. NULL is allowed.
	 */
	void (*logging)(void *ctx, const struct config *config, bool lasts);
	const struct command *(*find_command)(const char *word); /* NULL: there are none */
	void *ctx;
};

/*
 * May be called again with the same arguments to read a changed file (CFG-3). Returns 0, or a
 * negative errno with @eb (exit status 2) and @options untouched.
 */
int options_parse(int argc, char *const *argv, const struct options_env *env,
		  struct options *options, struct errbuf *eb);
void options_free(struct options *options);

/* The value of a command's own flag, the last one given; NULL: not given. */
const char *options_own(const struct options *options, const char *name);
bool options_own_is_on(const struct options *options,
		       const char *name); /* of a boolean */

void options_usage(struct strbuf *out); /* what --help says after the synopsis */

/*
 * The name of this node: hostnameOverride, else @environment (the variable
 * NODE_NAME, may be NULL), else the host's name; trimmed and in lower case.
 * Returns 0 or a negative errno with @eb.
 */
enum { NODE_NAME_SIZE = 256 };
int node_name(const struct config *config, const char *environment,
	      char name[NODE_NAME_SIZE], struct errbuf *eb);

#endif
