/* The fake's control channel is its standard input and output: one line each
 * way, blocking, since a child process answers at once. The player knows just
 * enough HTTP to find a request's end. */
#include "tests/support/apiserver.h"

#include <check.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"

#define RECORDINGS "tests/data/recordings/"

struct fake {
	pid_t pid;
	FILE *in, *out;
	int port;
	char *line;
	size_t size;
};

enum { ARGUMENTS_MAX = 24 };

static void fake_exec(const char *const *arguments)
{
	const char *argv[ARGUMENTS_MAX + 3] = { "python3",
						"tests/support/fake_apiserver.py" };
	char *copy[ARGUMENTS_MAX + 3];
	size_t n = 2;

	for (; arguments && *arguments && n < ARGUMENTS_MAX; arguments++)
		argv[n++] = *arguments;
	memcpy(copy, argv, sizeof(copy));
	execvp("python3", copy);
	_exit(127);
}

static void fake_read_line(struct fake *fake)
{
	if (getline(&fake->line, &fake->size, fake->out) <= 0)
		ck_abort_msg("tests/support/fake_apiserver.py ended");
}

struct fake *fake_start(const char *const *arguments)
{
	struct fake *fake = calloc(1, sizeof(*fake));
	int to[2], from[2];

	ck_assert_ptr_nonnull(fake);
	ck_assert_int_eq(pipe2(to, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
	signal(SIGPIPE, SIG_IGN);
	fake->pid = fork();
	ck_assert_int_ge(fake->pid, 0);
	if (!fake->pid) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		fake_exec(arguments);
	}
	close(to[0]);
	close(from[1]);
	fake->in = fdopen(to[1], "w");
	fake->out = fdopen(from[0], "r");
	fake_read_line(fake);
	ck_assert_int_eq(sscanf(fake->line, "port %d", &fake->port), 1);
	return fake;
}

void fake_stop(struct fake *fake)
{
	if (!fake)
		return;
	fputs("{\"op\":\"quit\"}\n", fake->in);
	fclose(fake->in);
	fclose(fake->out);
	waitpid(fake->pid, NULL, 0);
	free(fake->line);
	free(fake);
}

int fake_port(const struct fake *fake)
{
	return fake->port;
}

const char *fake_tell(struct fake *fake, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(fake->in, fmt, ap);
	va_end(ap);
	fputc('\n', fake->in);
	fflush(fake->in);
	fake_read_line(fake);
	ck_assert_msg(!strstr(fake->line, "\"error\""),
		      "the fake API server says %s", fake->line);
	return fake->line;
}

struct connection {
	LIST_ENTRY(connection) link;
	struct bufferevent *bev;
	struct player *player;
};

struct player {
	LIST_HEAD(, connection) connections;
	struct event_base *base;
	struct evconnlistener *listener;
	const struct play *plays;
	unsigned int *used;
	struct strbuf requests, unanswered;
};

static bool play_fits(const struct play *play, const char *line)
{
	for (size_t i = 0;
	     i < sizeof(play->wants) / sizeof(play->wants[0]) && play->wants[i];
	     i++)
		if (!strstr(line, play->wants[i]))
			return false;
	return true;
}

static const struct play *find_play(struct player *player, const char *line)
{
	for (size_t i = 0; player->plays[i].file || player->plays[i].text; i++) {
		const struct play *play = &player->plays[i];

		if (!play_fits(play, line) ||
		    (play->times && player->used[i] >= play->times))
			continue;
		player->used[i]++;
		return play;
	}
	return NULL;
}

static void connection_close(struct connection *c)
{
	bufferevent_free(c->bev);
	LIST_REMOVE(c, link);
	free(c);
}

static void written(struct bufferevent *bev, void *ctx)
{
	(void)bev;
	connection_close(ctx); /* "Connection: close" stands in the recordings */
}

static void send_file(struct bufferevent *bev, const char *name)
{
	char path[256], bytes[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), RECORDINGS "%s.response", name);
	f = fopen(path, "r");
	ck_assert_msg(f, "%s is missing", path);
	while ((n = fread(bytes, 1, sizeof(bytes), f)))
		bufferevent_write(bev, bytes, n);
	fclose(f);
}

