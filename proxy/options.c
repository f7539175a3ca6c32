/*
 * The command line. Arguments are first only matched with the table of flags,
 * and applied after the configuration file has been read, since CFG-4 makes a
 * flag's fate depend on whether there is a file.
 *
 * Not getopt_long(): it has hidden state (we parse again when the file
 * changes), takes abbreviations, and cannot do "--flag=false" for booleans
 * without a word for each.
 */
#include "proxy/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/nearest.h"
#include "proxy/base/strbuf.h"
#include "proxy/commands/commands.h"
#include "proxy/model/fields.h"

/* Flags that have no field in the configuration file; proxy/model/fields.c has the others. */
enum flag_type {
	FLAG_TEXT,
	FLAG_LIST, /* one entry per flag */
	FLAG_HEALTHZ_PORT,
	FLAG_METRICS_PORT,
	FLAG_CONFIG,
	FLAG_VIPMAP_CONFIG,
	FLAG_WRITE_CONFIG,
	FLAG_TAKE_OVER,
	FLAG_TIMEOUT,
	FLAG_ACTION,  /* boolean; target is the action */
	FLAG_VERSION, /* boolean, or "raw" */
	FLAG_IGNORED,
	FLAG_IGNORED_BOOL,
};

struct flag {
	const char *name;
	enum flag_type type;
	size_t target;	  /* offset in struct config, or enum action */
	const char *help; /* NULL: accepted, but nothing to advertise */
};

static const struct flag flags[] = {
	{ "config", FLAG_CONFIG, 0,
	  "FILE of kind KubeProxyConfiguration; most flags are then ignored" },
	{ "vipmap-config", FLAG_VIPMAP_CONFIG, 0,
	  "FILE of kind VipmapConfiguration: what goes beyond kube-proxy" },
	{ "master", FLAG_TEXT, offsetof(struct config, master),
	  "URL of the API server, instead of the kubeconfig's" },
	{ "manifests", FLAG_LIST, offsetof(struct config, manifests),
	  "PATH of objects: file, directory or \"-\"; repeatable" },
	{ "take-over", FLAG_TAKE_OVER, 0,
	  "kube-proxy: remove its rules once vipmap's are in force and it has stopped" },
	{ "once", FLAG_ACTION, ACTION_ONCE, "sync once and exit" },
	{ "dry-run", FLAG_ACTION, ACTION_DRY_RUN,
	  "print the ruleset as nft text and exit" },
	{ "cleanup", FLAG_ACTION, ACTION_CLEANUP,
	  "remove all that vipmap installed and exit" },
	{ "init-only", FLAG_ACTION, ACTION_INIT_ONLY,
	  "set the kernel's conntrack limits and exit" },
	{ "write-config-to", FLAG_WRITE_CONFIG, 0,
	  "write the configuration to FILE, or \"-\", and exit" },
	{ "timeout", FLAG_TIMEOUT, 0,
	  "DURATION that --once and commands wait for the API server" },
	{ "healthz-port", FLAG_HEALTHZ_PORT, 0,
	  "PORT of the health server; 0 switches it off (deprecated)" },
	{ "metrics-port", FLAG_METRICS_PORT, 0,
	  "PORT of the metrics server; 0 switches it off (deprecated)" },
	{ "version", FLAG_VERSION, ACTION_VERSION, "print the version and exit" },
	{ "help", FLAG_ACTION, ACTION_HELP, "print this and exit" },
	/* Accepted so that a kube-proxy command line works as it is (FLAG-1, FLAG-2). */
	{ "iptables-masquerade-bit", FLAG_IGNORED, 0, NULL },
	{ "iptables-localhost-nodeports", FLAG_IGNORED_BOOL, 0, NULL },
	{ "ipvs-exclude-cidrs", FLAG_IGNORED, 0, NULL },
	{ "ipvs-min-sync-period", FLAG_IGNORED, 0, NULL },
	{ "ipvs-scheduler", FLAG_IGNORED, 0, NULL },
	{ "ipvs-strict-arp", FLAG_IGNORED_BOOL, 0, NULL },
	{ "ipvs-sync-period", FLAG_IGNORED, 0, NULL },
	{ "ipvs-tcp-timeout", FLAG_IGNORED, 0, NULL },
	{ "ipvs-tcpfin-timeout", FLAG_IGNORED, 0, NULL },
	{ "ipvs-udp-timeout", FLAG_IGNORED, 0, NULL },
	{ "profiling", FLAG_IGNORED_BOOL, 0, NULL },
	{ "show-hidden-metrics-for-version", FLAG_IGNORED, 0, NULL },
	{ "proxy-port-range", FLAG_IGNORED, 0, NULL },
	{ "log-flush-frequency", FLAG_IGNORED, 0, NULL },
	{ "vmodule", FLAG_IGNORED, 0, NULL },
};

