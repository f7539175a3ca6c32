/*
 * The program: reads the command line and hands over to the daemon or to one of
 * the commands. Nothing else exits.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>

#include "proxy/app.h"
#include "proxy/capability.h"
#include "proxy/commands/commands.h"

/*
 * libcurl brings GnuTLS along, for protocols that are switched off here. It
 * looks for this name when it is loaded; without it, it would make its tables
 * in each process: a megabyte that nobody uses. Who wants GnuTLS all the same,
 * as a libcurl that is built with it, begins it by a call of its own.
 */
int _gnutls_global_init_skip(void);
int _gnutls_global_init_skip(void)
{
	return 1;
}

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

/*
 * Large buffers come and go: messages for the kernel, what is read back, the
 * scratch of a full sync. They are pages of their own, which go back to the
 * system with them. By itself malloc takes them from its heap from the second
 * time on, and small objects that come to lie behind them keep them there.
 */
static void give_large_blocks_back(void)
{
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_TRIM_THRESHOLD, 512 * 1024);
#endif
}

int main(int argc, char **argv)
{
	struct app app;
	int status = EXIT_FAILED;

	signal(SIGPIPE, SIG_IGN);
	give_large_blocks_back();
	if (app_open(&app, clock_system(), argc, argv))
		fputs("vipmap: out of memory\n", stderr);
	else
		status = run_command(&app);
	app_close(&app);
	return status;
}
