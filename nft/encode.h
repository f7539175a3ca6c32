/*
 * Private to nft/: the netlink messages of a table's objects, rules and
 * elements aside.
 */
#ifndef NFT_ENCODE_H
#define NFT_ENCODE_H

#include "nft/layout.h"
#include "nft/wire.h"

enum {
	TABLE_FLAGS_OWNED = 0x2 | 0x4
}; /* owner | persist; libnftnl has no name for the latter */

void encode_table(struct wire *w, enum family family, uint32_t table_flags);
/* Of a table that exists. */
void encode_table_flags(struct wire *w, enum family family, uint32_t table_flags);
/* Whatever it holds; it need not exist. */
void encode_table_delete(struct wire *w, enum family family);
/*
 * @id: any number that no other set of the batch has. @comment may be NULL.
 * @counts: its elements count packets.
 */
void encode_set(struct wire *w, enum family family, const struct set_layout *layout,
		const char *name, const char *comment, bool counts, uint32_t id);
void encode_set_delete(struct wire *w, enum family family, const char *name);
void encode_chain(struct wire *w, enum family family, const struct chain *chain);
void encode_chain_delete(struct wire *w, enum family family, const char *name);
/* Without devices. */
void encode_flowtable(struct wire *w, enum family family);
void encode_flowtable_delete(struct wire *w, enum family family);
/* Of a flowtable that is there. */
void encode_flowtable_device(struct wire *w, enum family family,
			     const char *device, bool remove);
void encode_rules_flush(struct wire *w, enum family family, const char *chain);

#endif