enum {
	N_FLAGS = sizeof(flags) / sizeof(flags[0]),
	PORT_UNSET = -1,
	DEFAULT_TIMEOUT_MS = 30 * 1000
};

struct given {
	const char *name;	 /* without dashes */
	const struct flag *flag; /* or, if NULL: */
	const struct config_field *field;
	const char *value; /* NULL: a boolean without one */
};

struct parser {
	const struct options_env *env;
	struct errbuf *eb;
	struct options options;
	struct given *given;
	unsigned int n_given;
	const char *unknown; /* the first word, if it is no command's */
	int healthz_port, metrics_port;
	const struct options_env *outside;
	char **held; /* warnings, until it is known how to log */
	bool released;
};

/* A warning that does not fit into memory any more is lost. */
static void hold_warning(void *ctx, const char *message)
{
	struct parser *p = ctx;

	if (!p->released)
		config_append(&p->held, message);
	else if (p->outside->warn)
		p->outside->warn(p->outside->ctx, message);
}

static void warn_about_flag(const struct parser *p, const char *flag,
			    const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "--%s: %s", flag, what);
	p->env->warn(p->env->ctx, text);
}

static int bad_text(const struct parser *p, const char *flag, const char *value,
		    const char *what)
{
	return errf(p->eb, -EINVAL, "--%s: \"%s\" %s", flag, value, what);
}

static int bad_value(const struct parser *p, const struct given *g, const char *what)
{
	return bad_text(p, g->name, g->value, what);
}

/* @value may be NULL: the flag stands alone. */
static int boolean_parse(const struct parser *p, const char *flag,
			 const char *value, bool *on)
{
	static const char *const words[] = { "0", "f", "false", "1", "t", "true" };
	size_t i;

	if (!value) {
		*on = true;
		return 0;
	}
	for (i = 0; i < 6; i++)
		if (strcasecmp(value, words[i]) == 0) {
			*on = i >= 3;
			return 0;
		}
	return bad_text(p, flag, value, "is neither true nor false");
}

static const struct flag *flag_find(const char *name, size_t length)
{
	size_t i;

	for (i = 0; i < N_FLAGS; i++)
		if (strlen(flags[i].name) == length &&
		    strncmp(flags[i].name, name, length) == 0)
			return &flags[i];
	return NULL;
}

/* What @name is. False if there is no such flag. */
static bool given_find(const char *name, size_t length, struct given *g)
{
	g->flag = flag_find(name, length);
	g->field = g->flag ? NULL : field_find_flag(name, length);
	if (g->field)
		g->name = g->field->flag + 2;
	else if (g->flag)
		g->name = g->flag->name;
	return g->flag || g->field;
}

static bool given_is_boolean(const struct given *g)
{
	if (g->field)
		return g->field->type == FIELD_BOOL;
	return g->flag->type == FLAG_ACTION || g->flag->type == FLAG_VERSION ||
	       g->flag->type == FLAG_IGNORED_BOOL;
}

/* With --config, it is ignored (CFG-4). */
static bool given_yields(const struct given *g)
{
	if (g->field)
		return !(g->field->traits & FIELD_FLAG_WINS);
	return g->flag->type == FLAG_HEALTHZ_PORT ||
	       g->flag->type == FLAG_METRICS_PORT;
}

/* @dashes: as typed. */
static int unknown_flag(const struct parser *p, const char *name, size_t length,
			const char *dashes)
{
	const struct command *command = p->options.command;
	const struct command_flag *own;
	struct nearest nearest;
	char typed[128];
	size_t i;

	snprintf(typed, sizeof(typed), "%.*s", (int)length, name);
	nearest_begin(&nearest, typed);
	for (own = command ? command->flags : NULL; own && own->name; own++)
		nearest_try(&nearest, own->name);
	for (i = 0; i < N_FLAGS; i++)
		nearest_try(&nearest, flags[i].name);
	for_each_config_field (field, &proxy_schema)
		if (field->flag)
			nearest_try(&nearest, field->flag + 2);
	if (nearest.best)
		return errf(p->eb, -EINVAL, "unknown flag %s%s; did you mean --%s?",
			    dashes, typed, nearest.best);
	return errf(p->eb, -EINVAL,
		    "unknown flag %s%s; vipmap --help lists all", dashes, typed);
}