static void request_came(struct bufferevent *bev, void *ctx)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	struct connection *c = ctx;
	struct player *player = c->player;
	struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
	const struct play *play;
	char *line;

	if (end.pos < 0)
		return;
	line = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF);
	strbuf_addf(&player->requests, "%s\n", line);
	play = find_play(player, line);
	if (!play)
		strbuf_addf(&player->unanswered, "%s\n", line);
	free(line);
	evbuffer_drain(in, evbuffer_get_length(in));
	if (!play)
		return;
	if (play->file)
		send_file(bev, play->file);
	else
		bufferevent_write(bev, play->text, strlen(play->text));
	bufferevent_setcb(bev, NULL, written, NULL, c);
}

static void peer_gone(struct bufferevent *bev, short what, void *ctx)
{
	(void)bev;
	(void)what;
	connection_close(ctx);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd,
		     struct sockaddr *addr, int length, void *ctx)
{
	struct connection *c = calloc(1, sizeof(*c));

	(void)listener;
	(void)addr;
	(void)length;
	ck_assert_ptr_nonnull(c);
	c->player = ctx;
	c->bev = bufferevent_socket_new(c->player->base, fd, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(c->bev);
	LIST_INSERT_HEAD(&c->player->connections, c, link);
	bufferevent_setcb(c->bev, request_came, NULL, peer_gone, c);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

struct player *player_start(struct event_base *base, const struct play *plays)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct player *player = calloc(1, sizeof(*player));
	size_t n = 0;

	ck_assert_ptr_nonnull(player);
	while (plays[n].file || plays[n].text)
		n++;
	player->base = base;
	player->plays = plays;
	player->used = calloc(n + 1, sizeof(*player->used));
	player->listener = evconnlistener_new_bind(
		base, accepted, player, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE,
		64, (struct sockaddr *)&sin, sizeof(sin));
	ck_assert_ptr_nonnull(player->listener);
	strbuf_adds(&player->requests, "");
	return player;
}

void player_stop(struct player *player)
{
	while (!LIST_EMPTY(&player->connections))
		connection_close(LIST_FIRST(&player->connections));
	evconnlistener_free(player->listener);
	strbuf_free(&player->requests);
	strbuf_free(&player->unanswered);
	free(player->used);
	free(player);
}

int player_port(const struct player *player)
{
	struct sockaddr_in sin;
	socklen_t length = sizeof(sin);

	getsockname(evconnlistener_get_fd(player->listener),
		    (struct sockaddr *)&sin, &length);
	return ntohs(sin.sin_port);
}

const char *player_unanswered(const struct player *player)
{
	return player->unanswered.text ? player->unanswered.text : "";
}

const char *player_requests(const struct player *player)
{
	return player->requests.text;
}

static void run(const char *command, const char *folder)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_addf(&sb, "%s '%s'", command, folder);
	ck_assert_int_eq(system(sb.text), 0);
	strbuf_free(&sb);
}

char *certificates_new(void)
{
	char *folder = strdup("/tmp/vipmap-test-XXXXXX");

	ck_assert_ptr_nonnull(mkdtemp(folder));
	run("tests/support/certificates.sh", folder);
	return folder;
}

void certificates_free(char *folder)
{
	run("rm -r", folder);
	free(folder);
}

char *read_text(const char *folder, const char *name)
{
	char path[256], bytes[4096];
	struct strbuf sb = STRBUF_INIT;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "r");
	ck_assert_msg(f, "%s is missing", path);
	while ((n = fread(bytes, 1, sizeof(bytes), f)))
		strbuf_add(&sb, bytes, n);
	fclose(f);
	return sb.text;
}

void write_text(const char *folder, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	ck_assert_msg(f, "cannot write %s", path);
	fputs(text, f);
	fclose(f);
}
