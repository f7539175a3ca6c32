/* --help: of the program, or of the command whose word is on the command line. */
#include "proxy/commands/commands.h"

#include <stdio.h>

#include "proxy/base/strbuf.h"

static void command_usage(const struct command *command, struct strbuf *out)
{
	const struct command_flag *flag;

	strbuf_addf(out, "Usage: vipmap %s\n\n%s", command->synopsis,
		    command->help);
	if (command->flags)
		strbuf_adds(out, "\n");
	for (flag = command->flags; flag && flag->name; flag++)
		strbuf_addf(out, "  %c%c%s --%-29s %s\n", flag->letter ? '-' : ' ',
			    flag->letter ? flag->letter : ' ',
			    flag->letter ? "," : " ", flag->name, flag->help);
	if (command->takes_flags)
		strbuf_adds(
			out,
			"\nFlags that say where objects and the configuration come from are taken as well:\n"
			"--config, --kubeconfig, --manifests and others; \"vipmap --help\" lists them.\n");
}

static void program_usage(struct strbuf *out)
{
	size_t i;

	strbuf_adds(out, "Usage: vipmap [--config FILE] [--kubeconfig FILE | --manifests PATH ...] "
			 "[FLAG ...]\n");
	for (i = 0; command_at(i); i++)
		strbuf_addf(out, "       vipmap %s\n", command_at(i)->synopsis);
	strbuf_adds(out, "\n");
	options_usage(out);
}

int command_help(struct app *app, struct options *options)
{
	struct strbuf text = STRBUF_INIT;

	(void)app;
	if (options->command)
		command_usage(options->command, &text);
	else
		program_usage(&text);
	if (!text.err)
		fputs(text.text, stdout);
	strbuf_free(&text);
	return EXIT_DONE;
}
