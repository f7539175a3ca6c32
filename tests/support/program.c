/* Waiting is polling with a shell command: slow, and able to ask whatever an operator can ask. */
#include "tests/support/program.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/http.h"
#include "tests/support/nft.h"
#include "tests/support/suite.h"

enum { DEADLINE_S = 20, POLL_MS = 50 };

static void link_absolute(const char *target, const char *folder, const char *name)
{
	char *absolute = realpath(target, NULL), path[128];

	ck_assert_msg(absolute, "%s: %s", target, strerror(errno));
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	ck_assert_msg(symlink(absolute, path) == 0, "%s: %s", path,
		      strerror(errno));
	free(absolute);
}

void scratch_enter(struct scratch *s)
{
	const char *program = getenv("VIPMAP");

	snprintf(s->folder, sizeof(s->folder), "/tmp/vipmap-program-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(s->folder));
	ck_assert_int_eq(chmod(s->folder, 0755), 0);
	link_absolute(program ? program : "build/gcc/vipmap", s->folder, "vipmap");
	link_absolute("tests/data/goldens", s->folder, "goldens");
	s->before = getcwd(NULL, 0);
	ck_assert_int_eq(chdir(s->folder), 0);
}

void scratch_leave(struct scratch *s)
{
	struct strbuf out = STRBUF_INIT;
	char command[128];

	ck_assert_int_eq(chdir(s->before), 0);
	free(s->before);
	snprintf(command, sizeof(command), "rm -r %s", s->folder);
	ck_assert_msg(run(command, &out) == 0, "%s", out.text);
	strbuf_free(&out);
}

void write_file(const char *path, const char *text)
{
	char fresh[256];
	FILE *file;

	snprintf(fresh, sizeof(fresh), "%s.new", path);
	file = fopen(fresh, "w");
	ck_assert_msg(file, "%s: %s", fresh, strerror(errno));
	fputs(text, file);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(rename(fresh, path), 0);
}

char *read_whole(const char *path)
{
	struct strbuf text = STRBUF_INIT;
	char chunk[4096];
	FILE *file = fopen(path, "r");
	size_t n;

	strbuf_adds(&text, "");
	while (file && (n = fread(chunk, 1, sizeof(chunk), file)) > 0)
		strbuf_add(&text, chunk, n);
	if (file)
		fclose(file);
	ck_assert_int_eq(text.err, 0);
	return text.text ? text.text : strdup("");
}

int run_apart(const char *command, struct strbuf *out, struct strbuf *err)
{
	char whole[2048], *text;
	int status;

	strbuf_reset(out);
	strbuf_reset(err);
	ck_assert_int_lt(snprintf(whole, sizeof(whole), "{ %s\n} >stdout", command),
			 sizeof(whole));
	status = run(whole, err);
	text = read_whole("stdout");
	strbuf_adds(out, text);
	strbuf_adds(err, "");
	free(text);
	return status;
}

bool program_namespace(void)
{
	struct strbuf out = STRBUF_INIT;
	bool ok = new_namespace();

	if (ok)
		ck_assert_msg(run("ip link set lo up && ip addr add 192.168.7.11/32 dev lo && "
				  "ip addr add fd00:7::11/128 dev lo nodad",
				  &out) == 0,
			      "%s", out.text);
	strbuf_free(&out);
	return ok;
}

char *program_rules(void)
{
	struct strbuf out = STRBUF_INIT;

	strbuf_adds(&out, "");
	ck_assert_msg(run("nft list ruleset", &out) == 0, "%s", out.text);
	return out.text;
}

pid_t daemon_start(const char *arguments)
{
	char command[1024];
	pid_t pid;

	snprintf(command, sizeof(command), "exec ./vipmap %s >log 2>&1", arguments);
	fflush(stdout);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

int daemon_stop(pid_t pid, int number)
{
	int status = 0;

	ck_assert_int_eq(kill(pid, number), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void until(const char *what, const char *command)
{
	const int64_t end = now_ms() + DEADLINE_S * 1000;
	struct strbuf out = STRBUF_INIT;
	char *log;

	while (run(command, &out) != 0) {
		if (now_ms() > end) {
			log = read_whole("log");
			ck_abort_msg("%s: not so after %d s; the log:\n%s",
				     what, DEADLINE_S, log);
		}
		strbuf_reset(&out);
		usleep(POLL_MS * 1000);
	}
	strbuf_free(&out);
}

void until_logged(const char *text)
{
	char command[512];

	snprintf(command, sizeof(command), "grep -qF -e '%s' log", text);
	until(text, command);
}

/* Not "grep -q" at the end of the pipe: nft would see it close. */
void until_rule(const char *text)
{
	char command[512];

	snprintf(command, sizeof(command), "nft list ruleset | grep -F -e '%s'",
		 text);
	until(text, command);
}

void until_no_rule(const char *text)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "! nft list ruleset | grep -F -e '%s'", text);
	until(text, command);
}

int fetch(const char *address, unsigned int port, const char *path,
	  struct strbuf *answer)
{
	struct event_base *base = event_base_new();
	int status;

	ck_assert_ptr_nonnull(base);
	status = http_get(base, address, (uint16_t)port, "GET", path, answer);
	event_base_free(base);
	return status;
}
