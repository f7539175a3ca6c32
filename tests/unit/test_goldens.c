/*
 * Manifests and the ruleset that they must give, byte for byte:
 * tests/data/goldens/NAME.yaml and NAME.nft. Lines "# flags: ..." and "#
 * unchecked: why" at the top of a manifest are read here, the rest of its head
 * says what is to be expected. "make goldens" writes the .nft files anew, to be
 * read in review like code.
 *
 * Each golden then goes to a kernel, as text through nft and by vipmap itself:
 * both must list alike.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/nft.h"

#define FOLDER "tests/data/goldens/"

enum { NAME_SIZE = 64 };

struct golden {
	char name[NAME_SIZE];
	char flags[600];
	bool unchecked; /* nft cannot load it, for the reason that the manifest gives */
};

static int is_manifest(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > 5 && length < NAME_SIZE &&
	       strcmp(entry->d_name + length - 5, ".yaml") == 0;
}

/* The @i'th in alphabetical order. Returns how many there are. */
static int golden_name(int i, char name[NAME_SIZE])
{
	struct dirent **entries = NULL;
	int n = scandir(FOLDER, &entries, is_manifest, alphasort), at;

	for (at = 0; at < n; at++) {
		if (at == i)
			snprintf(name, NAME_SIZE, "%.*s",
				 (int)strlen(entries[at]->d_name) - 5,
				 entries[at]->d_name);
		free(entries[at]);
	}
	free(entries);
	return n;
}

static struct golden golden_read(int i)
{
	static const char flags[] = "# flags: ", unchecked[] = "# unchecked: ";
	struct golden g = { .flags = "" };
	char path[256], line[600];
	FILE *file;

	ck_assert_int_gt(golden_name(i, g.name), i);
	snprintf(path, sizeof(path), FOLDER "%s.yaml", g.name);
	file = fopen(path, "r");
	ck_assert_msg(file, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file) && line[0] == '#') {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, flags, sizeof(flags) - 1) == 0)
			snprintf(g.flags, sizeof(g.flags), "%s",
				 line + sizeof(flags) - 1);
		if (strncmp(line, unchecked, sizeof(unchecked) - 1) == 0)
			g.unchecked = true;
	}
	fclose(file);
	return g;
}

/* Runs vipmap on @manifests, @extra being further flags, and returns what it prints. */
static char *vipmap(const struct golden *g, const char *manifests, const char *extra)
{
	const char *program = getenv("VIPMAP");
	struct strbuf out = STRBUF_INIT;
	char command[2048];
	int status;

	snprintf(command, sizeof(command),
		 "%s --hostname-override=node1 --manifests=%s %s %s",
		 program ? program : "build/gcc/vipmap", manifests, g->flags,
		 extra);
	status = run(command, &out);
	ck_assert_msg(status == 0, "%s: status %d of: %s\n%s", g->name, status,
		      command, out.text);
	return out.text ? out.text : strdup("");
}

static char *dry_run(const struct golden *g, const char *manifests)
{
	return vipmap(g, manifests, "--dry-run 2>/dev/null");
}

static char *manifest_path(const struct golden *g)
{
	char *path = NULL;

	ck_assert_int_gt(asprintf(&path, FOLDER "%s.yaml", g->name), 0);
	return path;
}

static char *golden_text(const struct golden *g)
{
	struct strbuf text = STRBUF_INIT;
	char command[256];

	snprintf(command, sizeof(command), "cat " FOLDER "%s.nft", g->name);
	ck_assert_msg(run(command, &text) == 0, "%s: %s", g->name, text.text);
	return text.text;
}

