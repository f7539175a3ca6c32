/* --version, and "version", which can say it as data. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proxy/base/jsonout.h"
#include "proxy/commands/ask.h"

const struct command_flag version_flags[] = {
	{ "output", 'o', false, "\"json\" or \"yaml\" instead of text" },
	{ NULL, 0, false, NULL },
};

int command_version_check(const struct options *options, struct errbuf *eb)
{
	if (output_check(options, "version", eb))
		return -EINVAL;
	if (options->n_words)
		return errf(eb, -EINVAL, "version: unexpected argument \"%s\"",
			    options->words[0]);
	return 0;
}

int command_version(struct app *app, struct options *options)
{
	const char *output = options_own(options, "output");
	struct strbuf out = STRBUF_INIT;

	if (!output) {
		strbuf_addf(&out, "vipmap %s%s%s%s\n", VIPMAP_VERSION,
			    *app->revision ? " (" : "", app->revision,
			    *app->revision ? ")" : "");
	} else if (strcmp(output, "json") == 0) {
		jsonout_object(&out, NULL);
		jsonout_text(&out, "version", VIPMAP_VERSION);
		jsonout_text(&out, "revision", app->revision);
		jsonout_object_end(&out);
		strbuf_addc(&out, '\n');
	} else {
		strbuf_addf(&out, "version: \"%s\"\nrevision: \"%s\"\n",
			    VIPMAP_VERSION, app->revision);
	}
	return put_out(&out);
}
