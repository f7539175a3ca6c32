/* The two system calls themselves, rather than a library for them. */
#include "proxy/capability.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

int capability_raise_net_admin(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	struct __user_cap_data_struct *word = &data[CAP_TO_INDEX(CAP_NET_ADMIN)];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	if (word->effective & CAP_TO_MASK(CAP_NET_ADMIN) ||
	    !(word->permitted & CAP_TO_MASK(CAP_NET_ADMIN)))
		return 0;
	word->effective |= CAP_TO_MASK(CAP_NET_ADMIN);
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}
