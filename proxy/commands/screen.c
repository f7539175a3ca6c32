/*
 * Plain ANSI, as every terminal of the last decades has it: the alternate
 * screen, a cursor that can be sent home and hidden, and reverse video. A frame
 * goes out in one piece, so that nothing flickers, and each line clears its own
 * rest.
 */
#include "proxy/commands/screen.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"

enum {
	/* The bytes of a key come together; an Escape alone is one that was pressed. */
	ESCAPE_MS = 50,
	MAX_SIDE = 1000, /* of a terminal that tells nonsense */
};

struct screen {
	struct termios before;
	bool colour, utf8;
	unsigned char bytes[64];
	size_t n_bytes;
};

bool screen_is_possible(void)
{
	const char *term = getenv("TERM");

	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term && *term &&
	       strcmp(term, "dumb") != 0;
}

static int put_bytes(const char *bytes, size_t length)
{
	struct pollfd pfd = { .fd = STDOUT_FILENO, .events = POLLOUT };
	ssize_t n;

	while (length) {
		n = write(STDOUT_FILENO, bytes, length);
		if (n < 0 && errno == EAGAIN)
			poll(&pfd, 1, -1);
		else if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			bytes += n;
			length -= (size_t)n;
		}
	}
	return 0;
}

static int put_text(const char *text)
{
	return put_bytes(text, strlen(text));
}

static bool locale_is_utf8(void)
{
	static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
	const char *value = NULL;
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]) && (!value || !*value); i++)
		value = getenv(names[i]);
	return value && (strcasestr(value, "utf-8") || strcasestr(value, "utf8"));
}

struct screen *screen_open(struct errbuf *eb)
{
	struct screen *s = calloc(1, sizeof(*s));
	const char *no_color = getenv("NO_COLOR");
	struct termios raw;

	if (!s) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	s->colour = !no_color || !*no_color;
	s->utf8 = locale_is_utf8();
	if (tcgetattr(STDIN_FILENO, &s->before))
		goto fail;
	raw = s->before;
	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO | IEXTEN);
	raw.c_iflag &= (tcflag_t) ~(IXON | ICRNL | INLCR | IGNCR);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	raw.c_cc[VSUSP] =
		_POSIX_VDISABLE; /* it would leave the terminal to the shell like this */
	raw.c_cc[VQUIT] = _POSIX_VDISABLE;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw))
		goto fail;
	if (put_text("\033[?1049h\033[?25l\033[2J") == 0)
		return s;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &s->before);
fail:
	errf(eb, -errno, "terminal: %s", strerror(errno));
	free(s);
	return NULL;
}

void screen_close(struct screen *s)
{
	if (!s)
		return;
	(void)put_text("\033[0m\033[?25h\033[?1049l");
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &s->before);
	free(s);
}

bool screen_has_utf8(const struct screen *s)
{
	return s->utf8;
}

static unsigned int window_side(unsigned short told, unsigned int otherwise)
{
	return !told ? otherwise : told > MAX_SIDE ? MAX_SIDE : told;
}

void screen_size(const struct screen *s, unsigned int *rows, unsigned int *columns)
{
	struct winsize size = { 0 };

	(void)s;
	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	*rows = window_side(size.ws_row, 24);
	*columns = window_side(size.ws_col, 80);
}

int screen_fd(const struct screen *s)
{
	(void)s;
	return STDIN_FILENO;
}

/* Reads what there is, after @wait_ms at most. Returns false if nobody is there any more. */
static bool read_keys(struct screen *s, int wait_ms)
{
	struct pollfd pfd = { .fd = STDIN_FILENO, .events = POLLIN };
	ssize_t n;

	if (s->n_bytes == sizeof(s->bytes) || poll(&pfd, 1, wait_ms) <= 0)
		return true;
	n = read(STDIN_FILENO, s->bytes + s->n_bytes,
		 sizeof(s->bytes) - s->n_bytes);
	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN);
	s->n_bytes += (size_t)n;
	assert(s->n_bytes <= sizeof(s->bytes));
	return true;
}

