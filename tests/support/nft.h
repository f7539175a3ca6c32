/*
 * For tests of nft/: a table with everything in it, network namespaces, and the
 * nft command as an oracle.
 */
#ifndef TESTS_SUPPORT_NFT_H
#define TESTS_SUPPORT_NFT_H

#include "nft/readback.h"
#include "proxy/model/ruleset.h"
#include "proxy/model/writer.h"
#include "proxy/base/strbuf.h"

enum sample_flags {
	SAMPLE_STICKY =
		1 << 0, /* session affinity; nft 1.0.6 cannot load that in IPv6 */
	/* for sample_ruleset_with() as well: */
	SAMPLE_PARTS = 1 << 1, /* all of enum table_part */
	SAMPLE_OTHER = 1 << 2, /* other rules that use them */
};

/* All kinds of sets, chains and elements. */
void sample_write(const struct writer *w, enum family family, unsigned int flags);
struct ruleset sample_ruleset(enum family family);
struct ruleset sample_ruleset_with(enum family family, unsigned int flags);

/* Reads the table back, for its state and for the parts that it has. */
enum table_state read_parts(struct nlsock *nl, const struct ruleset *ruleset,
			    unsigned int *parts);

struct addr sample_addr(enum family family, unsigned int n); /* 10.x.x.x, fd00::x */

/* Whether a table can have owner and persist: Linux 6.9 and later. By its
 * number, since what is asked of the kernel is to be right as well. */
bool kernel_has_owner(void);

/* Runs a shell command; its standard output and error are appended to @out. Returns its status. */
int run(const char *command, struct strbuf *out);
/* The same with @input in a file whose name replaces the %s in @command. */
int run_with(const char *command, const char *input, struct strbuf *out);

/* Makes lists of nft comparable: elements one per line and sorted. Caller frees. */
char *normalise_list(const char *list);

#endif
