/* --version */
#include "proxy/commands/commands.h"

#include <stdio.h>

int command_version(struct app *app, struct options *options)
{
	(void)app;
	(void)options;
	return printf("vipmap %s\n", VIPMAP_VERSION) < 0 ? EXIT_FAILED : EXIT_DONE;
}