static void drop_keys(struct screen *s, size_t n)
{
	assert(n && n <= s->n_bytes);
	s->n_bytes -= n;
	memmove(s->bytes, s->bytes + n, s->n_bytes);
}

/* What follows Escape: "[A", "OA", "[5~". Returns its length with its '[', or 0: not complete. */
static size_t sequence_length(const unsigned char *bytes, size_t n)
{
	size_t i;

	for (i = 1; i < n; i++)
		if (bytes[i] >= '@' && bytes[i] <= '~')
			return i + 1;
	return 0;
}

static int sequence_key(const unsigned char *bytes, size_t length)
{
	static const struct {
		char text[4];
		int key;
	} known[] = {
		{ "A", KEY_UP },	 { "B", KEY_DOWN },
		{ "C", KEY_RIGHT },	 { "D", KEY_LEFT },
		{ "H", KEY_HOME },	 { "F", KEY_END },
		{ "1~", KEY_HOME },	 { "7~", KEY_HOME },
		{ "4~", KEY_END },	 { "5~", KEY_PAGE_UP },
		{ "6~", KEY_PAGE_DOWN }, { "8~", KEY_END },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].text) == length &&
		    memcmp(bytes, known[i].text, length) == 0)
			return known[i].key;
	return 0; /* a key that nobody asks for */
}

static int escape_key(struct screen *s)
{
	size_t length;

	assert(s->n_bytes && s->bytes[0] == KEY_ESCAPE);
	if (s->n_bytes == 1 && !read_keys(s, ESCAPE_MS))
		return KEY_CLOSED;
	if (s->n_bytes == 1 || (s->bytes[1] != '[' && s->bytes[1] != 'O')) {
		drop_keys(s, 1);
		return KEY_ESCAPE;
	}
	length = sequence_length(s->bytes + 1, s->n_bytes - 1);
	if (!length && !read_keys(s, ESCAPE_MS))
		return KEY_CLOSED;
	length = sequence_length(s->bytes + 1, s->n_bytes - 1);
	if (length) {
		const int key = sequence_key(s->bytes + 2, length - 1);

		drop_keys(s, length + 1);
		return key;
	}
	s->n_bytes = 0; /* torn */
	return KEY_ESCAPE;
}

int screen_key(struct screen *s)
{
	int c;

	if (!s->n_bytes && !read_keys(s, 0))
		return KEY_CLOSED;
	if (!s->n_bytes)
		return KEY_NONE;
	c = s->bytes[0];
	if (c == KEY_ESCAPE)
		return escape_key(s);
	drop_keys(s, 1);
	if (c == '\r' || c == '\n')
		return KEY_ENTER;
	return c == 127 || c == 8 ? KEY_ERASE : c;
}

/* Bytes of @line that take at most @columns places. */
static size_t bytes_within(const char *line, size_t length, unsigned int columns)
{
	size_t i;

	for (i = 0; i < length; i++)
		if (((unsigned char)line[i] & 0xc0) != 0x80 && !columns--)
			return i;
	return length;
}

int screen_draw(struct screen *s, const struct strbuf *lines, int marked)
{
	struct strbuf out = STRBUF_INIT;
	const char *line = lines->text ? lines->text : "", *end;
	unsigned int rows, columns, row;
	int err;

	screen_size(s, &rows, &columns);
	strbuf_adds(&out, "\033[H");
	for (row = 0; row < rows && *line; row++) {
		end = strchrnul(line, '\n');
		/* Cleared first: behind a line that fills its row the cursor is still in it. */
		strbuf_adds(&out, row ? "\r\n\033[K" : "\033[K");
		strbuf_adds(&out, (int)row == marked && s->colour ? "\033[7m" : "");
		strbuf_add(&out, line,
			   bytes_within(line, (size_t)(end - line), columns));
		strbuf_adds(&out, (int)row == marked && s->colour ? "\033[0m" : "");
		line = *end ? end + 1 : end;
	}
	strbuf_adds(&out, row < rows ? "\r\n\033[J" : "");
	err = out.err ? out.err : put_bytes(out.text, out.length);
	strbuf_free(&out);
	return err;
}