/* "-v 2", "-v2", "-v=2" and "-h"; *name and *value as if it were a long flag. */
static bool short_flag(const char *arg, const char **name, const char **value)
{
	if (strcmp(arg, "-h") == 0) {
		*name = "help";
		return true;
	}
	if (arg[1] != 'v')
		return false;
	*name = "v";
	*value = arg[2] ? arg + 2 + (arg[2] == '=') : NULL;
	return true;
}

/* A command's own flag goes before one of the program. */
static const struct command_flag *own_flag_find(const struct parser *p,
						const char *arg, const char **value)
{
	const struct command *command = p->options.command;
	const char *equals = strchr(arg, '=');
	const struct command_flag *flag;
	size_t length;

	for (flag = command ? command->flags : NULL; flag && flag->name; flag++) {
		length = strlen(flag->name);
		if (arg[1] != '-') {
			*value = arg[1] && arg[2] ? arg + 2 + (arg[2] == '=')
						  : NULL;
			if (flag->letter && arg[1] == flag->letter)
				return flag;
		} else if (strncmp(arg + 2, flag->name, length) == 0 &&
			   (!arg[2 + length] || arg + 2 + length == equals)) {
			*value = equals ? equals + 1 : NULL;
			return flag;
		}
	}
	return NULL;
}

/* As match_flag(), and 0 if it is none of the command's. */
static int match_own_flag(struct parser *p, char *const *argv)
{
	const char *value = NULL;
	const struct command_flag *flag = own_flag_find(p, argv[0], &value);
	int used = 1, err;
	bool on;

	if (!flag)
		return 0;
	if (flag->boolean) {
		err = boolean_parse(p, flag->name, value, &on);
		if (err)
			return err;
		value = on ? "true" : "false";
	} else if (!value) {
		value = argv[1];
		used = 2;
		if (!value)
			return errf(p->eb, -EINVAL, "--%s: needs a value",
				    flag->name);
	}
	p->options.own[p->options.n_own++] = (struct own_flag){ flag, value };
	return used;
}

/* One flag at argv[0], its value perhaps at argv[1]. Returns how many were
 * used, or a negative errno. */
static int match_flag(struct parser *p, char *const *argv)
{
	const char *name = argv[0] + 2, *value = NULL, *equals;
	struct given g = { 0 };
	size_t length;
	int used = 1;

	if (argv[0][1] == '-') {
		equals = strchr(name, '=');
		length = equals ? (size_t)(equals - name) : strlen(name);
		value = equals ? equals + 1 : NULL;
	} else if (short_flag(argv[0], &name, &value)) {
		length = strlen(name);
	} else {
		return unknown_flag(p, argv[0] + 1, strcspn(argv[0] + 1, "="), "-");
	}
	if (!given_find(name, length, &g))
		return unknown_flag(p, name, length, "--");
	if (!value && !given_is_boolean(&g)) {
		value = argv[1];
		used = 2;
		if (!value)
			return errf(p->eb, -EINVAL, "--%s: needs a value", g.name);
	}
	g.value = value;
	p->given[p->n_given++] = g;
	return used;
}

static void match_word(struct parser *p, const char *word)
{
	struct options *o = &p->options;

	if (o->command || p->unknown)
		o->words[o->n_words++] = word;
	else if (!p->env->find_command ||
		 !(o->command = p->env->find_command(word)))
		p->unknown = word;
}

static int match_arguments(struct parser *p, int argc, char *const *argv)
{
	bool only_words = false;
	int i, used;

	for (i = 1; i < argc; i += used) {
		used = 1;
		if (only_words || argv[i][0] != '-' || !argv[i][1]) {
			match_word(p, argv[i]);
		} else if (strcmp(argv[i], "--") == 0) {
			only_words = true;
		} else {
			used = match_own_flag(p, argv + i);
			if (used == 0)
				used = match_flag(p, argv + i);
			if (used < 0)
				return used;
		}
	}
	return 0;
}

