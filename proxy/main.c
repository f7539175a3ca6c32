/*
 * The program: reads the command line and hands over to the daemon or to one of
 * the commands. Nothing else exits.
 */
#include <signal.h>
#include <stdio.h>

#include "proxy/app.h"
#include "proxy/capability.h"
#include "proxy/commands/commands.h"

static int run_command(struct app *app)
{
	struct options options = { 0 };
	struct errbuf eb = { "" };

	app->revision = VIPMAP_REVISION;
	capability_raise_net_admin(); /* what needs it, tells if it is missing */
	if (app_parse_options(app, &options, &eb)) {
		log_error(app->log, "%s", eb.text);
		return EXIT_USAGE;
	}
	return command_run(app, &options);
}

int main(int argc, char **argv)
{
	struct app app;
	int status = EXIT_FAILED;

	signal(SIGPIPE, SIG_IGN);
	if (app_open(&app, clock_system(), argc, argv))
		fputs("vipmap: out of memory\n", stderr);
	else
		status = run_command(&app);
	app_close(&app);
	return status;
}
