/*
 * Asking the vipmap that runs in this network namespace, through its local socket.
 */
#ifndef COMMANDS_ASK_H
#define COMMANDS_ASK_H

#include "proxy/app.h"
#include "watch/json.h"

struct strbuf;

/* One line for the user of a command, without a time. Returns @status. */
int command_fails(int status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Fetches @path. Returns EXIT_DONE with the body, or the exit status of the
 * command, after it told why: EXIT_ABSENT if no vipmap runs here.
 */
int ask_text(struct app *app, const char *path, struct strbuf *body);
/* The same, parsed; the caller frees *@json. */
int ask_json(struct app *app, const char *path, struct json **json);

/* The same, and nothing is said of failures. */
int ask_json_quietly(struct app *app, const char *path, struct json **json);

/*
 * A list of pages: calls @page with each. @path has no query unless it ends with one. Returns as
 * ask_text(), or what @page returned if that is not EXIT_DONE.
 */
int ask_list(struct app *app, const char *path,
	     int (*page)(void *ctx, const struct json *page), void *ctx);
int ask_list_quietly(struct app *app, const char *path,
		     int (*page)(void *ctx, const struct json *page), void *ctx);

/*
 * A stream: calls @line with each line until the other side ends it, or the program by a signal.
 */
int ask_stream(struct app *app, const char *path,
	       void (*line)(void *ctx, const char *line), void *ctx);

/*
 * Says that there is no Service "[NAMESPACE/]NAME[:PORT]", and what there is
 * that looks like it: its ports, or the nearest name. Returns EXIT_FAILED.
 */
int name_unknown(struct app *app, const char *name);

/* "&key=value" with the value encoded, or nothing if it is NULL or "". */
void ask_add(struct strbuf *path, const char *key, const char *value);

/* Answers as text for others: all of -o json and -o yaml. */
void print_json(const struct json *json, struct strbuf *out);
void print_yaml(const struct json *json, struct strbuf *out);
/* As @output has it: "json" or "yaml". */
void print_data(const struct json *json, const char *output, struct strbuf *out);
/* Whether that is what --output of @command says, if it is given. Returns 0 or -EINVAL. */
int output_check(const struct options *options, const char *command,
		 struct errbuf *eb);

/* The member as text or number; "" or 0 if it is not there. */
const char *text_at(const struct json *object, const char *key);
int64_t number_at(const struct json *object, const char *key);
bool is_at(const struct json *object, const char *key); /* there, and true */

/* Writes @text to standard output. Returns EXIT_DONE or EXIT_FAILED. */
int put_out(struct strbuf *text);
/* The same for JSON that was put together here, as @output has it; @too_much is
 * told if it does not fit. */
int put_json(const struct strbuf *json, const char *output, const char *too_much);

#endif
