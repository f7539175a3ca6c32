/*
 * A whole table as nft text, sorted by key: the same model gives the same bytes. It loads with
 * "nft -f" (but see design: nft 1.0.6 and IPv6 session affinity).
 */
#ifndef NFT_TEXT_H
#define NFT_TEXT_H

#include "proxy/model/ruleset.h"
#include "proxy/model/writer.h"
#include "proxy/base/strbuf.h"

struct text;

struct text *
text_new(const struct ruleset *ruleset); /* caller owns it; NULL when out of memory */
void text_free(struct text *t);
const struct writer *text_writer(struct text *t); /* ADD only */

struct devices;
/* Of the flowtable, if the ruleset has one: else it is printed without. Borrowed. */
void text_set_devices(struct text *t, const struct devices *devices);

/* Appends the table to @out. Returns 0 or a negative errno. */
int text_print(struct text *t, struct strbuf *out);

/* "KEY [comment] [: DATA]" of one element; @with_data: what follows the key, too. */
void text_print_element(struct strbuf *out, enum family family,
			const struct element *element, bool with_data);

#endif
