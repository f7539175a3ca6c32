#include "watch/reflector_judge.h"

#include <string.h>

/* Of watches that bring nothing from their start on: then their version is given up. */
enum { SILENCES_MAX = 2 };

bool failure_is_expired(const struct api_failure *failure)
{
	return failure->code == 410 || !strcmp(failure->reason, "Expired") ||
	       !strcmp(failure->reason, "Gone") || failure->too_large;
}

/* Statuses by which a server, or something in front of it, says that it knows no streaming list. */
static bool refuses_stream(int status)
{
	return status == 400 || status == 405 || status == 406 ||
	       status == 415 || status == 422 || status == 501;
}

static struct decision judge_refusal(const struct attempt *a, int code)
{
	bool list = a->mode != MODE_WATCH;

	if (failure_is_expired(&a->failure))
		return (struct decision){ .step = NEXT_LIST,
					  .pause = PAUSE_SOON,
					  .drop_version = true };
	/* A server that starts refuses everybody until it has read the roles, so 403 is doubted. */
	if (code == 404 || (code == 403 && a->refusable))
		return (struct decision){ .step = NEXT_ABSENT,
					  .pause = a->refusable && (code == 404 ||
								    a->repeated)
							   ? PAUSE_LONG
							   : PAUSE_BACKOFF };
	/* A server that has no protobuf answers with JSON; these are of something in front of it.
	 */
	if (a->protobuf && (code == 406 || code == 415))
		return (struct decision){ .step = list ? NEXT_LIST : NEXT_SAME,
					  .pause = PAUSE_NONE,
					  .no_protobuf = true };
	if (a->mode == MODE_STREAM && refuses_stream(code))
		return (struct decision){ .step = NEXT_LIST,
					  .pause = PAUSE_NONE,
					  .no_stream = true };
	if (code == 400 && a->optional_selector)
		return (struct decision){ .step = NEXT_LIST,
					  .pause = PAUSE_SOON,
					  .drop_selector = true,
					  .no_stream = a->mode == MODE_PAGES };
	/* Not ready, busy, or not us: the same again. Anything else may be about the version. */
	if (list || code == 401 || code == 403 || code == 429 || code >= 500)
		return (struct decision){ .step = list ? NEXT_LIST : NEXT_SAME,
					  .pause = PAUSE_BACKOFF };
	return (struct decision){ .step = NEXT_LIST, .pause = PAUSE_BACKOFF };
}

static struct decision judge_break(const struct attempt *a)
{
	bool silent = a->result.outcome == HTTP_SILENT;

	if (a->mode != MODE_WATCH)
		return (struct decision){ .step = NEXT_LIST,
					  .pause = PAUSE_SOON,
					  .fresh = true,
					  .no_stream = silent &&
						       a->mode == MODE_STREAM };
	if (silent && !a->progress && a->silences + 1 >= SILENCES_MAX)
		return (struct decision){ .step = NEXT_LIST,
					  .pause = PAUSE_SOON,
					  .fresh = true,
					  .drop_version = true };
	return (struct decision){ .step = NEXT_SAME,
				  .pause = PAUSE_SOON,
				  .fresh = true };
}

static struct decision judge_end(const struct attempt *a,
				 const struct api_timing *timing)
{
	switch (a->mode) {
	case MODE_PAGES:
		if (a->more_pages)
			return (struct decision){ .step = NEXT_PAGE,
						  .pause = PAUSE_NONE };
		return (struct decision){ .step = NEXT_WATCH, .pause = PAUSE_NONE };
	case MODE_STREAM:
		/* Without the bookmark the list is not known to be complete. */
		return (struct decision){ .step = NEXT_LIST,
					  .pause = PAUSE_BACKOFF,
					  .no_stream = true };
	case MODE_WATCH:
		break;
	}
	if (a->progress || a->lived_ms >= timing->short_watch_ms)
		return (struct decision){ .step = NEXT_SAME, .pause = PAUSE_NONE };
	return (struct decision){ .step = NEXT_SAME, .pause = PAUSE_BACKOFF };
}

struct decision reflector_judge(const struct attempt *a,
				const struct api_timing *timing)
{
	bool refused =
		a->result.outcome == HTTP_COMPLETE && a->result.status != 200;

	if (a->failure.code || refused)
		return judge_refusal(a, a->failure.code ? a->failure.code
							: a->result.status);
	if (a->garbled || a->result.outcome == HTTP_REFUSED)
		return (struct decision){ .step = NEXT_LIST,
					  .pause = PAUSE_BACKOFF,
					  .fresh = true };
	if (a->result.outcome != HTTP_COMPLETE)
		return judge_break(a);
	return judge_end(a, timing);
}
