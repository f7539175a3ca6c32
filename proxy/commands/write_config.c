/* --write-config-to: the configuration as a file that --config takes; "-" is standard output. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proxy/base/strbuf.h"

/* People read YAML; a name that ends in .json asks for the other. */
static bool wants_json(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot && strcmp(dot, ".json") == 0;
}

static int write_text(const char *path, const struct strbuf *text)
{
	bool standard = strcmp(path, "-") == 0;
	FILE *f = standard ? stdout : fopen(path, "we");
	int err = 0;

	if (!f || text->err || fwrite(text->text, 1, text->length, f) != text->length)
		err = -EIO;
	if (f && (standard ? fflush(f) : fclose(f)))
		err = -EIO;
	return err;
}

int command_write_config(struct app *app, struct options *options)
{
	const char *path = options->write_config_path;
	struct strbuf text = STRBUF_INIT;
	int err;

	if (wants_json(path))
		config_format(options->config, &text);
	else
		config_format_yaml(options->config, &text);
	err = write_text(path, &text);
	if (err)
		log_error(app->log, "%s: cannot be written", path);
	strbuf_free(&text);
	return err ? EXIT_FAILED : EXIT_DONE;
}
