/*
 * completion: a script for a shell, made from the tables of commands and flags,
 * so that it knows all of them.
 */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proxy/base/nearest.h"
#include "proxy/base/strbuf.h"
#include "proxy/commands/ask.h"

static const char *const shells[] = { "bash", "zsh", "fish" };

enum { N_SHELLS = sizeof(shells) / sizeof(shells[0]) };

/* Words that a command takes. */
static const struct {
	const char *command, *words;
} arguments[] = {
	{ "get", "services endpoints node config vipmap-config" },
	{ "completion", "bash zsh fish" },
};

static const char *arguments_of(const struct command *command)
{
	size_t i;

	for (i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++)
		if (strcmp(arguments[i].command, command->word) == 0)
			return arguments[i].words;
	return "";
}

/*
 * The program's own flags, from the lines of --help that begin with one.
 * @file_mark goes behind those whose value is a file.
 */
static void add_flags(const char *before, const char *file_mark,
		      const char *after, struct strbuf *out)
{
	struct strbuf usage = STRBUF_INIT;
	char *rest, *line, *flag;

	options_usage(&usage);
	rest = usage.text;
	while (rest && (line = strsep(&rest, "\n"))) {
		flag = line + strspn(line, " ");
		if (flag == line || strncmp(flag, "--", 2) != 0)
			continue;
		strbuf_addf(out, "%s%.*s%s%s", before,
			    (int)strcspn(flag + 2, " =,["), flag + 2,
			    strstr(line, "FILE") || strstr(line, "PATH") ? file_mark
									 : "",
			    after);
	}
	if (usage.err)
		out->err = usage.err;
	strbuf_free(&usage);
}

/* Each has a space before it. */
static void add_command_words(const struct command *command, struct strbuf *out)
{
	const struct command_flag *flag;

	if (*arguments_of(command))
		strbuf_addf(out, " %s", arguments_of(command));
	for (flag = command->flags; flag && flag->name; flag++)
		strbuf_addf(out, " --%s", flag->name);
	if (command->takes_flags)
		add_flags(" --", "", "", out);
	else
		strbuf_adds(out, " --help");
}

/* As lines of a shell's "case". */
static void add_cases(const char *variable, const char *open, const char *close,
		      struct strbuf *out)
{
	const struct command *command;
	size_t i;

	for (i = 0; (command = command_at(i)); i++) {
		strbuf_addf(out, "\t%s) %s=%s", command->word, variable, open);
		add_command_words(command, out);
		strbuf_addf(out, "%s ;;\n", close);
	}
	strbuf_addf(out, "\t*) %s=%s", variable, open);
	for (i = 0; (command = command_at(i)); i++)
		strbuf_addf(out, " %s", command->word);
	add_flags(" --", "", "", out);
	strbuf_addf(out, "%s ;;\n\tesac\n", close);
}

static void print_bash(struct strbuf *out)
{
	strbuf_adds(out, "_vipmap() {\n"
			 "\tlocal cur=${COMP_WORDS[COMP_CWORD]} word= words i\n"
			 "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
			 "\t\tcase ${COMP_WORDS[i]} in\n\t\t-*) ;;\n"
			 "\t\t*) word=${COMP_WORDS[i]}; break ;;\n\t\tesac\n\tdone\n"
			 "\tcase $word in\n");
	add_cases("words", "'", "'", out);
	strbuf_adds(out, "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
			 "complete -o default -F _vipmap vipmap\n");
}

/*
 * Both for a folder in fpath, from where the shell loads it as a function at
 * the first use, and to be sourced.
 */
static void print_zsh(struct strbuf *out)
{
	strbuf_adds(out, "#compdef vipmap\n\n"
			 "_vipmap() {\n"
			 "\tlocal word= i\n\tlocal -a candidates\n"
			 "\tfor ((i = 2; i < CURRENT; i++)); do\n"
			 "\t\tcase $words[i] in\n\t\t-*) ;;\n"
			 "\t\t*) word=$words[i]; break ;;\n\t\tesac\n\tdone\n"
			 "\tcase $word in\n");
	add_cases("candidates", "(", " )", out);
	strbuf_adds(out, "\tcompadd -a candidates || _files\n}\n\n"
			 "if [[ $funcstack[1] == _vipmap ]]; then\n"
			 "\t_vipmap \"$@\"\n"
			 "else\n"
			 "\t(( $+functions[compdef] )) || { autoload -U compinit && compinit }\n"
			 "\tcompdef _vipmap vipmap\n"
			 "fi\n");
}

static void print_fish(struct strbuf *out)
{
	const struct command_flag *flag;
	const struct command *command;
	struct strbuf others = STRBUF_INIT, before = STRBUF_INIT;
	size_t i;

	for (i = 0; (command = command_at(i)); i++) {
		strbuf_addf(out,
			    "complete -c vipmap -n __fish_use_subcommand -f -a %s\n",
			    command->word);
		if (*arguments_of(command))
			strbuf_addf(out,
				    "complete -c vipmap -n '__fish_seen_subcommand_from %s' -f -a "
				    "'%s'\n",
				    command->word, arguments_of(command));
		for (flag = command->flags; flag && flag->name; flag++)
			strbuf_addf(out,
				    "complete -c vipmap -n '__fish_seen_subcommand_from %s' -l %s\n",
				    command->word, flag->name);
		if (!command->takes_flags) {
			strbuf_addf(&others, " %s", command->word);
			strbuf_addf(out,
				    "complete -c vipmap -n '__fish_seen_subcommand_from %s' -l help\n",
				    command->word);
		}
	}
	/* Of the program, unless a command is there that takes none of them. */
	strbuf_addf(&before,
		    "complete -c vipmap -n 'not __fish_seen_subcommand_from%s' -l ",
		    others.text);
	add_flags(before.text, " -r -F", "\n", out);
	if (others.err || before.err)
		out->err = -ENOMEM;
	strbuf_free(&others);
	strbuf_free(&before);
}

int command_completion_check(const struct options *options, struct errbuf *eb)
{
	struct nearest near;
	size_t i;

	if (options->n_words == 1) {
		nearest_begin(&near, options->words[0]);
		for (i = 0; i < N_SHELLS; i++) {
			if (strcmp(options->words[0], shells[i]) == 0)
				return 0;
			nearest_try(&near, shells[i]);
		}
		if (near.best)
			return errf(eb, -EINVAL,
				    "completion: unknown shell \"%s\"; did you mean %s?",
				    options->words[0], near.best);
	}
	return errf(eb, -EINVAL,
		    "completion: for which shell? One of bash, zsh and fish");
}

int command_completion(struct app *app, struct options *options)
{
	struct strbuf out = STRBUF_INIT;

	(void)app;
	if (strcmp(options->words[0], "fish") == 0)
		print_fish(&out);
	else if (strcmp(options->words[0], "zsh") == 0)
		print_zsh(&out);
	else
		print_bash(&out);
	return put_out(&out);
}
