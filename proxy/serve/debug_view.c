/* /v1/debug/: what is of use to whoever looks for a fault, as text within JSON. */
#include "proxy/serve/view.h"

#include "proxy/base/jsonout.h"
#include "proxy/serve/metrics.h"

static int put_debug_text(struct strbuf *text, struct strbuf *out)
{
	jsonout_object(out, NULL);
	jsonout_text(out, "text", text->text ? text->text : "");
	jsonout_object_end(out);
	if (text->err)
		out->err = text->err;
	strbuf_free(text);
	return out->err ? 500 : 200;
}

int view_debug_log(const struct view *v, const char *query, struct strbuf *out)
{
	struct strbuf text = STRBUF_INIT;

	(void)query;
	log_recent(v->log, &text);
	return put_debug_text(&text, out);
}

int view_debug_metrics(const struct view *v, const char *query, struct strbuf *out)
{
	struct strbuf text = STRBUF_INIT;

	(void)query;
	metrics_format(v->metrics, &text);
	return put_debug_text(&text, out);
}