/* Fails with a short difference if the texts are not the same. */
static void check_same(const char *name, const char *what, const char *want,
		       const char *got)
{
	char path[] = "/tmp/vipmap-want-XXXXXX", command[256];
	struct strbuf difference = STRBUF_INIT;
	FILE *file;
	int fd;

	if (strcmp(want, got) == 0)
		return;
	fd = mkstemp(path);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	ck_assert_ptr_nonnull(file);
	fputs(want, file);
	fclose(file);
	snprintf(command, sizeof(command),
		 "diff -U2 --label want --label got %s %%s | head -n 40", path);
	run_with(command, got, &difference);
	unlink(path);
	ck_abort_msg("%s: %s:\n%s", name, what, difference.text);
}

static void write_golden(const struct golden *g, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), FOLDER "%s.nft", g->name);
	file = fopen(path, "w");
	ck_assert_msg(file, "%s: %s", path, strerror(errno));
	fputs(text, file);
	ck_assert_int_eq(fclose(file), 0);
}

START_TEST(test_text)
{
	struct golden g = golden_read(_i);
	char *path = manifest_path(&g), *got = dry_run(&g, path), *want;

	if (getenv("GOLDENS"))
		write_golden(&g, got);
	want = golden_text(&g);
	check_same(g.name, "the ruleset is another", want, got);
	free(want);
	free(got);
	free(path);
}
END_TEST

/* Writes each document of the golden to a file of its own in @folder, the last one first. */
static unsigned int scatter(const struct golden *g, const char *folder)
{
	char *path = manifest_path(g), part[256], *document, *rest;
	struct strbuf text = STRBUF_INIT;
	char command[256];
	unsigned int n = 0;
	FILE *file;

	snprintf(command, sizeof(command), "sed 's/^---$/\\x01/' %s", path);
	ck_assert_int_eq(run(command, &text), 0);
	rest = text.text;
	while ((document = strsep(&rest, "\x01"))) {
		snprintf(part, sizeof(part), "%s/%02u.yaml", folder, 99 - n++);
		file = fopen(part, "w");
		ck_assert_msg(file, "%s: %s", part, strerror(errno));
		fputs(document, file);
		fclose(file);
	}
	strbuf_free(&text);
	free(path);
	return n;
}

START_TEST(test_order)
{
	char folder[] = "/tmp/vipmap-goldens-XXXXXX", command[256];
	struct golden g = golden_read(_i);
	struct strbuf out = STRBUF_INIT;
	char *want, *got;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_uint_gt(scatter(&g, folder), 0);
	got = dry_run(&g, folder);
	want = golden_text(&g);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	run(command, &out);
	strbuf_free(&out);
	check_same(g.name, "documents in reverse order, a file each", want, got);
	free(want);
	free(got);
}
END_TEST

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The first lines of a table and its comment; behind it may or may not come an empty line. */
static char *add_head(struct strbuf *out, char *table)
{
	char *end;

	while ((end = strchr(table, '\n'))) {
		strbuf_add(out, table, (size_t)(end + 1 - table));
		table = end + 1;
		if (strncmp(table, "\tcomment ", 9) != 0)
			break;
	}
	return table + strspn(table, "\n");
}

/* Sorts the blocks of one table, which empty lines separate. */
static void add_blocks(struct strbuf *out, char *table)
{
	char **blocks = NULL, *block, *next;
	size_t count = 0, i;

	for (block = add_head(out, table); block; block = next) {
		next = strstr(block, "\n\n");
		if (next) {
			*next = '\0';
			next += 2;
		}
		blocks = reallocarray(blocks, count + 1, sizeof(*blocks));
		ck_assert_ptr_nonnull(blocks);
		blocks[count++] = block;
	}
	qsort(blocks, count, sizeof(*blocks), compare_strings);
	for (i = 0; i < count; i++)
		strbuf_addf(out, "%s\n\n", blocks[i]);
	free(blocks);
}

/*
 * A ruleset without what may differ: the order of tables, of what is in them,
 * of elements, and the flags of a table, for which nft 1.0.6 has no names.
 */
