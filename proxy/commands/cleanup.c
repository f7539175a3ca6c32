/* --cleanup: removes all that vipmap installed (RUN-9). */
#include "proxy/commands/commands.h"

#include <errno.h>

#include "proxy/sync/dataplane.h"

static int remove_table(struct app *app, struct nlsock *nl, enum family family)
{
	struct errbuf eb = { "" };
	int err = dataplane_remove(nl, family, &eb);

	if (err)
		log_error(app->log, "cleanup: %s",
			  err == -EPERM ? "not permitted: CAP_NET_ADMIN is needed"
					: eb.text);
	return err;
}

int command_cleanup(struct app *app, struct options *options)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);
	int status = EXIT_DONE;
	unsigned int f;

	(void)options;
	if (!nl) {
		log_error(app->log, "cleanup: %s", eb.text);
		return EXIT_FAILED;
	}
	for (f = 0; f < N_FAMILIES; f++)
		if (remove_table(app, nl, (enum family)f))
			status = EXIT_FAILED;
	nlsock_close(nl);
	return status;
}