static int given_number(const struct parser *p, const struct given *g,
			int64_t min, int64_t max, int64_t *value)
{
	long long n;
	char *end;

	errno = 0;
	n = strtoll(g->value, &end, 10);
	if (errno || end == g->value || *end || isspace((unsigned char)*g->value))
		return bad_value(p, g, "is not a whole number");
	if (n < min || n > max)
		return bad_value(p, g, "is out of range");
	*value = n;
	return 0;
}

static int apply_int(struct parser *p, const struct given *g, int *target)
{
	int64_t value;
	int err = given_number(p, g, INT32_MIN, INT32_MAX, &value);

	if (!err)
		*target = (int)value;
	return err;
}

static int apply_port(struct parser *p, const struct given *g, int *port)
{
	int64_t value;
	int err = given_number(p, g, 0, UINT16_MAX, &value);

	if (!err)
		*port = (int)value;
	return err;
}

static int apply_float(struct parser *p, const struct given *g, double *target)
{
	double value;
	char *end;

	value = strtod(g->value, &end);
	if (end == g->value || *end || !isfinite(value))
		return bad_value(p, g, "is not a number");
	*target = value;
	return 0;
}

/* "NAME=true" */
static int apply_gate(struct parser *p, const char *flag, char *entry)
{
	struct given g = { .value = strchr(entry, '=') };
	const char *value = g.value;
	bool on = false;

	if (!value ||
	    (strcasecmp(value, "=true") != 0 && strcasecmp(value, "=false") != 0))
		return errf(p->eb, -EINVAL,
			    "--%s: \"%s\" is not of the form NAME=true or NAME=false",
			    flag, entry);
	on = strcasecmp(value, "=true") == 0;
	*strchr(entry, '=') = '\0';
	return config_set_gate(p->options.config, entry, on, p->env->warn,
			       p->env->ctx, p->eb);
}

/* Each non-empty part of a list with commas. */
static int apply_parts(struct parser *p, const struct given *g, char ***list)
{
	char *copy = strdup(g->value), *rest = copy, *part;
	int err = copy ? 0 : -ENOMEM;

	while (!err && (part = strsep(&rest, ","))) {
		if (!*part)
			continue;
		err = list ? config_append(list, part)
			   : apply_gate(p, g->name, part);
	}
	free(copy);
	return err;
}

static int apply_action(struct parser *p, const struct given *g)
{
	enum action action = (enum action)g->flag->target;
	bool on = true;
	int err = 0;

	if (g->flag->type != FLAG_VERSION || !g->value ||
	    strcmp(g->value, "raw") != 0)
		err = boolean_parse(p, g->name, g->value, &on);
	if (!err && on && action > p->options.action)
		p->options.action = action;
	return err;
}

static int apply_duration(struct parser *p, const struct given *g, int64_t *ms)
{
	if (duration_parse(g->value, ms))
		return bad_value(p, g, "is not a duration (such as 30s or 1h30m)");
	return 0;
}

static int apply_field(struct parser *p, const struct given *g)
{
	struct config *config = p->options.config;
	void *target = field_at(config, g->field);

	field_mark_flag(config, g->field);
	if (g->field->traits & FIELD_UNUSED)
		warn_about_flag(p, g->name, "has no effect");
	switch (g->field->type) {
	case FIELD_TEXT:
		return config_set(target, g->value);
	case FIELD_LIST:
		return apply_parts(p, g, target);
	case FIELD_BOOL:
		return boolean_parse(p, g->name, g->value, target);
	case FIELD_INT:
		return apply_int(p, g, target);
	case FIELD_INT64:
		return given_number(p, g, INT64_MIN, INT64_MAX, target);
	case FIELD_FLOAT:
		return apply_float(p, g, target);
	case FIELD_DURATION:
		return apply_duration(p, g, target);
	case FIELD_GATES:
		return apply_parts(p, g, NULL);
	default:
		return -EINVAL;
	}
}

static int apply_timeout(struct parser *p, const struct given *g)
{
	int err = apply_duration(p, g, &p->options.timeout_ms);

	if (!err && p->options.timeout_ms <= 0)
		return bad_value(p, g, "is not longer than 0");
	return err;
}