static char *comparable(const char *list)
{
	static const char end[] = "\n}\n";
	char *text = normalise_list(list), *at, *next, *flags;
	struct strbuf out = STRBUF_INIT;

	while ((flags = strstr(text, "\tflags \n")))
		memmove(flags, flags + 8, strlen(flags + 8) + 1);
	for (at = text; *at; at = next) {
		next = strstr(at, end);
		if (next) {
			*next = '\0';
			next += sizeof(end) - 1;
		} else {
			next = at + strlen(at);
		}
		add_blocks(&out, at);
	}
	free(text);
	ck_assert_int_eq(out.err, 0);
	return out.text;
}

static char *list_ruleset(void)
{
	struct strbuf out = STRBUF_INIT;

	ck_assert_msg(run("nft -s list ruleset", &out) == 0, "%s", out.text);
	return out.text ? out.text : strdup("");
}

/* A node that has the addresses of the Node objects. */
static bool node_namespace(void)
{
	struct strbuf out = STRBUF_INIT;
	bool ok = new_namespace();

	if (ok)
		ck_assert_msg(run("ip link set lo up && ip addr add 192.168.7.11/32 dev lo",
				  &out) == 0,
			      "%s", out.text);
	strbuf_free(&out);
	return ok;
}

static void check_nft(const struct golden *g, const char *command)
{
	struct strbuf out = STRBUF_INIT;
	char *text = golden_text(g);

	ck_assert_msg(run_with(command, text, &out) == 0, "%s: %s:\n%.1000s",
		      g->name, command, out.text);
	strbuf_free(&out);
	free(text);
}

START_TEST(test_nft_accepts)
{
	struct golden g = golden_read(_i);

	if (!g.unchecked && node_namespace())
		check_nft(&g, "nft -c -f %s");
}
END_TEST

static char *comparable_ruleset(void)
{
	char *list = list_ruleset(), *text = comparable(list);

	free(list);
	return text;
}

/* The golden in the words with which nft 1.0.6 lists the same rules. */
static char *comparable_golden(const struct golden *g)
{
	static const struct {
		const char *printed, *listed;
	} words[] = {
		{ "and 0x4000 != 0 ", "& 0x00004000 != 0x00000000 " },
		{ "or 0x4000", "| 0x00004000" },
		{ "xor 0x4000", "^ 0x00004000" },
		{ "and 0x400 != 0 ", "& 0x00000400 != 0x00000000 " },
		{ "or 0x400", "| 0x00000400" },
		{ "xor 0x400", "^ 0x00000400" },
		{ "meta l4proto tcp reject with tcp reset", "reject with tcp reset" },
	};
	const size_t n_words = sizeof(words) / sizeof(words[0]);
	char *text = golden_text(g), *comparable_text;
	struct strbuf out = STRBUF_INIT;
	const char *at = text;
	size_t i;

	while (*at) {
		for (i = 0; i < n_words; i++)
			if (strncmp(at, words[i].printed,
				    strlen(words[i].printed)) == 0)
				break;
		if (i < n_words) {
			strbuf_adds(&out, words[i].listed);
			at += strlen(words[i].printed);
		} else {
			strbuf_addc(&out, *at++);
		}
	}
	comparable_text = comparable(out.text);
	strbuf_free(&out);
	free(text);
	return comparable_text;
}

/* What nft loads, what vipmap installs, and (but for the words of nft) what is printed. */
START_TEST(test_installs_what_it_prints)
{
	struct golden g = golden_read(_i);
	char *path = manifest_path(&g), *out, *ours, *printed, *loaded;

	if (!node_namespace())
		return;
	out = vipmap(&g, path, "--once");
	ours = comparable_ruleset();
	printed = comparable_golden(&g);
	check_same(g.name, "the installed ruleset is not the printed one",
		   printed, ours);
	if (!g.unchecked && node_namespace()) {
		check_nft(&g, "nft -f %s");
		loaded = comparable_ruleset();
		check_same(g.name, "the installed ruleset is not the loaded one",
			   loaded, ours);
		free(loaded);
	}
	free(printed);
	free(ours);
	free(out);
	free(path);
}
END_TEST

