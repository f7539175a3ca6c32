/* --dry-run: the ruleset that manifests give, as nft text; the kernel is not touched. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "nft/interfaces.h"
#include "proxy/base/strbuf.h"
#include "proxy/commands/objects.h"
#include "proxy/feed.h"
#include "proxy/sync/dataplane.h"

static int print_family(struct app *app, struct feed *feed, enum family family,
			const struct interfaces *interfaces)
{
	const struct dataplane_options options = {
		.family = family,
		.model = feed->model,
		.clock = app->clock,
		.interfaces = interfaces,
	};
	struct dataplane *dp = dataplane_new(&options);
	struct strbuf out = STRBUF_INIT;
	int err = -ENOMEM;

	if (dp)
		err = dataplane_print(dp, &out);
	if (!err && fwrite(out.text, 1, out.length, stdout) != out.length)
		err = -EIO;
	if (err)
		log_error(app->log, "dry run: %s", strerror(-err));
	strbuf_free(&out);
	dataplane_free(dp);
	return err;
}

/* Both families, whatever this kernel has: the output may be meant for another machine. */
static int print_all(struct app *app, struct feed *feed)
{
	struct interfaces *interfaces =
		interfaces_now(feed->options.config, app->log);
	int status = EXIT_DONE;
	unsigned int f;

	if (feed_assume_addresses(feed, NULL)) {
		log_error(app->log, "out of memory");
		status = EXIT_FAILED;
	}
	for (f = 0; !status && f < N_FAMILIES; f++)
		if (print_family(app, feed, (enum family)f, interfaces))
			status = EXIT_FAILED;
	interfaces_close(interfaces);
	return !status && fflush(stdout) ? EXIT_FAILED : status;
}

int command_dry_run(struct app *app, struct options *options)
{
	struct feed *feed;
	struct errbuf eb = { "" };
	int status;

	if (!options->config->manifests) {
		log_error(app->log, "--dry-run needs --manifests");
		return EXIT_USAGE;
	}
	feed = feed_open(app, options, NULL, NULL, &eb);
	if (!feed) {
		log_error(app->log, "%s", eb.text);
		return EXIT_FAILED;
	}
	status = print_all(app, feed);
	feed_close(feed);
	return status;
}