static int apply_take_over(struct parser *p, const struct given *g)
{
	const bool on = strcmp(g->value, "kube-proxy") == 0;

	if (!on && strcmp(g->value, "none"))
		return bad_value(p, g, "is neither kube-proxy nor none");
	return config_set(&p->options.config->vipmap.take_over,
			  on ? "KubeProxy" : "None");
}

static int apply_flag(struct parser *p, const struct given *g)
{
	struct options *o = &p->options;
	void *target = (char *)o->config + (g->flag ? g->flag->target : 0);
	bool ignored;

	if (g->field)
		return apply_field(p, g);
	switch (g->flag->type) {
	case FLAG_TEXT:
		return config_set(target, g->value);
	case FLAG_LIST:
		return config_append(target, g->value);
	case FLAG_HEALTHZ_PORT:
		return apply_port(p, g, &p->healthz_port);
	case FLAG_METRICS_PORT:
		return apply_port(p, g, &p->metrics_port);
	case FLAG_ACTION:
	case FLAG_VERSION:
		return apply_action(p, g);
	case FLAG_CONFIG:
		o->config_path = *g->value ? g->value : NULL;
		return 0;
	case FLAG_TAKE_OVER:
		return apply_take_over(p, g);
	case FLAG_TIMEOUT:
		return apply_timeout(p, g);
	case FLAG_VIPMAP_CONFIG:
		o->vipmap_config_path = *g->value ? g->value : NULL;
		return 0;
	case FLAG_WRITE_CONFIG:
		o->write_config_path = g->value;
		if (o->action < ACTION_WRITE_CONFIG)
			o->action = ACTION_WRITE_CONFIG;
		return 0;
	case FLAG_IGNORED_BOOL:
		warn_about_flag(p, g->name, "has no effect");
		return boolean_parse(p, g->name, g->value, &ignored);
	case FLAG_IGNORED:
		warn_about_flag(p, g->name, "has no effect");
		return 0;
	}
	return -EINVAL;
}

static const struct given *find_given(const struct parser *p, const char *name)
{
	const struct given *found = NULL;
	unsigned int i;

	for (i = 0; i < p->n_given; i++)
		if (strcmp(p->given[i].name, name) == 0)
			found = &p->given[i];
	return found;
}

/* Flags decide before the file, also if that could not be read. */
static void release_warnings(struct parser *p, bool failed)
{
	const enum action action = p->options.action;
	const bool lasts = action == ACTION_RUN || action == ACTION_ONCE ||
			   action == ACTION_INIT_ONLY;
	const struct given *format = find_given(p, "logging-format");
	struct config *config = p->options.config;
	size_t i;

	if (p->released || !config)
		return;
	p->released = true;
	if (format)
		config_set(&config->logging_format, format->value);
	if (p->outside->logging)
		p->outside->logging(p->outside->ctx, config, lasts && !failed);
	for (i = 0; p->held && p->held[i]; i++)
		hold_warning(p, p->held[i]);
}

/* Whether --config stands on the command line with a file. */
static bool has_file(const struct parser *p)
{
	const struct given *file = find_given(p, "config");

	return file && *file->value;
}

/* A flag that the file overrides is still checked: a typing error in it shows. */
static int apply_flags(struct parser *p)
{
	struct config *config = p->options.config, *scratch = NULL;
	bool file = has_file(p);
	unsigned int i;
	int err = 0;

	for (i = 0; i < p->n_given && !err; i++) {
		const struct given *g = &p->given[i];

		if (!file || !given_yields(g)) {
			err = apply_flag(p, g);
			continue;
		}
		warn_about_flag(p, g->name,
				"ignored, the configuration file decides");
		if (!scratch)
			scratch = config_new();
		if (!scratch)
			return -ENOMEM;
		p->options.config = scratch;
		err = apply_flag(p, g);
		p->options.config = config;
	}
	config_free(scratch);
	return err;
}

/* "", where the file leaves it so, becomes the default: see config_default(). */
static int read_text_file(struct parser *p)
{
	const struct given *file = find_given(p, "config");
	struct config *config = p->options.config;
	int err;

	err = config_set(&config->healthz_bind_address, "");
	if (!err)
		err = config_set(&config->metrics_bind_address, "");
	if (err)
		return err;
	err = p->outside->read_config(p->outside->ctx, file->value, config,
				      p->env->warn, p->env->ctx, p->eb);
	if (!err)
		err = config_default(config);
	return err;
}

