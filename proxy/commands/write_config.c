/* --write-config-to: the configuration as a file that --config takes. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>

#include "proxy/base/strbuf.h"

int command_write_config(struct app *app, struct options *options)
{
	struct strbuf json = STRBUF_INIT;
	FILE *f = fopen(options->write_config_path, "we");
	int err = 0;

	config_format(options->config, &json);
	if (!f || json.err || fwrite(json.text, 1, json.length, f) != json.length)
		err = -EIO;
	if (f && fclose(f))
		err = -EIO;
	if (err)
		log_error(app->log, "%s: cannot be written", options->write_config_path);
	strbuf_free(&json);
	return err ? EXIT_FAILED : EXIT_DONE;
}
