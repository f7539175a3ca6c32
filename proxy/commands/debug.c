/*
 * debug: one file with all that somebody needs who was not there: a tar archive on standard output.
 * Tokens and keys are in none of it, since the daemon shows them nowhere.
 */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proxy/commands/ask.h"
#include "proxy/commands/objects.h"

enum { BLOCK = 512, NAME_MAX_LENGTH = 99 };

struct bundle {
	struct app *app;
	int64_t now_s; /* since 1970 */
	int status;
};

static void put_octal(char *at, size_t size, unsigned long long value)
{
	snprintf(at, size, "%0*llo", (int)size - 1, value);
}

/* One member of a ustar archive. */
static void put_member(struct bundle *b, const char *name, const struct strbuf *text)
{
	static const char zeros[BLOCK];
	unsigned char header[BLOCK] = { 0 };
	char *h = (char *)header;
	unsigned int sum = 0, i;

	snprintf(h, NAME_MAX_LENGTH + 1, "vipmap-debug/%s", name);
	put_octal(h + 100, 8, 0644);
	put_octal(h + 108, 8, 0);
	put_octal(h + 116, 8, 0);
	put_octal(h + 124, 12, text->length);
	put_octal(h + 136, 12, (unsigned long long)b->now_s);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (i = 0; i < BLOCK; i++)
		sum += header[i];
	snprintf(h + 148, 8, "%06o", sum);
	fwrite(header, 1, BLOCK, stdout);
	if (text->length)
		fwrite(text->text, 1, text->length, stdout);
	fwrite(zeros, 1, -text->length % BLOCK, stdout);
}

static void put_bundle_text(struct bundle *b, const char *name, struct strbuf *text)
{
	if (text->err)
		b->status =
			command_fails(EXIT_FAILED, "debug: %s: too large", name);
	else
		put_member(b, name, text);
	strbuf_free(text);
}

static void put_bundle_page(struct bundle *b, const char *name, const char *path)
{
	struct strbuf text = STRBUF_INIT;
	int status = ask_text(b->app, path, &text);

	if (status)
		b->status = status;
	put_bundle_text(b, name, &text);
}

/* A page that holds text. */
static void put_inner(struct bundle *b, const char *name, const char *path)
{
	struct strbuf text = STRBUF_INIT;
	struct json *json;
	int status = ask_json(b->app, path, &json);

	if (status)
		b->status = status;
	else
		strbuf_adds(&text, text_at(json, "text"));
	json_free(json);
	put_bundle_text(b, name, &text);
}

struct bundle_list {
	struct bundle *bundle;
	const char *name;
	unsigned int n;
};

static int on_bundle_page(void *ctx, const struct json *page)
{
	struct strbuf text = STRBUF_INIT;
	struct bundle_list *l = ctx;
	char name[64];

	snprintf(name, sizeof(name), "%s-%u.json", l->name, ++l->n);
	print_json(page, &text);
	put_bundle_text(l->bundle, name, &text);
	return EXIT_DONE;
}

static void put_list_pages(struct bundle *b, const char *name, const char *path)
{
	struct bundle_list l = { b, name, 0 };
	int status = ask_list(b->app, path, on_bundle_page, &l);

	if (status)
		b->status = status;
}

/* What is wanted, and what the kernel has that differs. */
static void put_tables(struct bundle *b)
{
	struct objects o;
	int status = objects_copy(&o, b->app);
	unsigned int f;

	for (f = 0; !status && f < N_FAMILIES; f++) {
		struct strbuf wanted = STRBUF_INIT, differs = STRBUF_INIT;
		struct errbuf eb = { "" };
		struct nlsock *nl = nlsock_open(&eb);
		const struct dataplane_options options = {
			.family = (enum family)f,
			.model = o.feed->model,
			.nl = nl,
			.clock = b->app->clock,
		};
		struct dataplane *dp = nl ? dataplane_new(&options) : NULL;

		if (dataplane_print(o.dataplanes[f], &wanted))
			wanted.err = -ENOMEM;
		if (!dp || dataplane_diff(dp, &differs, &eb))
			strbuf_addf(&differs, "cannot be told: %s\n", eb.text);
		put_bundle_text(
			b, f == FAMILY_IPV4 ? "wanted-ip.nft" : "wanted-ip6.nft",
			&wanted);
		put_bundle_text(b, f == FAMILY_IPV4 ? "diff-ip.txt" : "diff-ip6.txt",
				&differs);
		dataplane_free(dp);
		nlsock_close(nl);
	}
	objects_close(&o);
	if (status)
		b->status = status;
}

int command_debug_check(const struct options *options, struct errbuf *eb)
{
	if (options->n_words)
		return errf(eb, -EINVAL, "debug: unexpected argument \"%s\"",
			    options->words[0]);
	if (isatty(STDOUT_FILENO))
		return errf(eb, -EINVAL,
			    "debug: an archive is nothing for a terminal: vipmap debug > bundle.tar");
	return 0;
}

int command_debug(struct app *app, struct options *options)
{
	static const char zeros[2 * BLOCK];
	struct bundle b = { .app = app,
			    .now_s = clock_realtime_us(app->clock) / 1000000 };

	(void)options;
	put_bundle_page(&b, "status.json", "/v1/status");
	if (b.status)
		return b.status;
	put_bundle_page(&b, "config.json", "/v1/config");
	put_bundle_page(&b, "vipmap-config.json", "/v1/config/vipmap");
	put_bundle_page(&b, "node.json", "/v1/node");
	put_inner(&b, "log.txt", "/v1/debug/log");
	put_inner(&b, "metrics.txt", "/v1/debug/metrics");
	put_list_pages(&b, "services", "/v1/services?");
	put_list_pages(&b, "endpoints", "/v1/endpoints?");
	put_list_pages(&b, "objects", "/v1/objects?");
	put_tables(&b);
	fwrite(zeros, 1, sizeof(zeros), stdout);
	if (fflush(stdout) || ferror(stdout))
		return command_fails(EXIT_FAILED, "standard output: %s",
				     strerror(errno));
	return b.status;
}