static int read_vipmap_file(struct parser *p)
{
	const struct given *file = find_given(p, "vipmap-config");
	struct config *config = p->options.config;
	int err;

	if (!file || !*file->value || !p->outside->read_vipmap_config ||
	    find_given(p, "help") || find_given(p, "version"))
		return 0;
	err = p->outside->read_vipmap_config(p->outside->ctx, file->value, config,
					     p->env->warn, p->env->ctx, p->eb);
	if (!err && config_default_vipmap(config))
		err = errf(p->eb, -ENOMEM, "out of memory");
	return err;
}

static int append_port(const struct parser *p, const char *flag, char **field,
		       int port)
{
	enum family family;
	struct addr addr;
	char text[128];

	if (port == 0)
		return config_set(field, "");
	if (port == PORT_UNSET)
		return 0;
	if (addr_parse(*field, &family, &addr)) {
		warn_about_flag(p, flag, "ignored, the address has a port already");
		return 0;
	}
	snprintf(text, sizeof(text),
		 family == FAMILY_IPV6 ? "[%s]:%d" : "%s:%d", *field, port);
	return config_set(field, text);
}

/*
 * Without a file: an address given as "" is off, one not given follows the family of
 * --bind-address, and the deprecated port flags complete an address that has no port, or switch
 * off.
 */
static int settle_servers(struct parser *p)
{
	struct config *config = p->options.config;
	const struct given *healthz = find_given(p, "healthz-bind-address");
	const struct given *metrics = find_given(p, "metrics-bind-address");
	int err = 0;

	if (!healthz)
		err = config_set(&config->healthz_bind_address, "");
	if (!err && !metrics)
		err = config_set(&config->metrics_bind_address, "");
	if (!err)
		err = config_default_servers(config);
	if (!err)
		err = append_port(
			p, "healthz-port", &config->healthz_bind_address,
			healthz && !*healthz->value ? 0 : p->healthz_port);
	if (!err)
		err = append_port(
			p, "metrics-port", &config->metrics_bind_address,
			metrics && !*metrics->value ? 0 : p->metrics_port);
	return err;
}

static int unknown_word(const struct parser *p)
{
	const struct command *command;
	struct nearest nearest;
	size_t i;

	nearest_begin(&nearest, p->unknown);
	for (i = 0; (command = command_at(i)); i++)
		nearest_try(&nearest, command->word);
	if (nearest.best)
		return errf(p->eb, -EINVAL,
			    "unknown command \"%s\"; did you mean \"%s\"?",
			    p->unknown, nearest.best);
	return errf(p->eb, -EINVAL,
		    "unknown command \"%s\"; vipmap --help lists all", p->unknown);
}

static int settle_words(struct parser *p)
{
	struct options *o = &p->options;

	if (p->unknown)
		return unknown_word(p);
	if (!o->command)
		return 0;
	if (!o->command->check && o->n_words)
		return errf(p->eb, -EINVAL, "%s: unexpected argument \"%s\"",
			    o->command->word, o->words[0]);
	if (o->action < ACTION_COMMAND)
		o->action = ACTION_COMMAND;
	return o->command->check ? o->command->check(o, p->eb) : 0;
}

/* One makes the rules, the other removes them: whoever says both has mistyped something. */
static int check_actions(struct parser *p)
{
	const struct given *once = find_given(p, "once");
	bool on = false;

	if (p->options.action != ACTION_CLEANUP || !once ||
	    boolean_parse(p, once->name, once->value, &on) || !on)
		return 0;
	return errf(p->eb, -EINVAL, "--once and --cleanup exclude each other");
}

static int check_sources(struct parser *p)
{
	const char *rival = find_given(p, "kubeconfig") ? "kubeconfig" : "master";

	if (p->options.config->manifests && find_given(p, rival) && !has_file(p))
		return errf(p->eb, -EINVAL,
			    "--manifests and --%s exclude each other", rival);
	return 0;
}

