/* --cleanup: removes all that vipmap installed (RUN-9). */
#include "proxy/commands/commands.h"

#include <errno.h>

#include "proxy/sync/dataplane.h"

int command_cleanup(struct app *app, struct options *options)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);
	unsigned int f;
	int err = nl ? 0 : -EIO;

	(void)options;
	for (f = 0; !err && f < N_FAMILIES; f++)
		err = dataplane_remove(nl, (enum family)f, &eb);
	if (err)
		log_error(app->log, "cleanup: %s",
			  err == -EPERM ? "not permitted: CAP_NET_ADMIN is needed" : eb.text);
	nlsock_close(nl);
	return err ? EXIT_FAILED : EXIT_DONE;
}
