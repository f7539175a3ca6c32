/*
 * The command line: flags as kube-proxy has them, a few of vipmap's own, and two subcommands. The
 * result is a checked configuration and the word for what to do.
 */
#ifndef PROXY_OPTIONS_H
#define PROXY_OPTIONS_H

#include "proxy/model/config.h"

struct strbuf;

enum action {
	ACTION_RUN,
	ACTION_ONCE,	     /* --once */
	ACTION_DRY_RUN,	     /* --dry-run; wins over --once */
	ACTION_EXPLAIN,	     /* explain SRC PROTO DST PORT */
	ACTION_STATUS,	     /* status */
	ACTION_INIT_ONLY,    /* --init-only */
	ACTION_CLEANUP,	     /* --cleanup */
	ACTION_WRITE_CONFIG, /* --write-config-to */
	ACTION_VERSION,
	ACTION_HELP, /* the later wins over the earlier */
};

struct options {
	enum action action;
	struct config *config;	       /* validated, except for ACTION_VERSION and ACTION_HELP */
	const char *config_path;       /* --config; NULL: none. Borrowed from argv */
	const char *write_config_path; /* --write-config-to. Borrowed from argv */
	struct {
		enum family family;
		struct addr source, destination;
		uint8_t protocol;
		uint16_t port;
	} explain;
};

/* How the outside is reached: proxyconfig_read() is not ours to know. */
struct options_env {
	int (*read_config)(const char *path, struct config *config,
			   void (*warn)(void *ctx, const char *message), void *ctx,
			   struct errbuf *eb);
	void (*warn)(void *ctx, const char *message); /* one line; NULL: nobody listens */
	void *ctx;
};

/*
 * May be called again with the same arguments to read a changed file (CFG-3). Returns 0, or a
 * negative errno with @eb (exit status 2) and @options untouched.
 */
int options_parse(int argc, char *const *argv, const struct options_env *env,
		  struct options *options, struct errbuf *eb);
void options_free(struct options *options);

void options_usage(struct strbuf *out); /* --help */

/*
 * The name of this node: hostnameOverride, else @environment (the variable NODE_NAME, may be NULL),
 * else the host's name; trimmed and in lower case. Returns 0 or a negative errno with @eb.
 */
enum { NODE_NAME_SIZE = 256 };
int node_name(const struct config *config, const char *environment, char name[NODE_NAME_SIZE],
	      struct errbuf *eb);

#endif
