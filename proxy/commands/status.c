/* status: what a running vipmap has programmed. */
#include "proxy/commands/commands.h"

#include <stdio.h>

#include "proxy/base/strbuf.h"
#include "proxy/serve/status.h"

int command_status(struct app *app, struct options *options)
{
	struct strbuf text = STRBUF_INIT;
	struct errbuf eb = { "" };
	int err = status_fetch(options->config->metrics_bind_address, &text, &eb);

	if (err)
		log_error(app->log, "status: %s", eb.text);
	else
		fputs(text.text ? text.text : "", stdout);
	strbuf_free(&text);
	return err ? EXIT_FAILED : EXIT_DONE;
}