static int parse_options(struct parser *p)
{
	int err = 0;

	if (has_file(p) && !find_given(p, "help") && !find_given(p, "version"))
		err = read_text_file(p);
	if (!err)
		err = read_vipmap_file(p);
	if (!err)
		err = apply_flags(p);
	if (!err && p->options.action < ACTION_VERSION)
		err = settle_words(p);
	if (err || p->options.action >= ACTION_VERSION)
		return err;
	if (!has_file(p))
		err = settle_servers(p);
	if (!err)
		err = check_sources(p);
	if (!err)
		err = check_actions(p);
	if (!err)
		err = config_validate(p->options.config, p->env->warn,
				      p->env->ctx, p->eb);
	if (err == -EINVAL && p->options.action == ACTION_COMMAND &&
	    p->options.command->judges_config) {
		p->options.config_error = *p->eb;
		err = 0;
	}
	return err;
}

int options_parse(int argc, char *const *argv, const struct options_env *env,
		  struct options *options, struct errbuf *eb)
{
	struct options_env inside = *env;
	struct errbuf local = { "" };
	struct parser p = {
		.env = &inside,
		.outside = env,
		.eb = &local,
		.options.timeout_ms = DEFAULT_TIMEOUT_MS,
		.healthz_port = PORT_UNSET,
		.metrics_port = PORT_UNSET,
	};
	size_t n = (size_t)(argc > 0 ? argc : 1);
	int err = -ENOMEM;

	inside.warn = hold_warning;
	inside.ctx = &p;
	p.given = calloc(n, sizeof(*p.given));
	p.options.words = calloc(n, sizeof(*p.options.words));
	p.options.own = calloc(n, sizeof(*p.options.own));
	p.options.config = config_new();
	if (p.given && p.options.words && p.options.own && p.options.config)
		err = match_arguments(&p, argc, argv);
	if (!err)
		err = parse_options(&p);
	release_warnings(&p, err != 0);
	if (err) {
		errf(eb, err, "%s", *local.text ? local.text : strerror(-err));
		options_free(&p.options);
	} else {
		*options = p.options;
	}
	config_list_free(p.held);
	free(p.given);
	return err;
}

void options_free(struct options *options)
{
	config_free(options->config);
	free(options->words);
	free(options->own);
	memset(options, 0, sizeof(*options));
}

const char *options_own(const struct options *options, const char *name)
{
	const char *value = NULL;
	unsigned int i;

	for (i = 0; i < options->n_own; i++)
		if (strcmp(options->own[i].flag->name, name) == 0)
			value = options->own[i].value;
	return value;
}

bool options_own_is_on(const struct options *options, const char *name)
{
	const char *value = options_own(options, name);

	return value && strcmp(value, "true") == 0;
}

void options_usage(struct strbuf *out)
{
	size_t i;

	strbuf_adds(
		out,
		"Kubernetes node service proxy: keeps the kernel's nftables such that every "
		"Service\naddress reaches a random healthy endpoint. See vipmap(8).\n\n");
	for (i = 0; i < N_FLAGS; i++)
		if (flags[i].help)
			strbuf_addf(out, "  --%-35s %s\n", flags[i].name,
				    flags[i].help);
	for_each_config_field (field, &proxy_schema)
		if (field->flag)
			strbuf_addf(out, "  %-37s %s\n", field->flag, field->help);
	strbuf_adds(out,
		    "\nFlags of kube-proxy's other modes are accepted and ignored.\n");
}

static void trim_and_lower(const char *text, char *name, size_t size)
{
	size_t length, i;

	while (isspace((unsigned char)*text))
		text++;
	length = strlen(text);
	while (length && isspace((unsigned char)text[length - 1]))
		length--;
	for (i = 0; i < length && i < size - 1; i++)
		name[i] = (char)tolower((unsigned char)text[i]);
	name[i] = '\0';
}

int node_name(const struct config *config, const char *environment,
	      char name[NODE_NAME_SIZE], struct errbuf *eb)
{
	const char *from = "hostnameOverride", *text = config->hostname_override;
	char host[NODE_NAME_SIZE] = "";

	if (!*text && environment && *environment) {
		from = "NODE_NAME";
		text = environment;
	} else if (!*text) {
		from = "host name";
		text = host;
		if (gethostname(host, sizeof(host) - 1))
			return errf(eb, -errno, "host name: %s", strerror(errno));
	}
	if (strlen(text) >= NODE_NAME_SIZE)
		return errf(eb, -EINVAL, "%s: longer than %d bytes", from,
			    NODE_NAME_SIZE - 1);
	trim_and_lower(text, name, NODE_NAME_SIZE);
	if (!*name)
		return errf(eb, -EINVAL, "%s: is empty", from);
	return 0;
}
