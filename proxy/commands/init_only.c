/* --init-only: sets what only a privileged container may, for one that is not. */
#include "proxy/commands/commands.h"

#include "proxy/sysctl.h"

static void on_failed(void *ctx, const char *message)
{
	log_warning_message(ctx, message);
}

/* Also for what is not permitted: whoever runs us waits for status 0 before the daemon starts. */
static void on_settings_written(void *ctx, const char *message)
{
	log_message(ctx, LOG_INFO, message);
}

int command_init_only(struct app *app, struct options *options)
{
	const struct sysctl_report report = {
		.failed = on_failed,
		.refused = on_settings_written,
		.written = on_settings_written,
		.ctx = app->log,
	};
	unsigned int failures;

	failures =
		sysctl_apply(options->config, sysctl_count_cpus(), NULL, &report);
	sysctl_apply_oom_score(options->config, NULL, &report);
	return failures ? EXIT_FAILED : EXIT_DONE;
}