/* Restart with nothing changed: nothing is written, and the ruleset is the same to the letter. */
START_TEST(test_second_time_writes_nothing)
{
	static const char nothing[] = " 0 elements added, 0 deleted";
	struct golden g = golden_read(_i);
	char *path = manifest_path(&g), *first, *again, *before, *after, *at;

	if (!node_namespace())
		return;
	first = vipmap(&g, path, "--once");
	before = list_ruleset();
	again = vipmap(&g, path, "--once -v 2");
	after = list_ruleset();
	check_same(g.name, "the second run changed the ruleset", before, after);
	at = strstr(again, nothing);
	ck_assert_msg(at && strstr(at + 1, nothing),
		      "%s: want two times '%s' in:\n%s", g.name, nothing, again);
	free(after);
	free(again);
	free(before);
	free(first);
	free(path);
}
END_TEST

#define SAMPLE(flags, blocks)                                                  \
	"table ip t {\n" flags "\tcomment \"c\"\n\n" blocks "}\n"
#define SAMPLE_SET(elements) "\tset a {\n\t\telements = { " elements " }\n\t}\n"

/* The comparison must overlook order and flags, and see an element or a rule less. */
START_TEST(test_comparison)
{
	static const struct {
		const char *name, *list;
		bool same;
	} rows[] = {
		{ "itself",
		  SAMPLE("", SAMPLE_SET("2, 1") "\n"
						"\tchain b {\n\t\tdrop\n\t}\n"),
		  true },
		{ "order, flags",
		  SAMPLE("\tflags \n", "\tchain b {\n\t\tdrop\n\t}\n\n" SAMPLE_SET(
					       "1,\n\t\t\t     2")),
		  true },
		{ "an element less",
		  SAMPLE("", SAMPLE_SET("2") "\n\tchain b {\n\t\tdrop\n\t}\n"),
		  false },
		{ "a rule less",
		  SAMPLE("", SAMPLE_SET("2, 1") "\n\tchain b {\n\t}\n"), false },
		{ "a chain less", SAMPLE("", SAMPLE_SET("2, 1")), false },
		{ "no empty line",
		  "table ip t {\n\tcomment \"c\"\n" SAMPLE_SET(
			  "1, 2") "\n\tchain b {\n\t\tdrop\n\t}\n}\n",
		  true },
	};
	char *want = comparable(rows[0].list), *got = comparable(rows[_i].list);

	ck_assert_msg((strcmp(want, got) == 0) == rows[_i].same,
		      "%s: want %s:\n%s\n%s", rows[_i].name,
		      rows[_i].same ? "the same" : "a difference", want, got);
	free(want);
	free(got);
}
END_TEST

Suite *make_suite(void)
{
	char unused[NAME_SIZE];
	int n = golden_name(-1, unused);
	Suite *suite = suite_create("goldens");
	TCase *text = tcase_create("text"), *kernel = tcase_create("kernel");

	if (n <= 0) {
		fprintf(stderr, "no goldens in " FOLDER "\n");
		exit(EXIT_FAILURE);
	}
	tcase_set_timeout(text, 30);
	tcase_set_timeout(kernel, 60);
	tcase_add_loop_test(text, test_comparison, 0, 6);
	tcase_add_loop_test(text, test_text, 0, n);
	if (!getenv("GOLDENS"))
		tcase_add_loop_test(text, test_order, 0, n);
	suite_add_tcase(suite, text);
	if (!getenv("GOLDENS")) {
		tcase_add_loop_test(kernel, test_nft_accepts, 0, n);
		tcase_add_loop_test(kernel, test_installs_what_it_prints, 0, n);
		tcase_add_loop_test(kernel, test_second_time_writes_nothing, 0, n);
		suite_add_tcase(suite, kernel);
	}
	return suite;
}
